//! The way in which a program learns that it is a copy.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use super::dir::Dir;
use super::invalid::InvalidValue;
use super::place::writers;
use super::system::SystemError;
use super::text::printable;

/// The way in which a restored program learns that it is one of several copies: a file that names
/// its identity, a signal, or both.
///
/// Copies of one snapshot have the same random numbers, the same keys in memory and the same names.
/// A program that handles the signal reads the file and takes a new identity.
/// [`Dump::copy_notice`](crate::Dump::copy_notice) keeps the choice beside the images, in the file
/// [`FILE`](Self::FILE), which CRIU ignores.
///
/// ```
/// use criu_rs::CopyNotice;
///
/// let notice = CopyNotice::new().file("/run/web/copy")?.signal(12)?;
/// assert_eq!(notice.signal_name(), Some("SIGUSR2"));
/// # Ok::<(), criu_rs::InvalidValue>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyNotice {
    file: Option<PathBuf>,
    signal: Option<Signal>,
    /// True if somebody else may have chosen the file.
    is_of_others: bool,
}

impl CopyNotice {
    /// The name of the file beside the images that keeps the choice.
    pub const FILE: &'static str = "criu-rs-copy";

    /// A notice with neither a file nor a signal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the path of the file, as the program sees it: absolute, in a directory other than `/`,
    /// without `.`, `..` and characters that no line of text can hold.
    ///
    /// # Errors
    /// [`InvalidValue`] for another path, or one with more than 4,095 bytes.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Result<Self, InvalidValue> {
        let path = path.into();
        if !is_plain(&path) {
            let want = "absolute and in a directory, without `..` and control characters";
            let found = printable(path.as_os_str().as_bytes());
            return Err(InvalidValue::new("the file of a copy", found, want));
        }
        self.file = Some(path);
        self.is_of_others = false;
        Ok(self)
    }

    /// Sets the signal by its number. The root task gets it.
    ///
    /// # Errors
    /// [`InvalidValue`] for SIGKILL, SIGSTOP, and numbers that are no standard signal.
    pub fn signal(mut self, number: i32) -> Result<Self, InvalidValue> {
        let signal = Signal::try_from(number).ok().filter(|&signal| can_be_handled(signal));
        self.signal = Some(signal.ok_or_else(|| {
            let want = "one of 1 to 31 that a program can handle";
            InvalidValue::new("the signal of a copy", number, want)
        })?);
        Ok(self)
    }

    /// Sets the signal by its name, such as `SIGUSR2` or `USR2`.
    ///
    /// # Errors
    /// [`InvalidValue`] for SIGKILL, SIGSTOP, and names that are no standard signal.
    pub fn signal_named(mut self, name: &str) -> Result<Self, InvalidValue> {
        let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
        let signal = full.parse().ok().filter(|&signal| can_be_handled(signal));
        self.signal = Some(signal.ok_or_else(|| {
            let want = "the name of one that a program can handle, such as SIGUSR2";
            InvalidValue::new("the signal of a copy", printable(name.as_bytes()), want)
        })?);
        Ok(self)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns the name of the signal.
    pub fn signal_name(&self) -> Option<&'static str> {
        self.signal.map(Signal::as_str)
    }

    /// Returns the number of the signal.
    pub fn signal_number(&self) -> Option<i32> {
        self.signal.map(|signal| signal as i32)
    }

    /// Returns true if a missing file may be made. Images that others can write do not choose where
    /// a file appears on this machine.
    pub(crate) fn may_make_file(&self) -> bool {
        !self.is_of_others
    }

    /// Returns true if there is neither a file nor a signal.
    pub fn is_empty(&self) -> bool {
        self.file.is_none() && self.signal.is_none()
    }

    /// Reads the choice that a dump has kept beside its images. `None` if there is none.
    ///
    /// If users other than this process's and root can write the choice or the directory, a restore
    /// covers the file if there is one, but makes none, unless [`file`](Self::file) sets the path
    /// anew.
    ///
    /// # Errors
    /// The directory cannot be opened, or the file cannot be read: it is a link, is not one of this
    /// crate, or has a version that this crate does not know.
    pub fn read(images: &Dir<'_>) -> Result<Option<Self>, SystemError> {
        let Some(directory) = images.open()? else { return Ok(None) };
        let failed = |source: io::Error| {
            SystemError::new(format!("read {}", images.path().join(Self::FILE).display()), source)
        };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match openat(&directory, Self::FILE, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let of_others = |fd: BorrowedFd<'_>| writers(fd).map(|writers| writers.is_some());
        let of_others = of_others(directory.as_fd())
            .and_then(|directory| Ok(directory || of_others(file.as_fd())?))
            .map_err(|error| failed(error.into()))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        let mut notice = Self::parse(&bytes).map_err(|why| failed(io::Error::other(why)))?;
        notice.is_of_others = of_others;
        Ok(Some(notice))
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// Returns the reason.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if u64::try_from(bytes.len()).is_ok_and(|size| size > MAX_BYTES) {
            return Err(format!("it has more than {MAX_BYTES} bytes"));
        }
        let mut lines =
            bytes.strip_suffix(b"\n").ok_or("it has no end")?.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        if first != HEAD.as_bytes() {
            return Err(format!("it begins with `{}`, not with `{HEAD}`", printable(first)));
        }
        let mut notice = Self::default();
        for line in lines {
            let place = line.iter().position(|byte| *byte == b' ');
            let (name, value) = match place.and_then(|place| line.split_at_checked(place)) {
                Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
                None => (line, &[][..]),
            };
            notice = match name {
                b"file" if notice.file.is_none() => {
                    notice.file(OsStr::from_bytes(value)).map_err(|error| error.to_string())?
                }
                b"signal" if notice.signal.is_none() => {
                    let name = std::str::from_utf8(value).map_err(|error| error.to_string())?;
                    notice.signal_named(name).map_err(|error| error.to_string())?
                }
                _ => return Err(format!("it has the line `{}`", printable(line))),
            };
        }
        Ok(notice)
    }

    /// Returns the text of the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{HEAD}\n");
        if let Some(signal) = self.signal {
            let _ = writeln!(text, "signal {signal}");
        }
        let mut bytes = text.into_bytes();
        if let Some(file) = &self.file {
            bytes.extend(b"file ");
            bytes.extend(file.as_os_str().as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }
}

