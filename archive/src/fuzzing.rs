//! Internal parsers for the fuzzer, available only with `--cfg fuzzing`.

use crate::error::{Error, Fault, Result};
use crate::oci::{Descriptor, Document, chosen, only_layer};

/// Parses a manifest or an index of an image, and returns the layer, or the manifest that is
/// chosen.
///
/// # Errors
/// The errors of opening an image.
pub fn document(bytes: &[u8], tag: Option<&str>) -> Result<Descriptor> {
    let found = || -> Result<Descriptor, Fault> {
        Ok(match Document::parse(bytes)? {
            Document::Manifest(manifest) => only_layer(&manifest)?.clone(),
            Document::Index(index) => chosen(&index, tag)?.clone(),
        })
    };
    found().map_err(|fault| Error::new("document", fault))
}
