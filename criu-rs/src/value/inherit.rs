//! Descriptors handed to a restore.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::str::FromStr;

use super::InvalidValue;
use super::external::number;
use super::system::SystemError;
use crate::sys::fd;

/// A descriptor of the caller that takes the place of a dumped resource (`criu --inherit-fd`).
///
/// The descriptor may have any number and keep its close-on-exec flag: this crate places it inside
/// the criu process. It is borrowed until the restore has started.
///
/// ```
/// use criu_rs::InheritFd;
/// use std::fs::File;
///
/// let log = File::open("/dev/null")?;
/// let inherit = InheritFd::new("pipe:[4711]", &log);
/// assert_eq!(inherit.key(), "pipe:[4711]");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct InheritFd<'fd> {
    key: OsString,
    source: Source<'fd>,
}

#[derive(Clone, Debug)]
enum Source<'fd> {
    Borrowed(BorrowedFd<'fd>),
    Number(RawFd),
}

impl<'fd> InheritFd<'fd> {
    /// Puts `fd` in the place of the resource `key`. The key is `pipe:[INODE]`, `socket:[INODE]`,
    /// `tty[RDEV:DEV]`, `file[MNT_ID:INODE]`, the key of an [`External`](crate::External)
    /// namespace, or a path without its first slash.
    pub fn new(key: impl Into<OsString>, fd: &'fd impl AsFd) -> Self {
        Self { key: key.into(), source: Source::Borrowed(fd.as_fd()) }
    }

    /// Puts a borrowed descriptor in the place of the resource `key`.
    #[cfg(feature = "oci")]
    pub(crate) fn borrowed(key: impl Into<OsString>, fd: BorrowedFd<'fd>) -> Self {
        Self { key: key.into(), source: Source::Borrowed(fd) }
    }

    /// Puts the descriptor with this number in the place of the resource `key`, as `fd[NUMBER]:KEY`
    /// does on a command line.
    ///
    /// The number is looked up when the restore starts. A number that is not open then is an error.
    pub fn numbered(key: impl Into<OsString>, number: RawFd) -> InheritFd<'static> {
        InheritFd { key: key.into(), source: Source::Number(number) }
    }

    /// Returns the key of the replaced resource.
    pub fn key(&self) -> &OsStr {
        &self.key
    }

    /// Duplicates the descriptor for the operation.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, SystemError> {
        match self.source {
            Source::Borrowed(fd) => fd.try_clone_to_owned(),
            Source::Number(number) => fd::duplicate(number, 0),
        }
        .map_err(|source| {
            SystemError::new(format!("duplicate descriptor {} to inherit", self.number()), source)
        })
    }

    fn number(&self) -> RawFd {
        match self.source {
            Source::Borrowed(fd) => fd.as_raw_fd(),
            Source::Number(number) => number,
        }
    }
}

impl FromStr for InheritFd<'static> {
    type Err = InvalidValue;

    /// Reads `fd[NUMBER]:KEY`.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        text.strip_prefix("fd[")
            .and_then(|rest| rest.split_once("]:"))
            .and_then(|(digits, key)| Some((number::<u32>(digits.as_bytes())?, key)))
            .and_then(|(fd, key)| Some((RawFd::try_from(fd).ok()?, key)))
            .filter(|(_, key)| !key.is_empty())
            .map(|(fd, key)| InheritFd::numbered(key, fd))
            .ok_or_else(|| InvalidValue::new("a descriptor to inherit", text, "fd[NUMBER]:KEY"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_notation_is_read() {
        let fd: InheritFd<'static> = "fd[7]:pipe:[4711]".parse().unwrap();
        assert_eq!(fd.key(), "pipe:[4711]");
        assert_eq!(fd.number(), 7);
        for bad in ["", "fd[7]", "fd[7]:", "fd[-1]:x", "fd[x]:y", "7:x"] {
            let error = bad.parse::<InheritFd<'static>>().unwrap_err().to_string();
            assert!(error.contains("fd[NUMBER]:KEY"), "{error}");
        }
    }
}
