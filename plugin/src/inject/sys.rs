//! System calls, without allocation: files of `/proc`, and waiting.

#![allow(unsafe_code)]

use std::time::{Duration, Instant};
use std::{io, ptr};

use super::Errno;

/// An open file.
#[derive(Debug)]
pub(super) struct Fd(libc::c_int);

impl Fd {
    /// Opens a file of a process in `/proc`.
    pub(super) fn open(pid: i32, name: &str, access: Access) -> Result<Self, Errno> {
        Self::open_path(&Path::new(pid, name)?, access)
    }

    /// Opens the list of the children of a process's first thread.
    pub(super) fn children(pid: i32) -> Result<Self, Errno> {
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
        // SAFETY: the path ends in a zero byte, and the call writes no memory.
        let fd = unsafe { libc::open(path.bytes.as_ptr().cast(), flags) };
        if fd < 0 { Err(last()) } else { Ok(Self(fd)) }
    }

    /// Reads on from the file's position.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            // SAFETY: the kernel writes within the buffer.
            let read = unsafe { libc::read(self.0, buffer.as_mut_ptr().cast(), buffer.len()) };
            match count(read) {
                Err(Errno(libc::EINTR)) => {}
                result => return result,
            }
        }
    }

    /// Fills the buffer from a place of the file.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let place = place(at, done)?;
            // SAFETY: the kernel writes within the buffer.
            let read = unsafe { libc::pread(self.0, rest.as_mut_ptr().cast(), rest.len(), place) };
            match count(read) {
                Ok(0) => return Err(Errno(libc::EFAULT)),
                Ok(read) => done += read,
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Writes the whole buffer to a place of the file.
    pub(super) fn write_at(&self, buffer: &[u8], at: u64) -> Result<(), Errno> {
        let mut done = 0;
        while let Some(rest) = buffer.get(done..).filter(|rest| !rest.is_empty()) {
            let place = place(at, done)?;
            // SAFETY: the kernel reads within the buffer.
            let written = unsafe { libc::pwrite(self.0, rest.as_ptr().cast(), rest.len(), place) };
            match count(written) {
                Ok(0) => return Err(Errno(libc::EFAULT)),
                Ok(written) => done += written,
                Err(Errno(libc::EINTR)) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Reads a word from a place of the file.
    pub(super) fn word_at(&self, at: u64) -> Result<u64, Errno> {
        let mut word = [0; 8];
        self.read_at(&mut word, at)?;
        Ok(u64::from_le_bytes(word))
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the number is that of a file that this value has opened.
        unsafe { libc::close(self.0) };
    }
}

/// The ways to open a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Read,
    Write,
    Both,
}

/// A link of a process in `/proc`.
pub(super) fn link(pid: i32, name: &str) -> Result<[u8; 64], Errno> {
    let path = Path::new(pid, name)?;
    let mut text = [0_u8; 64];
    let path = path.bytes.as_ptr().cast();
    // SAFETY: the path ends in a zero byte, and the kernel writes within the buffer.
    let length = unsafe { libc::readlink(path, text.as_mut_ptr().cast(), text.len()) };
    count(length)?;
    Ok(text)
}

/// Sends SIGKILL to a process.
pub(super) fn kill(pid: i32) -> Result<(), Errno> {
    // SAFETY: the call takes numbers.
    if unsafe { libc::kill(pid, libc::SIGKILL) } < 0 { Err(last()) } else { Ok(()) }
}

/// Asks for a new status of a traced thread. `None` if there is none.
pub(super) fn status(tid: i32) -> Result<Option<libc::c_int>, Errno> {
    let mut status = 0;
    let options = libc::WNOHANG | libc::__WALL;
    loop {
        // SAFETY: the kernel writes one status.
        let found = unsafe { libc::waitpid(tid, &raw mut status, options) };
        match found {
            0 => return Ok(None),
            -1 if last() == Errno(libc::EINTR) => {}
            -1 => return Err(last()),
            _ => return Ok(Some(status)),
        }
    }
}

/// Number of the error of the last call.
pub(super) fn last() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// A wait with a deadline. Most stops come within some ten microseconds.
#[derive(Debug)]
pub(super) struct Patience {
    start: Instant,
    deadline: Instant,
}

impl Patience {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { start: Instant::now(), deadline }
    }

    /// Lets other threads run for a moment. The error is `ETIMEDOUT`.
    pub(super) fn wait(&self) -> Result<(), Errno> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Errno(libc::ETIMEDOUT));
        }
        let waited = now.duration_since(self.start);
        if waited < EAGER {
            // SAFETY: the call takes nothing.
            unsafe { libc::sched_yield() };
            return Ok(());
        }
        let pause = (waited / 16).clamp(SHORTEST, LONGEST).min(self.deadline - now);
        let nanoseconds = libc::c_long::from(pause.subsec_nanos());
        let pause = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
        // SAFETY: the kernel reads one time, and writes none.
        unsafe { libc::nanosleep(&raw const pause, ptr::null_mut()) };
        Ok(())
    }
}

/// The time for which a wait gives way without sleeping.
const EAGER: Duration = Duration::from_micros(300);
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(2);

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

/// The number of bytes that a call has moved.
fn count(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| last())
}

/// A place of a file as the kernel takes it.
fn place(at: u64, done: usize) -> Result<libc::off_t, Errno> {
    let place = u64::try_from(done).ok().and_then(|done| at.checked_add(done));
    place.and_then(|place| i64::try_from(place).ok()).ok_or(Errno(libc::EFAULT))
}

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
