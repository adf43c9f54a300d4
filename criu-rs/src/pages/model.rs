//! Pages that tests make up: those of a holder, and those of a dump.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use criu_images::memory::PageObject;

use super::client::Client;
use super::held::{HeldPages, HeldTask, InParent, Mapping};
use super::pool::Pool;
use super::proto::{Layout, PRESENT};
use super::recording::Recording;
use super::socket::Socket;
use super::tape::Tape;

/// The bytes of a page in these tests.
pub(super) const PAGE: u64 = 4096;

/// A generator of pseudo-random numbers: xorshift.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    pub(super) fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

/// Pages by their address, each with a number of which its bytes are made.
pub(super) type Numbers = BTreeMap<u64, u64>;

/// Returns the bytes of a page.
pub(super) fn bytes(number: u64) -> Vec<u8> {
    (number << 16).to_ne_bytes().repeat(512)
}

/// Returns the pages in runs: first address and number.
pub(super) fn runs(pages: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some((start, pages)) if *start + *pages * PAGE == page => *pages += 1,
            _ => runs.push((page, 1)),
        }
    }
    runs
}

/// A holder of made-up pages.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) pages: Mutex<Numbers>,
    /// The most runs that a look finds; 0 for no limit.
    pub(super) at_once: usize,
    /// The pages counted at first.
    pub(super) first: Option<Numbers>,
    /// The number of reads after which the holder ends.
    pub(super) reads: Option<AtomicU64>,
    /// The number of reads after which the holder has lost its first page.
    pub(super) loses: Option<AtomicU64>,
}

impl Fake {
    pub(super) fn new(pages: Numbers, at_once: usize) -> Self {
        Self { pages: Mutex::new(pages), at_once, ..Self::default() }
    }

    fn is_over(left: Option<&AtomicU64>, by: u64) -> bool {
        left.is_some_and(|left| {
            let before = left.load(Ordering::Relaxed);
            left.store(before.saturating_sub(by), Ordering::Relaxed);
            before == 0
        })
    }
}

impl HeldPages for Fake {
    fn scan(&self, range: Range<u64>, found: &mut Vec<Range<u64>>) -> io::Result<u64> {
        if Self::is_over(self.reads.as_ref(), 0) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let pages = self.pages.lock().unwrap();
        for (start, pages) in runs(pages.range(range.clone()).map(|(page, _)| *page)) {
            found.push(start..start + pages * PAGE);
            if found.len() == self.at_once {
                return Ok(start + pages * PAGE);
            }
        }
        Ok(range.end)
    }

    fn read_at(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        if Self::is_over(self.reads.as_ref(), 1) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut pages = self.pages.lock().unwrap();
        let (mut at, mut rest) = (address, buffer);
        while !rest.is_empty() {
            let (page, skipped) = (at - at % PAGE, usize::try_from(at % PAGE).unwrap());
            let (to, later) = rest.split_at_mut(rest.len().min(4096 - skipped));
            // A page that is not there reads as zeros, as that of a process does.
            let from = pages.get(&page).map_or(vec![0; 4096], |number| bytes(*number));
            to.copy_from_slice(&from[skipped..skipped + to.len()]);
            (at, rest) = (at + to.len() as u64, later);
        }
        if Self::is_over(self.loses.as_ref(), 1) {
            pages.pop_first();
        }
        Ok(())
    }

    fn counted(&self, range: Range<u64>) -> Option<u64> {
        Some(self.first.as_ref()?.range(range).count() as u64)
    }
}

/// The pages of another process, which does not run. Pages that were only read count as well.
#[derive(Debug)]
pub(super) struct Process {
    memory: File,
    map: File,
}

impl Process {
    pub(super) fn open(pid: i32) -> Self {
        let open = |name: &str| File::open(format!("/proc/{pid}/{name}")).unwrap();
        Self { memory: open("mem"), map: open("pagemap") }
    }
}

impl HeldPages for Process {
    fn scan(&self, range: Range<u64>, found: &mut Vec<Range<u64>>) -> io::Result<u64> {
        let end = range.end.min(range.start + 1000 * PAGE);
        let mut entries = vec![0; usize::try_from((end - range.start) / 512).unwrap()];
        self.map.read_exact_at(&mut entries, range.start / 512)?;
        let entries = (range.start..).step_by(4096).zip(entries.chunks(8));
        // Present or in swap, and not of a file.
        let held = entries.filter(|(_, entry)| entry[7] & 0xc0 != 0 && entry[7] & 0x20 == 0);
        let runs = runs(held.map(|(page, _)| page)).into_iter();
        found.extend(runs.map(|(start, pages)| start..start + pages * PAGE));
        Ok(end)
    }

    fn read_at(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.memory.read_exact_at(buffer, address)
    }

    fn counted(&self, _: Range<u64>) -> Option<u64> {
        None
    }
}

/// Returns a held task.
pub(super) fn held<'h>(
    pid: u32,
    mappings: &'h [Mapping],
    pages: &'h dyn HeldPages,
    in_parent: Option<&'h dyn InParent>,
) -> HeldTask<'h> {
    HeldTask { pid, mappings, pages, in_parent }
}

/// Pages of an object as a dump sends them: with flags.
pub(super) type Sent = Vec<(PageObject, Vec<(u64, u64, u16)>)>;

/// Records pages that are sent in one session.
pub(super) fn record(sent: Sent, layout: Layout, spill: Option<&Path>) -> Recording {
    let tape = Tape::new(Pool::new(1).unwrap(), spill).unwrap();
    let socket = UnixStream::from(tape.as_fd().try_clone_to_owned().unwrap());
    let dump = thread::spawn(move || {
        let mut client = Client::new(Socket::from(socket), layout);
        for (object, pages) in sent {
            assert!(!client.begin(object).unwrap());
            for (page, number, flags) in pages {
                client.run(page, 1, flags).unwrap();
                if flags & PRESENT != 0 {
                    client.bytes(&bytes(number)).unwrap();
                }
            }
        }
        client.close().unwrap();
    });
    dump.join().unwrap();
    tape.finish().unwrap()
}
