//! Texts of `/proc`, read piece by piece into a fixed buffer.

use crate::sys::call::{Access, Fd};
use crate::sys::errno::Errno;

/// The lines of a file of a process. A line that is longer than the buffer is cut.
#[derive(Debug)]
pub(super) struct Lines {
    file: Fd,
    buffer: [u8; ROOM],
    start: usize,
    end: usize,
    /// The rest of a line that was cut follows.
    is_cut: bool,
}

impl Lines {
    pub(super) fn open(pid: i32, name: &str) -> Result<Self, Errno> {
        let file = Fd::open(pid, name, Access::Read)?;
        Ok(Self { file, buffer: [0; ROOM], start: 0, end: 0, is_cut: false })
    }

    /// Returns the next line, without its end. `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Errno> {
        loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let (length, step, cut) = match unread.iter().position(|byte| *byte == b'\n') {
                Some(length) => (length, length + 1, false),
                None if unread.len() == ROOM => (ROOM, ROOM, true),
                None if self.fill()? => continue,
                None if self.start == self.end => return Ok(None),
                // The last line, without an end.
                None => (self.end - self.start, self.end - self.start, false),
            };
            let start = self.start;
            self.start += step;
            if std::mem::replace(&mut self.is_cut, cut) {
                continue;
            }
            return Ok(self.buffer.get(start..start + length));
        }
    }

    /// Reads more of the file behind what is not read yet. Returns `false` at the file's end.
    fn fill(&mut self) -> Result<bool, Errno> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = self.file.read(self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end += read;
        Ok(read > 0)
    }
}

const ROOM: usize = 4096;

/// Numbers of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stat {
    /// Field 3.
    pub(super) state: u8,
    /// Field 4.
    pub(super) parent: i32,
    /// Field 22, in clock ticks.
    pub(super) start: u64,
    /// Field 38.
    pub(super) exit_signal: i32,
}

impl Stat {
    pub(super) fn of(pid: i32) -> Result<Self, Errno> {
        let file = Fd::open(pid, "stat", Access::Read)?;
        let mut buffer = [0; ROOM];
        let mut end = 0;
        loop {
            match file.read(buffer.get_mut(end..).unwrap_or_default())? {
                0 => break,
                read => end += read,
            }
        }
        Self::parse(buffer.get(..end).unwrap_or_default()).ok_or(Errno(libc::EBADMSG))
    }

    /// Parses the text. The name of the process, field 2, may have brackets and spaces.
    fn parse(text: &[u8]) -> Option<Self> {
        let name = text.iter().rposition(|byte| *byte == b')')?;
        let mut fields = words(text.get(name + 1..)?);
        let state = *fields.next()?.first()?;
        let parent = i32::try_from(decimal(fields.next()?)?).ok()?;
        let start = decimal(fields.nth(22 - 5)?)?;
        // It is -1 for a thread that is not the leader.
        let exit_signal = decimal(fields.nth(38 - 23)?);
        let exit_signal = exit_signal.and_then(|signal| i32::try_from(signal).ok()).unwrap_or(-1);
        Some(Self { state, parent, start, exit_signal })
    }
}

/// Fields of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Status {
    /// `Tgid`: the process of a thread.
    pub(super) leader: i32,
    /// `Seccomp`: 0 without, 1 for the strict mode, 2 for filters.
    pub(super) seccomp: u64,
    /// Numbers of `NSpid`: one for each pid namespace, from that of `/proc` on.
    pub(super) depth: usize,
}

impl Status {
    pub(super) fn of(pid: i32) -> Result<Self, Errno> {
        let mut lines = Lines::open(pid, "status")?;
        let mut status = Self::default();
        while let Some(line) = lines.next()? {
            if let Some(rest) = line.strip_prefix(b"NSpid:") {
                status.depth = words(rest).count();
            } else if let Some(rest) = line.strip_prefix(b"Tgid:") {
                let leader = words(rest).next().and_then(decimal);
                status.leader = leader.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
            } else if let Some(rest) = line.strip_prefix(b"Seccomp:") {
                status.seccomp = words(rest).next().and_then(decimal).unwrap_or(u64::MAX);
            }
        }
        Ok(status)
    }

    /// Finds the process id in the namespace at this depth.
    pub(super) fn at_depth(pid: i32, depth: usize) -> Result<i32, Errno> {
        let mut lines = Lines::open(pid, "status")?;
        while let Some(line) = lines.next()? {
            if let Some(rest) = line.strip_prefix(b"NSpid:") {
                let number = words(rest).nth(depth.saturating_sub(1)).and_then(decimal);
                let number = number.and_then(|pid| i32::try_from(pid).ok());
                return number.ok_or(Errno(libc::ECHILD));
            }
        }
        Err(Errno(libc::ECHILD))
    }
}

/// The words between white space.
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The value of a decimal number.
pub(super) fn decimal(word: &[u8]) -> Option<u64> {
    number(word, 10)
}

/// The value of a hexadecimal number, with or without `0x`.
pub(super) fn hexadecimal(word: &[u8]) -> Option<u64> {
    number(word.strip_prefix(b"0x").unwrap_or(word), 16)
}

fn number(word: &[u8], base: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(word).ok()?, base).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_hide_the_fields_of_stat() {
        let text =
            b"7 (a) Z (b) S 3 7 7 0 -1 1 0 0 0 0 0 0 0 0 20 0 1 0 99 5 6 18446744073709551615 \
            1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let stat = Stat { state: b'S', parent: 3, start: 99, exit_signal: 17 };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse(b"7 (a) S 3"), None);
    }

    #[test]
    fn own_files_are_read() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Stat::of(pid).unwrap().exit_signal, libc::SIGCHLD);
        let status = Status::of(pid).unwrap();
        assert!(status.depth >= 1 && status.leader == pid, "{status:?}");
        assert_eq!(Status::at_depth(pid, 1), Ok(pid));
        let mut lines = Lines::open(pid, "maps").unwrap();
        let mut count = 0;
        while let Some(line) = lines.next().unwrap() {
            assert!(line.windows(5).any(|word| word == b"-p 00" || word[0] != 0));
            count += 1;
        }
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(count + 3 >= text.lines().count() && count <= text.lines().count() + 3);
    }
}
