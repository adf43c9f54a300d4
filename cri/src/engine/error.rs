//! The errors of engines.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use criu_archive::record::Finding;
use criu_rs::{HookError, Pid, PodError, StopReason};

use super::options::OptionError;

/// The reason why an engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// An option cannot be used. Nothing was touched.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A value of the caller's cannot be used. Nothing was touched.
    #[error("{what}: {why}")]
    Invalid {
        /// The value.
        what: String,
        /// The difference between found and wanted.
        why: String,
    },
    /// The deadline passed, and the operation was undone.
    #[error("the deadline has passed, and the operation was undone")]
    Deadline,
    /// The operation was cancelled and undone.
    #[error("the operation was cancelled and undone")]
    Cancelled,
    /// The checkpoint does not fit this machine or this tool. Nothing was touched.
    #[error("the checkpoint cannot be restored here: {}", listed(.0))]
    Unfit(Vec<Finding>),
    /// A method of the caller's refused.
    #[error("refused: {0}")]
    Hook(#[source] HookError),
    /// A container cannot be saved or restored as its bundle describes it.
    #[error("container {name}: {source}")]
    Container {
        /// The name of the container.
        name: String,
        /// The reason.
        source: Box<criu_rs::oci::Error>,
    },
    /// Processes in a container are not of its tree, such as those of an exec session. CRIU would
    /// not save them.
    #[error("container {name}: {}", beside(.processes))]
    Beside {
        /// The name of the container.
        name: String,
        /// The processes, and the names of their programs.
        processes: Vec<(Pid, String)>,
    },
    /// CRIU did not save or restore the containers.
    #[error(transparent)]
    Pod(Box<PodError>),
    /// CRIU does not answer.
    #[error(transparent)]
    Criu(Box<criu_rs::Error>),
    /// A program of the engine failed.
    #[error("{command}: {status}{}", after_colon(said))]
    Tool {
        /// The program and its command.
        command: String,
        /// The end of the program.
        status: ExitStatus,
        /// Words of the program, without control characters.
        said: String,
    },
    /// The files of a checkpoint cannot be read.
    #[error(transparent)]
    Archive(#[from] criu_archive::Error),
    /// Images that CRIU has written cannot be read or changed.
    #[error(transparent)]
    Images(#[from] criu_images::Error),
    /// A file or a directory cannot be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The action that failed.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
}

impl EngineError {
    /// Makes an error of a value of the caller's.
    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }

    /// Makes an error of a container.
    pub(crate) fn container(name: &str) -> impl FnOnce(criu_rs::oci::Error) -> Self + use<> {
        let name = name.to_owned();
        move |source| Self::Container { name, source: source.into() }
    }

    /// Makes an error of a file or a directory.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<criu_rs::Error> for EngineError {
    fn from(error: criu_rs::Error) -> Self {
        Self::Criu(error.into())
    }
}

impl From<PodError> for EngineError {
    fn from(error: PodError) -> Self {
        let stopped = match &error {
            PodError::Container { source, .. } => stopped(source),
            _ => None,
        };
        match (stopped, error) {
            (Some(StopReason::Deadline(_)), _) => Self::Deadline,
            (Some(StopReason::Cancelled), _) => Self::Cancelled,
            (_, PodError::Hook(refusal)) => Self::Hook(refusal),
            (_, error) => Self::Pod(error.into()),
        }
    }
}

/// Returns the reason of an operation that was stopped.
fn stopped(error: &criu_rs::Error) -> Option<StopReason> {
    match error {
        criu_rs::Error::Stopped(stopped) => Some(stopped.why),
        #[cfg(feature = "instant")]
        criu_rs::Error::Instant(source) => {
            use criu_rs::instant::InstantError;

            let is_cancelled = matches!(source.downcast_ref(), Some(InstantError::Cancelled));
            is_cancelled.then_some(StopReason::Cancelled)
        }
        _ => None,
    }
}

fn listed(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn beside(processes: &[(Pid, String)]) -> String {
    let shown = |(pid, name): &(Pid, String)| format!("{pid} ({})", name.escape_debug());
    let all: Vec<_> = processes.iter().take(MAX_SHOWN).map(shown).collect();
    let more = processes.len().saturating_sub(MAX_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "the processes {}{more} are in the container and not of its own, such as those of exec \
         sessions and probes, and would not be saved: wait for their end, or end them",
        all.join(", ")
    )
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// Most processes that a message names.
const MAX_SHOWN: usize = 8;
