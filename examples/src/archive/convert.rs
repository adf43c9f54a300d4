//! `archive convert`: makes an archive of one engine of that of another, or packs it anew.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_archive::convert::Conversion;
use criu_archive::metadata::Engine;

use super::create::image_identifier;
use super::new_archive::{EngineName, NewArchive};
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
    output: NewArchive,
    /// Engine that is to restore the archive; by default the members stay as they are
    #[arg(long, value_enum)]
    to: Option<EngineName>,
    /// Identifier of the container's image: 64 hexadecimal digits, with or without sha256:.
    /// Podman wants it, containerd does not keep it
    #[arg(long, value_name = "ID", value_parser = image_identifier)]
    image_id: Option<String>,
}

impl Convert {
    pub(crate) fn run(self) -> Fallible<ExitCode> {
        let target = self.output.target([&*self.archive])?;
        let archive = open_archive(&self.archive)?;
        let to = self.to.map_or(Engine::Unknown, Engine::from);
        let mut conversion = match self.output.fixed_time() {
            Some(time) => Conversion::with_time(&archive, to, time)?,
            None => Conversion::of(&archive, to)?,
        };
        if let Some(id) = &self.image_id {
            conversion.set_image_id(id)?;
        }
        self.output.write(&target, &conversion, Some(archive.packing()))?;
        Ok(Exit::Done.into())
    }
}
