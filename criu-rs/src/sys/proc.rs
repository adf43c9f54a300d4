//! Texts of `/proc` about processes, read without the heap.
//!
//! The texts come from the kernel, and a process chooses its own name in them. A text of another
//! form says nothing.

use super::raw;
use super::text::{Text, numbers, words};

/// A row of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The letter of the state.
    pub(crate) state: u8,
    /// The parent.
    pub(crate) parent: i32,
    /// The kernel's flags, such as [`FORKNOEXEC`].
    pub(crate) flags: u64,
    /// The time of the start, in the kernel's ticks since boot.
    pub(crate) start: u64,
    /// The signal that the end of the process sends to its parent; 0 sends none.
    pub(crate) exit_signal: u64,
}

impl Stat {
    /// Reads the row of a process. `None` if there is no such process.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let mut buffer = [0; 1024];
        Self::parse(read(&place(pid, b"/stat"), &mut buffer)?)
    }

    /// Reads a row: a number, a name in parentheses, and fields between spaces. The name may hold
    /// any byte.
    pub(crate) fn parse(row: &[u8]) -> Option<Self> {
        let name = row.iter().rposition(|byte| *byte == b')')?;
        let mut fields = words(row.get(name + 1..)?);
        // Counted from the third field of the row.
        let state = *fields.next()?.first()?;
        let parent = decimal(fields.next()?).and_then(|number| i32::try_from(number).ok())?;
        let flags = decimal(fields.nth(4)?)?;
        let start = decimal(fields.nth(12)?)?;
        let exit_signal = decimal(fields.nth(15)?)?;
        Some(Self { state, parent, flags, start, exit_signal })
    }

    /// Returns true if the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// The system call that a thread waits in: its number and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) number: libc::c_long,
    pub(crate) arguments: [u64; 6],
}

/// The state of a thread, as `/proc/PID/syscall` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// The thread runs.
    Running,
    /// The thread waits in a system call.
    Waits(Call),
    /// The thread waits outside of a system call.
    Stands,
}

impl Doing {
    /// Looks at a thread of a process. `None` if there is none, or this process may not trace it.
    #[cfg(any(test, feature = "instant"))]
    pub(crate) fn of(pid: i32, thread: i32) -> Option<Self> {
        let mut path = place(pid, b"/task/");
        path.number(thread).add(b"/syscall\0");
        let mut buffer = [0; 256];
        Self::parse(read(&path, &mut buffer)?)
    }

    /// Looks at the first thread of a process.
    pub(crate) fn of_first(pid: i32) -> Option<Self> {
        let mut buffer = [0; 256];
        Self::parse(read(&place(pid, b"/syscall"), &mut buffer)?)
    }

    /// Reads the text: `running`, or the decimal number of a system call, its six arguments, the
    /// stack pointer and the program counter in hexadecimal. Outside of a system call the number is
    /// -1, and there are no arguments.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = words(text);
        let first = fields.next()?;
        match first {
            b"running" => return Some(Self::Running),
            b"-1" => return Some(Self::Stands),
            _ => {}
        }
        let number = libc::c_long::try_from(decimal(first)?).ok()?;
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = hexadecimal(fields.next()?.strip_prefix(b"0x")?)?;
        }
        Some(Self::Waits(Call { number, arguments }))
    }
}

/// Calls a function with each child of a process, of all its threads.
pub(crate) fn each_child(pid: i32, mut found: impl FnMut(i32)) {
    each_thread(pid, |thread| {
        let mut path = place(pid, b"/task/");
        path.number(thread).add(b"/children\0");
        let Ok(file @ 0..) = i32::try_from(raw::open(path.bytes(), 0)) else { return };
        let mut text = [0u8; 4096];
        // The kernel ends each part behind a whole number.
        while let Ok(size @ 1..) = usize::try_from(raw::read(file, &mut text)) {
            numbers(text.get(..size).unwrap_or_default())
                .filter(|child| *child > 1)
                .for_each(&mut found);
        }
        raw::close(file);
    });
}

