//! Options of an instant dump into an archive.

use std::path::{Path, PathBuf};

use clap::Args;
use criu_archive::crypt::Recipients;

use crate::archive::{Form, Packed};
use crate::fault::Fault;
use crate::fd;
use crate::keys::read_text;
use crate::options::INSTANT;
use crate::target::Target;

/// Options of an instant dump into an archive, on `dump`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = INSTANT)]
pub(super) struct IntoArchive {
    /// Write an archive instead of images; - for standard output, such as a pipe. The memory goes
    /// from the forks into it. With --images-dir, the log stays in that directory
    #[arg(
        long,
        value_name = "FILE",
        requires = "instant",
        conflicts_with_all = ["coordinator", "page_server", "rounds", "verify"]
    )]
    archive: Option<PathBuf>,
    /// Packing of the archive; zstd, of which any page can be read without the others, unless given
    #[arg(long, value_enum, requires = "archive")]
    pack: Option<Form>,
    /// Level of the packing, 1 (quick) to 19 (small; 9 for gzip)
    #[arg(
        long,
        requires = "archive",
        value_parser = clap::value_parser!(u8).range(1..=19)
    )]
    level: Option<u8>,
    /// Threads that pack with zstd, at most 64; one for each processor unless given
    #[arg(
        long,
        requires = "archive",
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    threads: Option<u16>,
    /// Compute the SHA-256 of the tar stream and, with zstd, put it into the archive with those of
    /// all members
    #[arg(long, requires = "archive")]
    digests: bool,
    /// Encrypt the archive with age for the holder of an identity; may be repeated
    #[arg(long, value_name = "AGE1...", requires = "archive")]
    recipient: Vec<String>,
    /// Encrypt the archive with age for the recipients in FILE, one a line; may be repeated
    #[arg(long, value_name = "FILE", requires = "archive")]
    recipients_file: Vec<PathBuf>,
}

/// An archive that is asked for.
#[derive(Debug)]
pub(super) struct NewArchive {
    pub(super) target: Target,
    pub(super) packed: Packed,
    pub(super) form: Form,
    /// The recipients of an archive that is to be encrypted.
    pub(super) recipients: Option<Recipients>,
}

impl IntoArchive {
    /// Returns the archive, if one is asked for.
    ///
    /// # Errors
    /// Options that exclude each other, a target that cannot take an archive, recipients that
    /// cannot be read.
    pub(super) fn given(&self, json: bool) -> Result<Option<NewArchive>, Fault> {
        let Some(path) = &self.archive else { return Ok(None) };
        let target = Target::new(path, json, [])?;
        if let Some(path) = target.path() {
            refuse_other(path)?;
        }
        let form = self.pack.unwrap_or(Form::Zstd);
        let packed = Packed::new(form, self.level, self.threads, self.digests);
        packed.check(Some(form))?;
        Ok(Some(NewArchive { target, packed, form, recipients: self.recipients()? }))
    }

    fn recipients(&self) -> Result<Option<Recipients>, Fault> {
        if self.recipient.is_empty() && self.recipients_file.is_empty() {
            return Ok(None);
        }
        let mut recipients = Recipients::default();
        for recipient in &self.recipient {
            let added = recipients.add(recipient);
            added.map_err(|error| Fault::usage(format!("--recipient: {error}")))?;
        }
        for path in &self.recipients_file {
            let text = read_text(path).map_err(Fault::Failed)?;
            let added = recipients.add_file(&path.to_string_lossy(), &text);
            added.map_err(|error| Fault::Failed(error.to_string()))?;
        }
        Ok(Some(recipients))
    }
}

/// Refuses what is there and is no file, because a file could not take its place.
fn refuse_other(path: &Path) -> Result<(), Fault> {
    let is_other = path.symlink_metadata().is_ok_and(|found| {
        let is_replaced = found.is_file() || found.is_symlink();
        !is_replaced
    });
    if is_other || fd::of_path(path).is_some() {
        let path = path.display();
        let why = format!("--archive: {path} is no regular file: name a file, or - for a pipe");
        return Err(Fault::usage(why));
    }
    Ok(())
}
