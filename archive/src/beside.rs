//! Places beside files and directories that appear when they are complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{self, OFlag, openat};
use nix::sys::stat::Mode;

/// Opens the directory that holds a path.
pub(crate) fn above(path: &Path) -> io::Result<OwnedFd> {
    let above = match path.parent() {
        Some(above) if above != Path::new("") => above,
        _ => Path::new("."),
    };
    Ok(fcntl::open(above, DIRECTORY, Mode::empty())?)
}

/// Hidden name of a file or directory in the making, beside its name at the end. Nobody can take
/// all of these names beforehand. Of a long name only the beginning is in it: names have at most
/// 255 bytes.
pub(crate) fn beside(name: &OsStr) -> OsString {
    let random = RandomState::new().hash_one(std::process::id());
    let begin = name.as_bytes().get(..LONGEST).unwrap_or(name.as_bytes());
    let mut new = OsString::from(".");
    new.push(OsStr::from_bytes(begin));
    new.push(format!(".{random:016x}"));
    new
}

/// Writes the names in a directory to the disk, if that is possible. Some file systems cannot, and
/// a directory that may not be read is not opened.
pub(crate) fn sync(directory: &OwnedFd) {
    if let Ok(directory) = openat(directory, ".", LISTED, Mode::empty()) {
        let _ = File::from(directory).sync_all();
    }
}

/// Flags of a directory that is only a place to reach files from.
pub(crate) const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Flags of a directory of which more is wanted than a place.
pub(crate) const LISTED: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Most bytes of a name that its hidden name has, too.
const LONGEST: usize = 200;
