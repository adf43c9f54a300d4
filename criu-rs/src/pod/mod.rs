//! Several containers as one: dumped at one moment, restored at one moment, all or none.

mod dump;
mod gate;
mod restore;
mod sandbox;

use std::io;
use std::path::PathBuf;

pub use dump::{Pod, PodDumped};
pub use restore::{PodRestore, PodRestored};
pub use sandbox::Sandbox;

use crate::criu::Criu;
use crate::error::Error;
use crate::hooks::{HookError, HookResult};
use crate::value::InvalidValue;

/// What the caller does at a pod's common moments, in the calling thread.
pub trait PodHooks {
    /// All containers are frozen, and none is saved.
    ///
    /// # Errors
    /// Refuse: all run on.
    fn frozen(&mut self) -> HookResult {
        Ok(())
    }

    /// All containers are saved, and still frozen: the time for what belongs to the checkpoint and lies outside
    /// of it, such as files.
    ///
    /// # Errors
    /// Refuse: all run on, and their images are removed.
    fn saved(&mut self) -> HookResult {
        Ok(())
    }

    /// All containers are restored, and none runs yet.
    ///
    /// # Errors
    /// Refuse: none is left.
    fn restored(&mut self) -> HookResult {
        Ok(())
    }
}

/// Nothing to do.
impl PodHooks for () {}

/// Why a pod was not dumped or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// It makes no sense. Nothing was touched.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A cgroup does not freeze. Everything runs on.
    #[error("cannot freeze {}: {source}", cgroup.display())]
    Freeze {
        /// The cgroup.
        cgroup: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The caller's hook refused. What was to be dumped runs on, and no image is left; of a restore no process.
    #[error("the pod's hook refused: {0}")]
    Hook(#[source] HookError),
    /// A container could not be saved, or not restored. What was to be dumped runs on, and no image is left; of a
    /// restore no process.
    #[error("container {name}: {source}")]
    Container {
        /// The container.
        name: String,
        /// Why it could not.
        #[source]
        source: Box<Error>,
    },
    /// All were saved or restored, and then a container could not be ended or let go. Its images, or processes, are
    /// gone; those of the others are there, and their tasks have come to what their dumps say.
    #[error("container {name}, when all were done: {source}; complete: {}", complete.join(", "))]
    Torn {
        /// The container.
        name: String,
        /// What happened.
        #[source]
        source: Box<Error>,
        /// The containers that are done with.
        complete: Vec<String>,
    },
}

/// Refuses a criu that can be asked for one thing at a time only.
fn connections(criu: &Criu) -> Result<(), InvalidValue> {
    if criu.transport().is_one_connection() {
        let (what, found) = ("a pod's criu", "one connection");
        let want = "a program or a service: each container takes a connection of its own";
        return Err(InvalidValue::new(what, found, want));
    }
    Ok(())
}
