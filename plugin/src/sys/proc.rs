//! Facts of `/proc` about a process, read without allocating.

use std::fmt::{self, Write};
use std::fs::File;
use std::io::{self, Seek};
use std::ops::Range;

use super::lines::{Line, Lines};

/// A short text, such as a path. What does not fit is an error of [`Write`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    bytes: [u8; 96],
    length: usize,
}

impl Text {
    /// Formats a text.
    ///
    /// # Errors
    /// `ENAMETOOLONG`, if there is no room.
    pub(crate) fn of(arguments: fmt::Arguments<'_>) -> io::Result<Self> {
        let mut text = Self { bytes: [0; 96], length: 0 };
        let too_long = |_| io::Error::from_raw_os_error(libc::ENAMETOOLONG);
        text.write_fmt(arguments).map_err(too_long)?;
        Ok(text)
    }

    /// Returns the text.
    pub(crate) fn as_str(&self) -> &str {
        self.bytes
            .get(..self.length)
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let end = self.length.saturating_add(more.len());
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(more.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Opens a file of a process to read it.
///
/// # Errors
/// The errors of `open(2)`.
pub(crate) fn open(pid: i32, name: &str) -> io::Result<File> {
    File::open(Text::of(format_args!("/proc/{pid}/{name}"))?.as_str())
}

/// Reads the start time of a process, in clock ticks.
///
/// # Errors
/// The process is gone, or `/proc/PID/stat` cannot be understood.
pub(crate) fn started(pid: i32) -> io::Result<u64> {
    field(pid, START_FIELD, number)
}

/// Tells whether a process has ended, and is not reaped.
///
/// # Errors
/// The process is gone, or `/proc/PID/stat` cannot be understood.
pub(crate) fn has_ended(pid: i32) -> io::Result<bool> {
    field(pid, STATE_FIELD, |state| Some(matches!(state, b"Z" | b"X")))
}

/// Reads a field of `/proc/PID/stat` after the name.
fn field<T>(pid: i32, at: usize, parse: impl FnOnce(&[u8]) -> Option<T>) -> io::Result<T> {
    field_of(open(pid, "stat")?, at, parse)
}

/// Reads the start time and the exit signal of an open `/proc/PID/stat`.
///
/// # Errors
/// The process is gone, or the file cannot be understood.
pub(crate) fn birth(stat: &File) -> io::Result<(u64, u64)> {
    let start = field_of(stat.try_clone()?, START_FIELD, number)?;
    (&*stat).rewind()?;
    Ok((start, field_of(stat.try_clone()?, SIGNAL_FIELD, number)?))
}

fn field_of<T>(stat: File, at: usize, parse: impl FnOnce(&[u8]) -> Option<T>) -> io::Result<T> {
    let mut lines = Lines::new(stat);
    let line = lines.next()?.ok_or(io::ErrorKind::InvalidData)?.bytes();
    // The name stands in parentheses, and may hold some itself. The state comes next.
    let after = line.iter().rposition(|byte| *byte == b')').ok_or(io::ErrorKind::InvalidData)?;
    let mut fields = words(line.get(after.saturating_add(1)..).unwrap_or_default());
    fields.nth(at - STATE_FIELD).and_then(parse).ok_or(io::ErrorKind::InvalidData.into())
}

/// Reads how much private memory of a process is in RAM, in bytes.
///
/// # Errors
/// The process is gone, or `/proc/PID/statm` cannot be understood.
pub(crate) fn private_bytes(pid: i32) -> io::Result<u64> {
    let mut lines = Lines::new(open(pid, "statm")?);
    let line = lines.next()?.ok_or(io::ErrorKind::InvalidData)?.bytes();
    let mut fields = words(line).skip(1).map(number);
    let mut next = || fields.next().flatten().ok_or(io::ErrorKind::InvalidData);
    let (resident, shared) = (next()?, next()?);
    Ok(resident.saturating_sub(shared).saturating_mul(PAGE))
}

/// Fields of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Status {
    /// Process id of its tracer, or 0.
    pub(crate) tracer: u64,
    /// Process id in its own pid namespace.
    pub(crate) inner: u64,
}

impl Status {
    /// Reads what is there of a process.
    ///
    /// # Errors
    /// The process is gone, or a field is missing.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let mut lines = Lines::new(open(pid, "status")?);
        let (mut tracer, mut inner) = (None, None);
        while let Some(line) = lines.next()? {
            let Line::Whole(line) = line else { continue };
            if let Some(rest) = line.strip_prefix(b"TracerPid:") {
                tracer = words(rest).last().and_then(number);
            } else if let Some(rest) = line.strip_prefix(b"NSpid:") {
                inner = words(rest).last().and_then(number);
            }
        }
        let status = tracer.zip(inner).map(|(tracer, inner)| Self { tracer, inner });
        status.ok_or(io::ErrorKind::InvalidData.into())
    }
}

/// Splits a line at blanks.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Reads a decimal number.
pub(crate) fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Reads a range of addresses such as `7f00-7f10`.
pub(crate) fn range(word: &[u8]) -> Option<Range<u64>> {
    let (start, end) = std::str::from_utf8(word).ok()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

/// Bytes of a page. The plugin works on x86-64 alone.
pub(crate) const PAGE: u64 = 4096;

/// Number of the field of `/proc/PID/stat` with the signal that its parent gets at its end.
const SIGNAL_FIELD: usize = 38;

/// Number of the field of `/proc/PID/stat` with the state.
const STATE_FIELD: usize = 3;

/// The field of `/proc/PID/stat` with the start time, counted from 1.
const START_FIELD: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_files() {
        let own = i32::try_from(std::process::id()).unwrap();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
        assert_eq!(started(own).unwrap().to_string(), start);
        assert_eq!(Status::of(own).unwrap().tracer, 0);
        assert!(Status::of(own).unwrap().inner > 0);
        assert!(private_bytes(own).unwrap() > 4096);
        let gone = started(i32::MAX - 1).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn a_text_without_room_is_refused() {
        let long = "x".repeat(97);
        let error = Text::of(format_args!("{long}")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
        assert_eq!(Text::of(format_args!("{}", &long[1..])).unwrap().as_str(), &long[1..]);
    }
}
