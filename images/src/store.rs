//! Single images of a set, looked up by kind and id.

use crate::chain::Level;
use crate::error::{ErrorKind, Result};
use crate::frame::Image;
use crate::kept::Bytes;
use crate::kind::Kind;
use crate::schema::Entry;
use crate::source::Source;

/// Images of a source. Small images are read once and kept, others are read on each call.
#[derive(Debug)]
pub(crate) struct Store {
    level: Level,
}

impl Store {
    pub(crate) fn new(source: Box<dyn Source>) -> Self {
        Self { level: Level::new(source) }
    }

    /// The source, with the sources of parent sets.
    pub(crate) fn level(&self) -> &Level {
        &self.level
    }

    /// Names of all files.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        self.level.source().names()
    }

    /// Bytes of one image; `None` if the set does not have it.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Bytes>> {
        self.level.read(name)
    }

    /// Bytes of one image that has to exist.
    pub(crate) fn need(&self, name: &str) -> Result<Bytes> {
        self.level.need(name)
    }

    /// Entry of an image with exactly one entry; `None` if the set does not have the image.
    pub(crate) fn optional<M: Entry>(&self, kind: &'static Kind, id: u64) -> Result<Option<M>> {
        let name = kind.file_name(id);
        let Some(bytes) = self.read(&name)? else {
            return Ok(None);
        };
        Image::parse(&name, &bytes, kind)?.single().map(Some)
    }

    /// Entry of an image with exactly one entry. The image has to exist.
    pub(crate) fn single<M: Entry>(&self, kind: &'static Kind, id: u64) -> Result<M> {
        let name = kind.file_name(id);
        let bytes = self.need(&name)?;
        Image::parse(&name, &bytes, kind)?.single()
    }

    /// Calls `each` with every entry of an image; never if the set does not have the image.
    pub(crate) fn for_each<M: Entry>(
        &self,
        kind: &'static Kind,
        id: u64,
        mut each: impl FnMut(M) -> Result<(), ErrorKind>,
    ) -> Result<()> {
        let name = kind.file_name(id);
        let Some(bytes) = self.read(&name)? else {
            return Ok(());
        };
        let mut image = Image::parse(&name, &bytes, kind)?;
        while let Some(entry) = image.next_entry()? {
            each(entry.decode()?).map_err(|kind| entry.fault(kind.at(0)))?;
            // The payload is skipped.
            image.payload(&entry)?;
        }
        Ok(())
    }
}
