//! CRIU's log on standard output, which `-o -` asks for.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::mkstemp;

use crate::fault::Fault;
use crate::stdout;

/// A log in a temporary file that is copied to standard output. CRIU's RPC can name no descriptor
/// for the log, and a log that has been printed could not be quoted after a failure.
#[derive(Debug)]
pub(crate) struct StdoutLog {
    path: PathBuf,
    file: File,
}

impl StdoutLog {
    pub(crate) fn new() -> Result<Self, Fault> {
        let made = mkstemp(&std::env::temp_dir().join("criu-rs-log-XXXXXX"));
        let (fd, path) = made.map_err(|source| Fault::system("make a temporary log", source))?;
        Ok(Self { path, file: fd.into() })
    }

    /// Returns the path at which criu opens the log.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Prints the rest and removes the file.
    pub(crate) fn end(&self) {
        self.print();
        let _ = fs::remove_file(&self.path);
    }

    /// Prints the part of the log that has not been printed yet.
    pub(crate) fn print(&self) {
        stdout::note(io::copy(&mut &self.file, &mut io::stdout()).map(drop));
    }
}

impl Drop for StdoutLog {
    fn drop(&mut self) {
        self.end();
    }
}
