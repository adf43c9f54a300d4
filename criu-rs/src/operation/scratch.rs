//! A temporary directory.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// A directory that goes with its owner.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let template = std::env::temp_dir().join("criu-rs-check-XXXXXX");
        let path = nix::unistd::mkdtemp(&template);
        path.map(|path| Self { path })
            .map_err(|source| Error::system("make a temporary directory", source))
    }
}

impl Scratch {
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
