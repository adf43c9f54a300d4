//! Changes of the container's root file system.

use criu_images::Text;
use criu_images::source::{Blob, Source};
use serde::Serialize;

use super::read;
use crate::bounds;
use crate::error::{Error, Fault};
use crate::packing::{self, Layer};
use crate::tar::{Found, Members, Seeking, Sort, Stream};

/// Changes of a container's root file system since its image, as the archive has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rootfs {
    /// Files that were added or changed.
    pub changed: Vec<ChangedFile>,
    /// Paths that were deleted.
    pub deleted: Vec<String>,
}

/// A file that was added or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChangedFile {
    /// Path from the root of the file system, without the first slash.
    pub path: String,
    /// Kind: "file", "directory", "link" or "special".
    pub kind: &'static str,
    /// Bytes of content.
    pub bytes: u64,
    /// Permissions.
    pub mode: u32,
    /// Time of the last change, in seconds since 1970.
    pub modified: u64,
}

impl Rootfs {
    /// Lists the changes; `None` if the archive says nothing about them.
    pub(crate) fn new(top: &dyn Source, faults: &mut Vec<String>) -> Option<Self> {
        let mut rootfs = Self::default();
        let mut any = false;
        match top.open(DIFF) {
            Ok(Some(bytes)) => match rootfs.add(&bytes) {
                Ok(()) => any = true,
                Err(fault) => faults.push(Error::new(DIFF, fault).to_string()),
            },
            Ok(None) => {}
            Err(error) => faults.push(error.to_string()),
        }
        if matches!(top.size(DELETED), Ok(Some(_))) {
            let paths = read(top, DELETED).and_then(|bytes| {
                let paths = serde_json::from_slice::<Option<Vec<String>>>(&bytes);
                paths.map_err(|error| format!("{DELETED}: {error}"))
            });
            match paths {
                Ok(paths) => {
                    any = true;
                    let shown = |path: &String| Text(path.as_bytes()).to_string();
                    rootfs.deleted.extend(paths.unwrap_or_default().iter().map(shown));
                }
                Err(error) => faults.push(error),
            }
        }
        any.then_some(rootfs)
    }

    /// Adds the members of the archive of changed files, which containerd compresses. The archive
    /// has the names and devices of a whole root file system: nothing of it is unpacked here.
    fn add(&mut self, bytes: &Blob) -> Result<(), Fault> {
        match packing::layer(bytes)? {
            Layer::Anywhere { bytes, .. } => self.add_members(Members::new(Seeking::new(&bytes))),
            Layer::Forward { opener, .. } => {
                let most = bounds::unpacked(bytes.len());
                self.add_members(Members::new(opener.open()?).at_most(most))
            }
        }
    }

    fn add_members(&mut self, mut members: Members<impl Stream>) -> Result<(), Fault> {
        while let Some(found) = members.next()? {
            self.add_member(&found);
        }
        Ok(())
    }

    fn add_member(&mut self, found: &Found) {
        let path = Text(&found.name).to_string();
        let path = path.trim_start_matches("./").trim_end_matches('/');
        let (folder, name) = crate::path::split(path);
        // A whiteout, as layers of images have them for deleted files.
        if let Some(name) = name.strip_prefix(".wh.") {
            if name != ".wh..opq" {
                self.deleted.push(crate::path::join(folder, name));
            }
            return;
        }
        if path.is_empty() {
            return;
        }
        self.changed.push(ChangedFile {
            path: path.to_owned(),
            kind: match found.sort {
                Sort::File | Sort::Sparse => "file",
                Sort::Directory => "directory",
                Sort::SymbolicLink | Sort::HardLink => "link",
                _ => "special",
            },
            bytes: found.size,
            mode: found.mode,
            modified: found.modified,
        });
    }
}

const DIFF: &str = "rootfs-diff.tar";
const DELETED: &str = "deleted.files";
