//! Archives of directories with a record.

use std::fs::{File, read_dir};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use criu_archive::oci::Image;
use criu_archive::record::RECORD;
use criu_archive::write::{Draft, Options, Pack};
use criu_images::source::Blob;

use crate::remote::nameless;
use crate::target;
use crate::tool::Fallible;
use crate::work::Work;

/// Tells if a path is a directory with a record, which makes an archive as it is.
pub(crate) fn is_with_record(path: &Path) -> bool {
    path.join(RECORD).is_file()
}

/// Makes an archive's draft of the files in a directory and below it.
///
/// # Errors
/// Returns the path of a file that cannot be read, or that is neither a file nor a directory.
pub(crate) fn draft(directory: &Path) -> Fallible<Draft> {
    let mut draft = Draft::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let place = directory.join(&folder);
        let named = |error| target::named(&place.display(), error);
        for entry in read_dir(&place).map_err(named)? {
            let entry = entry.map_err(named)?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(named)?;
            let name = path.to_str().ok_or_else(|| format!("{}: is not UTF-8", path.display()))?;
            if kind.is_dir() {
                draft.add_directory(name)?;
                folders.push(path);
            } else if kind.is_file() {
                let file = File::open(directory.join(&path)).map_err(named)?;
                draft.add_blob(name, Blob::try_from(file).map_err(named)?)?;
            } else {
                return Err(format!("{}: is neither a file nor a directory", path.display()).into());
            }
        }
    }
    Ok(draft)
}

/// Makes the image of a directory. Equal files make equal images. The archive is in a file without
/// a name, beside the directory.
///
/// # Errors
/// The errors of [`draft`]; a signal that asks to stop.
pub(crate) fn image(directory: &Path) -> Fallible<Image> {
    let place = directory.canonicalize();
    let place = place.map_err(|error| target::named(&directory.display(), error))?;
    let beside = place.parent().unwrap_or(&place);
    let named = |error| target::named(&beside.display(), error);
    let draft = draft(&place)?;
    let mut options = Options::default();
    let threads = available_parallelism().map_or(1, |all| all.get());
    options.pack = Pack::Seekable { level: 1, threads };
    options.is_reproducible = true;
    let name = directory.display().to_string();
    let mut file = nameless(beside).map_err(named)?;
    let work = Work::new(draft.size())?;
    let saved = draft.write(&name, &mut file, &options, &|done| work.step(done));
    saved.map_err(|error| work.fault(error))?;
    drop(work);
    Ok(Image::new(name, Blob::try_from(file).map_err(named)?)?)
}
