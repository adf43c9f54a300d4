//! Folders that a checkpoint makes, and that its failure removes.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::error::EngineError;

/// Folders that were made. They are removed with this value.
#[derive(Debug, Default)]
pub(super) struct Folders(Vec<PathBuf>);

impl Folders {
    /// Makes a folder that only this user may enter.
    pub(super) fn make(&mut self, folder: PathBuf) -> Result<(), EngineError> {
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(EngineError::io("make the directory", &folder))?;
        self.0.push(folder);
        Ok(())
    }

    /// The folders.
    pub(super) fn all(&self) -> &[PathBuf] {
        &self.0
    }

    /// Keeps the folders.
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in &self.0 {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
