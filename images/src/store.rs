//! Images of a set, looked up by their kind and id.

use crate::chain::Level;
use crate::error::{ErrorKind, Result};
use crate::frame::Image;
use crate::kind::Kind;
use crate::schema::Entry;
use crate::source::Source;

/// The images that a source holds. Readers of single images take it; it keeps none of them.
#[derive(Debug)]
pub(crate) struct Store {
    level: Level,
}

impl Store {
    pub(crate) fn new(source: Box<dyn Source>) -> Self {
        Self { level: Level::new(source) }
    }

    /// The source, and those of parent sets.
    pub(crate) fn level(&self) -> &Level {
        &self.level
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        self.level.source().names()
    }

    /// The bytes of one image; `None` when the set lacks it.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.level.read(name)
    }

    /// The bytes of one image that has to be there.
    pub(crate) fn need(&self, name: &str) -> Result<Vec<u8>> {
        self.level.need(name)
    }

    /// The entry of an image that has one; `None` when the set lacks it.
    pub(crate) fn optional<M: Entry>(&self, kind: &'static Kind, id: u64) -> Result<Option<M>> {
        let name = kind.file_name(id);
        let Some(bytes) = self.read(&name)? else {
            return Ok(None);
        };
        Image::parse(&name, &bytes, kind)?.single().map(Some)
    }

    /// The entry of an image that has one and has to be there.
    pub(crate) fn single<M: Entry>(&self, kind: &'static Kind, id: u64) -> Result<M> {
        let name = kind.file_name(id);
        let bytes = self.need(&name)?;
        Image::parse(&name, &bytes, kind)?.single()
    }

    /// Every entry of an image; none when the set lacks it.
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
            // What follows is passed over.
            image.payload(&entry)?;
        }
        Ok(())
    }
}
