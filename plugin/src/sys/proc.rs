//! Facts of `/proc` about a process, read without allocating.

use std::ops::Range;

use super::call::{Access, Fd};
use super::errno::Errno;
use super::lines::{Line, Lines};

/// Numbers of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stat {
    /// Field 3.
    pub(crate) state: u8,
    /// Field 4.
    pub(crate) parent: i32,
    /// Field 22, in clock ticks.
    pub(crate) start: u64,
    /// Field 38: the signal that the parent gets at the end.
    pub(crate) exit_signal: i32,
}

impl Stat {
    /// Reads what is there of a process.
    ///
    /// # Errors
    /// The process is gone, or `EBADMSG`.
    pub(crate) fn of(pid: i32) -> Result<Self, Errno> {
        Self::read(&Fd::open(pid, "stat", Access::Read)?)
    }

    /// Reads an open file.
    ///
    /// # Errors
    /// The process is gone, or `EBADMSG`.
    pub(crate) fn read(file: &Fd) -> Result<Self, Errno> {
        let mut buffer = [0; 4096];
        let mut end = 0;
        loop {
            match file.read(buffer.get_mut(end..).unwrap_or_default())? {
                0 => break,
                read => end += read,
            }
        }
        Self::parse(buffer.get(..end).unwrap_or_default()).ok_or(UNKNOWN)
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

    /// Tells whether the process has ended, and is not reaped.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// Fields of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Status {
    /// `Tgid`: the process of a thread.
    pub(crate) leader: i32,
    /// `TracerPid`, or 0.
    pub(crate) tracer: i32,
    /// `Seccomp`: 0 without, 1 for the strict mode, 2 for filters.
    pub(crate) seccomp: u64,
    /// `NSpid`: one number for each pid namespace, from that of `/proc` on.
    numbers: [i32; NAMESPACES],
    /// Count of the numbers.
    pub(crate) depth: usize,
}

impl Status {
    /// Reads what is there of a process.
    ///
    /// # Errors
    /// The process is gone, or `EBADMSG`.
    pub(crate) fn of(pid: i32) -> Result<Self, Errno> {
        Self::read(Lines::open(pid, "status")?)
    }

    fn read(mut lines: Lines) -> Result<Self, Errno> {
        let number = |word: &[u8]| decimal(word).and_then(|number| i32::try_from(number).ok());
        let (mut leader, mut tracer, mut seccomp) = (None, None, 0);
        let (mut numbers, mut depth) = ([0; NAMESPACES], 0);
        while let Some(line) = lines.next()? {
            let Line::Whole(line) = line else { continue };
            if let Some(rest) = line.strip_prefix(b"Tgid:") {
                leader = words(rest).next().and_then(number);
            } else if let Some(rest) = line.strip_prefix(b"TracerPid:") {
                tracer = words(rest).next().and_then(number);
            } else if let Some(rest) = line.strip_prefix(b"Seccomp:") {
                seccomp = words(rest).next().and_then(decimal).unwrap_or(u64::MAX);
            } else if let Some(rest) = line.strip_prefix(b"NSpid:") {
                for word in words(rest) {
                    *numbers.get_mut(depth).ok_or(UNKNOWN)? = number(word).ok_or(UNKNOWN)?;
                    depth += 1;
                }
            }
        }
        match (leader, tracer, depth) {
            (Some(leader), Some(tracer), 1..) => {
                Ok(Self { leader, tracer, seccomp, numbers, depth })
            }
            _ => Err(UNKNOWN),
        }
    }

    /// Returns the process id in the namespace at this depth.
    pub(crate) fn at_depth(&self, depth: usize) -> Option<i32> {
        self.numbers.get(..self.depth)?.get(depth.checked_sub(1)?).copied()
    }

    /// Returns the process id in the process's own namespace.
    pub(crate) fn inner(&self) -> i32 {
        self.at_depth(self.depth).unwrap_or(0)
    }
}

/// A line of `/proc/PID/maps`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mapping<'l> {
    pub(crate) range: Range<u64>,
    /// Such as `r-xp`, or `rw-s` for shared memory.
    pub(crate) permissions: [u8; 4],
    /// Place in the file.
    pub(crate) offset: u64,
    /// Device number, the major one in the upper half.
    pub(crate) device: u64,
    /// Inode number, or 0 if there is no file.
    pub(crate) inode: u64,
    /// First word of the path or of the name. A line that is cut may have less.
    pub(crate) name: &'l [u8],
}

impl<'l> Mapping<'l> {
    /// Parses a line: `start-end permissions offset major:minor inode name`.
    pub(crate) fn parse(line: Line<'l>) -> Option<Self> {
        let mut words = words(line.bytes());
        let (start, end) = pair(words.next()?, b'-')?;
        let permissions = words.next()?.try_into().ok()?;
        let offset = hexadecimal(words.next()?)?;
        let (major, minor) = pair(words.next()?, b':')?;
        let inode = decimal(words.next()?)?;
        let name = words.next().unwrap_or_default();
        let device = major << 32 | minor;
        Some(Self { range: start..end, permissions, offset, device, inode, name })
    }
}

/// Reads how much private memory of a process is in RAM, in bytes.
///
/// # Errors
/// The process is gone, or `EBADMSG`.
pub(crate) fn private_bytes(pid: i32) -> Result<u64, Errno> {
    let mut lines = Lines::open(pid, "statm")?;
    let line = lines.next()?.ok_or(UNKNOWN)?.bytes();
    let mut fields = words(line).skip(1).map(decimal);
    let mut next = || fields.next().flatten().ok_or(UNKNOWN);
    let (resident, shared) = (next()?, next()?);
    Ok(resident.saturating_sub(shared).saturating_mul(PAGE))
}

