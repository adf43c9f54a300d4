//! A folder of an archive in the making, as a source of images.

use criu_images::source::{Blob, Source};
use criu_images::{ErrorKind, Result};

use super::content::Content;
use super::draft::Draft;
use crate::path;

/// A folder of a draft. The files are read from the places that the archive is made of.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    draft: Draft,
    path: String,
    /// Folders whose `parent` led to this one.
    passed: Vec<String>,
}

impl Folder {
    /// Takes a folder of a draft as it is now; the empty path is the root.
    pub(crate) fn of(draft: &Draft, path: impl Into<String>) -> Self {
        Self { draft: draft.clone(), path: path.into(), passed: Vec::new() }
    }

    fn member(&self, name: &str) -> String {
        let mut path = self.path.clone();
        path::push(&mut path, name);
        path
    }
}

impl Source for Folder {
    fn names(&self) -> Result<Vec<String>> {
        let here = self.draft.paths().map(path::split).filter(|(folder, _)| *folder == self.path);
        Ok(here.map(|(_, name)| name.to_owned()).collect())
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        let opened = self.draft.bytes(&self.member(name));
        opened.map_err(|error| ErrorKind::Source(error.into()).in_image(name))
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        let Some(Content::SymbolicLink(target)) = self.draft.content(&self.member("parent")) else {
            return Ok(None);
        };
        let outside = ErrorKind::Malformed("leads out of the archive");
        let path = path::follow(&self.path, target).ok_or_else(|| outside.in_image("parent"))?;
        let mut passed = self.passed.clone();
        passed.push(self.path.clone());
        if passed.contains(&path) {
            return Err(ErrorKind::Chain(passed.len()).in_image("parent"));
        }
        Ok(Some(Box::new(Self { draft: self.draft.clone(), path, passed })))
    }
}
