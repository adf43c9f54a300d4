//! Paths of files in `/proc`.

use std::ffi::CStr;
use std::fmt::{self, Write};

use super::errno::Errno;

/// A short path, without allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    bytes: [u8; ROOM],
    end: usize,
}

impl Path {
    /// Formats a path.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, if there is no room.
    pub(crate) fn of(arguments: fmt::Arguments<'_>) -> Result<Self, Errno> {
        let mut path = Self { bytes: [0; ROOM], end: 0 };
        path.write_fmt(arguments).map_err(|_| Errno(libc::ENAMETOOLONG))?;
        Ok(path)
    }

    /// Returns the path of a file of a process.
    ///
    /// # Errors
    /// `ESRCH` for a number below 0, and those of [`Self::of`].
    pub(crate) fn in_process(pid: i32, name: &str) -> Result<Self, Errno> {
        let pid = u32::try_from(pid).map_err(|_| Errno(libc::ESRCH))?;
        Self::of(format_args!("/proc/{pid}/{name}"))
    }

    /// Returns the path as the kernel takes it.
    pub(crate) fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl Write for Path {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let end = self.end + more.len();
        // The last byte stays zero.
        let room = self.bytes.get_mut(self.end..end).filter(|_| end < ROOM);
        room.ok_or(fmt::Error)?.copy_from_slice(more.as_bytes());
        self.end = end;
        Ok(())
    }
}

/// Bytes of the longest path and the zero behind it. `/proc/PID/map_files/FROM-TO` has at most 60.
const ROOM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_paths() {
        for (pid, text) in
            [(0, "/proc/0/stat"), (10, "/proc/10/stat"), (4_194_303, "/proc/4194303/stat")]
        {
            let path = Path::in_process(pid, "stat").unwrap();
            assert_eq!(path.text().to_bytes(), text.as_bytes());
        }
        assert_eq!(Path::in_process(-1, "stat").unwrap_err(), Errno(libc::ESRCH));
        assert!(Path::in_process(1, &"a".repeat(55)).is_ok());
        assert!(Path::in_process(1, &"a".repeat(56)).is_err());
    }

    #[test]
    fn a_text_without_room_is_refused() {
        let long = "x".repeat(64);
        let error = Path::of(format_args!("{long}")).unwrap_err();
        assert_eq!(error, Errno(libc::ENAMETOOLONG));
        let path = Path::of(format_args!("{}", &long[1..])).unwrap();
        assert_eq!(path.text().to_bytes(), &long.as_bytes()[1..]);
        let longest =
            Path::of(format_args!("/proc/{}/map_files/{:x}-{:x}", i32::MAX, !0u64, !0u64));
        assert_eq!(longest.unwrap().text().count_bytes(), 60);
    }
}
