//! `inspect`: shows one screen about a checkpoint.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_images::ImageSet;
use criu_images::view::{Ps, Summary, Touches};
use serde::Serialize;

use crate::exit::Exit;
use crate::images::{open_place, open_set, show};
use crate::tool::{Fallible, Tool};
use crate::word::Table;
use criu_archive::inspection::{Inspection, Part};

/// Options of `inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    /// A directory of images, a tar archive of one, or ARCHIVE:FOLDER
    dir: PathBuf,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
    /// Everything
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Screen {
    #[serde(flatten)]
    summary: Summary,
    #[serde(flatten)]
    ps: Ps,
    /// The working set that a lazy restore has recorded.
    working_set: Option<Touches>,
    /// The reason why a restore ignores the file of the working set.
    working_set_fault: Option<String>,
}

impl std::fmt::Display for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n\n{}", self.summary, self.ps)?;
        if let Some(set) = &self.working_set {
            write!(f, "\n\n{set}")?;
        }
        if let Some(fault) = &self.working_set_fault {
            write!(f, "\n\nworking set ignored: {fault}")?;
        }
        Ok(())
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
        if self.all {
            let place = open_place(&self.dir)?;
            let inspection = Inspection::new(&place, Part::ALL).map_err(|e| e.to_string())?;
            crate::shown::write_json(crate::stdout::Stdout::lock(), &inspection)?;
            return Ok(Exit::Done.into());
        }
        let set = open_set(&self.dir)?;
        let checkpoint = set.checkpoint()?;
        let ps = Ps::with_arguments(checkpoint.tasks(), false)?;
        let (working_set, working_set_fault) = working_set(&set)?;
        let summary = Summary::new(checkpoint)?;
        show(&Screen { summary, ps, working_set, working_set_fault }, self.json)?;
        Ok(Exit::Done.into())
    }
}

/// Returns the working set beside the images, or the reason why a restore ignores it.
fn working_set(set: &ImageSet) -> Fallible<(Option<Touches>, Option<String>)> {
    match set.working_set() {
        Ok(None) => Ok((None, None)),
        Ok(Some(found)) => Ok((Some(Touches::new(set.checkpoint()?, &found)?), None)),
        Err(error) => Ok((None, Some(error.to_string()))),
    }
}
