//! Files of `/proc`, and the status of other processes, without allocation.

#![allow(unsafe_code)]

use super::errno::Errno;
use super::raw::{self, number};

/// An open file.
#[derive(Debug)]
pub(crate) struct Fd(libc::c_int);

impl Fd {
    /// Opens a file of a process in `/proc`.
    pub(crate) fn open(pid: i32, name: &str, access: Access) -> Result<Self, Errno> {
        Self::open_path(&Path::new(pid, name)?, access)
    }

    /// Opens the list of the children of a process's first thread.
    pub(crate) fn children(pid: i32) -> Result<Self, Errno> {
        let mut path = Path::new(pid, "task/")?;
        path.push_number(pid)?;
        path.push(b"/children")?;
        Self::open_path(&path, Access::Read)
    }

    fn open_path(path: &Path, access: Access) -> Result<Self, Errno> {
        let flags = libc::O_CLOEXEC
            | match access {
                Access::Read => libc::O_RDONLY,
                Access::Write => libc::O_WRONLY,
                Access::Both => libc::O_RDWR,
            };
        let arguments = [AT_FDCWD, path.place(), number(flags), 0, 0, 0];
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
        // SAFETY: the number is that of a file that this value has opened.
        let _ = unsafe { raw::call(libc::SYS_close, [number(self.0), 0, 0, 0, 0, 0]) };
    }
}

/// The ways to open a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    Read,
    Write,
    Both,
}

/// A link of a process in `/proc`.
pub(crate) fn link(pid: i32, name: &str) -> Result<[u8; 64], Errno> {
    let path = Path::new(pid, name)?;
    let mut text = [0_u8; 64];
    let place = text.as_mut_ptr().expose_provenance();
    let arguments = [path.place(), place, text.len(), 0, 0, 0];
    // SAFETY: the path ends in a zero byte, and the kernel writes within the buffer.
    unsafe { raw::call(libc::SYS_readlink, arguments) }?;
    Ok(text)
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

/// The path of a file in `/proc`, with a zero byte at its end.
struct Path {
    bytes: [u8; 64],
    end: usize,
}

impl Path {
    fn new(pid: i32, name: &str) -> Result<Self, Errno> {
        let mut path = Self { bytes: [0; 64], end: 0 };
        path.push(b"/proc/")?;
        path.push_number(pid)?;
        path.push(b"/")?;
        path.push(name.as_bytes())?;
        Ok(path)
    }

    /// Address of the path.
    fn place(&self) -> usize {
        self.bytes.as_ptr().expose_provenance()
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), Errno> {
        let end = self.end + piece.len();
        // The last byte stays zero.
        let room = self.bytes.get_mut(self.end..end).filter(|_| end < 64);
        room.ok_or(Errno(libc::ENAMETOOLONG))?.copy_from_slice(piece);
        self.end = end;
        Ok(())
    }

    fn push_number(&mut self, number: i32) -> Result<(), Errno> {
        let number = u32::try_from(number).map_err(|_| Errno(libc::ESRCH))?;
        let mut power = 1_000_000_000;
        while power > number.max(1) {
            power /= 10;
        }
        while power > 0 {
            let digit = u8::try_from(number / power % 10).unwrap_or_default();
            self.push(&[b'0' + digit])?;
            power /= 10;
        }
        Ok(())
    }
}

/// A place of a file as the kernel takes it.
fn offset(at: u64, done: usize) -> Result<usize, Errno> {
    let place = usize::try_from(at).ok().and_then(|at| at.checked_add(done));
    place.filter(|place| isize::try_from(*place).is_ok()).ok_or(Errno(libc::EFAULT))
}

/// The working directory, for the start of a path. It has no part in a path from the root.
const AT_FDCWD: usize = usize::MAX - 99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_paths() {
        for (pid, text) in
            [(0, "/proc/0/stat"), (10, "/proc/10/stat"), (4_194_303, "/proc/4194303/stat")]
        {
            let path = Path::new(pid, "stat").unwrap();
            assert_eq!(path.bytes[..path.end], *text.as_bytes());
        }
        assert!(Path::new(-1, "stat").is_err());
        assert!(Path::new(1, &"a".repeat(55)).is_ok());
        assert!(Path::new(1, &"a".repeat(56)).is_err());
    }
}
