//! Instructions in the memory of a task that bring it back without help: `syscall; ret`, and
//! `pop rax; ret`.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sys::call::Fd;
use crate::sys::errno::Errno;
use crate::sys::lines::Lines;
use crate::sys::proc::Mapping;

/// Addresses of instructions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Gadgets {
    /// `syscall; ret`. Registers other than rax may be set to zero between the two.
    pub(super) syscall: u64,
    /// `pop rax; ret`.
    pub(super) pop: u64,
}

/// Findings about the mappings of a task.
#[derive(Debug)]
pub(super) struct Survey {
    /// The last executable mappings, in a ring: a program's own code comes first, and is large.
    code: [Code; CODE],
    seen: usize,
    /// Lowest address of the stack that the thread runs on, if nobody else uses what is below the
    /// stack pointer.
    pub(super) stack: Option<u64>,
}

/// An executable mapping of a file, or the vDSO with the inode number 0.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    start: u64,
    end: u64,
    /// Place in the file, device, and inode number.
    file: [u64; 3],
}

/// Looks at the mappings of a task, one of whose threads has this stack pointer.
///
/// Nobody uses what is below the stack pointer on the first thread's stack, and on a stack with a
/// guard below it. Other stacks may be small, and have something else below them.
pub(super) fn survey(pid: i32, stack_pointer: u64) -> Result<Survey, Errno> {
    let mut lines = Lines::open(pid, "maps")?;
    let mut survey = Survey { code: [Code::default(); CODE], seen: 0, stack: None };
    // End of the last mapping, if that is a guard.
    let mut guard = 0;
    while let Some(line) = lines.next()? {
        let Some(mapping) = Mapping::parse(line) else { continue };
        let Mapping { range: Range { start, end }, permissions, name, .. } = mapping;
        let is_file = mapping.inode != 0;
        if permissions == *b"r-xp" && (is_file || name == b"[vdso]") {
            if let Some(place) = survey.code.get_mut(survey.seen % CODE) {
                let file = [mapping.offset, mapping.device, mapping.inode];
                *place = Code { start, end, file };
            }
            survey.seen += 1;
        }
        // The address just below: a pointer at the end of a mapping belongs to that mapping.
        let below = stack_pointer.wrapping_sub(1);
        let has = start <= below && below < end;
        if has && permissions.starts_with(b"rw") && permissions[3] == b'p' && !is_file {
            let is_stack = name == b"[stack]" || guard == start;
            survey.stack = is_stack.then_some(start);
        }
        let is_guard = permissions.starts_with(b"---") && end - start <= GUARD;
        guard = if is_guard { end } else { 0 };
    }
    Ok(survey)
}

/// Largest guard, in bytes. The C library has larger mappings without permissions below its heaps.
const GUARD: u64 = 1 << 20;

impl Survey {
    /// Finds the instructions, and makes sure that they are there now.
    pub(super) fn gadgets(&self, memory: &Fd) -> Option<Gadgets> {
        let mut gadgets = Gadgets::default();
        let mut left = MOST;
        for index in (0..self.seen).rev().take(CODE) {
            let mapping = self.code.get(index % CODE)?;
            let found = match recall(mapping).filter(|found| found.are_in(memory)) {
                Some(found) => found,
                None => {
                    let found = search(mapping, memory, &mut left);
                    remember(mapping, found);
                    found
                }
            };
            if gadgets.syscall == 0 {
                gadgets.syscall = found.syscall;
            }
            if gadgets.pop == 0 {
                gadgets.pop = found.pop;
            }
            if gadgets.syscall != 0 && gadgets.pop != 0 {
                return Some(gadgets);
            }
        }
        None
    }
}

impl Gadgets {
    /// Makes sure that the instructions that were found are there.
    fn are_in(&self, memory: &Fd) -> bool {
        let is = |address: u64, what: fn(&[u8]) -> bool| {
            let mut code = [0; LONGEST];
            // The longest instructions may pass the end of the mapping.
            let length = if memory.read_at(&mut code, address).is_ok() { LONGEST } else { 3 };
            let read = memory.read_at(code.get_mut(..length).unwrap_or_default(), address);
            address == 0 || read.is_ok() && what(&code)
        };
        is(self.syscall, is_syscall) && is(self.pop, is_pop)
    }
}

/// Searches a mapping.
#[inline(never)]
fn search(mapping: &Code, memory: &Fd, left: &mut u64) -> Gadgets {
    let mut found = Gadgets::default();
    let mut code = [0_u8; CHUNK];
    let mut at = mapping.start;
    while at < mapping.end && *left > 0 && (found.syscall == 0 || found.pop == 0) {
        let length = usize::try_from(mapping.end - at).unwrap_or(CHUNK).min(CHUNK);
        let piece = code.get_mut(..length).unwrap_or_default();
        if memory.read_at(piece, at).is_err() {
            break;
        }
        for (index, address) in (0..length).zip(at..) {
            let rest = piece.get(index..).unwrap_or_default();
            if found.syscall == 0 && is_syscall(rest) {
                found.syscall = address;
            }
            if found.pop == 0 && is_pop(rest) {
                found.pop = address;
            }
        }
        // Instructions on the border are in the next piece, too.
        let step = if length == CHUNK { CHUNK - LONGEST } else { length };
        at += step as u64;
        *left = left.saturating_sub(step as u64);
    }
    found
}