/// Reads how much memory of a process is locked, in KiB.
///
/// # Errors
/// The process is gone, or `EBADMSG`.
pub(crate) fn locked(pid: i32) -> Result<u64, Errno> {
    let mut lines = Lines::open(pid, "status")?;
    while let Some(line) = lines.next()? {
        if let Some(rest) = line.bytes().strip_prefix(b"VmLck:") {
            return words(rest).next().and_then(decimal).ok_or(UNKNOWN);
        }
    }
    Err(UNKNOWN)
}

/// Calls a function with each number of a list, such as that of the children of a thread.
///
/// # Errors
/// The errors of `read(2)`, `EBADMSG` for a number that is too large, and those of the function.
pub(crate) fn each<E: From<Errno>>(
    list: &Fd,
    mut found: impl FnMut(u64) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = [0; 4096];
    let mut number: Option<u64> = None;
    loop {
        let count = list.read(&mut buffer)?;
        for byte in buffer.get(..count).unwrap_or_default() {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let more = number.unwrap_or(0).checked_mul(10);
                    let more = more.and_then(|more| more.checked_add(digit));
                    number = Some(more.ok_or(UNKNOWN)?);
                }
                _ => number.take().map_or(Ok(()), &mut found)?,
            }
        }
        if count == 0 {
            return number.map_or(Ok(()), found);
        }
    }
}

/// Splits a line at blanks.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Reads a decimal number.
pub(crate) fn decimal(word: &[u8]) -> Option<u64> {
    number(word, 10)
}

/// Reads a hexadecimal number, with or without `0x`.
pub(crate) fn hexadecimal(word: &[u8]) -> Option<u64> {
    number(word.strip_prefix(b"0x").unwrap_or(word), 16)
}

fn number(word: &[u8], base: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(word).ok()?, base).ok()
}

/// Reads two hexadecimal numbers such as `7f00-7f10`.
fn pair(word: &[u8], between: u8) -> Option<(u64, u64)> {
    let mut parts = word.split(|byte| *byte == between).map(hexadecimal);
    Some((parts.next()??, parts.next()??))
}

/// A text that cannot be understood.
const UNKNOWN: Errno = Errno(libc::EBADMSG);

/// Most pid namespaces of a process: the kernel nests 32 in the first.
const NAMESPACES: usize = 33;

/// Bytes of a page. The plugin works on x86-64 alone.
pub(crate) const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, Write};
    use std::os::fd::OwnedFd;

    use super::*;

    fn file(text: &str) -> Fd {
        let mut file: File = crate::sys::file::memory(c"text").unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        OwnedFd::from(file).into()
    }

    fn own() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

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
        let pid = own();
        assert_eq!(Stat::of(pid).unwrap().exit_signal, libc::SIGCHLD);
        let status = Status::of(pid).unwrap();
        assert!(status.depth >= 1 && status.leader == pid, "{status:?}");
        assert_eq!(status.at_depth(1), Some(pid));
        assert_eq!((status.at_depth(0), status.at_depth(status.depth + 1)), (None, None));
    }

    #[test]
    fn a_process_is_told_by_its_files() {
        let own = own();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
        assert_eq!(Stat::of(own).unwrap().start.to_string(), start);
        assert_eq!(Status::of(own).unwrap().tracer, 0);
        assert!(Status::of(own).unwrap().inner() > 0);
        assert!(private_bytes(own).unwrap() > 4096);
        assert_eq!(Stat::of(i32::MAX - 1), Err(Errno(libc::ENOENT)));
    }

    #[test]
    fn a_status_in_namespaces_has_several_numbers() {
        let read = |text: &str| Status::read(Lines::of(file(text)));
        let text = "Name:\tNSpid:\nTgid:\t70\nTracerPid:\t9\nNSpid:\t71\t12\t3\nSeccomp:\t2\n";
        let status = read(text).unwrap();
        assert_eq!((status.leader, status.tracer, status.seccomp), (70, 9, 2));
        assert_eq!((status.depth, status.at_depth(2), status.inner()), (3, Some(12), 3));
        for line in ["Tgid", "TracerPid", "NSpid"] {
            assert_eq!(read(&text.replace(&format!("{line}:\t"), "")), Err(UNKNOWN), "{line}");
        }
        let many = |count| format!("{text}NSpid:\t{}\n", "5 ".repeat(count));
        assert_eq!(read(&many(NAMESPACES - 3)).unwrap().depth, NAMESPACES);
        assert_eq!(read(&many(NAMESPACES - 2)), Err(UNKNOWN));
    }

    #[test]
    fn a_line_of_maps_is_parsed() {
        let line = b"7f00-7f10 r-xp 00001000 fe:01 12 /usr/lib/a b";
        let mapping = Mapping::parse(Line::Whole(line)).unwrap();
        assert_eq!(mapping.range, 0x7f00..0x7f10);
        assert_eq!((mapping.offset, mapping.device, mapping.inode), (0x1000, 0xfe << 32 | 1, 12));
        assert_eq!((mapping.permissions, mapping.name), (*b"r-xp", &b"/usr/lib/a"[..]));
        assert!(Mapping::parse(Line::Whole(b"7f00")).is_none());
    }

    #[test]
    fn numbers_go_over_the_pieces_of_a_list() {
        let numbers: Vec<u64> = (0..3000).map(|n| n * 37).collect();
        let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let mut found = Vec::new();
        let note = |pid| {
            found.push(pid);
            Ok::<_, Errno>(())
        };
        each(&file(&words.join(" ")), note).unwrap();
        assert_eq!(found, numbers);
        let error = each(&file("99999999999999999999"), |_| Ok::<_, Errno>(()));
        assert_eq!(error, Err(Errno(libc::EBADMSG)));
    }
}
