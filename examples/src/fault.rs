//! Failures of a program, for a person and as JSON.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use criu_rs::{End, Error, Failure, SystemError};
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::hints;
use crate::shown::one_line;

/// The reason why a program did not do its work.
#[derive(Debug)]
pub enum Fault {
    /// The command line makes no sense.
    Usage(String),
    /// There is no criu.
    NoCriu,
    /// A signal of this name asked to stop.
    Interrupted(&'static str),
    /// A container's bundle, its images, or a page server failed, in words.
    Failed(String),
    /// A system call of this program failed.
    System {
        /// The action that failed.
        doing: String,
        /// The reason.
        source: io::Error,
    },
    /// A kubelet made no checkpoint.
    Kubelet(Box<criu_cri::kubelet::Error>),
    /// A call to an engine of Kubernetes failed.
    Cri {
        /// The error.
        error: Box<criu_cri::Error>,
        /// Advice in the options of the word that failed.
        hints: fn(&criu_cri::Error) -> Option<&'static str>,
    },
    /// CRIU failed, or the library that drives it.
    Criu {
        /// The error.
        error: Box<Error>,
        /// The path of the log, if there may be one.
        log: Option<PathBuf>,
        /// Advice in the options of the word that failed.
        hints: fn(&Error) -> Option<&'static str>,
    },
}

impl Fault {
    /// Makes the fault of a command line that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage(what.into())
    }

    /// Makes the fault of a failed system call.
    pub fn system(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { doing: doing.into(), source: source.into() }
    }

    /// Makes the fault of an operation that logs to `log`.
    pub fn logged(error: Error, log: &Path) -> Self {
        Self::Criu { error: Box::new(error), log: Some(log.to_owned()), hints: hints::of }
    }

    /// Names another place for the log.
    pub(crate) fn logged_at(mut self, place: impl Into<PathBuf>) -> Self {
        if let Self::Criu { log, .. } = &mut self {
            *log = Some(place.into());
        }
        self
    }

    /// Returns the code to end with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::NoCriu => Exit::NoCriu,
            Self::Interrupted(_) => Exit::Stopped,
            Self::System { .. } | Self::Failed(_) | Self::Kubelet(_) => Exit::Failed,
            Self::Cri { error, .. } => match error.kind() {
                criu_cri::ErrorKind::Deadline(_) => Exit::Stopped,
                _ => Exit::Failed,
            },
            Self::Criu { error, .. } => match **error {
                Error::InvalidValue(_) | Error::CheckpointExists { .. } => Exit::Usage,
                Error::Start { .. } | Error::Connect { .. } | Error::TooOld { .. } => Exit::NoCriu,
                Error::Stopped(_) => Exit::Stopped,
                Error::Instant(ref error) if hints::instant::is_stopped(&**error) => Exit::Stopped,
                _ => Exit::Failed,
            },
        }
    }

    /// Returns the failure of CRIU, if CRIU failed.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Criu { error, .. } => error.failure(),
            _ => None,
        }
    }

    /// Returns the advice, if there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoCriu => Some(hints::NO_CRIU),
            Self::Kubelet(error) => hints::kubelet::of(error),
            Self::Cri { error, hints } => hints(error),
            Self::Criu { error, hints, .. } => hints(error),
            _ => None,
        }
    }

    /// Returns the fault as a JSON object.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = json!({ "message": self.headline(), "hint": self.hint() });
        if let Some(failure) = self.failure() {
            object["cause"] = json!(failure.cause.map(|cause| cause.to_string()));
            object["seen"] = json!(failure.seen);
            object["errno"] = json!(failure.errno);
            object["criu_said"] = json!(failure.said());
            object["criu_printed"] = json!(failure.output);
            object["log"] = failure.excerpt().map_or(Value::Null, |log| {
                json!({
                    "file": self.log().unwrap_or(Path::new(&log.file)).to_string_lossy(),
                    "line": log.line,
                    "before": log.before,
                    "error": log.error,
                    "more": log.more,
                })
            });
        }
        object
    }

    fn log(&self) -> Option<&Path> {
        match self {
            Self::Criu { log, .. } => log.as_deref(),
            _ => None,
        }
    }

    /// Returns the failure: in one line, unless a message of this program has several.
    fn headline(&self) -> String {
        match self {
            Self::Usage(what) | Self::Failed(what) => unforged(what),
            _ => one_line(&self.what()),
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Usage(what) | Self::Failed(what) => what.clone(),
            Self::NoCriu => "there is no criu in PATH".into(),
            Self::Kubelet(error) => error.to_string(),
            Self::Cri { error, .. } => error.to_string(),
            Self::Interrupted(signal) => format!("stopped by {signal}"),
            Self::System { doing, source } => format!("cannot {doing}: {source}"),
            Self::Criu { error, .. } => match &**error {
                Error::CheckpointExists { directory } => {
                    format!("{} holds a checkpoint already", directory.display())
                }
                Error::Failed(failure) => headline(failure),
                // The hooks are this program's own, and their messages are complete.
                Error::Hook { source, .. } => source.to_string(),
                Error::Label(error) => error.what().to_string(),
                Error::Lock(error) => error.what(),
                Error::Place(error) => error.what(),
                error => error.to_string(),
            },
        }
    }
}

