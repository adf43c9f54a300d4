//! A set whose pages are mapped: the measurements' only unsafe file.
#![allow(unsafe_code)]

use std::path::Path;

use criu_images::ImageSet;
use criu_images::source::Mapped;

use crate::Result;

/// Opens a directory of this measurement's own, in which nothing is written while the set lives.
///
/// # Errors
/// The errors of [`ImageSet::new`].
pub fn mapped(directory: &Path) -> Result<ImageSet> {
    // SAFETY: the directory belongs to the measurement, which has written it and no longer does.
    let mapped = unsafe { Mapped::open(directory) }?;
    Ok(ImageSet::new(mapped)?)
}
