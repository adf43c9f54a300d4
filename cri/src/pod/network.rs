//! The network of a restored pod.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use criu_rs::Pid;
use serde::{Deserialize, Serialize};

/// The network namespace that a process had. Another process may have the number by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Network {
    process: i32,
    device: u64,
    inode: u64,
}

impl Network {
    /// Opens the network of a process.
    ///
    /// # Errors
    /// If there is no such process, or it has the network of this one.
    pub(super) fn of(process: Pid) -> io::Result<(Self, File)> {
        let file = File::open(format!("/proc/{process}/ns/net"))?;
        let found = file.metadata()?;
        if fs::metadata("/proc/self/ns/net").is_ok_and(|own| own.ino() == found.ino()) {
            let why = "it is the network of this process, which must stay open";
            return Err(io::Error::other(why));
        }
        let (device, inode) = (found.dev(), found.ino());
        Ok((Self { process: process.as_raw(), device, inode }, file))
    }

    /// Opens the network, if the process still has it.
    pub(super) fn find(&self) -> Option<File> {
        let (found, file) = Self::of(Pid::new(self.process)?).ok()?;
        (found == *self).then_some(file)
    }
}
