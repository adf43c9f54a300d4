//! `inspect`: shows one screen about a checkpoint.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_images::view::{Ps, Summary};
use serde::Serialize;

use crate::exit::Exit;
use crate::images::{open_set, show};
use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// Options of `inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    /// A directory of images, a tar archive of one, or ARCHIVE:FOLDER
    dir: PathBuf,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Screen {
    #[serde(flatten)]
    summary: Summary,
    #[serde(flatten)]
    ps: Ps,
}

impl std::fmt::Display for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n\n{}", self.summary, self.ps)
    }
}

impl Tool for Inspect {
    const WORD: &'static str = "inspect";
    const ABOUT: &'static str = "Shows what a checkpoint holds, and what a restore of it needs.";
    const MORE: &'static str = "\
Examples:
  criu-rs inspect img
  criu-rs inspect --json checkpoint.tar | jq .needs
  criu-rs crit x img fds      a closer look
  criu-rs crit check img      tells if the checkpoint is whole

Exit status:
  0  done
  1  the checkpoint cannot be read
  2  wrong usage";

    fn run(self, _: &str, _: &Table) -> Fallible<ExitCode> {
        let set = open_set(&self.dir)?;
        let checkpoint = set.checkpoint()?;
        let ps = Ps::with_arguments(checkpoint.tasks(), false)?;
        show(&Screen { summary: Summary::new(checkpoint)?, ps }, self.json)?;
        Ok(Exit::Done.into())
    }
}
