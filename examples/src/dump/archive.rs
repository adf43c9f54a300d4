//! `dump --instant --archive`: the memory goes from the forks into an archive.

use std::error::Error as StdError;
use std::fs;
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use criu_archive::convert::Parts;
use criu_archive::crypt::encrypt;
use criu_archive::metadata::Engine;
use criu_archive::write::{Draft, Options, Saved};
use criu_images::source::Source;
use criu_rs::Cancel;
use indicatif::BinaryBytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::mkdtemp;
use serde_json::{Value, json};

use super::into_archive::NewArchive;
use crate::fault::Fault;
use crate::new_file::NewFile;

/// An archive in the making, and the directory in which CRIU works meanwhile.
pub(super) struct Making {
    archive: Arc<NewArchive>,
    images: Images,
    saved: Arc<Mutex<Option<Saved>>>,
}

/// The directory for CRIU's own images.
enum Images {
    /// The user has named it.
    Named(PathBuf),
    /// A private one, which is removed.
    Scratch(PathBuf),
}

impl Making {
    /// Makes the directory for CRIU's images, unless one is named: beside the archive, where its
    /// bytes have room, or in that for temporary files.
    pub(super) fn new(archive: NewArchive, images: Option<&Path>) -> Result<Self, Fault> {
        let images = match images {
            Some(images) => Images::Named(images.to_owned()),
            None => {
                let above = archive.target.path().map(|path| match path.parent() {
                    Some(above) if above != Path::new("") => above.to_owned(),
                    _ => PathBuf::from("."),
                });
                let above = above.unwrap_or_else(std::env::temp_dir);
                let failed = |error| {
                    Fault::system(format!("make a directory in {}", above.display()), error)
                };
                let made = mkdtemp(&above.join(".criu-rs-images-XXXXXX")).map_err(failed)?;
                Images::Scratch(made)
            }
        };
        Ok(Self { archive: Arc::new(archive), images, saved: Arc::default() })
    }

    /// The directory for CRIU's images.
    pub(super) fn images(&self) -> &Path {
        match &self.images {
            Images::Named(path) | Images::Scratch(path) => path,
        }
    }

    /// The place of the archive.
    pub(super) fn place(&self) -> String {
        self.archive.target.to_string()
    }

    /// Returns the function that writes the archive.
    pub(super) fn writer(
        &self,
        cancel: &Cancel,
    ) -> impl FnOnce(Arc<dyn Source>) -> Result<(), Box<dyn StdError + Send + Sync>> + Send + 'static
    {
        let (archive, saved) = (Arc::clone(&self.archive), Arc::clone(&self.saved));
        let cancel = cancel.clone();
        move |images| {
            let written = archive.write(images, &cancel)?;
            *saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
            Ok(())
        }
    }

    /// Tells of the archive, in words and for JSON.
    pub(super) fn facts(&self) -> (String, Value) {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(saved) = &*saved else { return (String::new(), Value::Null) };
        let packing = self.archive.form.word();
        let words =
            format!("{} members, {}, {packing}", saved.members, BinaryBytes(saved.unpacked));
        let facts = json!({
            "path": self.place(),
            "packing": packing,
            "members": saved.members,
            "bytes": saved.unpacked,
            "diff_id": saved.diff_id,
            "encrypted": self.archive.recipients.is_some(),
        });
        (words, facts)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Images::Scratch(path) = &self.images {
            let _ = fs::remove_dir_all(path);
        }
    }
}

impl NewArchive {
    /// Writes the archive. A file has its name when everything is on the disk.
    fn write(
        &self,
        images: Arc<dyn Source>,
        cancel: &Cancel,
    ) -> Result<Saved, Box<dyn StdError + Send + Sync>> {
        let conversion = Parts::new("images", images).conversion(Engine::Unknown)?;
        let (draft, options) = (conversion.draft(), self.packed.options(self.form));
        let failed = |error| self.target.fault(error);
        match self.target.path() {
            None => {
                let mut stream = Stream::stdout(cancel)?;
                self.pour(draft, &mut stream, &options, cancel)
            }
            Some(path) => {
                let mut file = NewFile::create(Some(path))?;
                let saved = self.pour(draft, &mut file, &options, cancel)?;
                file.sync().and_then(|()| file.keep()).map_err(failed)?;
                Ok(saved)
            }
        }
    }

    fn pour(
        &self,
        draft: &Draft,
        out: &mut dyn Write,
        options: &Options,
        cancel: &Cancel,
    ) -> Result<Saved, Box<dyn StdError + Send + Sync>> {
        let (name, failed) = (self.target.to_string(), |error| self.target.fault(error));
        let watch = |_| match cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let Some(recipients) = &self.recipients else {
            return Ok(draft.write(&name, out, options, &watch)?);
        };
        let mut out = encrypt(recipients, out).map_err(failed)?;
        let saved = draft.write(&name, &mut out, options, &watch)?;
        out.finish().map(drop).map_err(failed)?;
        Ok(saved)
    }
}

/// Standard output. A reader that does not read is waited for until the dump is cancelled.
struct Stream<'c> {
    out: File,
    cancel: &'c Cancel,
}

impl<'c> Stream<'c> {
    fn stdout(cancel: &'c Cancel) -> io::Result<Self> {
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self { out: File::from(out), cancel })
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wanted = [
            PollFd::new(self.out.as_fd(), PollFlags::POLLOUT),
            PollFd::new(self.cancel.as_fd(), PollFlags::POLLIN),
        ];
        while let Err(error) = poll(&mut wanted, PollTimeout::NONE) {
            if error != Errno::EINTR {
                return Err(error.into());
            }
        }
        if self.cancel.is_cancelled() {
            // Other than `Interrupted`, after which a writer would try again.
            return Err(io::Error::other("the dump was cancelled"));
        }
        // More would wait for a reader of a pipe that has room for this much.
        let len = bytes.len().min(AT_ONCE);
        let written = (&self.out).write(bytes.get(..len).unwrap_or_default());
        written.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes for which a pipe has room when it is ready: `PIPE_BUF`.
const AT_ONCE: usize = 4096;
