//! Sets of images, as the words take and show them.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use criu_images::source::Tar;
use criu_images::{ImageSet, Text};
use serde::Serialize;

/// Opens a set: a directory, a tar archive with one set, or `ARCHIVE:FOLDER` if there are several.
///
/// # Errors
/// Returns the reason for a person, with the path.
pub(crate) fn open_set(path: &Path) -> Result<ImageSet, String> {
    let named = |error: criu_images::Error| format!("{}: {error}", path.display());
    if path.is_dir() {
        return ImageSet::open(path).map_err(named);
    }
    let text = path.to_string_lossy();
    let (archive, folder) = match text.rsplit_once(':') {
        Some((archive, folder)) if !path.exists() => (Path::new(archive), Some(folder)),
        _ => (path, None),
    };
    let tar = Tar::open(archive).map_err(|error| error.to_string())?;
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => {
            let mut sets = tar.sets();
            match (sets.next(), sets.next()) {
                (Some(one), None) => one,
                (None, _) => return Err(format!("{text}: no folder in it has images")),
                (Some(a), Some(b)) => {
                    let (a, b) = (Text(a.as_bytes()), Text(b.as_bytes()));
                    return Err(format!(
                        "{text}: several folders in it have images; name one: {text}:{a} or {text}:{b}"
                    ));
                }
            }
        }
    };
    ImageSet::new(tar.folder(&folder)).map_err(named)
}

/// Prints a value on standard output: as text, or as JSON on one line.
///
/// # Errors
/// Fails if standard output cannot be written.
pub(crate) fn show<T: fmt::Display + Serialize>(value: &T, json: bool) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if json {
        serde_json::to_writer(&mut out, value)?
    } else {
        write!(out, "{value}")?
    }
    writeln!(out)?;
    out.flush()
}

/// Tells if an error means that the reader of the output is gone.
pub(crate) fn is_broken_pipe(mut error: &(dyn std::error::Error + 'static)) -> bool {
    loop {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::BrokenPipe;
        }
        match error.source() {
            Some(source) => error = source,
            None => return false,
        }
    }
}
