//! `rootfs-diff.tar`: what changed in the root file system of a container.

use criu_images::source::Blob;

use crate::bounds;
use crate::error::Fault;
use crate::packing::{Layer, layer};
use crate::tar::{Found, Members, Seeking, Sort, Stream};

/// File in `rootfs-diff.tar`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffEntry {
    /// Path from the root of the container, without a slash at the beginning. Of a file that is
    /// gone this is the path that it had.
    pub path: Box<[u8]>,
    /// Kind of change.
    pub kind: DiffKind,
    /// Bytes of content.
    pub size: u64,
    /// Permissions, as chmod(2) takes them.
    pub mode: u32,
    /// Time of the last change, in seconds since 1970.
    pub modified: u64,
}

/// Kinds of entries in `rootfs-diff.tar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiffKind {
    /// A regular file, new or changed.
    File,
    /// A directory, new or changed.
    Directory,
    /// A symbolic link.
    SymbolicLink,
    /// Another name of a file.
    HardLink,
    /// A device or a FIFO.
    Special,
    /// A file that is gone: a whiteout of an OCI layer, as containerd writes it. Podman and CRI-O
    /// list these files in `deleted.files`.
    Deleted,
    /// A directory whose old content is gone: an opaque whiteout of an OCI layer.
    Emptied,
}

/// Lists the entries of a `rootfs-diff.tar`.
pub(super) fn list(blob: &Blob) -> Result<Vec<DiffEntry>, Fault> {
    match layer(blob)? {
        Layer::Anywhere { bytes, .. } => read(Seeking::new(&bytes), u64::MAX),
        Layer::Forward { opener, .. } => read(opener.open()?, bounds::unpacked(blob.len())),
    }
}

fn read(stream: impl Stream, limit: u64) -> Result<Vec<DiffEntry>, Fault> {
    let mut members = Members::new(stream).at_most(limit);
    let mut entries = Vec::new();
    while let Some(found) = members.next()? {
        let (path, gone) = match whiteout(&found.name) {
            Some((path, kind)) => (path, Some(kind)),
            None => (plain(&found.name), None),
        };
        let kind = gone.unwrap_or(match found.sort {
            Sort::Directory => DiffKind::Directory,
            Sort::SymbolicLink => DiffKind::SymbolicLink,
            Sort::HardLink => DiffKind::HardLink,
            Sort::File | Sort::Sparse => DiffKind::File,
            _ => DiffKind::Special,
        });
        // The root itself.
        if !path.is_empty() {
            let Found { size, mode, modified, .. } = found;
            entries.push(DiffEntry { path: path.into(), kind, size, mode, modified });
        }
    }
    Ok(entries)
}

/// Returns the path that a whiteout is about; `None` for any other name.
pub(crate) fn whiteout(name: &[u8]) -> Option<(Vec<u8>, DiffKind)> {
    let path = plain(name);
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at_checked(at)?;
    let gone = name.strip_prefix(b".wh.")?;
    if gone == b".wh..opq" {
        return Some((plain(folder), DiffKind::Emptied));
    }
    Some(([folder, gone].concat(), DiffKind::Deleted))
}

/// Returns a path without `.`, doubled slashes and slashes at its ends. `..` stays, for people to
/// see.
pub(crate) fn plain(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/');
    let parts: Vec<_> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_name_what_is_gone() {
        type Gone = Option<(&'static [u8], DiffKind)>;
        let cases: [(&[u8], Gone); 5] = [
            (b"./etc/.wh.motd", Some((b"etc/motd", DiffKind::Deleted))),
            (b".wh.srv/", Some((b"srv", DiffKind::Deleted))),
            (b"var/lib/.wh..wh..opq", Some((b"var/lib", DiffKind::Emptied))),
            (b"etc/motd", None),
            (b".wh/motd", None),
        ];
        for (name, want) in cases {
            let want = want.map(|(path, kind)| (path.to_vec(), kind));
            assert_eq!(whiteout(name), want, "{}", name.escape_ascii());
        }
    }
}
