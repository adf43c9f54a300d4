//! The chain of a set and its parent sets, opened as needed.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::bounds;
use crate::error::{Error, ErrorKind, Result};
use crate::kept::{Bytes, Kept};
use crate::source::{Blob, Source};

/// A set of the chain that `parent` links form. Opens the next set when first needed.
#[derive(Debug)]
pub(crate) struct Level {
    source: Box<dyn Source>,
    depth: usize,
    parent: OnceLock<Option<Box<Level>>>,
    kept: Mutex<Kept>,
}

impl Level {
    pub(crate) fn new(source: Box<dyn Source>) -> Self {
        Self::at(0, source)
    }

    fn at(depth: usize, source: Box<dyn Source>) -> Self {
        Self { source, depth, parent: OnceLock::new(), kept: Mutex::new(Kept::of_set(depth)) }
    }

    pub(crate) fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The parent set; `None` for the last set of the chain.
    pub(crate) fn parent(&self) -> Result<Option<&Self>> {
        if let Some(parent) = self.parent.get() {
            return Ok(parent.as_deref());
        }
        let longest = bounds::CHAIN.length();
        if self.depth >= longest {
            return Err(Error::new(self.place("parent"), ErrorKind::Chain(longest)));
        }
        let source = self.source.parent().map_err(|e| self.place_error(e))?;
        let parent = source.map(|source| Box::new(Self::at(self.depth + 1, source)));
        Ok(self.parent.get_or_init(|| parent).as_deref())
    }

    /// Opens a file for reading piece by piece; `None` if there is no such file.
    pub(crate) fn open(&self, file: &str) -> Result<Option<Blob>> {
        self.source.open(file).map_err(|e| self.place_error(e))
    }

    /// Size of a file in bytes; `None` if there is no such file.
    pub(crate) fn size(&self, file: &str) -> Result<Option<u64>> {
        self.source.size(file).map_err(|e| self.place_error(e))
    }

    /// Reads a whole image, for all kinds except pages; `None` if there is no such file. A small
    /// image is kept, so that a file is opened once, however many questions lead to it.
    pub(crate) fn read(&self, file: &str) -> Result<Option<Bytes>> {
        if let Some(known) = self.kept().get(file) {
            return Ok(known);
        }
        let Some(blob) = self.open(file)? else {
            self.kept().add(file, None);
            return Ok(None);
        };
        let bytes = blob.to_vec(bounds::IMAGE.get());
        let bytes = bytes.map_err(|kind| Error::new(self.place(file), kind))?;
        Ok(Some(self.kept().add(file, Some(bytes)).unwrap_or_default()))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a whole image that has to exist.
    pub(crate) fn need(&self, file: &str) -> Result<Bytes> {
        let missing = || Error::new(self.place(file), ErrorKind::Missing);
        self.read(file)?.ok_or_else(missing)
    }

    /// Name of a file in errors, as seen from the first set of the chain.
    pub(crate) fn place(&self, file: &str) -> String {
        format!("{}{file}", "parent/".repeat(self.depth))
    }

    fn place_error(&self, error: Error) -> Error {
        let place = self.place(error.image());
        error.with_image(place)
    }
}
