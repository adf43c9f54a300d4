//! Temporary directories.

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;

use crate::error::{Error, Result};

/// A temporary directory of mode 0700, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory in that for temporary files.
    pub(crate) fn new() -> Result<Self> {
        let made = Self::below(&std::env::temp_dir(), "criu-rs-check-");
        made.map_err(|source| Error::system("make a temporary directory", source))
    }

    /// Makes a directory whose name begins with `name`.
    pub(crate) fn below(above: &Path, name: &str) -> io::Result<Self> {
        let path = mkdtemp(&above.join(format!("{name}XXXXXX")))?;
        // A relative path is no longer right when the caller changes directories.
        let path = path.canonicalize().unwrap_or(path);
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
