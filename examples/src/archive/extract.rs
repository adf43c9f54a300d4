//! `archive extract`: unpacks an archive into a new directory.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_archive::{ErrorKind, Extraction};
use indicatif::BinaryBytes;
use serde_json::json;

use crate::exit::Exit;
use crate::images::open_archive;
use crate::options::memory;
use crate::output::Output;
use crate::shown::Shown;
use crate::tool::Fallible;
use crate::work::Work;

/// Options of `archive extract`.
#[derive(Args)]
#[command(after_help = MORE)]
pub(crate) struct Extract {
    /// The archive, or - for standard input
    archive: PathBuf,
    /// The directory to make; an empty one is taken, too
    directory: PathBuf,
    /// Members to extract: paths, folders, or patterns with * and ?; all members unless given
    members: Vec<String>,
    /// Refuse to write more bytes
    #[arg(long, value_name = "SIZE", default_value = "1024G", value_parser = memory)]
    limit: usize,
    /// Give the files to the owners that the archive names
    #[arg(long)]
    owners: bool,
    /// Keep the set-user-id, set-group-id and sticky bits
    #[arg(long)]
    special_bits: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Extract {
    pub(super) fn run(self, name: &str) -> Fallible<ExitCode> {
        let output = Output::new(name, "archive", self.json);
        let archive = open_archive(&self.archive)?;
        let work = Work::new(archive.members().map(criu_archive::Member::size).sum())?;
        let mut extraction = Extraction::of(&archive).limit(self.limit as u64);
        extraction = self.members.into_iter().fold(extraction, Extraction::only);
        if self.owners {
            extraction = extraction.with_owners();
        }
        if self.special_bits {
            extraction = extraction.with_special_bits();
        }
        let extraction = extraction.progress(|done| work.step(done.bytes));
        let limit = self.limit as u64;
        let done = extraction.into_new(&self.directory).map_err(|error| match error.kind() {
            ErrorKind::TooLarge { limit: found, .. } if *found == limit => {
                work.fault(format!("{error}: --limit allows more"))
            }
            ErrorKind::Missing if error.member().is_some_and(|name| name.contains(['*', '?'])) => {
                let (archive, name) = (error.archive(), error.member().unwrap_or_default());
                work.fault(format!("{archive}: {name}: no member fits this pattern"))
            }
            _ => work.fault(error),
        })?;
        drop(work);
        let directory = self.directory.display();
        output.print(format_args!(
            "{} members, {}, in {}",
            done.members,
            BinaryBytes(done.bytes),
            Shown(&directory)
        ));
        let directory = directory.to_string();
        let facts = json!({ "members": done.members, "bytes": done.bytes, "path": directory });
        output.object("done", facts);
        Ok(Exit::Done.into())
    }
}

const MORE: &str = "\
The directory appears when all is there: what fails or is stopped leaves nothing. It is open to its
owner alone. Nothing is written outside of it. Archives in the archive, such as rootfs-diff.tar, are
written as they are.

Examples:
  criu-rs archive extract export.tar.zst out
  criu-rs archive extract export.tar.zst out checkpoint 'volumes/*'
  cat export.tar | criu-rs archive extract - out";
