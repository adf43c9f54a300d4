//! `archive verify`: tells if an archive is whole.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_archive::Member;
use criu_images::Text;
use indicatif::BinaryBytes;
use serde::Serialize;

use super::show;
use crate::exit::Exit;
use crate::images::open_archive;
use crate::tool::Fallible;
use crate::work::Work;

/// Options of `archive verify`.
#[derive(Args)]
pub(crate) struct Verify {
    /// The archive, or - for standard input
    archive: PathBuf,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn run(self) -> Fallible<ExitCode> {
        let archive = open_archive(&self.archive)?;
        let bytes = archive.members().map(Member::size).sum();
        let work = Work::new(bytes)?;
        let verified = archive.verify(&|bytes| work.step(bytes));
        let verified = verified.map_err(|error| work.fault(error))?;
        drop(work);
        let report = Whole {
            archive: archive.name().to_owned(),
            packing: archive.packing().name(),
            bytes,
            count: archive.members().count(),
            has_digests: verified.has_digests,
        };
        show(&report, self.json)?;
        Ok(Exit::Done.into())
    }
}

/// An archive that was read to its end. The digests in it, if there are any, are right.
#[derive(Serialize)]
struct Whole {
    archive: String,
    packing: &'static str,
    /// Bytes of all members.
    bytes: u64,
    /// Number of members.
    count: usize,
    has_digests: bool,
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Text(self.archive.as_bytes());
        let s = if self.count == 1 { "" } else { "s" };
        write!(f, "{name} is whole: {} member{s}, {}", self.count, BinaryBytes(self.bytes))?;
        let digests = if self.has_digests { "all digests in it are right" } else { NONE };
        write!(f, "; {digests}")
    }
}

const NONE: &str = "there are no digests in it";
