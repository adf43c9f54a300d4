//! Search in memory: of a task, or of an object of shared memory.

mod pattern;
mod secrets;
mod skips;
mod trial;
mod window;

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;

use crate::error::Result;
use crate::memory::{Memory, PageSource, Vma};
pub use pattern::{MAX_MATCH, Pattern, PatternError};
pub use secrets::{Secret, Secrets};
use trial::Trial;
use window::Window;

/// A search through memory.
///
/// Matches are found across pages, runs, and mappings that touch each other. The search skips
/// memory that the set does not have, such as unmodified pages of files. It also skips matches that
/// lie wholly in untouched memory, which is zero, or in a hole of a MiB or more in a pages file.
///
/// ```no_run
/// use criu_images::ImageSet;
/// use criu_images::search::{Pattern, Search};
///
/// let set = ImageSet::open("/ckpt")?;
/// let pattern = Pattern::regex("(?i)password=[^&\\x00]+").expect("it is a regular expression");
/// let search = Search::new(pattern).context(16).mappings(|vma| vma.is_private());
/// for task in set.checkpoint()?.tasks() {
///     if let Some(memory) = task.memory()? {
///         for hit in search.run(&memory) {
///             println!("{task}: {}", hit?);
///         }
///     }
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[must_use = "a search finds nothing until it runs"]
pub struct Search {
    pattern: Pattern,
    range: Range<u64>,
    context: usize,
    select: Box<dyn Fn(&Vma<'_>) -> bool>,
}

/// A match.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hit {
    /// Address of the match; in shared memory, the offset in the object.
    pub address: u64,
    /// The bytes matched.
    pub bytes: Vec<u8>,
    /// Bytes before the match.
    pub before: Vec<u8>,
    /// Bytes after the match.
    pub after: Vec<u8>,
}

impl Search {
    /// Creates a search through all memory.
    pub fn new(pattern: Pattern) -> Self {
        Self { pattern, range: 0..u64::MAX, context: 0, select: Box::new(|_| true) }
    }

    /// Limits the search to these addresses.
    pub fn within(mut self, range: Range<u64>) -> Self {
        self.range = range;
        self
    }

    /// Limits the search to mappings that `select` accepts.
    pub fn mappings(mut self, select: impl Fn(&Vma<'_>) -> bool + 'static) -> Self {
        self.select = Box::new(select);
        self
    }

    /// Adds up to `bytes` bytes before and after to each match, at most [`MAX_MATCH`]. Fewer at an
    /// end of memory.
    pub fn context(mut self, bytes: usize) -> Self {
        self.context = bytes.min(MAX_MATCH);
        self
    }

    /// Searches the memory of a task.
    pub fn run<'m, 'a>(&'m self, memory: &'m Memory<'a>) -> Hits<'m, Memory<'a>> {
        let mut ranges: VecDeque<Range<u64>> = VecDeque::new();
        for vma in memory.vmas().filter(|vma| (self.select)(vma)) {
            let range = vma.start().max(self.range.start)..vma.end().min(self.range.end);
            match ranges.back_mut() {
                _ if range.is_empty() => {}
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push_back(range),
            }
        }
        self.hits(memory, ranges)
    }

    /// Searches any source of memory. Such a source has no mappings, so
    /// [`mappings`](Self::mappings) has no effect.
    pub fn run_in<'m, S: PageSource>(&'m self, source: &'m S) -> Hits<'m, S> {
        self.hits(source, VecDeque::from([self.range.clone()]))
    }

    fn hits<'m, S: PageSource>(
        &'m self,
        source: &'m S,
        ranges: VecDeque<Range<u64>>,
    ) -> Hits<'m, S> {
        let edge = self.pattern.longest();
        let window = Window::new(source, ranges, edge);
        Hits { search: self, window, at: 0, failed: false, trial: Trial::default() }
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Search").field(&self.pattern).finish()
    }
}

/// Shows the address, and the bytes as text. Bytes that are not printable are escaped.
impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, bytes, after] =
            [&self.before, &self.bytes, &self.after].map(|bytes| bytes.escape_ascii());
        write!(f, "{:x}: {before}{bytes}{after}", self.address)
    }
}

/// The matches, by rising address. Matches do not overlap. Ends with the first error.
#[derive(Debug)]
#[must_use = "iterators are lazy"]
pub struct Hits<'m, S> {
    search: &'m Search,
    window: Window<'m, S>,
    /// Index in the window at which the search continues.
    at: usize,
    failed: bool,
    /// The faster way of a regular expression.
    trial: Trial,
}

impl<S: PageSource> Hits<'_, S> {
    /// Returns the number of bytes skipped so far because the dump kept them back for a lazy
    /// restore. Their content is unknown.
    pub fn kept_back(&self) -> u64 {
        self.window.lazy
    }

    fn advance(&mut self) -> Result<Option<Hit>> {
        let Search { pattern, context, .. } = self.search;
        // Before a match counts, the window must have the match and what follows it.
        let ahead = pattern.longest() + context;
        loop {
            let bytes = self.window.bytes();
            let limit =
                if self.window.whole { bytes.len() } else { bytes.len().saturating_sub(ahead) };
            let found = if self.at < limit {
                let found = self.trial.find(pattern, bytes, self.at);
                found.filter(|(start, _)| *start < limit)
            } else {
                None
            };
            if let Some((start, end)) = found {
                self.at = end;
                if self.window.is_stored(&(start..end)) {
                    return Ok(Some(self.hit(start, end)));
                }
                continue;
            }
            self.at = self.at.max(limit);
            if self.window.whole {
                self.at = 0;
                if !self.window.next_stretch()? {
                    return Ok(None);
                }
            } else {
                // One byte more than the context: `\b` looks at this byte, and `^` does not match
                // behind it.
                let kept = self.at.min(context + 1);
                self.window.forget(self.at - kept);
                self.at = kept;
            }
            // What is ahead is searched again with what follows it, so the step is much longer.
            self.window.fill(self.at + ahead + STEP.max(8 * pattern.longest()))?;
        }
    }

    fn hit(&self, start: usize, end: usize) -> Hit {
        let context = self.search.context;
        let bytes = self.window.bytes();
        let part = |range: Range<usize>| bytes.get(range).unwrap_or_default().to_vec();
        Hit {
            address: self.window.address_of(start),
            bytes: part(start..end),
            before: part(start.saturating_sub(context)..start),
            after: part(end..bytes.len().min(end + context)),
        }
    }
}

impl<S: PageSource> Iterator for Hits<'_, S> {
    type Item = Result<Hit>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let found = self.advance().transpose();
        self.failed = !matches!(found, Some(Ok(_)));
        found
    }
}

impl<S: PageSource> FusedIterator for Hits<'_, S> {}

/// Bytes searched at once. They fit into a processor's cache.
const STEP: usize = 256 << 10;
