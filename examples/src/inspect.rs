//! `inspect`: one screen about a checkpoint.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use criu_cli::{is_broken_pipe, open_set, show};
use criu_images::view::{Ps, Summary};
use serde::Serialize;

#[derive(Parser)]
#[command(
    name = "inspect",
    about = "Show what is in a checkpoint, and what a restore of it needs",
    after_help = MORE
)]
struct Inspect {
    /// A directory of images, a tar archive of one, or ARCHIVE:FOLDER.
    dir: PathBuf,
    /// As JSON, on one line.
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

fn main() -> ExitCode {
    let Inspect { dir, json } = Inspect::parse();
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        let set = open_set(&dir)?;
        let checkpoint = set.checkpoint()?;
        let ps = Ps::with_arguments(checkpoint.tasks(), false)?;
        Ok(show(&Screen { summary: Summary::new(checkpoint)?, ps }, json)?)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inspect: {error}");
            ExitCode::FAILURE
        }
    }
}

const MORE: &str = "\
Examples:
  inspect img
  inspect --json checkpoint.tar | jq .needs

More of the same: crit x img fds; whether it is whole: crit check img.
";
