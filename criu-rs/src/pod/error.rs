//! Errors of a pod.

use std::io;
use std::path::PathBuf;

use crate::error::Error;
use crate::hooks::HookError;
use crate::value::InvalidValue;

/// The reason why a pod was not dumped or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    /// The pod makes no sense. Nothing was touched.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A cgroup cannot be frozen. All containers run on.
    #[error("cannot freeze {}: {source}", cgroup.display())]
    Freeze {
        /// The cgroup.
        cgroup: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The caller's hook refused. A dump leaves the containers running and no images. A restore
    /// leaves no process.
    #[error("the pod's hook refused: {0}")]
    Hook(#[source] HookError),
    /// A container could not be saved or restored. A dump leaves the containers running and no
    /// images. A restore leaves no process.
    #[error("container {name}: {source}")]
    Container {
        /// The name of the container.
        name: String,
        /// The reason.
        #[source]
        source: Box<Error>,
    },
    /// All containers were saved or restored, and then one of them could not be ended or let run.
    /// The images or processes of this container are gone. The others are complete, and their tasks
    /// are as their dumps say.
    #[error("container {name}, after all were done: {source}; complete: {}", complete.join(", "))]
    Torn {
        /// The name of the container that failed.
        name: String,
        /// The reason.
        #[source]
        source: Box<Error>,
        /// The names of the containers that are complete.
        complete: Vec<String>,
    },
}
