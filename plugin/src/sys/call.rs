//! Files of `/proc`, and the status of other processes, without allocation.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use super::errno::Errno;
use super::path::Path;
use super::raw::{self, number};

/// An open file.
#[derive(Debug)]
pub(crate) struct Fd(libc::c_int);

impl Fd {
    /// Opens a file of a process in `/proc`.
    pub(crate) fn open(pid: i32, name: &str, access: Access) -> Result<Self, Errno> {
        Self::open_path(&Path::in_process(pid, name)?, access)
    }

    /// Opens the list of the children of a process's thread.
    pub(crate) fn children(pid: i32, thread: i32) -> Result<Self, Errno> {
        let path = Path::of(format_args!("/proc/{pid}/task/{thread}/children"))?;
        Self::open_path(&path, Access::Read)
    }

    /// Opens a file by its path from the root.
    pub(crate) fn open_path(path: &Path, access: Access) -> Result<Self, Errno> {
        Self::open_at(AT_FDCWD, path, access)
    }

    /// Opens a file to read it, by its path from a directory.
    pub(crate) fn open_from(directory: BorrowedFd<'_>, path: &Path) -> Result<Self, Errno> {
        Self::open_at(number(directory.as_raw_fd()), path, Access::Read)
    }

    fn open_at(directory: usize, path: &Path, access: Access) -> Result<Self, Errno> {
        let flags = libc::O_CLOEXEC
            | match access {
                Access::Read => libc::O_RDONLY,
                Access::Write => libc::O_WRONLY,
                Access::Both => libc::O_RDWR,
            };
        let arguments = [directory, place(path), number(flags), 0, 0, 0];
        // SAFETY: the path ends in a zero byte, and the call writes no memory.
        let fd = unsafe { raw::call(libc::SYS_openat, arguments) }?;
        i32::try_from(fd).map(Self).map_err(|_| Errno(libc::EBADF))
    }

    /// Reads on from the file's position.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let place = buffer.as_mut_ptr().expose_provenance();
        let arguments = [number(self.0), place, buffer.len(), 0, 0, 0];
        loop {
            // SAFETY: the kernel writes within the buffer.
            match unsafe { raw::call(libc::SYS_read, arguments) } {
                Err(Errno(libc::EINTR)) => {}
                result => return result,
            }
        }
    }

    /// Fills the buffer from a place of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let place = rest.as_mut_ptr().expose_provenance();
            let arguments = [number(self.0), place, rest.len(), offset(at, done)?, 0, 0];
            // SAFETY: the kernel writes within the buffer.
            match unsafe { raw::call(libc::SYS_pread64, arguments) } {
                Ok(0) => return Err(Errno(libc::EFAULT)),
                Ok(read) => done += read,
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Writes the whole buffer to a place of the file.
    pub(crate) fn write_at(&self, buffer: &[u8], at: u64) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = buffer.get(done..).filter(|rest| !rest.is_empty()) {
            let place = rest.as_ptr().expose_provenance();
            let arguments = [number(self.0), place, rest.len(), offset(at, done)?, 0, 0];
            // SAFETY: the kernel reads within the buffer.
            match unsafe { raw::call(libc::SYS_pwrite64, arguments) } {
                Ok(0) => return Err(Errno(libc::EFAULT)),
                Ok(written) => done += written,
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Reads a word from a place of the file.
    pub(crate) fn word_at(&self, at: u64) -> Result<u64, Errno> {
        let mut word = [0; 8];
        self.read_at(&mut word, at)?;
        Ok(u64::from_le_bytes(word))
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the number is that of a file that this value owns.
        let _ = unsafe { raw::call(libc::SYS_close, [number(self.0), 0, 0, 0, 0, 0]) };
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> libc::c_int {
        self.0
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into_raw_fd())
    }
}

/// The ways to open a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    Read,
    Write,
    Both,
}

/// Reads to where a link leads. A longer path is cut.
pub(crate) fn link<'b>(path: &Path, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let arguments = [place(path), buffer.as_mut_ptr().expose_provenance(), buffer.len(), 0, 0, 0];
    // SAFETY: the path ends in a zero byte, and the kernel writes within the buffer.
    let length = unsafe { raw::call(libc::SYS_readlink, arguments) }?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn nanoseconds() -> Result<u64, Errno> {
    let mut time = [0_u64; 2];
    let place = time.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes one time, seconds and nanoseconds.
    unsafe { raw::call(libc::SYS_clock_gettime, [MONOTONIC, place, 0, 0, 0, 0]) }?;
    Ok(time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1]))
}

/// Sleeps for some nanoseconds, less than a second. A signal ends the sleep.
pub(crate) fn sleep(nanoseconds: u64) {
    let pause = [0, nanoseconds];
    let place = pause.as_ptr().expose_provenance();
    // SAFETY: the kernel reads one time, and writes none.
    let _ = unsafe { raw::call(libc::SYS_nanosleep, [place, 0, 0, 0, 0, 0]) };
}

/// `CLOCK_MONOTONIC`.
const MONOTONIC: usize = 1;

/// Sends SIGKILL to a process.
pub(crate) fn kill(pid: i32) -> Result<(), Errno> {
    let pid = u32::try_from(pid).map_err(|_| Errno(libc::ESRCH))? as usize;
    // SAFETY: the call takes numbers.
    unsafe { raw::call(libc::SYS_kill, [pid, number(libc::SIGKILL), 0, 0, 0, 0]) }.map(drop)
}

/// Asks for a new status of a traced thread. `None` if there is none.
pub(crate) fn status(tid: i32) -> Result<Option<libc::c_int>, Errno> {
    let mut status: libc::c_int = 0;
    let place = (&raw mut status).expose_provenance();
    let tid = u32::try_from(tid).map_err(|_| Errno(libc::ECHILD))? as usize;
    let arguments = [tid, place, number(libc::WNOHANG | libc::__WALL), 0, 0, 0];
    loop {
        // SAFETY: the kernel writes one status.
        match unsafe { raw::call(libc::SYS_wait4, arguments) } {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(status)),
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Address of a path.
fn place(path: &Path) -> usize {
    path.text().as_ptr().expose_provenance()
}

/// A place of a file as the kernel takes it.
fn offset(at: u64, done: usize) -> Result<usize, Errno> {
    let place = usize::try_from(at).ok().and_then(|at| at.checked_add(done));
    place.filter(|place| isize::try_from(*place).is_ok()).ok_or(Errno(libc::EFAULT))
}

/// The working directory, for the start of a path. It has no part in a path from the root.
const AT_FDCWD: usize = usize::MAX - 99;