/// Returns the failure in one line, without the cause and the hint, which have lines of their own.
fn headline(failure: &Failure) -> String {
    let mut line = match failure.end {
        End::NotUnderstood => "CRIU did not understand the request".to_owned(),
        End::Died => "CRIU ended without an answer".to_owned(),
        End::NotAsked => "CRIU was not started".to_owned(),
        _ => "CRIU failed".to_owned(),
    };
    match (failure.errno, failure.exit) {
        (Some(errno), _) => line += &format!(": {}", Errno::from_raw(errno).desc()),
        (None, Some(exit)) if failure.end == End::Died => line += &format!(" ({exit})"),
        _ => {}
    }
    line
}

/// Moves lines that look like advice in from the margin. A name in a message may have such lines.
fn unforged(text: &str) -> String {
    let text = text.replace("\ncause:", "\n  cause:");
    text.replace("\ndo:", "\n  do:")
}

impl From<SystemError> for Fault {
    fn from(error: SystemError) -> Self {
        Error::from(error).into()
    }
}

impl From<criu_cri::kubelet::Error> for Fault {
    fn from(error: criu_cri::kubelet::Error) -> Self {
        Self::Kubelet(Box::new(error))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Criu { error: Box::new(error), log: None, hints: hints::of }
    }
}

impl fmt::Display for Fault {
    /// Writes the failure, the cause and the advice as far as they are known, and what CRIU said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        let failure = self.failure();
        if let Some(cause) = failure.and_then(|failure| failure.cause) {
            write!(f, "\ncause: {cause}")?;
        }
        if let Some(seen) = failure.and_then(|failure| failure.seen.as_deref()) {
            write!(f, ": {}", seen.replace('\n', "\\n"))?;
        }
        if let Some(hint) = self.hint() {
            write!(f, "\ndo: {hint}")?;
        }
        let Some(failure) = self.failure() else {
            return Ok(());
        };
        match (failure.excerpt(), &failure.log, failure.said()) {
            (Some(log), ..) => {
                let file = self.log().unwrap_or(Path::new(&log.file)).display();
                write!(f, "\n{file}:{}:", log.line)?;
                for line in log.before.iter().chain([&log.error]) {
                    write!(f, "\n  {line}")?;
                }
                Ok(())
            }
            (None, Err(error), _) => write!(f, "\n{error}"),
            (None, Ok(_), Some(said)) => {
                write!(f, "\ncriu said: {}", said.replace('\n', "\n  "))
            }
            (None, Ok(_), None) => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
