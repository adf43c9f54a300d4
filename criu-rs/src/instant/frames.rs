//! Pages that two holders share, found by their frames.
//!
//! A holder never writes, and nobody else writes to its private memory. So the bytes of a page of a
//! holder stay what they were when the task was forked. If the page tables of two holders name the
//! same frame for an address **at one moment**, the page has the same bytes in both: at that moment
//! these are the bytes of one frame, and neither page changes. Nothing else is assumed. So it does
//! not matter what the task did between the forks:
//!
//! | event between the forks | frames at the address | counts as |
//! | --- | --- | --- |
//! | nobody wrote to the page | equal | unchanged |
//! | the task wrote to the page | differ: the kernel copied the page before | changed |
//! | the page was discarded and filled anew | differ: the old holder has the old one | changed |
//! | the page was moved to another address | differ at both addresses | changed |
//! | the task forked a child of its own | equal, until one of them writes | unchanged |
//! | huge pages were split | the same frames | unchanged |
//! | the kernel collected small pages into a huge one in one process | differ | changed |
//! | the kernel merged equal pages (KSM) | equal, and so are the bytes | unchanged |
//! | the task executed another program | no frame of the old memory is left | changed |
//!
//! A page that one holder has in swap counts as changed. Pages of files, shared memory and hugetlb
//! areas are not compared.
//!
//! # One moment
//!
//! Two page tables cannot be read at one moment, and the kernel moves pages to other frames: it
//! compacts memory, and balances memory between NUMA nodes. A frame that the old holder has left
//! may have come to the new holder when the new page table is read. So the old page table is read
//! once more afterwards. If it names the same frame before and after, only one case is left in
//! which the frames were never equal: in between, the old holder's page left the frame, another
//! page came to the frame and left again, and the old page came back to just this frame. Each of
//! these steps is a migration, a collapse or a page brought in from swap, and the kernel counts all
//! of them (`/proc/vmstat`). A part of the memory during whose reading a count has changed is read
//! again in smaller parts, and where the counts do not rest, the bytes of the pages are compared.
//!
//! The kernel counts migrations at the end of each call that makes them, so a call may still be
//! under way when the counts are read. A wrong answer would need two or more such calls at once,
//! because a call moves each page once, and the steps are two moves of each of two pages. All four
//! moves would have to be made in the few milliseconds in which a part is read, none of the calls
//! could have ended by then, and chance would have to choose the same frame twice.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::pages::page_size;
use crate::value::Pid;

/// The comparison of two holders.
#[derive(Debug)]
pub(super) struct Frames {
    old: Side,
    new: Side,
    moves: Moves,
    tally: Tally,
    /// The entries of the page tables: old, new, and old once more.
    words: [Vec<u8>; 3],
}

/// The work that a comparison has done, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Pages that were compared.
    pub(super) compared: u64,
    /// Pages among them that are unchanged.
    pub(super) equal: u64,
    /// Pages that were compared once more, because the kernel moved pages meanwhile.
    pub(super) repeated: u64,
    /// Pages whose bytes were compared, because the kernel did not stop moving pages.
    pub(super) read: u64,
}

impl Frames {
    /// Opens two holders. The caller makes sure afterwards that both processes are still the
    /// holders.
    ///
    /// # Errors
    /// The errors of opening their files in /proc. `PermissionDenied` if this process may not see
    /// frames: that needs CAP_SYS_ADMIN in the first user namespace.
    pub(super) fn open(old: Pid, new: Pid) -> io::Result<Self> {
        if !visible()? {
            return Err(hidden());
        }
        let (old, new) = (Side::open(old)?, Side::open(new)?);
        let moves = Moves::open()?;
        Ok(Self { old, new, moves, tally: Tally::default(), words: Default::default() })
    }

    /// Returns the work done so far.
    #[cfg(test)]
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Returns the pages of these ranges that have the same bytes in both holders, joined and
    /// ascending. The ranges ascend, consist of whole pages, and lie in private mappings that both
    /// holders have; a page of another mapping may change while it is compared.
    ///
    /// # Errors
    /// `UnexpectedEof` if a holder has ended; other errors of reading files in /proc.
    pub(super) fn equal(&mut self, ranges: &[Range<u64>]) -> io::Result<Vec<Range<u64>>> {
        let mut found = Vec::new();
        for batch in batches(ranges, MOST) {
            self.batch(&batch, &mut found)?;
            self.tally.compared += batch.pages();
        }
        let pages = found.iter().map(|range| (range.end - range.start) / page());
        self.tally.equal += pages.sum::<u64>();
        Ok(found)
    }

    fn batch(&mut self, batch: &Batch, found: &mut Vec<Range<u64>>) -> io::Result<()> {
        if self.settled(batch, found)? {
            return Ok(());
        }
        let ranges: Vec<Range<u64>> = batch.runs.iter().map(|(run, _)| run.clone()).collect();
        for small in batches(&ranges, FEW) {
            self.small_batch(&small, found)?;
        }
        Ok(())
    }

