//! `archive`: makes and reads archives of checkpoints. Each subcommand has a file.

mod extract;
mod list;
mod work;

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
    /// Unpack an archive into a new directory
    Extract(extract::Extract),
}

impl Tool for ArchiveWord {
    const WORD: &'static str = "archive";
    const ABOUT: &'static str = "Makes and reads archives of checkpoints.";
    const MORE: &'static str = "\
Examples:
  criu-rs archive list export.tar.zst
  criu-rs archive list --verify export.tar.zst
  criu-rs archive extract export.tar.zst out

Exit status:
  0  done
  1  the archive cannot be read, or is refused
  2  wrong usage
  4  stopped by Ctrl-C or SIGTERM; nothing is left";

    fn run(self, name: &str, _: &Table) -> Fallible<ExitCode> {
        match self.word {
            Word::List(list) => list.run(),
            Word::Extract(extract) => extract.run(name),
        }
    }
}
