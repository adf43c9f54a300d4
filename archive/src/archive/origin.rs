//! The file of an archive, which may change while it is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::error::ErrorKind;

/// The file of an archive, as it was when it was opened.
#[derive(Debug)]
pub(super) struct Origin {
    file: File,
    then: Stamp,
}

/// Size and times of a file. The time of the last change of attributes is not for its owner to set.
type Stamp = (u64, [i64; 4]);

impl Origin {
    pub(super) fn new(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        Ok(Self { then: stamp(&file)?, file })
    }

    /// Compares the file with what it was.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if somebody has written to the file, renamed it or changed its
    /// attributes.
    pub(super) fn check(&self) -> Result<(), ErrorKind> {
        if stamp(&self.file)? != self.then {
            return Err(ErrorKind::Refused("its file has changed since it was opened"));
        }
        Ok(())
    }
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let now = file.metadata()?;
    Ok((now.len(), [now.mtime(), now.mtime_nsec(), now.ctime(), now.ctime_nsec()]))
}
