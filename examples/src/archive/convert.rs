//! `archive convert`: makes an archive of one engine of that of another, or packs it anew.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_archive::convert::Conversion;
use criu_archive::metadata::Engine;

use super::output::{EngineName, Output};
use crate::exit::Exit;
use crate::images::open_archive;
use crate::tool::Fallible;

/// Options of `archive convert`.
#[derive(Args)]
pub(crate) struct Convert {
    /// The archive to read
    #[arg(value_name = "IN")]
    archive: PathBuf,
    #[command(flatten)]
    output: Output,
    /// Engine that is to restore the archive; by default the one that wrote it
    #[arg(long, value_enum)]
    to: Option<EngineName>,
}

impl Convert {
    pub(crate) fn run(self) -> Fallible<ExitCode> {
        let archive = open_archive(&self.archive)?;
        let to = self.to.map_or(Engine::Unknown, Engine::from);
        let conversion = Conversion::of(&archive, to)?;
        self.output.write(&conversion, Some(archive.packing()))?;
        Ok(Exit::Done.into())
    }
}
