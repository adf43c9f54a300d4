//! The pages of an oracle, with what each of them has to hold.

use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::{Area, PAGE};
use super::record::{Count, Record};

/// The pages of an oracle.
#[derive(Debug)]
pub(crate) struct Pages {
    /// Private memory. Its first half may have huge pages.
    pub(crate) area: Area,
    /// The token of each page of `area`.
    tokens: Vec<AtomicU64>,
    /// Memory that children share.
    shared: Area,
    /// Memory for moves.
    pub(crate) spare: Area,
    pub(crate) record: Record,
}

/// The content of a page: zero for zeros, or its address at its last writing and, above
/// [`GENERATION`], a number that grows with each writing.
pub(crate) type Token = u64;

impl Pages {
    /// Writes so many bytes of pages, half of them with huge pages if wanted.
    pub(crate) fn new(bytes: usize, huge: bool) -> Self {
        let area = Area::private(bytes);
        area.huge(0, area.pages() / 2, huge);
        area.huge(area.pages() / 2, area.pages() / 2, false);
        let tokens: Vec<AtomicU64> = (0..area.pages())
            .map(|page| AtomicU64::new(area.address(page * PAGE) as u64))
            .collect();
        for (page, token) in tokens.iter().enumerate() {
            put(&area, page, token.load(Ordering::Relaxed));
        }
        // Shared memory is not lazy: more would be time of every restore.
        let shared = Area::shared((bytes / 16).min(SHARED).next_multiple_of(PAGE));
        for page in 0..shared.pages() {
            put(&shared, page, shared.address(page * PAGE) as u64);
        }
        let spare = Area::private(BLOCK * PAGE);
        Self { area, tokens, shared, spare, record: Record::new() }
    }

    /// Returns the token of a page.
    pub(crate) fn token(&self, page: usize) -> Token {
        self.tokens[page].load(Ordering::Relaxed)
    }

    /// Compares a page with its token, from one of its three words on.
    pub(crate) fn check(&self, page: usize, from: usize) -> bool {
        self.compare(&self.area, page, self.token(page), from)
    }

    /// Compares a page of the shared memory, which nobody changes.
    pub(crate) fn check_shared(&self, page: usize, from: usize) -> bool {
        let page = page % self.shared.pages();
        self.compare(&self.shared, page, self.shared.address(page * PAGE) as u64, from)
    }

    fn compare(&self, area: &Area, page: usize, token: Token, from: usize) -> bool {
        self.record.add(Count::Checked, 1);
        self.record.add(Count::Zeros, u64::from(token == 0));
        (0..WORDS.len()).all(|n| {
            let word = WORDS[(n + from) % WORDS.len()];
            let (found, wanted) = (area.load(page * PAGE + word), holds(token, word));
            if found != wanted {
                self.record.wrong(area.address(page * PAGE + word), found, wanted);
            }
            found == wanted
        })
    }

    /// Writes a page anew.
    pub(crate) fn write(&self, page: usize) {
        let generation = (self.token(page) >> GENERATION) + 1;
        let token = self.area.address(page * PAGE) as u64 | generation << GENERATION;
        put(&self.area, page, token);
        self.tokens[page].store(token, Ordering::Relaxed);
        self.record.add(Count::Written, 1);
    }

    /// Discards pages.
    pub(crate) fn discard(&self, first: usize, pages: usize) {
        self.area.discard(first, pages);
        self.are_zeros(first, pages);
        self.record.add(Count::Discarded, 1);
    }

    /// Unmaps pages and maps them anew.
    pub(crate) fn renew(&self, first: usize, pages: usize) {
        self.area.renew(first, pages);
        self.are_zeros(first, pages);
        self.record.add(Count::Renewed, 1);
    }

    /// Lets two ranges change places.
    pub(crate) fn swap(&self, one: usize, other: usize, pages: usize) {
        self.area.swap(one, other, pages, &self.spare);
        for n in 0..pages {
            let (a, b) = (&self.tokens[one + n], &self.tokens[other + n]);
            let before = a.swap(b.load(Ordering::Relaxed), Ordering::Relaxed);
            b.store(before, Ordering::Relaxed);
        }
        self.record.add(Count::Moved, 1);
    }

    fn are_zeros(&self, first: usize, pages: usize) {
        for token in &self.tokens[first..first + pages] {
            token.store(0, Ordering::Relaxed);
        }
    }

    /// Compares all pages.
    pub(crate) fn check_all(&mut self) -> String {
        self.record.clear();
        self.compare_all();
        let mut report = String::new();
        self.record.write(&mut report);
        report
    }

    /// Compares all pages, and adds to the record.
    pub(crate) fn compare_all(&self) {
        for page in 0..self.area.pages() {
            self.check(page, page);
        }
        for page in 0..self.shared.pages() {
            self.check_shared(page, page);
        }
    }
}

/// Writes the words of a token into a page.
fn put(area: &Area, page: usize, token: Token) {
    for word in WORDS {
        area.store(page * PAGE + word, holds(token, word));
    }
}

/// Returns the content of a word in a page of a token.
pub(crate) fn holds(token: Token, word: usize) -> u64 {
    if token == 0 { 0 } else { token + word as u64 }
}

/// The words of a page that are written and compared.
pub(crate) const WORDS: [usize; 3] = [0, PAGE / 2, PAGE - 8];
/// Pages that a lock is for, and the most that are discarded, renewed or moved at once.
pub(crate) const BLOCK: usize = 16;
/// The most bytes of shared memory.
const SHARED: usize = 4 << 20;
/// The lowest bit of a token's generation: user addresses have 47 bits.
const GENERATION: u32 = 48;
