//! `archive`: makes and reads archives of checkpoints. Each subcommand has a file.

mod list;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// The command line of `archive`.
#[derive(Args)]
pub(crate) struct ArchiveWord {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// List the members of an archive
    List(list::List),
}

impl Tool for ArchiveWord {
    const WORD: &'static str = "archive";
    const ABOUT: &'static str = "Makes and reads archives of checkpoints.";
    const MORE: &'static str = "\
Examples:
  criu-rs archive list export.tar.zst

Exit status:
  0  done
  1  the archive cannot be read, or is refused
  2  wrong usage";

    fn run(self, _: &str, _: &Table) -> Fallible<ExitCode> {
        match self.word {
            Word::List(list) => list.run(),
        }
    }
}
