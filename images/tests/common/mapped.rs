//! A set with mapped pages. The only file of the tests with unsafe code.
#![allow(unsafe_code)]

use std::path::Path;

use criu_images::ImageSet;
use criu_images::source::Mapped;

/// Opens a directory of this test's own, in which nothing is written while the set lives.
pub(crate) fn open(directory: &Path) -> ImageSet {
    // SAFETY: the directory belongs to one test, which has written it and no longer does.
    let mapped = unsafe { Mapped::open(directory) };
    ImageSet::new(mapped.unwrap()).unwrap()
}