    fn small_batch(&mut self, batch: &Batch, found: &mut Vec<Range<u64>>) -> io::Result<()> {
        for _ in 0..TRIES {
            self.tally.repeated += batch.pages();
            if self.settled(batch, found)? {
                return Ok(());
            }
        }
        let mut candidates = Vec::new();
        self.candidates(batch, &mut candidates)?;
        for range in candidates {
            self.tally.read += (range.end - range.start) / page();
            self.same_bytes(range, found)?;
        }
        Ok(())
    }

    /// Adds the pages with equal frames to `found`, unless the kernel may have moved pages
    /// meanwhile. Returns false then.
    fn settled(&mut self, batch: &Batch, found: &mut Vec<Range<u64>>) -> io::Result<bool> {
        let before = self.moves.count()?;
        self.read(batch)?;
        if before.is_none() || self.moves.count()? != before {
            return Ok(false);
        }
        self.candidates_of(batch, found)?;
        Ok(true)
    }

    fn candidates(&mut self, batch: &Batch, found: &mut Vec<Range<u64>>) -> io::Result<()> {
        self.read(batch)?;
        self.candidates_of(batch, found)
    }

    /// Reads the page tables: old, new, old.
    fn read(&mut self, batch: &Batch) -> io::Result<()> {
        let [first, second, third] = &mut self.words;
        self.old.entries(batch, first)?;
        self.new.entries(batch, second)?;
        self.old.entries(batch, third)
    }

    /// Adds the pages whose frame is equal in all three readings.
    fn candidates_of(&self, batch: &Batch, found: &mut Vec<Range<u64>>) -> io::Result<()> {
        for (run, at) in &batch.runs {
            let bytes = at * WORD..(at + pages(run)) * WORD;
            let [old, new, again] = self.words.each_ref().map(|words| {
                let words = words.get(bytes.clone()).unwrap_or_default();
                words.chunks_exact(WORD).map(entry)
            });
            let all = old.zip(new).zip(again).zip((run.start..).step_by(page_bytes()));
            for (((old, new), again), address) in all {
                if new & (PRESENT | FRAME) == PRESENT {
                    return Err(hidden());
                }
                let is_equal = old & LOOKED_AT == new & LOOKED_AT
                    && again & LOOKED_AT == new & LOOKED_AT
                    && new & (PRESENT | SWAPPED | FILE) == PRESENT;
                if is_equal {
                    push(found, address..address + page());
                }
            }
        }
        Ok(())
    }

    /// Adds the pages of a range whose bytes are equal.
    fn same_bytes(&self, range: Range<u64>, found: &mut Vec<Range<u64>>) -> io::Result<()> {
        let mut buffers = [const { Vec::new() }; 2];
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(PIECE);
            for (buffer, side) in buffers.iter_mut().zip([&self.old, &self.new]) {
                buffer.resize(length.try_into().unwrap_or(0), 0);
                side.memory.read_exact_at(buffer, at)?;
            }
            let [old, new] = &buffers;
            let both = old.chunks(page_bytes()).zip(new.chunks(page_bytes()));
            for ((old, new), address) in both.zip((at..).step_by(page_bytes())) {
                if old == new {
                    push(found, address..address + page());
                }
            }
            at += length;
        }
        Ok(())
    }
}

/// The files in /proc of a holder.
#[derive(Debug)]
struct Side {
    pagemap: File,
    memory: File,
}

impl Side {
    fn open(pid: Pid) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/{name}"));
        Ok(Self { pagemap: open("pagemap")?, memory: open("mem")? })
    }

    /// Reads the entries of the spans of a batch.
    fn entries(&self, batch: &Batch, words: &mut Vec<u8>) -> io::Result<()> {
        words.resize(batch.entries * WORD, 0);
        let mut rest = words.as_mut_slice();
        for span in &batch.spans {
            let (now, later) = rest.split_at_mut(pages(span) * WORD);
            self.pagemap.read_exact_at(now, span.start / page() * WORD as u64)?;
            rest = later;
        }
        Ok(())
    }
}

/// The kernel's count of the moves of pages from frame to frame.
#[derive(Debug)]
struct Moves {
    vmstat: File,
    text: Vec<u8>,
}

impl Moves {
    fn open() -> io::Result<Self> {
        Ok(Self { vmstat: File::open("/proc/vmstat")?, text: Vec::new() })
    }

    /// Returns the number of moves since boot, or `None` on a kernel that does not count them.
    fn count(&mut self) -> io::Result<Option<u64>> {
        self.text.clear();
        self.vmstat.rewind()?;
        self.vmstat.read_to_end(&mut self.text)?;
        Ok(moves(&self.text))
    }
}

