//! Notes of a core file: threads, the process, its files.

use super::elf::{put16, put32, put64};
use crate::memory::{Backing, Memory, PageSource, Vma, VmaStatus};
use crate::task::{State, Task, Thread};

/// Notes that are being collected.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<u8>);

impl Notes {
    /// Adds a note.
    pub(super) fn add(&mut self, name: &str, kind: u32, content: &[u8]) {
        let out = &mut self.0;
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        put32(out, length(name.len() + 1));
        put32(out, length(content.len()));
        put32(out, kind);
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(content);
        out.resize(out.len().next_multiple_of(4), 0);
    }

    /// Adds `NT_PRSTATUS`, which begins a thread. The thread's other notes follow it.
    pub(super) fn thread(&mut self, task: &Task<'_>, thread: &Thread<'_>, registers: &[u64]) {
        let pending = |queue: Option<&crate::proto::SignalQueueEntry>| {
            let signals = queue.map(|queue| queue.signals.as_slice()).unwrap_or_default();
            signals.iter().fold(0, |set, signal| set | signal_bit(&signal.siginfo))
        };
        let core = thread.thread_core();
        let is_leader = thread.tid() == task.pid();
        let blocked = match core.and_then(|core| core.blk_sigset) {
            Some(set) => set,
            None if is_leader => task.core().blk_sigset,
            None => 0,
        };
        // Number, code, errno and the current signal: 0, because no signal ended the task.
        let mut out = vec![0; 16];
        put64(&mut out, pending(core.and_then(|core| core.signals_p.as_ref())));
        put64(&mut out, blocked);
        for id in [thread.tid(), task.ppid(), task.pgid(), task.sid()] {
            put32(&mut out, id);
        }
        // Times, which CRIU does not save.
        out.extend([0; 64]);
        for &register in registers {
            put64(&mut out, register);
        }
        // Floating point registers follow in a note of their own.
        put32(&mut out, 1);
        put32(&mut out, 0);
        self.add("CORE", NT_PRSTATUS, &out);
    }

    /// Adds the notes of the process as a whole, its auxiliary vector and its mapped files.
    pub(super) fn process(&mut self, task: &Task<'_>, memory: &Memory<'_>) {
        self.add("CORE", NT_PRPSINFO, &process(task, memory));
        let mut auxv = Vec::new();
        let saved = &memory.mm().mm_saved_auxv;
        for &word in saved {
            put64(&mut auxv, word);
        }
        // Debuggers need the end of the vector, which CRIU may have cut off.
        if !saved.chunks(2).any(|pair| pair.first() == Some(&0)) {
            put64(&mut auxv, 0);
            put64(&mut auxv, 0);
        }
        self.add("CORE", NT_AUXV, &auxv);
        self.add("CORE", NT_FILE, &files(memory));
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Returns `struct elf_prpsinfo` of 64-bit machines.
fn process(task: &Task<'_>, memory: &Memory<'_>) -> Vec<u8> {
    let (number, letter) = match task.state() {
        State::Stopped => (3, b'T'),
        _ => (0, b'S'),
    };
    let nice = 0;
    let mut out = vec![number, letter, 0, nice, 0, 0, 0, 0];
    put64(&mut out, task.core().flags.into());
    let creds = task.creds();
    put32(&mut out, creds.map_or(0, |creds| creds.uid));
    put32(&mut out, creds.map_or(0, |creds| creds.gid));
    for id in [task.pid(), task.ppid(), task.pgid(), task.sid()] {
        put32(&mut out, id);
    }
    let name = task.name().0;
    out.extend(name.iter().chain([0; NAME].iter()).take(NAME - 1));
    out.push(0);
    let mm = memory.mm();
    let length = mm.mm_arg_end.saturating_sub(mm.mm_arg_start);
    let mut line = vec![0; usize::try_from(length).unwrap_or(LINE).min(LINE - 1)];
    // The name replaces a command line whose page is not in the set.
    if memory.read_at(mm.mm_arg_start, &mut line).is_err() || line.is_empty() {
        line = name.to_vec();
    }
    while line.last() == Some(&0) {
        line.pop();
    }
    let line = line.iter().map(|&byte| if byte == 0 { b' ' } else { byte });
    out.extend(line.chain([0; LINE]).take(LINE - 1));
    out.push(0);
    out
}

/// Returns `NT_FILE`: the mapped files and their addresses, so that a debugger can read them.
fn files(memory: &Memory<'_>) -> Vec<u8> {
    let page = memory.page_size().bytes();
    let mapped =
        |vma: &Vma<'_>| vma.backing() == Backing::File && !vma.status().contains(VmaStatus::MEMFD);
    let vmas: Vec<_> = memory.vmas().filter(mapped).filter(|vma| vma.path().is_some()).collect();
    let mut out = Vec::new();
    put64(&mut out, vmas.len() as u64);
    put64(&mut out, page);
    for vma in &vmas {
        put64(&mut out, vma.start());
        put64(&mut out, vma.end());
        put64(&mut out, vma.entry().pgoff / page);
    }
    for vma in &vmas {
        out.extend(vma.path().unwrap_or_default().iter().take_while(|&&byte| byte != 0));
        out.push(0);
    }
    out
}

/// Returns the bit of the signal that a `siginfo_t` begins with.
fn signal_bit(siginfo: &[u8]) -> u64 {
    let number = siginfo.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    match number {
        1..=64 => 1 << (number - 1),
        _ => 0,
    }
}

/// Adds the low halves of words.
pub(super) fn put16s(out: &mut Vec<u8>, values: impl IntoIterator<Item = u32>) {
    for value in values {
        put16(out, u16::try_from(value & 0xffff).unwrap_or_default());
    }
}

const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;
/// Bytes of the name with the zero that ends it, and of the command line.
const NAME: usize = 16;
const LINE: usize = 80;
