//! Files that appear only when they are complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::stdout::Stdout;

/// A file in the making, beside the file that it replaces, or standard output.
pub(crate) struct Output {
    to: BufWriter<Box<dyn Write>>,
    /// The path at which it is made, and the path at which it ends.
    paths: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Begins a file; without a path it is standard output.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else {
            return Ok(Self { to: BufWriter::new(Box::new(Stdout::lock())), paths: None });
        };
        // A device such as /dev/null is written to as it is.
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            let file = File::options().write(true).open(path).map_err(|e| named(path, &e))?;
            return Ok(Self { to: BufWriter::new(Box::new(file)), paths: None });
        }
        let name = path.file_name().ok_or_else(|| format!("{}: is not a file", path.display()))?;
        let mut new = std::ffi::OsString::from(".");
        new.push(name);
        new.push(format!(".{}", std::process::id()));
        let new = path.with_file_name(new);
        let file = File::create_new(&new).map_err(|error| named(path, &error))?;
        // The new file can be read by those who can read the old one, and by nobody else.
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions()).map_err(|error| named(path, &error))?;
        }
        let paths = Some((new, path.to_owned()));
        Ok(Self { to: BufWriter::new(Box::new(file)), paths })
    }

    /// Puts the file in its place.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        self.to.flush()?;
        if let Some((new, path)) = self.paths.take() {
            fs::rename(new, path)?;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((new, _)) = &self.paths {
            let _ = fs::remove_file(new);
        }
    }
}

fn named(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