fn can_be_handled(signal: Signal) -> bool {
    !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)
}

/// Returns true for an absolute path with two names at least, and nothing else.
fn is_plain(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let has_names = path.components().all(|part| match part {
        Component::RootDir => true,
        Component::Normal(name) => name.len() <= NAME_MAX,
        _ => false,
    });
    let is_spelt_out = !bytes.split(|byte| *byte == b'/').any(|part| part == b"." || part == b"..");
    let is_text = !bytes.iter().any(u8::is_ascii_control);
    path.is_absolute()
        && has_names
        && is_spelt_out
        && is_text
        && !bytes.ends_with(b"/")
        && bytes.len() <= PATH_MAX
        && path.components().count() > 2
}

/// The first line of the file: its name and its version.
const HEAD: &str = "criu-rs copy 1";

/// The most bytes of a path, as the kernel has it.
const PATH_MAX: usize = 4095;

/// The most bytes of a name in a path.
const NAME_MAX: usize = 255;

/// The most bytes of the file: a path, and three short lines.
const MAX_BYTES: u64 = 4351;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let path = CopyNotice::new().file("/run/web app/copy").unwrap();
        let both = path.clone().signal_named("USR2").unwrap();
        let signal = CopyNotice::new().signal(1).unwrap();
        for notice in [path, both, signal, CopyNotice::new()] {
            assert_eq!(CopyNotice::parse(&notice.to_bytes()), Ok(notice));
        }
    }

    #[test]
    fn files_that_nobody_here_wrote_are_refused() {
        for (text, why) in [
            ("", "it has no end"),
            ("\n", "not with"),
            ("criu-rs copy 2\n", "not with"),
            ("criu-rs copy 1\nfile /run/x", "it has no end"),
            ("criu-rs copy 1\nfile run/x\n", "absolute"),
            ("criu-rs copy 1\nfile /x\n", "absolute"),
            ("criu-rs copy 1\nfile /run/../etc/passwd\n", "absolute"),
            ("criu-rs copy 1\nfile /run/./x\n", "absolute"),
            ("criu-rs copy 1\nfile /run/x/\n", "absolute"),
            ("criu-rs copy 1\nfile /run/x\u{1b}[2J\n", "absolute"),
            ("criu-rs copy 1\nfile /run/x\nfile /run/y\n", "it has the line"),
            ("criu-rs copy 1\nsignal KILL\n", "SIGUSR2"),
            ("criu-rs copy 1\nsignal 12\n", "SIGUSR2"),
            ("criu-rs copy 1\nsignal\n", "SIGUSR2"),
            ("criu-rs copy 1\n\n", "it has the line"),
            ("criu-rs copy 1\nrun /bin/sh\n", "it has the line"),
        ] {
            let error = CopyNotice::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let long = format!("criu-rs copy 1\nfile /run/{}\n", "x/".repeat(3000));
        assert!(CopyNotice::parse(long.as_bytes()).unwrap_err().contains("bytes"));
    }

    #[test]
    fn a_signal_is_one_that_a_program_can_handle() {
        for number in [0, -1, 9, 19, 32, 64, i32::MAX] {
            assert!(CopyNotice::new().signal(number).is_err(), "{number}");
        }
        for name in ["KILL", "SIGSTOP", "", "SIG", "usr2", "SIGUSR2\n"] {
            assert!(CopyNotice::new().signal_named(name).is_err(), "{name:?}");
        }
    }
}
