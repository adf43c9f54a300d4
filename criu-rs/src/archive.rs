//! Restores from archives, image layouts and registries (feature `archive`).
//!
//! CRIU reads images from a directory. [`LaidOut`] makes one of an archive: with all pages, or
//! without those that a [lazy](crate::lazy) restore brings later from the archive.
//!
//! ```no_run
//! use criu_rs::archive::{Archive, LaidOut};
//! use criu_rs::lazy::LazyOptions;
//! use criu_rs::{Criu, Restore};
//!
//! let archive = Archive::open("/tmp/checkpoint.tar.zst")?;
//! let images = LaidOut::lazy_with_working_set(&archive, "checkpoint", "/var/tmp")?;
//! let restore = Restore::new(images.directory()).rst_sibling(true);
//! let Some(pages) = images.pages(LazyOptions::default())? else { return Ok(()) };
//! let (restored, memory) = restore.lazy(&pages).run(&Criu::new())?;
//! println!("process {} runs", restored.pid);
//! memory.wait(None)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;
use std::sync::Arc;

use criu_images::ErrorKind;

use crate::lazy::{Images, LazyError, LazyOptions, LazyPages, Outline};
use crate::operation::Scratch;

pub use criu_archive::Archive;

/// Images of an archive in a directory of their own, from which CRIU restores. Dropping the value
/// removes the directory, and with it the log of a restore that has no other place.
#[derive(Debug)]
pub struct LaidOut {
    directory: Scratch,
    outline: Outline,
    images: Option<Arc<Images>>,
}

impl LaidOut {
    /// Lays out the images in a folder of an archive, with all pages, in a new directory of mode
    /// 0700 below `above`. The bytes of an archive in a registry are compared with a digest only if
    /// the archive is seekable and its image names the digest of the table of contents; others are
    /// to be pulled first.
    ///
    /// # Errors
    /// [`LazyError::Images`] if an image cannot be read; [`LazyError::System`] if the directory or
    /// a file cannot be written.
    pub fn whole(
        archive: &Archive,
        folder: &str,
        above: impl AsRef<Path>,
    ) -> Result<Self, LazyError> {
        let directory = directory(above.as_ref())?;
        let outline = Outline::write(&archive.folder(folder), directory.path(), None)?;
        Ok(Self { directory, outline, images: None })
    }

    /// Lays out the images without the pages that come later.
    ///
    /// # Errors
    /// The errors of [`whole`](Self::whole), and those of [`Images::new`].
    pub fn lazy(
        archive: &Archive,
        folder: &str,
        above: impl AsRef<Path>,
    ) -> Result<Self, LazyError> {
        let source = archive.folder(folder);
        let images = Arc::new(Images::new(source.clone())?);
        let directory = directory(above.as_ref())?;
        let outline = Outline::write(&source, directory.path(), Some(images.snapshot()))?;
        Ok(Self { directory, outline, images: Some(images) })
    }

    /// Does what [`lazy`](Self::lazy) does, and reads the working set if the archive has one: with
    /// one request to a registry, instead of one for each page that the tasks want first.
    ///
    /// # Errors
    /// The errors of [`lazy`](Self::lazy); [`LazyError::Images`] if the working set cannot be read.
    pub fn lazy_with_working_set(
        archive: &Archive,
        folder: &str,
        above: impl AsRef<Path>,
    ) -> Result<Self, LazyError> {
        let laid_out = Self::lazy(archive, folder, above)?;
        let brought = archive.prefetch();
        brought.map_err(|error| ErrorKind::Source(error.into()).in_image("working set"))?;
        Ok(laid_out)
    }

    /// Returns the directory, for [`Restore::new`](crate::Restore::new).
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the numbers of bytes that were copied, and that come later.
    pub fn outline(&self) -> Outline {
        self.outline
    }

    /// Opens the source of the pages that come later; `None` if all pages are in the directory.
    ///
    /// # Errors
    /// The errors of [`LazyPages::new`].
    pub fn pages(&self, options: LazyOptions) -> Result<Option<LazyPages>, LazyError> {
        let Some(images) = &self.images else { return Ok(None) };
        let images = Arc::clone(images);
        LazyPages::new(Arc::clone(images.snapshot()), images, options).map(Some)
    }
}

fn directory(above: &Path) -> Result<Scratch, LazyError> {
    Scratch::below(above, ".criu-rs-images-").map_err(LazyError::system("make a directory"))
}
