//! What can go wrong with a pod.

use std::io;
use std::path::PathBuf;

use crate::error::Error;
use crate::hooks::HookError;
use crate::value::InvalidValue;

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
