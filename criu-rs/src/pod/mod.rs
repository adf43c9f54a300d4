//! Several containers as one: dumped at one moment or restored at one moment, all or none.

mod dump;
mod error;
mod freezer;
mod gate;
mod hooks;
mod restore;
mod sandbox;

pub use dump::{Pod, PodDumped};
pub use error::PodError;
pub use hooks::PodHooks;
pub use restore::{PodRestore, PodRestored};
pub use sandbox::Sandbox;
