//! A folder of an archive, as the source of a set of images.

use criu_images::source::{Blob, Source};
use criu_images::{Error, ErrorKind, Result};

use super::Archive;
use crate::member::MemberKind;
use crate::path;

/// A folder of an archive. Images, pages included, are read from their places in the archive.
#[derive(Clone, Debug)]
pub struct Folder {
    archive: Archive,
    /// Path of the folder from the root of the archive.
    path: Box<str>,
    /// Folders whose `parent` led to this one.
    passed: Vec<Box<str>>,
}

impl Folder {
    pub(crate) fn new(archive: Archive, path: String) -> Self {
        Self { archive, path: path.into(), passed: Vec::new() }
    }

    /// Path of the folder from the root of the archive.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Source for Folder {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.archive.index().names(&self.path).map(str::to_owned).collect())
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        let Some(member) = self.archive.index().find(&self.path, name) else { return Ok(None) };
        match member.kind() {
            MemberKind::Sparse => {
                Err(ErrorKind::Unsupported("sparse files in archives").in_image(name))
            }
            MemberKind::File | MemberKind::HardLink(_) => {
                let bytes = self.archive.bytes(member.path());
                Ok(Some(bytes.map_err(|error| ErrorKind::Source(error.into()).in_image(name))?))
            }
            _ => Err(ErrorKind::NotAFile.in_image(name)),
        }
    }

    /// Finds the folder of the same archive that `parent` leads to.
    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        let name = "parent";
        let member = self.archive.index().find(&self.path, name);
        let Some(member) = member else { return Ok(None) };
        let MemberKind::SymbolicLink(target) = member.kind() else { return Ok(None) };
        let compared = self.archive.compare(member);
        compared.map_err(|error| ErrorKind::Source(error.into()).in_image(name))?;
        let outside = || -> Error {
            let place = format!("{}: {name}", self.archive.name());
            ErrorKind::Malformed("leads out of the archive").in_image(place)
        };
        let path = Box::from(path::follow(&self.path, target).ok_or_else(outside)?);
        let mut passed = self.passed.clone();
        passed.push(self.path.clone());
        if passed.contains(&path) {
            return Err(ErrorKind::Chain(passed.len()).in_image(name));
        }
        Ok(Some(Box::new(Self { archive: self.archive.clone(), path, passed })))
    }
}