fn is_pop(code: &[u8]) -> bool {
    code.starts_with(&[0x58, 0xc3])
}

/// Tells `syscall; ret`, also with `xor` between the two that sets registers to zero: the vDSO has
/// such code.
fn is_syscall(code: &[u8]) -> bool {
    let Some(mut rest) = code.strip_prefix(&[0x0f, 0x05]) else { return false };
    loop {
        rest = match rest {
            [0xc3, ..] => return true,
            // All but rax and rsp.
            [0x31, 0xc9 | 0xd2 | 0xdb | 0xed | 0xf6 | 0xff, rest @ ..] => rest,
            [0x45, 0x31, 0xc0 | 0xc9 | 0xd2 | 0xdb | 0xe4 | 0xed | 0xf6 | 0xff, rest @ ..] => rest,
            _ => return false,
        };
    }
}

/// Finds what an earlier search of the same mapping has found.
fn recall(mapping: &Code) -> Option<Gadgets> {
    let cache = Locked::take()?;
    let entry = cache.entries().find(|entry| entry.is_of(mapping))?;
    let [syscall, pop] = [3, 4].map(|index| match entry.get(index) {
        0 => 0,
        place => mapping.start.wrapping_add(place - 1),
    });
    // The earlier mapping of the file may have been longer.
    let is_inside = |place: &u64| place.saturating_add(LONGEST as u64) <= mapping.end;
    let [syscall, pop] = [syscall, pop].map(|place| if is_inside(&place) { place } else { 0 });
    Some(Gadgets { syscall, pop })
}

fn remember(mapping: &Code, found: Gadgets) {
    // The vDSO is small, and not in a file.
    if mapping.file[2] == 0 {
        return;
    }
    let Some(cache) = Locked::take() else { return };
    let turn = usize::try_from(TURN.fetch_add(1, Ordering::Relaxed) % ENTRIES as u64);
    let entry = cache.entries().find(|entry| entry.is_of(mapping));
    let Some(entry) = entry.or_else(|| cache.entries().nth(turn.unwrap_or(0))) else { return };
    let places = [found.syscall, found.pop].map(|address| match address {
        0 => 0,
        address => address - mapping.start + 1,
    });
    for (index, word) in mapping.file.iter().chain(&places).enumerate() {
        entry.set(index, *word);
    }
}

/// The right to use the cache. Nobody waits for it: in a fork of a process with threads, another
/// thread may have taken it for ever.
struct Locked;

impl Locked {
    fn take() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::Acquire)).then_some(Self)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        CACHE.chunks_exact(WORDS).map(Entry)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// Findings of a search: the mapping's file, and one more than the distance of each instruction
/// from the mapping's start, 0 for an instruction that the mapping does not have.
struct Entry(&'static [AtomicU64]);

impl Entry {
    fn get(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn set(&self, index: usize, value: u64) {
        if let Some(word) = self.0.get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn is_of(&self, mapping: &Code) -> bool {
        let file = [self.get(0), self.get(1), self.get(2)];
        mapping.file[2] != 0 && file == mapping.file
    }
}

/// Executable mappings that are looked at.
const CODE: usize = 24;

/// Most bytes that are searched for one task.
const MOST: u64 = 16 << 20;

/// Bytes that are read at a time.
const CHUNK: usize = 8192;

/// Longest sequence of instructions.
const LONGEST: usize = 48;

const ENTRIES: usize = 32;
const WORDS: usize = 5;

static TAKEN: AtomicBool = AtomicBool::new(false);
static TURN: AtomicU64 = AtomicU64::new(0);
static CACHE: [AtomicU64; ENTRIES * WORDS] = [const { AtomicU64::new(0) }; ENTRIES * WORDS];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::call::Access;

    #[test]
    fn instructions_are_told_from_others() {
        assert!(is_syscall(&[0x0f, 0x05, 0xc3]));
        assert!(is_syscall(&[0x0f, 0x05, 0x31, 0xd2, 0x45, 0x31, 0xdb, 0xc3, 0x90]));
        assert!(!is_syscall(&[0x0f, 0x05, 0x31, 0xc0, 0xc3]), "rax");
        assert!(!is_syscall(&[0x0f, 0x05, 0x31, 0xe4, 0xc3]), "rsp");
        assert!(!is_syscall(&[0x0f, 0x05, 0x31]));
        assert!(!is_syscall(&[0x0f, 0x05]));
    }

    #[test]
    fn own_instructions_are_found_twice() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let here = 0;
        let survey = survey(pid, std::ptr::from_ref(&here).addr() as u64).unwrap();
        let memory = Fd::open(pid, "mem", Access::Read).unwrap();
        let gadgets = survey.gadgets(&memory).unwrap();
        assert!(gadgets.are_in(&memory));
        assert_eq!(survey.gadgets(&memory), Some(gadgets));
        let wrong = Gadgets { syscall: gadgets.pop, pop: gadgets.pop };
        assert!(!wrong.are_in(&memory));
    }
}