/// Calls a function with each thread of a process.
pub(crate) fn each_thread(pid: i32, mut found: impl FnMut(i32)) {
    let path = place(pid, b"/task");
    let Ok(folder @ 0..) = i32::try_from(raw::open(path.bytes(), libc::O_DIRECTORY)) else {
        return;
    };
    let mut entries = [0u8; 4096];
    while let Ok(size @ 1..) = usize::try_from(raw::entries(folder, &mut entries)) {
        let mut rest = entries.get(..size).unwrap_or_default();
        // An entry: inode (8 bytes), offset (8), its length (2), its kind (1), its name with a NUL.
        while let Some(length) = rest.get(16..18).and_then(<[u8]>::first_chunk::<2>) {
            let length = usize::from(u16::from_ne_bytes(*length));
            numbers(rest.get(19..length).unwrap_or_default()).take(1).for_each(&mut found);
            match rest.get(length..) {
                Some(after) if length > 0 => rest = after,
                _ => break,
            }
        }
    }
    raw::close(folder);
}

/// Finds a line of `/proc/PID/status` by its name, such as `NSpid:`, and returns the rest of it.
/// Of a long line the end is missing.
pub(crate) fn status<'b>(pid: i32, name: &[u8], line: &'b mut [u8; LINE]) -> Option<&'b [u8]> {
    let path = place(pid, b"/status");
    let file = i32::try_from(raw::open(path.bytes(), 0)).ok().filter(|file| *file >= 0)?;
    let mut seeker = Seeker { name, line, length: 0, is_found: false };
    let mut part = [0u8; 1024];
    while let Ok(size @ 1..) = usize::try_from(raw::read(file, &mut part)) {
        if seeker.take(part.get(..size).unwrap_or_default()) {
            break;
        }
    }
    raw::close(file);
    seeker.end()
}

/// The search for a line in a text that comes in parts.
struct Seeker<'n, 'b> {
    name: &'n [u8],
    line: &'b mut [u8; LINE],
    length: usize,
    is_found: bool,
}

impl<'b> Seeker<'_, 'b> {
    /// Takes a part. Returns true if the line is complete.
    fn take(&mut self, part: &[u8]) -> bool {
        for byte in part {
            if *byte != b'\n' {
                if let Some(place) = self.line.get_mut(self.length) {
                    *place = *byte;
                    self.length += 1;
                }
            } else if self.is_it() {
                self.is_found = true;
                return true;
            } else {
                self.length = 0;
            }
        }
        false
    }

    fn is_it(&self) -> bool {
        self.line.get(..self.length).is_some_and(|line| line.starts_with(self.name))
    }

    fn end(self) -> Option<&'b [u8]> {
        let Self { name, line, length, is_found } = self;
        let line: &'b [u8] = line;
        is_found.then(|| line.get(name.len()..length)).flatten()
    }
}

/// The number of a process in the pid namespace of another: the number that the other one uses. The
/// process is in that namespace, or below it.
#[cfg(any(test, feature = "instant"))]
pub(crate) fn number_for(pid: i32, other: i32) -> Option<i32> {
    let (mut line, mut of_other) = ([0; LINE], [0; LINE]);
    let depth = numbers(status(other, b"NSpid:", &mut of_other)?).count();
    let number = numbers(status(pid, b"NSpid:", &mut line)?).nth(depth.checked_sub(1)?)?;
    (number > 0).then_some(number)
}

/// The number of a process in its own pid namespace.
pub(crate) fn innermost(pid: i32) -> Option<i32> {
    numbers(status(pid, b"NSpid:", &mut [0; LINE])?).last()
}

/// Returns the signals that the first thread of a process holds back, as bits.
pub(crate) fn held_back(pid: i32) -> Option<u64> {
    hexadecimal(words(status(pid, b"SigBlk:", &mut [0; LINE])?).next()?)
}

/// Returns the process of a thread.
#[cfg(feature = "instant")]
pub(crate) fn process_of(thread: i32) -> Option<i32> {
    numbers(status(thread, b"Tgid:", &mut [0; LINE])?).next()
}

/// Returns the thread that traces a thread, if there is one.
#[cfg(any(test, feature = "instant"))]
pub(crate) fn tracer(pid: i32) -> Option<i32> {
    numbers(status(pid, b"TracerPid:", &mut [0; LINE])?).next().filter(|tracer| *tracer > 0)
}

/// The path of a file below `/proc/PID`, with a NUL behind it, or the start of such a path.
fn place(pid: i32, rest: &[u8]) -> Text {
    let mut path = Text::new();
    path.add(b"/proc/").number(pid).add(rest);
    if !rest.ends_with(b"/") {
        path.add(b"\0");
    }
    path
}

/// Reads the start of a file, as much as one call returns.
fn read<'b>(path: &Text, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let file = i32::try_from(raw::open(path.bytes(), 0)).ok().filter(|file| *file >= 0)?;
    let size = usize::try_from(raw::read(file, buffer)).ok();
    raw::close(file);
    buffer.get(..size?)
}

