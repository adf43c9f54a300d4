//! Checkpoints whose node is this machine.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use nix::fcntl::OFlag;

use super::client::Saved;
use super::retention::Stored;

/// The archive of a checkpoint on this machine.
#[derive(Debug)]
#[non_exhaustive]
pub struct Local {
    /// The archive.
    pub file: File,
    /// Size in bytes.
    pub size: u64,
    /// The checkpoint, as its metadata says.
    pub stored: Stored,
}

impl Saved {
    /// Opens the archive, if the node is this machine: if the path is that of a file that is not
    /// older than the request, and a checkpoint of the container. Links and FIFOs are not opened.
    ///
    /// # Errors
    /// The file is here, and cannot be read: it belongs to root, or is no checkpoint.
    pub fn local(&self) -> io::Result<Option<Local>> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let opened = File::options().read(true).custom_flags(flags.bits()).open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        // File systems count time in coarse steps.
        let since = self.asked.checked_sub(Duration::from_secs(2)).unwrap_or(self.asked);
        if !metadata.is_file() || metadata.modified()? < since {
            return Ok(None);
        }
        let written = (metadata.mtime(), metadata.mtime_nsec());
        let stored = Stored::read(file.try_clone()?, written).map_err(io::Error::other)?;
        if stored.container != self.container {
            return Ok(None);
        }
        Ok(Some(Local { size: metadata.len(), file, stored }))
    }
}
