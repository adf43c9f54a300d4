//! `archive`: makes and reads archives of checkpoints. Each subcommand has a file.

mod convert;
mod create;
mod list;
mod output;

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
    /// Make an archive of a directory of images
    Create(create::Create),
    /// Make an archive for another engine, or pack it anew
    Convert(convert::Convert),
    /// List the members of an archive
    List(list::List),
}

impl Tool for ArchiveWord {
    const WORD: &'static str = "archive";
    const ABOUT: &'static str = "Makes and reads archives of checkpoints.";
    const MORE: &'static str = "\
Examples:
  criu-rs archive list export.tar.zst
  criu-rs archive create img web.tar --engine podman --bundle /run/web --name web --image web:1
  criu-rs archive convert podman.tar crio.tar --to cri-o
  criu-rs archive convert old.tar.gz new.tar --pack zstd

Exit status:
  0  done
  1  the archive cannot be read or written, or is refused; --strict: a part would be lost
  2  wrong usage";

    fn run(self, _: &str, _: &Table) -> Fallible<ExitCode> {
        match self.word {
            Word::Create(create) => create.run(),
            Word::Convert(convert) => convert.run(),
            Word::List(list) => list.run(),
        }
    }
}
