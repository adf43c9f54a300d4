//! Copies as directories.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use criu_images::source::Blob;

use super::AnonymousCopy;
use crate::digest::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::extract::Tree;
use crate::metadata::names::CHECKPOINT;
use crate::write::Content;

impl AnonymousCopy {
    /// Writes the copy as a new directory, which must not exist, or be empty. The images of a
    /// directory of images are at its top, with parents in folders of their own. The directory
    /// appears when it is complete; only its owner may enter it. Returns the number of files.
    ///
    /// `watch` is called with the bytes that have been written, of the draft's
    /// [`size`](crate::write::Draft::size), and can stop the work.
    ///
    /// # Errors
    /// [`ErrorKind::Write`]; [`ErrorKind::Stopped`]; the errors of reading the checkpoint.
    pub fn into_directory(&self, directory: impl AsRef<Path>, watch: Watch<'_>) -> Result<usize> {
        let directory = directory.as_ref();
        let name = directory.to_string_lossy();
        let fail = |error: io::Error| Error::new(&*name, ErrorKind::Write(error));
        let mut tree = Tree::beside(directory).map_err(fail)?;
        let (mut files, mut done) = (0, 0);
        for (path, member) in self.draft.in_order() {
            let place = self.place(path);
            match &member.content {
                // The top itself.
                Content::Directory if place.is_empty() => {}
                Content::Directory => tree.make_directory(place).map_err(fail)?,
                Content::SymbolicLink(target) => {
                    // From the top, the parent is in a folder below.
                    let below = target.strip_prefix(b"../").filter(|_| !place.contains('/'));
                    tree.link(place, below.unwrap_or(target)).map_err(fail)?;
                }
                content => {
                    let Some(blob) = content.open()? else { continue };
                    let file = tree.make_file(place).map_err(fail)?;
                    let unread = |error| content.unread(path, error);
                    copy(&blob, &file, &mut done, watch, &name, &unread)?;
                    content.check()?;
                    files += 1;
                }
            }
        }
        tree.keep().map_err(fail)?;
        Ok(files)
    }

    /// Path of a member in a directory.
    fn place<'p>(&self, path: &'p str) -> &'p str {
        match path.strip_prefix(CHECKPOINT) {
            Some("") if self.is_bare => "",
            Some(rest) if self.is_bare => rest.strip_prefix('/').unwrap_or(path),
            _ => path,
        }
    }
}

/// Copies bytes, with holes where they are zeros.
fn copy(
    blob: &Blob,
    file: &File,
    done: &mut u64,
    watch: Watch<'_>,
    name: &str,
    unread: &dyn Fn(io::Error) -> Error,
) -> Result<()> {
    let fail = |error: io::Error| Error::new(name, ErrorKind::Write(error));
    let mut piece = Vec::new();
    let mut at = 0;
    while at < blob.len() {
        let left = usize::try_from(blob.len() - at).unwrap_or(usize::MAX);
        piece.resize(left.min(PIECE), 0);
        blob.read_at(at, &mut piece).map_err(unread)?;
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(&piece, at).map_err(fail)?;
        }
        at += piece.len() as u64;
        *done += piece.len() as u64;
        if watch(*done).is_break() {
            return Err(Error::new(name, ErrorKind::Stopped));
        }
    }
    file.set_len(blob.len()).map_err(fail)
}

/// Bytes that are read at once, and the unit of holes.
const PIECE: usize = 256 << 10;
