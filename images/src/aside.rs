//! Names of new images, which stand beside the old ones while an edit of a directory goes on.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::kind;

/// Returns `true` if an edit of a directory was killed after the point of no return.
pub(crate) fn is_interrupted(directory: &Path) -> bool {
    let inventory = OsStr::new(kind::INVENTORY.file);
    !directory.join(inventory).exists() && directory.join(beside(inventory)).exists()
}

/// Name of a new image until it takes the place of the old one.
pub(crate) fn beside(name: &OsStr) -> OsString {
    OsString::from_vec([b".", name.as_bytes(), SUFFIX].concat())
}

/// Name of the image that a new image will replace; `None` if the file is not a new image.
pub(crate) fn image_beside(name: &OsStr) -> Option<OsString> {
    let inner = name.as_bytes().strip_prefix(b".")?.strip_suffix(SUFFIX)?;
    Some(OsString::from_vec(inner.to_vec()))
}

const SUFFIX: &[u8] = b".edit";
