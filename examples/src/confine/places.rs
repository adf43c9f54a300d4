//! The directories that a process stays confined to.

use std::fs;
use std::path::{Path, PathBuf};

use super::landlock::Access;

/// A directory, with the access to everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
}

/// Returns the parent sets of a directory of images: those that its `parent` link leads to, one
/// after the other.
pub(crate) fn parents(images: &Path) -> Vec<PathBuf> {
    let mut parents: Vec<PathBuf> = Vec::new();
    let mut at = images.to_owned();
    while let Ok(next) = fs::canonicalize(at.join("parent")) {
        if parents.contains(&next) || parents.len() == MOST || !next.is_dir() {
            break;
        }
        parents.push(next.clone());
        at = next;
    }
    parents
}

/// The most parent sets of a directory. A longer chain is read by nobody here.
const MOST: usize = 1024;
