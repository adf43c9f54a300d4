//! Changes of the container's root file system.

use criu_images::Text;
use criu_images::source::Source;
use serde::Serialize;

use super::findings::{Finding, or_finding};
use crate::metadata::{DiffEntry, DiffKind, Metadata};

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
    /// Kind: "file", "directory", "link" or "special"; "emptied" for a directory whose old content
    /// is gone.
    pub kind: &'static str,
    /// Bytes of content.
    pub bytes: u64,
    /// Permissions.
    pub mode: u32,
    /// Time of the last change, in seconds since 1970.
    pub modified: u64,
}

impl Rootfs {
    /// Lists the changes; `None` if the archive says nothing about them. Members that cannot be
    /// read are added to the findings.
    pub(crate) fn new(top: &dyn Source, findings: &mut Vec<Finding>) -> Option<Self> {
        let metadata = Metadata::of("", top);
        let diff = or_finding(metadata.rootfs_diff(), findings);
        let listed = or_finding(metadata.deleted_files(), findings);
        if diff.is_none() && listed.is_none() {
            return None;
        }
        let mut rootfs = Self::default();
        for entry in diff.unwrap_or_default() {
            rootfs.add(&entry);
        }
        let shown = |path: &String| Text(path.as_bytes()).to_string();
        rootfs.deleted.extend(listed.unwrap_or_default().iter().map(shown));
        Some(rootfs)
    }

    fn add(&mut self, entry: &DiffEntry) {
        let path = Text(&entry.path).to_string();
        let kind = match entry.kind {
            DiffKind::Deleted => {
                self.deleted.push(path);
                return;
            }
            DiffKind::File => "file",
            DiffKind::Directory => "directory",
            DiffKind::SymbolicLink | DiffKind::HardLink => "link",
            DiffKind::Special => "special",
            DiffKind::Emptied => "emptied",
        };
        let (bytes, mode, modified) = (entry.size, entry.mode, entry.modified);
        self.changed.push(ChangedFile { path, kind, bytes, mode, modified });
    }
}

#[cfg(test)]
mod tests {
    use criu_images::source::InMemory;

    use super::*;
    use crate::write::empty_file;

    #[test]
    fn whiteouts_emptied_directories_and_deleted_files_are_listed_once_each() {
        let names: [&[u8]; 3] = [b"./etc/motd", b"srv/.wh.gone", b"var/.wh..wh..opq"];
        let entries = names.into_iter().flat_map(empty_file);
        let diff: Vec<u8> = entries.chain([0; 1024]).collect();
        let mut top = InMemory::default();
        top.insert("rootfs-diff.tar", diff);
        top.insert("deleted.files", *b"[\"/tmp/old\"]");
        let mut findings = Vec::new();
        let found = Rootfs::new(&top, &mut findings).unwrap();
        let changed: Vec<_> = found.changed.iter().map(|file| (&*file.path, file.kind)).collect();
        assert_eq!(changed, [("etc/motd", "file"), ("var", "emptied")]);
        assert_eq!(found.deleted, ["srv/gone", "/tmp/old"]);
        assert_eq!(findings, []);
    }

    #[test]
    fn deleted_files_that_are_nested_too_deep_are_a_finding() {
        let mut top = InMemory::default();
        top.insert("deleted.files", [vec![b'['; 99], vec![b']'; 99]].concat());
        let mut findings = Vec::new();
        assert_eq!(Rootfs::new(&top, &mut findings), None);
        let wrong = "is no valid JSON: is nested more than 64 deep";
        assert_eq!(findings, [Finding::error("deleted.files", wrong)]);
    }
}
