//! Several containers as one: dumped at one moment or restored at one moment, all or none.

mod dump;
mod error;
mod freezer;
mod gate;
mod hooks;
#[cfg(feature = "instant")]
mod instant;
mod restore;
mod sandbox;

pub use dump::{Pod, PodDumped};
pub use error::PodError;
pub use hooks::PodHooks;
#[cfg(feature = "instant")]
pub use instant::PodInstant;
pub use restore::{PodRestore, PodRestored};
pub use sandbox::Sandbox;
