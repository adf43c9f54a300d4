//! The results of checkpoints and restores.

use std::path::PathBuf;
use std::time::Duration;

use criu_rs::Pid;

use super::seen::Seen;

/// A container that an engine has saved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Saved {
    /// The name of the container in its pod.
    pub name: String,
    /// The folder with its files, relative to the directory of the checkpoint. Containers that a
    /// tool saves together have the same folder.
    pub folder: PathBuf,
    /// The time for which the container stood still.
    pub frozen: Duration,
    /// The options of the tool that were used, as a user of the tool would write them. A restore
    /// may need them, too.
    pub arguments: Vec<String>,
    /// Features of the tool that the checkpoint used, and that a restore needs:
    /// `mem_compression`.
    pub features: Vec<String>,
    /// Facts about the container, seen before the checkpoint.
    pub seen: Seen,
    /// The reading of the memory by an instant checkpoint.
    #[cfg(feature = "instant")]
    pub instant: Option<SavedInstantly>,
}

/// The memory of a container that was saved by an instant checkpoint.
#[cfg(feature = "instant")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SavedInstantly {
    /// The way in which the memory of each task is saved.
    pub tasks: Vec<criu_rs::instant::TaskCapture>,
    /// The reading of the memory, which is complete.
    pub read: criu_rs::instant::ReadOut,
}

/// A container that an engine has restored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Started {
    /// The name of the container in the checkpoint.
    pub name: String,
    /// The runtime's id of the container.
    pub id: String,
    /// The first process of the container, seen from this process. `None` if the engine hides it.
    pub pid: Option<Pid>,
}