fn decimal(word: &[u8]) -> Option<u64> {
    number(word, 10)
}

fn hexadecimal(word: &[u8]) -> Option<u64> {
    number(word, 16)
}

fn number(word: &[u8], base: u32) -> Option<u64> {
    let add = |sum: u64, byte: &u8| {
        let digit = char::from(*byte).to_digit(base)?;
        sum.checked_mul(base.into())?.checked_add(digit.into())
    };
    (!word.is_empty()).then(|| word.iter().try_fold(0, add)).flatten()
}

/// `PF_FORKNOEXEC`: the process has forked and has executed no program since.
pub(crate) const FORKNOEXEC: u64 = 0x40;

/// The bytes of a line that are kept. A process has a number in at most 33 pid namespaces.
pub(crate) const LINE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] =
        b"12 (a) Z 1 (b)) S 7 12 12 0 -1 4194368 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10 \
        11 12 13 14 15 16 17 18 19 20 21 22 23 17 1 0 0\n";

    #[test]
    fn a_name_does_not_pass_for_fields() {
        let stat = Stat::parse(ROW).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start, stat.exit_signal), (b'S', 7, 4711, 17));
        assert!(stat.flags & FORKNOEXEC != 0 && !stat.has_ended());
        for length in 0..ROW.len() - 8 {
            assert!(Stat::parse(&ROW[..length]).is_none_or(|part| part.parent == 7), "{length}");
        }
        assert_eq!(Stat::parse(b"1 (x) S -1 99999999999999999999999"), None);
    }

    #[test]
    fn this_process_is_read_as_procfs_reads_it() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let (own, theirs) = (Stat::of(pid).unwrap(), procfs::process::Process::myself().unwrap());
        let stat = theirs.stat().unwrap();
        assert_eq!((own.parent, own.start), (stat.ppid, stat.starttime));
        assert_eq!(
            Some(own.exit_signal),
            stat.exit_signal.map(|signal| signal.unsigned_abs().into())
        );
        assert_eq!(number_for(pid, pid), Some(theirs.status().unwrap().nspid.unwrap()[0]));
        let mut threads = Vec::new();
        each_thread(pid, |thread| threads.push(thread));
        assert!(threads.contains(&pid) && threads.contains(&nix::unistd::gettid().as_raw()));
        assert_eq!(Doing::of_first(pid).map(|doing| matches!(doing, Doing::Stands)), Some(false));
        assert_eq!((Stat::of(i32::MAX), Doing::of(pid, i32::MAX)), (None, None));
        assert_eq!(held_back(i32::MAX).or(tracer(pid).map(|_| 0)), None);
    }

    #[test]
    fn a_call_is_read_with_its_arguments() {
        let text = b"271 0x0 0x1 0x2 0x3 0x6372696800000007 0xffffffffffffffff 0x7ffd 0x7f\n";
        let call = Call { number: 271, arguments: [0, 1, 2, 3, 0x6372_6968_0000_0007, u64::MAX] };
        assert_eq!(Doing::parse(text), Some(Doing::Waits(call)));
        assert_eq!(Doing::parse(b"running\n"), Some(Doing::Running));
        assert_eq!(Doing::parse(b"-1 0x7ffd 0x7f\n"), Some(Doing::Stands));
        for text in ["", "\n", "271", "271 0x0", "x 0x0 0x0 0x0 0x0 0x0 0x0", "1 0x 1 2 3 4 5 6"] {
            assert_eq!(Doing::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_line_is_found_in_any_parts() {
        let text = b"Name:\tx\nGroups:\t1 2 3\nNSpid:\t12\t1\nSigBlk:\t00ff\n";
        for size in 1..text.len() {
            let mut line = [0; LINE];
            let mut seeker =
                Seeker { name: b"NSpid:", line: &mut line, length: 0, is_found: false };
            assert!(text.chunks(size).any(|part| seeker.take(part)));
            assert_eq!(seeker.end(), Some(&b"\t12\t1"[..]));
        }
        let mut line = [0; LINE];
        let mut seeker = Seeker { name: b"NSpid:", line: &mut line, length: 0, is_found: false };
        assert!(!seeker.take(&[b'N'; 2000]) && !seeker.take(b"\nNSpid:\t1"));
        assert_eq!(seeker.end(), None);
    }
}
