//! The errors of instant captures.

use std::io;
use std::path::PathBuf;

use super::budget::SeriesEnd;
use crate::error::Error;
use crate::pages::PagesError;
use crate::value::Pid;

/// The reason why an instant capture failed or was refused. It is the source of
/// [`Error::Instant`](crate::Error::Instant).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstantError {
    /// The plugin was not found. Nothing was touched.
    #[error("no plugin at {}: install libcriu_plugin.so, or name its path", shown(looked))]
    NoPlugin {
        /// The paths that were looked at.
        looked: Vec<PathBuf>,
    },
    /// The plugin cannot be used. Nothing was touched.
    #[error("the plugin {} cannot be used: {why}", path.display())]
    Plugin {
        /// The path of the plugin.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A holder was lost before its memory was read. No checkpoint is left; the tasks run on.
    #[error("the holder {holder} of process {task} is lost: {why}")]
    Lost {
        /// The task.
        task: Pid,
        /// The holder of the task.
        holder: Pid,
        /// The reason.
        why: String,
    },
    /// The pages cannot be read or written. No checkpoint is left; the tasks run on.
    #[error("{0}")]
    Pages(#[from] PagesError),
    /// The function that takes the images has failed. The tasks run on.
    #[error("{0}")]
    Taker(Box<dyn std::error::Error + Send + Sync>),
    /// CRIU succeeded, but the images that it wrote cannot be read. No checkpoint is left; the
    /// tasks run on.
    #[error("cannot read what criu wrote: {0}")]
    Images(#[from] criu_images::Error),
    /// The plugin has damaged the journal. No checkpoint is left; the tasks run on.
    #[error("the plugin's journal is damaged: {0}")]
    Journal(String),
    /// The plugin has hidden memory of a task that has no holder. No checkpoint is left; the tasks
    /// run on.
    #[error("memory of process {0} was hidden from criu, and the process has no holder")]
    Hidden(u64),
    /// The flags of a mapping are not those that CRIU has saved, and no image can be corrected.
    /// No checkpoint is left; the tasks run on. Another capture may succeed. One with
    /// [`early_flags(false)`](super::InstantOptions::early_flags) has no such error.
    #[error("the flags of the mappings of process {task} changed before the freeze: {why}")]
    Flags {
        /// The task.
        task: Pid,
        /// The difference.
        why: String,
    },
    /// The capture was cancelled while the memory was read. No checkpoint is left; the tasks run
    /// on.
    #[error("the capture was cancelled while the memory was read")]
    Cancelled,
    /// The memory of another container of the pod cannot be read or written. No checkpoint is left;
    /// the tasks run on.
    #[error("another container of the pod has failed")]
    Others,
    /// The holders of a series have ended between two rounds, and the caller wants to know. Nothing
    /// was touched. The next round is a full one.
    #[error("the series has ended: {0}")]
    SeriesEnded(SeriesEnd),
    /// A series cannot go on from the round of another process. Nothing was touched.
    #[error("cannot build on {}: {why}", directory.display())]
    Base {
        /// The images directory of that round.
        directory: PathBuf,
        /// The reason.
        why: String,
    },
    /// The thread that reads the memory has panicked. No checkpoint is left; the tasks run on.
    #[error("the thread that reads the memory has panicked")]
    Panicked,
    /// A system call failed.
    #[error("cannot {doing}: {source}")]
    System {
        /// The attempt that failed.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl InstantError {
    pub(super) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

impl From<InstantError> for Error {
    fn from(error: InstantError) -> Self {
        Self::Instant(std::sync::Arc::new(error))
    }
}

fn shown(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}
