//! The names of new images beside the old ones, while an edit of a directory goes on.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::kind;

/// Whether an edit of a directory was killed when it could no longer be taken back.
pub(crate) fn is_interrupted(directory: &Path) -> bool {
    let inventory = OsStr::new(kind::INVENTORY.file);
    !directory.join(inventory).exists() && directory.join(beside(inventory)).exists()
}

/// What the new image of a name is called until it takes the place of the old one.
pub(crate) fn beside(name: &OsStr) -> OsString {
    OsString::from_vec([b".", name.as_bytes(), SUFFIX].concat())
}

/// The image that a file is the new one of; `None` of any other file.
pub(crate) fn image_beside(name: &OsStr) -> Option<OsString> {
    let inner = name.as_bytes().strip_prefix(b".")?.strip_suffix(SUFFIX)?;
    Some(OsString::from_vec(inner.to_vec()))
}

const SUFFIX: &[u8] = b".edit";
