//! CRIU's log on standard output or another descriptor, which `-o -` and `-o /dev/fd/3` ask for.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::mkstemp;

use crate::fault::Fault;
use crate::fd;
use crate::stdout;

/// A log in a temporary file that is copied to standard output or another descriptor. CRIU's RPC
/// can name no descriptor for the log, and a log that has been printed could not be quoted after a
/// failure.
#[derive(Debug)]
pub(crate) struct StdoutLog {
    path: PathBuf,
    file: File,
    /// The descriptor to copy to; standard output unless given.
    to: Option<File>,
}

impl StdoutLog {
    /// Makes the log for the value of `--log-file`. `None` if the value names no descriptor.
    pub(crate) fn named(value: &Path) -> Result<Option<Self>, Fault> {
        if value == Path::new("-") {
            return Self::new(None).map(Some);
        }
        let Some(descriptor) = fd::of_path(value) else { return Ok(None) };
        let descriptor = descriptor.map_err(|why| {
            let show = value.display();
            Fault::usage(format!("--log-file {show}: cannot use the descriptor: {why}"))
        })?;
        Self::new(Some(descriptor.into())).map(Some)
    }

    fn new(to: Option<File>) -> Result<Self, Fault> {
        let made = mkstemp(&std::env::temp_dir().join("criu-rs-log-XXXXXX"));
        let (fd, path) = made.map_err(|source| Fault::system("make a temporary log", source))?;
        Ok(Self { path, file: fd.into(), to })
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
        match &self.to {
            None => stdout::note(io::copy(&mut &self.file, &mut io::stdout()).map(drop)),
            // The descriptor of the caller is read by the caller, or by nobody.
            Some(to) => drop(io::copy(&mut &self.file, &mut &*to)),
        }
    }
}

impl Drop for StdoutLog {
    fn drop(&mut self) {
        self.end();
    }
}
