//! Targets of output: standard output, or a file that is none of the inputs.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// A place that output goes to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
}

impl Target {
    /// Takes `-` as standard output.
    pub(crate) fn of(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdout } else { Self::File(path.to_owned()) }
    }

    /// Takes `-` as standard output, for bytes that nobody reads on a terminal.
    ///
    /// # Errors
    /// A fault of usage for a file that is one of the inputs, and for standard output if it is a
    /// terminal or gets the JSON of `--json`, too.
    pub(crate) fn new<'p>(
        path: &Path,
        json: bool,
        inputs: impl IntoIterator<Item = &'p Path>,
    ) -> Result<Self, Fault> {
        let this = Self::of(path);
        match &this {
            Self::File(path) => refuse(path, inputs)?,
            Self::Stdout if json => {
                let text = "the output and the JSON of --json cannot both go to standard output";
                return Err(Fault::usage(text));
            }
            Self::Stdout if io::stdout().is_terminal() => {
                return Err(Fault::usage("standard output is a terminal: name a file"));
            }
            Self::Stdout => {}
        }
        Ok(this)
    }

    /// Path of the file; `None` for standard output.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(path) => Some(path),
        }
    }

    /// Names the target in an error. A reader that is gone stays such an error.
    pub(crate) fn fault(&self, error: io::Error) -> io::Error {
        match self {
            // Errors of standard output name it.
            Self::Stdout => error,
            Self::File(path) => named(&path.display(), error),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Names the place of an error, whose kind stays.
pub(crate) fn named(place: &dyn fmt::Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{place}: {error}"))
}

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
