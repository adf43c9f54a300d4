//! Copies as directories.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::AnonymousCopy;
use crate::error::{Error, ErrorKind, Result};
use crate::extract::{Tree, copy_sparse};
use crate::metadata::names::CHECKPOINT;
use crate::watch::Watch;
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
        let (mut files, mut done) = (0, 0u64);
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
                    copy_sparse(&blob, &file, unread, fail, |len| {
                        done += len;
                        match watch(done) {
                            ControlFlow::Continue(()) => Ok(()),
                            ControlFlow::Break(()) => Err(Error::new(&*name, ErrorKind::Stopped)),
                        }
                    })?;
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
