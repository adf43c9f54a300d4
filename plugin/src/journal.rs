//! The journal: what criu-rs and the plugin tell each other, in memory that both map.
//!
//! criu-rs makes a memfd that cannot shrink (`F_SEAL_SHRINK`), writes the head and a verdict for
//! each task that it knows, and names the file in the environment variable [`VARIABLE`] of criu.
//! The plugin maps the file, and writes what becomes of each task. A record is written by one side
//! at a time: its [`State`] says whose turn it is.
//!
//! All numbers are little-endian words of 64 bits, so that no field needs padding.

use std::sync::atomic::{AtomicU64, Ordering};

/// Environment variable of criu with the path of the journal.
pub const VARIABLE: &str = "CRIU_RS_INSTANT";

/// First word of a journal.
pub const MAGIC: u64 = u64::from_le_bytes(*b"criuhold");

/// Version of the layout. Another version is refused.
pub const VERSION: u64 = 1;

/// Words of a head.
pub const HEAD_WORDS: usize = 16;

/// Words of a record.
pub const RECORD_WORDS: usize = 16;

/// Most records of a journal.
pub const MOST: usize = 65_536;

/// Words of the head, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Head {
    /// [`MAGIC`].
    Magic = 0,
    /// [`VERSION`].
    Version = 1,
    /// Number of records that there is room for.
    Capacity = 2,
    /// Number of records that are used.
    Count = 3,
    /// A [`Plugin`].
    Plugin = 4,
    /// Number of the system's error that [`Plugin::Refused`] is about, or 0.
    Errno = 5,
    /// Smallest memory of a task without a verdict for which the plugin makes a holder, in bytes.
    LeastBytes = 6,
    /// Process id of the process that reads the holders.
    Owner = 7,
    /// Start time of that process, in clock ticks: field 22 of `/proc/PID/stat`.
    OwnerStart = 8,
    /// Number of lists of children that the plugin has read for CRIU, without kept holders.
    Lists = 9,
}

/// Words of a record, by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Field {
    /// A [`State`].
    State = 0,
    /// Process id of the task, as criu sees it.
    Task = 1,
    /// Start time of the task, in clock ticks, or 0 if it is not known.
    TaskStart = 2,
    /// Process id of the task in its own pid namespace: the id in the names of its images.
    Inner = 3,
    /// Process id of the holder, as criu sees it.
    Holder = 4,
    /// Start time of the holder, in clock ticks.
    HolderStart = 5,
    /// A [`Reason`], for a task without a holder.
    Reason = 6,
    /// Number of the system's error that the reason is about, or 0.
    Errno = 7,
    /// Time that the fork took, in nanoseconds.
    ForkTime = 8,
    /// Pages that the plugin has hidden from CRIU in mappings of at most 2 MiB.
    Hidden = 9,
    /// Bytes of the larger mappings, in which the plugin has hidden all pages.
    HiddenWhole = 10,
    /// Stack pointer of the task when it was forked. CRIU saves the pages just below it.
    Stack = 11,
    /// Address of the task's area for restartable sequences, or 0. CRIU saves its page.
    Rseq = 12,
    /// Number of a descriptor of the owner's, or 0. Its file has the lines of `/proc/PID/maps` as
    /// they were before the freeze, each followed by the line `VmFlags` of `/proc/PID/smaps`.
    Flags = 13,
    /// 1 if CRIU has got that file in place of `/proc/PID/smaps`, and else 0.
    Told = 14,
}

/// States of the plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Plugin {
    /// CRIU has not loaded it.
    Absent = 0,
    /// The plugin is ready.
    Ready = 1,
    /// The plugin cannot work with this CRIU or kernel. No task has a holder.
    Refused = 2,
}

/// Whose turn a record is, and what has become of its task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum State {
    /// Nobody has written the record.
    Free = 0,
    /// criu-rs wants a holder.
    Wanted = 1,
    /// criu-rs wants none.
    Unwanted = 2,
    /// The plugin is about to fork the task.
    Forking = 3,
    /// The holder is parked.
    Held = 4,
    /// The plugin has given up, and CRIU saves the memory of the task.
    GivenUp = 5,
    /// The dump has failed, and the plugin has ended and reaped the holder.
    Ended = 6,
    /// The record names a holder that is kept of an earlier dump, and no task. CRIU is not to see
    /// the holder.
    Kept = 7,
}

/// Reasons for which the plugin makes no holder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Reason {
    /// There is none.
    None = 0,
    /// The task has less memory than [`Head::LeastBytes`].
    Small = 1,
    /// The task runs in 32-bit mode.
    Compat = 2,
    /// No instructions were found that bring the task back by itself if criu is killed.
    Gadgets = 3,
    /// There is no room on the stack of the task.
    Stack = 4,
    /// The task is inside a restartable sequence.
    Rseq = 5,
    /// The kernel refuses another process: `pids.max`, RLIMIT_NPROC, memory.
    Fork = 6,
    /// The task or its child stopped in another way than expected.
    Stop = 7,
    /// The child could not be made harmless.
    Park = 8,
    /// The kernel protects the task by a shadow stack.
    ShadowStack = 9,
    /// The journal has no room.
    Full = 10,
    /// A filter of system calls would not let the task come back by itself if criu is killed.
    Filter = 11,
    /// The task could not be restored. The dump has to fail, and the task goes on by itself.
    Lost = 12,
    /// The task has a child that has ended, in a pid namespace of their own. CRIU takes a number
    /// that it does not know among the task's children for that child's.
    Ended = 13,
}

