//! The work of a guard when the process with the missing pages is gone.

use super::missing::Fate;
use super::table::{Piece, Space, Table};
use super::tree;
use crate::sys::list::List;
use crate::sys::raw::{self, poll_for};
use crate::sys::text::Text;

/// Kills the tasks, or poisons their missing pages, and says so. Returns when no task can read a
/// missing page as zeros any more.
pub(super) fn act(table: &mut Table, fate: Fate, page: u64, log: i32) {
    if table.spaces.items().is_empty() {
        return;
    }
    let mut killed = List::new();
    if fate == Fate::Kill {
        tree::kill(table.spaces.items(), &mut killed);
    }
    let mut poisoned = 0;
    let mut has_said = false;
    loop {
        let mut blocked = 0;
        let mut at = 0;
        // The list grows by the forks of which the kernel tells.
        while let Some(space) = table.spaces.get(at) {
            if fate == Fate::Kill && space.process >= 0 {
                at += 1;
                continue;
            }
            match poison(table, space, page) {
                Poisoned::All => poisoned += 1,
                Poisoned::Gone => {}
                Poisoned::Not if space.process >= 0 => {
                    raw::signal(space.process, libc::SIGKILL);
                    killed.push(space.process);
                    // The next look sees that the process is gone.
                    table.spaces.set(at, Space { process: -1, ..space });
                    at += 1;
                    continue;
                }
                Poisoned::Not => {
                    blocked += 1;
                    at += 1;
                    continue;
                }
            }
            // The last space takes the place of this one.
            table.end(space.id);
        }
        if !has_said {
            say(log, killed.items().len(), poisoned, blocked);
            has_said = true;
        }
        if blocked == 0 {
            break;
        }
        // The tasks stay blocked, because this process keeps the userfaultfds.
        raw::wait(&mut [], Some(NEXT_LOOK));
    }
    // A thread that is killed may still run for a moment, on another processor.
    for process in killed.items() {
        raw::wait(&mut [poll_for(*process)], Some(LONGEST_END));
    }
}

/// The result of a try to poison the missing pages of a space.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Poisoned {
    /// No page is missing any more.
    All,
    /// The memory belongs to no process any more.
    Gone,
    /// The kernel cannot poison, or cannot at this moment.
    Not,
}

