//! A checkpoint of a pod, as the words open it.

use std::path::Path;

use criu_archive::record::{Holder, Record};

use crate::images::open_archive;
use crate::remote;

/// Opens a directory, an archive or an archive in a registry, and reads the record in it.
///
/// # Errors
/// Returns the reason for a person, with the path.
pub(super) fn open(path: &Path) -> Result<(Holder, Record), String> {
    let holder = if path.is_dir() {
        Holder::open(path).map_err(|error| error.to_string())?
    } else {
        match remote::open(path)? {
            Some((archive, _)) => Holder::archive(&archive),
            None => Holder::archive(&open_archive(path)?),
        }
    };
    let record = Record::of_any(&holder).map_err(|error| error.to_string())?;
    Ok((holder, record))
}
