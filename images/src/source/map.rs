//! Pages files mapped into memory. The only file of the crate with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::PathBuf;

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::kind::{Entries, Kind};
use crate::source::{Blob, Directory, Source};

/// A directory of images whose pages are mapped instead of read. Memory is then available
/// [without a copy](crate::memory::Content::Bytes). All other images are read as from a
/// [`Directory`].
///
/// ```no_run
/// use criu_images::ImageSet;
/// use criu_images::source::Mapped;
///
/// // SAFETY: the directory is ours, and nobody dumps or deduplicates into it while we look.
/// let directory = unsafe { Mapped::open("/ckpt")? };
/// let set = ImageSet::new(directory)?;
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mapped(Directory);

impl Mapped {
    /// Opens a directory by its path.
    ///
    /// # Errors
    /// The errors of [`Directory::open`].
    ///
    /// # Safety
    /// From this call until the last value that borrows from a set of this directory is dropped,
    /// nobody may write to or shorten a pages file in the directory or in its parent sets. A page
    /// that changes breaks what the compiler assumes about a slice. A read past the end of a
    /// shortened file ends the program with SIGBUS. This excludes a dump into the directory, `criu
    /// dedup`, and a restore with `--auto-dedup`. If this cannot be known, use [`Directory`].
    pub unsafe fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Directory::open(path).map(Self)
    }
}

impl Source for Mapped {
    fn names(&self) -> Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        let is_raw = |(kind, _): (&Kind, _)| kind.entries == Entries::Raw;
        if !Kind::of_file(name).is_some_and(is_raw) {
            return self.0.open(name);
        }
        let file = self.0.open_file(name)?;
        let mapped = file.map(|(file, _)| map(&file).map_err(|error| Error::new(name, error)));
        mapped.transpose()
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        self.0.size(name)
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        let parent = self.0.parent_directory()?;
        Ok(parent.map(|parent| Box::new(Self(parent)) as Box<dyn Source>))
    }
}

fn map(file: &File) -> io::Result<Blob> {
    // SAFETY: the caller of `Mapped::open` has promised that the file neither changes nor becomes
    // shorter while the mapping lives. The blob keeps the mapping no longer than the set lives.
    let map = unsafe { Mmap::map(file) }?;
    Ok(Blob::from(map))
}
