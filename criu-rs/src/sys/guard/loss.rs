//! The work of a guard when the process with the missing pages is gone.

use super::Fate;
use super::child::poll_for;
use super::raw::{self, List};
use super::table::{Space, Table};

/// Kills the tasks, or poisons their missing pages, and says so. Returns when no task can read a
/// missing page as zeros any more.
pub(super) fn act(table: &mut Table, fate: Fate, page: u64, log: i32) {
    let tasks = table.spaces.items().len();
    if tasks == 0 {
        return;
    }
    let mut killed = List::new();
    if fate == Fate::Kill {
        kill_trees(table, &mut killed);
    }
    let (mut poisoned, mut blocked) = (0, List::new());
    let mut at = 0;
    // The list grows by the forks of which the kernel tells.
    while let Some(space) = table.spaces.get(at) {
        at += 1;
        if fate == Fate::Kill && space.process >= 0 {
            continue;
        }
        if poison(table, space, page) {
            poisoned += 1;
        } else if space.process >= 0 {
            raw::kill(space.process);
            killed.push(space.process);
        } else {
            blocked.push(space.uffd);
        }
    }
    say(log, killed.items().len(), poisoned, blocked.items().len());
    // A thread that is killed may still run for a moment, on another processor.
    for process in killed.items() {
        raw::wait(&mut [poll_for(*process)], Some(LONGEST_END));
    }
    while blocked.items().iter().any(|uffd| is_alive(*uffd)) {
        raw::wait(&mut [], Some(1000));
    }
}

/// Kills the processes of all spaces and their descendants.
fn kill_trees(table: &Table, killed: &mut List<i32>) {
    let mut pids = List::new();
    for space in table.spaces.items() {
        if space.process >= 0 {
            killed.push(space.process);
            if space.pid > 1 {
                pids.push(space.pid);
            }
        }
    }
    let known = pids.items().len();
    let mut at = 0;
    while let Some(pid) = pids.get(at) {
        add_children(pid, &mut pids);
        at += 1;
    }
    for process in killed.items() {
        raw::kill(*process);
    }
    for pid in pids.items().iter().skip(known) {
        if let Ok(process @ 0..) = i32::try_from(raw::open_process(*pid)) {
            raw::kill(process);
            killed.push(process);
        }
    }
}

/// Adds the children of all threads of a process.
fn add_children(pid: i32, pids: &mut List<i32>) {
    let mut path = Text::new();
    path.add(b"/proc/").number(pid).add(b"/task\0");
    let Ok(folder @ 0..) = i32::try_from(raw::open(path.bytes(), libc::O_DIRECTORY)) else {
        return;
    };
    let mut entries = [0u8; 4096];
    loop {
        let size = entries.len() as u64;
        let args = [raw::number(folder), entries.as_mut_ptr().addr() as u64, size, 0, 0, 0];
        // SAFETY: the kernel writes into the buffer, which outlives the call.
        let size = unsafe { raw::call(libc::SYS_getdents64, args) };
        let Ok(size @ 1..) = usize::try_from(size) else { break };
        let mut rest = entries.get(..size).unwrap_or_default();
        // An entry: inode (8 bytes), offset (8), its length (2), its kind (1), its name with a NUL.
        while let Some(length) = rest.get(16..18).and_then(<[u8]>::first_chunk::<2>) {
            let length = usize::from(u16::from_ne_bytes(*length));
            let name = rest.get(19..length).unwrap_or_default();
            if let Some(thread) = numbers(name).next() {
                add_children_of(pid, thread, pids);
            }
            match rest.get(length..) {
                Some(after) if length > 0 => rest = after,
                _ => break,
            }
        }
    }
    raw::close(folder);
}

fn add_children_of(pid: i32, thread: i32, pids: &mut List<i32>) {
    let mut path = Text::new();
    path.add(b"/proc/").number(pid).add(b"/task/").number(thread).add(b"/children\0");
    let Ok(file @ 0..) = i32::try_from(raw::open(path.bytes(), 0)) else { return };
    let mut text = [0u8; 4096];
    // The kernel ends each part behind a whole number.
    while let Ok(size @ 1..) = usize::try_from(raw::read(file, &mut text)) {
        for child in numbers(text.get(..size).unwrap_or_default()).filter(|child| *child > 1) {
            if !pids.items().contains(&child) {
                pids.push(child);
            }
        }
    }
    raw::close(file);
}

/// Returns the decimal numbers of a text. Other bytes separate these.
fn numbers(text: &[u8]) -> impl Iterator<Item = i32> + '_ {
    let words = text.split(|byte| !byte.is_ascii_digit()).filter(|word| !word.is_empty());
    words.map(|word| {
        let digit =
            |value: i32, byte: &u8| value.wrapping_mul(10).wrapping_add((byte - b'0').into());
        word.iter().fold(0, digit)
    })
}

