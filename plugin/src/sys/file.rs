//! Facts about files, by system calls that the standard library makes only with allocations.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;

use super::call;
use super::errno::Errno;
use super::path::Path;

/// The kind of file that a path leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Kind {
    pub(crate) is_regular: bool,
    /// Bytes of a block, as the file system prefers them. In hugetlbfs it is the size of its pages.
    pub(crate) block_size: u64,
}

impl Kind {
    /// Looks at a path. Follows links, and asks no server: what it asks for does not change.
    ///
    /// # Errors
    /// The errors of `statx(2)`.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let mut about = MaybeUninit::<libc::statx>::zeroed();
        let (name, flags) = (path.text().as_ptr(), libc::AT_STATX_DONT_SYNC);
        // SAFETY: the name ends with a NUL, and `about` has room for what the kernel writes.
        let result = unsafe {
            libc::statx(libc::AT_FDCWD, name, flags, libc::STATX_TYPE, about.as_mut_ptr())
        };
        done(result)?;
        // SAFETY: all zeroes are a statx, and so is what the kernel has written over them.
        let about = unsafe { about.assume_init() };
        let is_regular = u32::from(about.stx_mode) & libc::S_IFMT == libc::S_IFREG;
        Ok(Self { is_regular, block_size: about.stx_blksize.into() })
    }
}

/// The file of a descriptor: device and inode number.
///
/// # Errors
/// The errors of `fstat(2)`.
pub(crate) fn identity(fd: c_int) -> io::Result<(u64, u64)> {
    let mut about = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `about` has room for what the kernel writes.
    done(unsafe { libc::fstat(fd, about.as_mut_ptr()) })?;
    // SAFETY: all zeroes are a stat, and so is what the kernel has written over them.
    let about = unsafe { about.assume_init() };
    Ok((about.st_dev, about.st_ino))
}

/// Reads the path of an open file into a buffer. A longer path is cut.
///
/// # Errors
/// The errors of `readlink(2)`.
pub(crate) fn path_of(fd: c_int, buffer: &mut [u8]) -> Result<&[u8], Errno> {
    call::link(&Path::of(format_args!("/proc/self/fd/{fd}"))?, buffer)
}

/// Makes an empty file in memory.
///
/// # Errors
/// The errors of `memfd_create(2)`.
pub(crate) fn memory(name: &CStr) -> io::Result<File> {
    // SAFETY: the name ends with a NUL.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been made, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Opens a file in memory that nobody can change any more.
///
/// # Errors
/// The errors of `open(2)` and `fcntl(2)`. `EPERM` if somebody could change it.
pub(crate) fn sealed(path: &Path) -> io::Result<File> {
    // A short path needs no allocation.
    let file = File::open(std::ffi::OsStr::from_bytes(path.text().to_bytes()))?;
    // SAFETY: the call takes no memory of ours.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    let all = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    match seals {
        ..0 => Err(io::Error::last_os_error()),
        _ if seals & all == all => Ok(file),
        _ => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// Makes a descriptor lead to another file.
///
/// # Errors
/// The errors of `dup3(2)`.
pub(crate) fn replace(fd: BorrowedFd<'_>, by: &File) -> io::Result<()> {
    // SAFETY: the call takes numbers. The descriptor stays open.
    let result = unsafe { libc::dup3(by.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::Metadata;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_descriptor_is_told_by_its_file() {
        let file = File::open("/proc/self/pagemap").unwrap();
        let about: Metadata = file.metadata().unwrap();
        assert_eq!(identity(file.as_raw_fd()).unwrap(), (about.dev(), about.ino()));
        let mut buffer = [0; 64];
        let path = format!("/proc/{}/pagemap", std::process::id());
        assert_eq!(path_of(file.as_raw_fd(), &mut buffer).unwrap(), path.as_bytes());
        assert_eq!(path_of(file.as_raw_fd(), &mut buffer[..9]).unwrap(), &path.as_bytes()[..9]);
        assert!(path_of(-1, &mut buffer).is_err() && identity(-1).is_err());
    }

    #[test]
    fn a_device_is_no_regular_file() {
        let kind = |path: &str| Kind::of(&Path::of(format_args!("{path}")).unwrap());
        assert!(!kind("/dev/null").unwrap().is_regular);
        assert!(kind("/proc/self/exe").unwrap().is_regular);
        assert!(kind("/proc/self/exe").unwrap().block_size < 2 << 20);
        assert!(kind(&"x".repeat(63)).is_err());
    }
}
