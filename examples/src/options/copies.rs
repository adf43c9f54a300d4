//! The way in which a program learns that it is a copy.

use std::path::PathBuf;

use clap::Args;
use criu_rs::CopyNotice;

use crate::fault::Fault;

/// Options of dump and start.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Copies")]
pub(crate) struct Notice {
    /// The file, as the program sees it, that names a copy's identity: see `criu-rs start`. start
    /// uses what was chosen at the dump, unless given
    #[arg(long, value_name = "PATH")]
    copy_file: Option<PathBuf>,
    /// The signal that the root task of a copy gets before anything else, such as USR2; the program
    /// has to handle it
    #[arg(long, value_name = "SIGNAL")]
    copy_signal: Option<String>,
}

impl Notice {
    /// Returns the choice, if there is one.
    pub(crate) fn given(&self) -> Result<Option<CopyNotice>, Fault> {
        self.over(CopyNotice::new()).map(|notice| Some(notice).filter(|it| !it.is_empty()))
    }

    /// Returns a choice with these options in place of its own.
    pub(crate) fn over(&self, mut notice: CopyNotice) -> Result<CopyNotice, Fault> {
        if let Some(path) = &self.copy_file {
            let taken = notice.file(path);
            notice = taken.map_err(|error| Fault::usage(format!("--copy-file: {error}")))?;
        }
        if let Some(signal) = &self.copy_signal {
            let taken = notice.signal_named(signal);
            notice = taken.map_err(|error| Fault::usage(format!("--copy-signal: {error}")))?;
        }
        Ok(notice)
    }
}