/// Poisons the missing pages of a space. Returns false if the kernel cannot.
fn poison(table: &mut Table, space: Space, page: u64) -> bool {
    let mut at = 0;
    let mut tries = 0;
    read_messages(table, space);
    while let Some(piece) = table.pieces.get(at) {
        at += 1;
        if piece.space != space.id {
            continue;
        }
        let mut next = piece.start;
        while next < piece.end {
            let mut wish = [next, piece.end - next, 0, 0];
            match (ioctl(space.uffd, POISON, &mut wish), i64::from_ne_bytes(wish[3].to_ne_bytes()))
            {
                (0, _) => break,
                (_, done @ 1..) => next = next.saturating_add(done.unsigned_abs()),
                (error, _) if error == -i64::from(libc::EAGAIN) && tries < MOST_TRIES => {
                    // A message has to be read first, and its process has to go on.
                    tries += 1;
                    raw::wait(&mut [poll_for(space.uffd)], Some(0));
                    read_messages(table, space);
                    at = 0;
                    break;
                }
                (error, _) if error == -i64::from(libc::ESRCH) => return true,
                (error, _)
                    if error == -i64::from(libc::EINVAL) || error == -i64::from(libc::ENOTTY) =>
                {
                    return false;
                }
                // The page is there, or is not watched any more.
                _ => next = next.saturating_add(page),
            }
        }
        let mut range = [piece.start, piece.end - piece.start, 0, 0];
        let _ = ioctl(space.uffd, WAKE, &mut range);
    }
    true
}

/// Reads the messages of a space, and keeps the table right.
fn read_messages(table: &mut Table, space: Space) {
    let mut message = [0u8; 32];
    while raw::read(space.uffd, &mut message) == 32 {
        let word = |at: usize| {
            let bytes = message.get(at..at + 8).and_then(<[u8]>::first_chunk::<8>);
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        let [a, b, c] = [word(8), word(16), word(24)];
        match message[0] {
            FORK => table.fork(space.id, i32::try_from(a & u64::from(u32::MAX)).unwrap_or(-1)),
            REMAP => table.moved(space.id, a, b, c),
            REMOVE | UNMAP => table.gone(space.id, a, b),
            _ => {}
        }
    }
}

/// Tells if the memory of a userfaultfd still belongs to a process.
fn is_alive(uffd: i32) -> bool {
    // No memory lies at address 0, so nothing is copied.
    let mut wish = [0, 0x1000, 4096, 0, 0];
    ioctl(uffd, COPY, &mut wish) != -i64::from(libc::ESRCH)
}

fn ioctl<const N: usize>(fd: i32, request: u64, wish: &mut [u64; N]) -> raw::Result {
    let args = [raw::number(fd), request, wish.as_mut_ptr().addr() as u64, 0, 0, 0];
    // SAFETY: the kernel reads and writes the words, of which each request here has enough.
    unsafe { raw::call(libc::SYS_ioctl, args) }
}

/// Says what has become of the tasks.
fn say(log: i32, killed: usize, poisoned: usize, blocked: usize) {
    let mut text = Text::new();
    text.add(b"criu-rs guard: the handler of missing pages was killed:");
    let parts = [
        (killed, &b" tasks are ended"[..]),
        (poisoned, b" tasks get SIGBUS where a page is missing"),
        (blocked, b" tasks stay blocked where a page is missing"),
    ];
    let mut is_first = true;
    for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
        if !is_first {
            text.add(b",");
        }
        is_first = false;
        text.add(b" ").number(i32::try_from(count).unwrap_or(i32::MAX)).add(what);
    }
    text.add(b"\n");
    if log >= 0 {
        raw::write(log, text.bytes());
    }
}

/// A short text without the heap.
struct Text {
    bytes: [u8; 256],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }

    fn add(&mut self, part: &[u8]) -> &mut Self {
        for byte in part {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
        self
    }

    fn number(&mut self, number: i32) -> &mut Self {
        let mut digits = [0u8; 10];
        let mut rest = number.unsigned_abs();
        let mut start = digits.len();
        while start > 0 && (rest > 0 || start == digits.len()) {
            start -= 1;
            if let Some(digit) = digits.get_mut(start) {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            }
            rest /= 10;
        }
        self.add(digits.get(start..).unwrap_or_default())
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

// The events of messages that change a space.
const FORK: u8 = 0x13;
const REMAP: u8 = 0x14;
const REMOVE: u8 = 0x15;
const UNMAP: u8 = 0x16;

// The requests, with the sizes of their arguments.
const POISON: u64 = 0xc020_aa08;
const WAKE: u64 = 0x8010_aa02;
const COPY: u64 = 0xc028_aa03;

/// The time in which a killed process ends, in milliseconds.
const LONGEST_END: i64 = 10_000;

/// The messages of a space that are waited for.
const MOST_TRIES: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_need_no_heap() {
        let mut text = Text::new();
        text.add(b"/proc/").number(0).add(b"/").number(i32::MAX);
        assert_eq!(text.bytes(), b"/proc/0/2147483647");
        text.add(&[b'x'; 300]);
        assert_eq!(text.bytes().len(), 256);
        assert!(numbers(b"12 345\n6x").eq([12, 345, 6]) && numbers(b" .\0").next().is_none());
    }

    #[test]
    fn the_children_of_a_process_are_found() {
        let children: Vec<_> = (0..3)
            .map(|_| std::process::Command::new("sleep").arg("100").spawn().unwrap())
            .collect();
        let mut found = List::new();
        add_children(std::process::id().try_into().unwrap(), &mut found);
        for mut child in children {
            assert!(found.items().contains(&child.id().try_into().unwrap()));
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
