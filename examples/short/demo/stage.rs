//! The demo's surroundings: the right to do this, no stray descriptors, a place for images.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use criu_cli::Fault;
use nix::sys::prctl::set_child_subreaper;
use nix::unistd::{close, geteuid, mkdtemp};

/// Makes this program fit to dump and restore its children.
pub(crate) fn prepare() -> Result<(), Fault> {
    if !geteuid().is_root() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        return Err(Fault::system("checkpoint processes without being root", denied));
    }
    close_strays().map_err(|source| Fault::system("close inherited descriptors", source))?;
    // This program reaps orphans, because an id that a zombie keeps cannot be restored.
    set_child_subreaper(true).map_err(|source| Fault::system("become the orphans' parent", source))
}

/// Closes descriptors that a shell has left open: CRIU would have to save them with every child.
fn close_strays() -> io::Result<()> {
    let entries = fs::read_dir("/proc/self/fd")?.flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let strays: Vec<i32> = numbers.filter(|&number| number > 2).collect();
    for number in strays {
        // The descriptor that read the folder is closed already.
        let _ = close(number);
    }
    Ok(())
}

/// A temporary images directory, which is removed at the end unless it is kept.
pub(crate) struct Images {
    path: PathBuf,
    kept: bool,
}

impl Images {
    pub(crate) fn new() -> Result<Self, Fault> {
        let path = mkdtemp(&std::env::temp_dir().join("criu-demo-XXXXXX"));
        path.map(|path| Self { path, kept: false })
            .map_err(|source| Fault::system("make a directory for images", source))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
