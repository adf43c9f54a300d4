//! Outputs that are an input, too: writing them would destroy what is read.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// Refuses an output that is one of the inputs, under any name.
///
/// # Errors
/// A fault of usage that names the output and the input.
pub(crate) fn refuse<'p>(
    out: &Path,
    inputs: impl IntoIterator<Item = &'p Path>,
) -> Result<(), Fault> {
    let Ok(old) = of(out) else { return Ok(()) };
    let is_old = |found: &Metadata| (found.dev(), found.ino()) == (old.dev(), old.ino());
    for input in inputs {
        if old.is_file() && of(input).is_ok_and(|found| is_old(&found)) {
            let (out, input) = (out.display(), input.display());
            let text = format!("{out}: is the file that is read ({input}): name another output");
            return Err(Fault::usage(text));
        }
    }
    Ok(())
}

/// Returns the facts about a file. A slash at the end of the name does not matter.
fn of(path: &Path) -> io::Result<Metadata> {
    if path == OsStr::new("-") {
        return fs::metadata("/proc/self/fd/0");
    }
    fs::metadata(path.components().collect::<PathBuf>())
}
