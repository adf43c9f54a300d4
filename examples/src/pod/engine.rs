//! The engine that saves and restores, as its options name it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use criu_cri::engine::{Control, Criu, Engine, EngineError, Moments, Options, Phase, Runsc};
use criu_rs::instant::{InstantError, InstantOptions};
use criu_rs::{Error, PodError};

use crate::drive::Drive;
use crate::fault::Fault;
use crate::hints;
use crate::options::criu_program;
use crate::shown::one_line;

/// Options of the words that call an engine.
#[derive(Args)]
pub(super) struct EngineArgs {
    /// The tool that saves and restores
    #[arg(long, value_enum, default_value_t = Kind::Criu)]
    engine: Kind,
    /// An option of the tool; may be repeated. A wrong name lists those that there are
    #[arg(long = "option", value_name = "NAME[=VALUE]", value_parser = pair)]
    options: Vec<(String, String)>,
    /// The criu to use; else the variable CRIU, else `criu` in PATH
    #[arg(long, value_name = "PROGRAM")]
    criu: Option<PathBuf>,
    /// The runsc to use
    #[arg(long, value_name = "PROGRAM", default_value = "runsc")]
    runsc: PathBuf,
    /// A flag of runsc, such as --platform=systrap; may be repeated. A restore needs the platform
    /// and the network of the checkpoint
    #[arg(long = "runsc-flag", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,
    /// The directory in which the runtime keeps its state
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Undo the work if it takes longer than so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: Option<u32>,
    /// Print one JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// CRIU, for containers of runc
    Criu,
    /// gVisor
    Runsc,
}

impl EngineArgs {
    pub(super) fn kind(&self) -> Kind {
        self.engine
    }

    /// The program of runsc.
    pub(super) fn runsc(&self) -> &std::path::Path {
        &self.runsc
    }

    /// Flags of runsc.
    pub(super) fn flags(&self) -> &[String] {
        &self.flags
    }

    /// Makes the engine, which makes instant checkpoints in this way.
    pub(super) fn engine(&self, how: InstantOptions) -> Result<Box<dyn Engine>, Fault> {
        match self.engine {
            Kind::Criu => {
                let program = criu_program(self.criu.as_deref())?;
                Ok(Box::new(Criu::new(criu_rs::Criu::at(program)).instant(how)))
            }
            Kind::Runsc => {
                let mut runsc = Runsc::at(&self.runsc);
                if let Some(root) = &self.root {
                    runsc = runsc.root(root);
                }
                Ok(Box::new(self.flags.iter().fold(runsc, |runsc, flag| runsc.flag(flag))))
            }
        }
    }

    /// Checks the options against the list of the engine, and a switch that is asked for besides.
    pub(super) fn options(
        &self,
        engine: &dyn Engine,
        phase: Phase,
        asked: Option<&str>,
    ) -> Result<Options, Fault> {
        let given = self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let given = given.chain(asked.map(|name| (name, "")));
        Options::parse(given, engine, phase).map_err(|error| Fault::usage(error.to_string()))
    }

    /// The time that the operation may take.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.timeout.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Makes the limits of an operation.
    pub(super) fn control<'a>(&self, drive: &'a Drive, moments: &'a dyn Moments) -> Control<'a> {
        let deadline = self.limit().and_then(|limit| Instant::now().checked_add(limit));
        Control { deadline, cancel: Some(drive.cancel()), moments, ..Control::default() }
    }
}

/// Makes the fault of an engine's error.
pub(super) fn fault(error: EngineError, drive: &Drive) -> Fault {
    match error {
        EngineError::Cancelled => Fault::Interrupted(
            drive.received().map_or("SIGTERM", |received| received.signal.as_str()),
        ),
        // A signal ends the wait for the other members of a job, too.
        EngineError::Hook(why) => interrupted(drive)
            .unwrap_or_else(|| Fault::Failed(one_line(&EngineError::Hook(why).to_string()))),
        EngineError::Option(_) | EngineError::Invalid { .. } => {
            Fault::usage(one_line(&error.to_string()))
        }
        EngineError::Pod(error) => of_pod(*error),
        EngineError::Criu(error) => Fault::Criu { error, log: None, hints: hints::of },
        // The record and the runtime choose the names in the message.
        error => Fault::Failed(one_line(&error.to_string())),
    }
}

/// Makes the fault of an error of a pod. What stands in the way of every container has advice.
fn of_pod(error: PodError) -> Fault {
    let is_of_all = |error: &Error| match error {
        Error::Instant(source) => matches!(
            source.downcast_ref(),
            Some(InstantError::NoPlugin { .. } | InstantError::Plugin { .. })
        ),
        Error::Holder(_) => true,
        _ => false,
    };
    match error {
        PodError::Container { source, .. } if is_of_all(&source) => {
            Fault::Criu { error: source, log: None, hints: hints::of }
        }
        error => Fault::Failed(one_line(&EngineError::from(error).to_string())),
    }
}

/// Makes the fault of a signal that has asked to stop.
pub(super) fn interrupted(drive: &Drive) -> Option<Fault> {
    drive.received().map(|received| Fault::Interrupted(received.signal.as_str()))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err("wanted NAME or NAME=VALUE".into());
    }
    Ok((name.to_owned(), value.to_owned()))
}
