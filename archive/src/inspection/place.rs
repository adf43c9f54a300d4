//! Checkpoints that were opened, with what lies beside their images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use criu_images::ImageSet;
use criu_images::kind::PSTREE;
use criu_images::source::{Directory, Source};

use crate::archive::Archive;
use crate::error::{Error, ErrorKind, Result};
use crate::member::MemberKind;
use crate::metadata::names::VOLUMES;
use crate::path;

/// A checkpoint that was opened: its images, and the folder above them, which has an engine's
/// metadata.
#[derive(Debug)]
pub struct Place {
    name: String,
    archive: Option<Archive>,
    /// Folder of the images, from the top; empty if they are at the top.
    folder: String,
    /// Directory at the top, if the checkpoint is not in an archive.
    directory: Option<PathBuf>,
    annotations: BTreeMap<String, String>,
    set: ImageSet,
}

impl Place {
    /// Takes a folder of an archive.
    ///
    /// # Errors
    /// [`ErrorKind::Images`] if the folder has no inventory, or an inventory that cannot be read.
    pub fn archive(archive: Archive, folder: &str) -> Result<Self> {
        let name = archive.name().to_owned();
        let set = ImageSet::new(archive.folder(folder));
        let set = set.map_err(|error| Error::new(&*name, ErrorKind::Images(error)))?;
        let folder = path::normal(folder.as_bytes()).unwrap_or_else(|| folder.to_owned());
        let annotations = BTreeMap::new();
        Ok(Self { name, archive: Some(archive), folder, directory: None, annotations, set })
    }

    /// Takes the folder `folder` of a directory. An empty name stands for the directory itself.
    ///
    /// # Errors
    /// The errors of [`ImageSet::open`], as [`ErrorKind::Images`].
    pub fn directory(top: impl Into<PathBuf>, folder: &str) -> Result<Self> {
        let top = top.into();
        let images = if folder.is_empty() { top.clone() } else { top.join(folder) };
        let name = images.to_string_lossy().into_owned();
        let set = ImageSet::open(images);
        let set = set.map_err(|error| Error::new(&*name, ErrorKind::Images(error)))?;
        let (folder, annotations) = (folder.to_owned(), BTreeMap::new());
        Ok(Self { name, archive: None, folder, directory: Some(top), annotations, set })
    }

    /// Adds the annotations of the image that the archive is in.
    #[must_use]
    pub fn with_annotations(self, annotations: BTreeMap<String, String>) -> Self {
        Self { annotations, ..self }
    }

    /// Folders of an archive that have a set of their own: a set that another one has as its
    /// parent is left out.
    pub fn folders(archive: &Archive) -> Vec<String> {
        let all: Vec<String> = archive.sets().collect();
        let parent = |folder: &String| {
            let member = archive.member(&path::join(folder, "parent"))?;
            let MemberKind::SymbolicLink(target) = member.kind() else { return None };
            path::follow(folder, target)
        };
        let parents: Vec<String> = all.iter().filter_map(parent).collect();
        let own: Vec<String> =
            all.iter().filter(|folder| !parents.contains(folder)).cloned().collect();
        // Sets that are each other's parents are all faulty.
        if own.is_empty() { all } else { own }
    }

    /// Name of the archive or directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Folder of the images, from the top of the archive or directory.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The archive; `None` for a directory.
    pub fn in_archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// Annotations of the image that the archive is in.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Returns true for a pre-dump: memory alone, for a later dump.
    pub fn is_pre_dump(&self) -> bool {
        let is_one = self.set.inventory().pre_dump_mode.is_some();
        is_one && self.images().is_ok_and(|images| matches!(images.size(PSTREE.file), Ok(None)))
    }

    /// The images.
    pub fn set(&self) -> &ImageSet {
        &self.set
    }

    /// Returns the images alone.
    pub fn into_set(self) -> ImageSet {
        self.set
    }

    /// Opens the folder above the images, where engines put their metadata. For images at the top,
    /// this is the top itself.
    ///
    /// # Errors
    /// [`ErrorKind::Images`] if the directory cannot be opened any more.
    pub fn top(&self) -> Result<Box<dyn Source>> {
        let (above, _) = path::split(&self.folder);
        self.source(above)
    }

    /// Opens the folder of the images.
    ///
    /// # Errors
    /// The errors of [`top`](Self::top).
    pub fn images(&self) -> Result<Box<dyn Source>> {
        self.source(&self.folder)
    }

    /// Opens the folder of the named volumes, beside the metadata; `None` if it is not there.
    pub(crate) fn volumes(&self) -> Option<Box<dyn Source>> {
        let (above, _) = path::split(&self.folder);
        self.source(&path::join(above, VOLUMES)).ok()
    }

    fn source(&self, folder: &str) -> Result<Box<dyn Source>> {
        if let Some(archive) = &self.archive {
            return Ok(Box::new(archive.folder(folder)));
        }
        let top = self.directory.as_deref().unwrap_or(Path::new("."));
        let path = if folder.is_empty() { top.to_owned() } else { top.join(folder) };
        let directory = Directory::open(path);
        Ok(Box::new(directory.map_err(|error| Error::new(&*self.name, ErrorKind::Images(error)))?))
    }
}
