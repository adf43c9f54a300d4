//! The file beside the images that says how a program learns that it is a copy.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Error, Result};
use crate::value::CopyNotice;

/// Writes the file into the directory of a dump that begins. The guard of the directory treats the
/// file like an image: it goes with a failed dump. A file that an earlier dump has left is removed,
/// also if the new dump has no notice.
///
/// # Errors
/// The file cannot be written, or the dump has a notice and a directory that CRIU opens itself.
pub(super) fn write(images: Option<&OwnedFd>, notice: &CopyNotice) -> Result<()> {
    let failed = |source: std::io::Error| {
        Error::system(format!("write {} beside the images", CopyNotice::FILE), source)
    };
    let Some(images) = images else {
        let why = "the images directory is one that only criu sees";
        return if notice.is_empty() { Ok(()) } else { Err(failed(std::io::Error::other(why))) };
    };
    match unlinkat(images, CopyNotice::FILE, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => return Err(failed(error.into())),
    }
    if notice.is_empty() {
        return Ok(());
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(images, CopyNotice::FILE, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let mut file = File::from(file.map_err(|error| failed(error.into()))?);
    file.write_all(&notice.to_bytes()).map_err(failed)
}