/// Poisons the missing pages of a space.
fn poison(table: &mut Table, space: Space, page: u64) -> Poisoned {
    let mut at = 0;
    let mut waits = 0;
    if !is_alive(space.uffd) {
        return Poisoned::Gone;
    }
    read_messages(table, space);
    while let Some(piece) = table.pieces.get(at) {
        at += 1;
        if piece.space != space.id {
            continue;
        }
        let mut next = piece.start;
        let mut size = piece.end - piece.start;
        while next < piece.end {
            size = size.min(piece.end - next);
            let mut wish = [next, size, 0, 0];
            let error = ioctl(space.uffd, POISON, &mut wish);
            let done = i64::from_ne_bytes(wish[3].to_ne_bytes());
            match -error {
                0 => {
                    next = next.saturating_add(size);
                    size = size.saturating_mul(2);
                }
                _ if done > 0 => next = next.saturating_add(done.unsigned_abs()),
                EAGAIN | ENOMEM if waits < MOST_WAITS => {
                    // A message has to be read first, and its process has to go on.
                    waits += 1;
                    raw::wait(&mut [], Some(1));
                    table.pieces.set(at - 1, Piece { start: next, ..piece });
                    read_messages(table, space);
                    at = 0;
                    break;
                }
                ESRCH => return Poisoned::Gone,
                // The range lies in more than one mapping: the task has split its memory, with
                // mprotect or madvise, of which the kernel sends no message. Or it has a hole.
                ENOENT if size > page => size = (size / 2 / page).max(1) * page,
                // The page is there, or is not watched any more.
                EEXIST | ENOENT => next = next.saturating_add(page),
                _ => return Poisoned::Not,
            }
        }
        let mut range = [piece.start, piece.end - piece.start, 0, 0];
        let _ = ioctl(space.uffd, WAKE, &mut range);
    }
    Poisoned::All
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
    // The kernel refuses addresses below the smallest that can be mapped before it looks for the
    // process. No bytes are at the source, so nothing is copied.
    let mut wish = [PROBE, NO_MEMORY, 4096, 0, 0];
    ioctl(uffd, COPY, &mut wish) != -ESRCH
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
        (killed, &b" tasks ended: "[..]),
        (poisoned, b" tasks with SIGBUS where a page is missing: "),
        (blocked, b" tasks blocked where a page is missing: "),
    ];
    let mut is_first = true;
    for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
        if !is_first {
            text.add(b",");
        }
        is_first = false;
        text.add(what).number(i32::try_from(count).unwrap_or(i32::MAX));
    }
    text.add(b"\n");
    if log >= 0 {
        raw::write(log, text.bytes());
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

// The errors of the requests.
const EAGAIN: i64 = libc::EAGAIN as i64;
const EEXIST: i64 = libc::EEXIST as i64;
const ENOENT: i64 = libc::ENOENT as i64;
const ENOMEM: i64 = libc::ENOMEM as i64;
const ESRCH: i64 = libc::ESRCH as i64;

/// An address that every kernel lets a process map.
const PROBE: u64 = 1 << 20;

/// An address that every kernel lets a process map, and at which this process has no memory.
const NO_MEMORY: u64 = 64 << 10;

/// The time between two looks at tasks that stay blocked, in milliseconds.
const NEXT_LOOK: i64 = 200;

/// The time in which a killed process ends, in milliseconds.
const LONGEST_END: i64 = 10_000;

/// The milliseconds for which one look waits for a process to go on after its message.
const MOST_WAITS: u32 = 2000;

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use criu_lab::lazy::{PAGE, Region, fork, userfaultfd};
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;

    fn poison_all(region: Region, uffd: &impl AsRawFd) -> Poisoned {
        let mut table = Table::new();
        let space = Space { id: 1, uffd: uffd.as_raw_fd(), process: -1, pid: 0 };
        table.spaces.push(space);
        let (start, end) = (region.start as u64, (region.start + region.pages * PAGE) as u64);
        table.pieces.push(Piece { space: 1, start, end });
        let poisoned = poison(&mut table, space, PAGE as u64);
        close_forks(&table);
        poisoned
    }

    /// Closes the descriptors of forks that other tests of this process have made. Those forks
    /// would wait for a reader.
    fn close_forks(table: &Table) {
        for space in table.spaces.items().iter().skip(1) {
            raw::close(space.uffd);
        }
    }

    #[test]
    fn missing_memory_that_its_task_has_split_is_poisoned_whole() {
        let (region, uffd) = (Region::new(64), userfaultfd());
        region.part(0, 40).register(&uffd);
        region.part(44, 20).register(&uffd);
        // The kernel tells nobody of this.
        region.part(20, 2).protect();
        assert_eq!(poison_all(region, &uffd), Poisoned::All);
        drop(uffd);
        let reads = |page: usize| {
            let child = fork(|| i32::from(region.word(page, 0) != 0));
            waitpid(Pid::from_raw(child), None).unwrap()
        };
        for page in (0..40).chain(44..64) {
            let end = reads(page);
            assert!(matches!(end, WaitStatus::Signaled(_, Signal::SIGBUS, _)), "{page}: {end:?}");
        }
        assert!(matches!(reads(41), WaitStatus::Exited(_, 0)));
    }

    #[test]
    fn a_process_that_has_ended_is_not_alive() {
        let (region, uffd) = (Region::new(4), userfaultfd());
        region.register(&uffd);
        let mut table = Table::new();
        let space = Space { id: 1, uffd: uffd.as_raw_fd(), process: -1, pid: 0 };
        table.spaces.push(space);
        let endless = || loop {
            std::hint::spin_loop();
        };
        let forking = std::thread::spawn(move || fork(endless));
        assert!(criu_lab::soon(|| {
            read_messages(&mut table, space);
            forking.is_finished()
        }));
        let child = Pid::from_raw(forking.join().unwrap());
        let of_child = table.spaces.get(1).unwrap().uffd;
        assert!(is_alive(of_child));
        kill(child, Signal::SIGKILL).unwrap();
        waitpid(child, None).unwrap();
        // Other forks of this process have such descriptors, too, but not the memory.
        assert!(!is_alive(of_child));
        assert!(is_alive(uffd.as_raw_fd()));
        close_forks(&table);
    }
}