/// A mapped journal.
#[derive(Clone, Copy, Debug)]
pub struct Journal<'m> {
    words: &'m [AtomicU64],
}

/// A record of a mapped journal.
#[derive(Clone, Copy, Debug)]
pub struct Record<'m> {
    words: &'m [AtomicU64],
}

impl<'m> Journal<'m> {
    /// Bytes of a journal with room for so many records.
    pub const fn bytes(capacity: usize) -> usize {
        (HEAD_WORDS + capacity * RECORD_WORDS) * size_of::<u64>()
    }

    /// Looks at mapped words. Returns `None` if they are no journal of this version.
    pub fn new(words: &'m [AtomicU64]) -> Option<Self> {
        let journal = Self { words };
        let room = words.len().checked_sub(HEAD_WORDS)? / RECORD_WORDS;
        let capacity = usize::try_from(journal.head(Head::Capacity)).ok()?;
        let is_one = journal.head(Head::Magic) == MAGIC && journal.head(Head::Version) == VERSION;
        (is_one && capacity <= room.min(MOST)).then_some(journal)
    }

    /// Makes an empty journal of words that are zero.
    pub fn make(words: &'m [AtomicU64]) -> Self {
        let room = words.len().saturating_sub(HEAD_WORDS) / RECORD_WORDS;
        let journal = Self { words };
        journal.set(Head::Magic, MAGIC);
        journal.set(Head::Version, VERSION);
        journal.set(Head::Capacity, room.min(MOST) as u64);
        journal
    }

    /// Reads a word of the head.
    pub fn head(&self, word: Head) -> u64 {
        load(self.words, word as usize)
    }

    /// Writes a word of the head.
    pub fn set(&self, word: Head, value: u64) {
        store(self.words, word as usize, value);
    }

    /// Returns the records that are used.
    pub fn records(&self) -> impl Iterator<Item = Record<'m>> + use<'m> {
        let count = self.head(Head::Count).min(self.head(Head::Capacity));
        let count = usize::try_from(count).unwrap_or(0);
        let records = self.words.get(HEAD_WORDS..).unwrap_or_default();
        records.chunks_exact(RECORD_WORDS).take(count).map(|words| Record { words })
    }

    /// Takes a free record, for a task. Returns `None` if there is no room. One side adds records
    /// at a time.
    pub fn add(&self, task: u64) -> Option<Record<'m>> {
        let count = self.head(Head::Count);
        if count >= self.head(Head::Capacity) {
            return None;
        }
        let start = HEAD_WORDS + usize::try_from(count).ok()? * RECORD_WORDS;
        let record = Record { words: self.words.get(start..start + RECORD_WORDS)? };
        record.set(Field::Task, task);
        self.set(Head::Count, count + 1);
        Some(record)
    }

    /// Finds the record of a task.
    pub fn find(&self, task: u64) -> Option<Record<'m>> {
        self.records().find(|record| record.get(Field::Task) == task)
    }
}

impl Record<'_> {
    /// Reads a field.
    pub fn get(&self, field: Field) -> u64 {
        load(self.words, field as usize)
    }

    /// Writes a field.
    pub fn set(&self, field: Field, value: u64) {
        store(self.words, field as usize, value);
    }

    /// Says whose turn the record is; `None` for a number that this version does not know.
    pub fn state(&self) -> Option<State> {
        let states = [
            State::Free,
            State::Wanted,
            State::Unwanted,
            State::Forking,
            State::Held,
            State::GivenUp,
            State::Ended,
            State::Kept,
        ];
        states.into_iter().find(|state| *state as u64 == self.get(Field::State))
    }

    /// Passes the record on.
    pub fn pass(&self, state: State) {
        self.set(Field::State, state as u64);
    }
}

fn load(words: &[AtomicU64], at: usize) -> u64 {
    words.get(at).map_or(0, |word| word.load(Ordering::Acquire))
}

fn store(words: &[AtomicU64], at: usize, value: u64) {
    if let Some(word) = words.get(at) {
        word.store(value, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_takes_as_many_records_as_it_has_room_for() {
        let words: Vec<AtomicU64> =
            (0..Journal::bytes(2) / 8).map(|_| AtomicU64::default()).collect();
        assert!(Journal::new(&words).is_none());
        let journal = Journal::make(&words);
        assert_eq!(journal.head(Head::Capacity), 2);
        let first = journal.add(7).unwrap();
        first.pass(State::Wanted);
        assert!(journal.add(8).is_some() && journal.add(9).is_none());
        let other = Journal::new(&words).unwrap();
        assert_eq!(other.records().count(), 2);
        assert_eq!(other.find(7).unwrap().state(), Some(State::Wanted));
        assert!(other.find(9).is_none());
        words[Head::Capacity as usize].store(3, Ordering::Relaxed);
        assert!(Journal::new(&words).is_none(), "a capacity beyond the memory");
    }
}
