//! Archives of one engine made of those of another, or of a directory of images.
//!
//! Members that the new engine does not read stay in the archive, so that a way back exists. A
//! [`Conversion`] lists each of them with the reason, and all else that was changed or made up:
//! nothing is lost in silence.
//!
//! ```no_run
//! use criu_archive::convert::Conversion;
//! use criu_archive::metadata::Engine;
//! use criu_archive::write::Options;
//! use criu_archive::{Archive, UNWATCHED};
//!
//! let podman = Archive::open("podman.tar")?;
//! let conversion = Conversion::of(&podman, Engine::Containerd)?;
//! for note in conversion.notes() {
//!     println!("{note}");
//! }
//! conversion.draft().save("containerd.tar", &Options::default(), UNWATCHED)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapt;
mod config;
mod create;
mod dumped;
mod mounts;
mod note;
mod rootfs;
mod spec;
mod status;
mod unread;

use crate::archive::Archive;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::metadata::names::CONFIG_DUMP;
use crate::metadata::{Engine, Metadata, Other, json};
use crate::write::Draft;

pub use create::Parts;
pub use note::{Effect, Note};

/// An archive for an engine, in the making, and what became of its parts.
#[derive(Clone, Debug)]
pub struct Conversion {
    draft: Draft,
    from: Engine,
    to: Engine,
    notes: Vec<Note>,
}

impl Conversion {
    /// Plans an archive for an engine of the archive of any engine. For [`Engine::Unknown`] all
    /// members stay as they are: the archive is only packed anew.
    ///
    /// # Errors
    /// The errors of [`Metadata`], for members that have to be changed.
    pub fn of(archive: &Archive, to: Engine) -> Result<Self> {
        Self::planned(archive, to, None)
    }

    /// Plans an archive as [`of`](Self::of) does, with the time of the checkpoint in seconds since
    /// 1970. It is used where the metadata of the old archive have none; `of` takes the time of the
    /// inventory there.
    ///
    /// # Errors
    /// The errors of [`of`](Self::of).
    pub fn with_time(archive: &Archive, to: Engine, seconds: u64) -> Result<Self> {
        Self::planned(archive, to, Some(seconds))
    }

    fn planned(archive: &Archive, to: Engine, time: Option<u64>) -> Result<Self> {
        let top = archive.folder("");
        let from = Metadata::of(archive.name(), &top).engine();
        let from = match to {
            // Faulty metadata stays as it is, too.
            Engine::Unknown => from.unwrap_or(Engine::Unknown),
            _ => from?,
        };
        let (mut draft, mut notes) = (Draft::new(), Vec::new());
        for member in archive.members() {
            match draft.add_member(archive, member) {
                Ok(()) => {}
                Err(error) => match error.kind() {
                    kind @ (ErrorKind::Refused(_) | ErrorKind::Unsupported(_)) => {
                        notes.push(Note::new(Effect::Lost, member.path(), kind.to_string()));
                    }
                    _ => return Err(error),
                },
            }
        }
        if let Some(time) = time {
            draft.set_time_of_images(time);
        }
        if to != from && to != Engine::Unknown {
            adapt::adapt(&mut draft, archive.name(), from, to, &mut notes)?;
            adapt::complete(&mut draft, &mut notes)?;
        }
        notes.sort_by(|a, b| (a.effect(), a.member()).cmp(&(b.effect(), b.member())));
        Ok(Self { draft, from, to, notes })
    }

    /// Sets the identifier of the image in `config.dump`: the digest of its configuration, without
    /// `sha256:`. Archives of containerd do not have it, and Podman imports nothing without it.
    ///
    /// # Errors
    /// The errors of [`Metadata::config`].
    pub fn set_image_id(&mut self, id: &str) -> Result<()> {
        let blob = self.draft.bytes(CONFIG_DUMP)?;
        let config: Option<Result<Other, Fault>> = blob.as_ref().map(json::read);
        let config = config.transpose().map_err(|fault| Error::new(CONFIG_DUMP, fault))?;
        config::set_image_id(&mut self.draft, &mut config.unwrap_or_default(), id);
        self.notes.retain(|note| !note.misses(CONFIG_DUMP, config::IMAGE_ID));
        Ok(())
    }

    /// The archive in the making.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Engine that made the old archive.
    pub fn from(&self) -> Engine {
        self.from
    }

    /// Engine that the new archive is for.
    pub fn to(&self) -> Engine {
        self.to
    }

    /// Members that were lost, changed or made up, the worst first.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Returns true if a restore by the new engine lacks something that the old archive has.
    pub fn loses(&self) -> bool {
        self.notes.iter().any(|note| note.effect().is_loss())
    }
}