/// Returns the sum of the counts of [`MOVES`] in the text of `/proc/vmstat`; `None` if
/// [`MIGRATIONS`] is missing.
fn moves(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (mut sum, mut complete) = (0u64, false);
    for (name, count) in text.lines().filter_map(|line| line.split_once(' ')) {
        if name == MIGRATIONS || MOVES.contains(&name) {
            sum = sum.wrapping_add(count.trim().parse().ok()?);
            complete |= name == MIGRATIONS;
        }
    }
    complete.then_some(sum)
}

/// Ranges that are compared together.
#[derive(Debug, Default)]
struct Batch {
    /// Ranges of the page tables that are read, with small gaps between the runs.
    spans: Vec<Range<u64>>,
    /// Ranges that are compared, with the index of their first entry among those of the spans.
    runs: Vec<(Range<u64>, usize)>,
    /// The number of entries of the spans.
    entries: usize,
}

impl Batch {
    fn pages(&self) -> u64 {
        self.runs.iter().map(|(run, _)| (run.end - run.start) / page()).sum()
    }

    /// Adds a run, which is above the others.
    fn add(&mut self, run: Range<u64>) {
        match self.spans.last_mut() {
            Some(last) if run.start.saturating_sub(last.end) <= GAP * page() => {
                self.entries += pages(&(last.end..run.end));
                last.end = run.end;
            }
            _ => {
                self.entries += pages(&run);
                self.spans.push(run.clone());
            }
        }
        let first = self.entries - pages(&run);
        self.runs.push((run, first));
    }
}

/// Divides ranges into batches of about `most` entries.
fn batches(ranges: &[Range<u64>], most: usize) -> Vec<Batch> {
    let mut all = Vec::new();
    let mut batch = Batch::default();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            if batch.entries >= most || batch.spans.len() >= SPANS {
                all.push(std::mem::take(&mut batch));
            }
            let room = (most - batch.entries) as u64 * page();
            let end = range.end.min(at.saturating_add(room));
            batch.add(at..end);
            at = end;
        }
    }
    if !batch.runs.is_empty() {
        all.push(batch);
    }
    all
}

/// Returns true if this process may see frames.
///
/// # Errors
/// The errors of reading `/proc/self/pagemap`.
pub(super) fn visible() -> io::Result<bool> {
    let here = [1u8];
    let mut word = [0; WORD];
    let address = std::hint::black_box(&here).as_ptr().addr() as u64;
    let pagemap = File::open("/proc/self/pagemap")?;
    pagemap.read_exact_at(&mut word, address / page() * WORD as u64)?;
    Ok(entry(&word) & FRAME != 0)
}

/// Returns the error of a process that may not see frames.
pub(super) fn hidden() -> io::Error {
    let why = "the kernel does not show the frames of pages: this needs CAP_SYS_ADMIN";
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Adds a range that is not below the others.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

fn entry(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

/// The number of pages of a range that fits into memory.
fn pages(range: &Range<u64>) -> usize {
    usize::try_from((range.end - range.start) / page()).unwrap_or(0)
}

fn page() -> u64 {
    page_size().bytes()
}

fn page_bytes() -> usize {
    usize::try_from(page()).unwrap_or(4096)
}

/// Bytes of an entry of a page table as `/proc/PID/pagemap` shows it.
const WORD: usize = 8;

/// Bits of an entry: the page is in memory.
const PRESENT: u64 = 1 << 63;

/// Bits of an entry: the page is in swap, or is being moved.
const SWAPPED: u64 = 1 << 62;

/// Bits of an entry: the page belongs to a file or to shared memory.
const FILE: u64 = 1 << 61;

/// Bits of an entry: the frame.
const FRAME: u64 = (1 << 55) - 1;

/// Bits of an entry that are compared.
const LOOKED_AT: u64 = PRESENT | SWAPPED | FILE | FRAME;

/// The count of pages that were moved to another frame. A kernel without this line does not count.
const MIGRATIONS: &str = "pgmigrate_success";

/// Other counts of pages that came to a frame.
const MOVES: [&str; 8] = [
    "thp_migration_success",
    "thp_collapse_alloc",
    "numa_pages_migrated",
    "balloon_migrate",
    "pswpin",
    "swpin_zero",
    "zswpin",
    "ksm_swpin_copy",
];

/// Entries of a batch: 64 MiB of memory with pages of 4 KiB, which are read in a few milliseconds.
const MOST: usize = 16_384;

/// Entries of a batch after the kernel has moved pages.
const FEW: usize = 512;

/// Tries of a small batch before bytes are compared.
const TRIES: usize = 3;

/// Most spans of a batch, each of which takes three system calls.
const SPANS: usize = 512;

/// Pages between two runs that are read rather than left out by a system call more.
const GAP: u64 = 64;

/// Bytes that are compared at once.
const PIECE: u64 = 256 << 10;

#[cfg(test)]
mod tests;
