//! A blob of a registry, read by ranges.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use std::{fmt, thread};

use criu_images::source::ReadAt;
use reqwest::blocking::Response;
use reqwest::header::RANGE;
use reqwest::{Method, StatusCode};

use super::http::{Action, Body, Http, broken, check_range, is_busy};
use crate::error::{Error, ErrorKind, Fault};
use crate::oci::{Descriptor, Digest, Hasher, check};
use crate::packing::temporary_file;

/// A blob of a registry. Reads fetch the blocks that they need, neighbours in one request, and keep
/// the last ones in memory. Threads that need the same block wait for one request.
pub(super) struct Ranges {
    http: Arc<Http>,
    digest: Digest,
    size: u64,
    state: Mutex<State>,
    /// Rung when a block has come, or has not.
    bell: Condvar,
    /// The whole blob, of a registry that does not answer ranges.
    whole: OnceLock<File>,
    /// Held by the thread that takes the whole blob.
    taking: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Blocks by number.
    blocks: BTreeMap<u64, Block>,
    /// The number of the next use.
    clock: u64,
    /// Block after the last one that was fetched, and the blocks to fetch if that is wanted next.
    next: u64,
    ahead: u64,
}

enum Block {
    /// Another thread fetches it.
    Coming,
    Here {
        bytes: Arc<[u8]>,
        used: u64,
    },
}

impl Ranges {
    pub(super) fn new(http: Arc<Http>, blob: &Descriptor) -> Self {
        let (state, bell) = (Mutex::default(), Condvar::new());
        let (whole, taking) = (OnceLock::new(), Mutex::default());
        Self { http, digest: blob.digest, size: blob.size, state, bell, whole, taking }
    }

    fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut at = offset;
        while at < end {
            if let Some(file) = self.whole.get() {
                let start = usize::try_from(at - offset).unwrap_or(usize::MAX);
                let rest = buf.get_mut(start..).unwrap_or_default();
                return Ok(file.read_exact_at(rest, at)?);
            }
            let number = at / BLOCK;
            let last = (end - 1) / BLOCK;
            let Some(bytes) = self.block(number, last)? else { continue };
            let from = usize::try_from(at % BLOCK).unwrap_or(usize::MAX);
            let to = usize::try_from(at - offset).unwrap_or(usize::MAX);
            let found = bytes.get(from..).unwrap_or_default();
            let wanted = buf.get_mut(to..).unwrap_or_default();
            if found.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            wanted.iter_mut().zip(found).for_each(|(to, from)| *to = *from);
            at = at.saturating_add(found.len() as u64);
        }
        Ok(())
    }

    /// Returns a block. Fetches it if it is missing, together with the missing blocks after it up
    /// to the last one. `None` if the whole blob was fetched instead.
    fn block(&self, number: u64, last: u64) -> Result<Option<Arc<[u8]>>, Fault> {
        let mut state = self.state();
        loop {
            state.clock += 1;
            let now = state.clock;
            match state.blocks.get_mut(&number) {
                Some(Block::Here { bytes, used }) => {
                    *used = now;
                    return Ok(Some(Arc::clone(bytes)));
                }
                Some(Block::Coming) => {
                    state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
                    if self.whole.get().is_some() {
                        return Ok(None);
                    }
                }
                None => break,
            }
        }
        let after = self.size.div_ceil(BLOCK);
        // Who reads on gets more at once, up to a bound.
        state.ahead = if number == state.next { (state.ahead * 2).clamp(1, MOST_AHEAD) } else { 0 };
        let wanted = last.saturating_add(1).max(number + 1 + state.ahead);
        let most = wanted.min(after).min(number + MOST_AT_ONCE);
        let missing = (number + 1..most).find(|next| state.blocks.contains_key(next));
        let end = missing.unwrap_or(most);
        state.next = end;
        for block in number..end {
            state.blocks.insert(block, Block::Coming);
        }
        drop(state);
        let mut turn = Turn { ranges: self, blocks: number..end };
        // A manifest can claim any size.
        let end_at = end.saturating_mul(BLOCK).min(self.size);
        let Some(bytes) = self.fetch(number.saturating_mul(BLOCK), end_at)? else {
            return Ok(None);
        };
        let mut state = self.state();
        turn.blocks = 0..0;
        Ok(self.keep(&mut state, number, &bytes))
    }

    /// Keeps blocks that have come, and drops those that were not used for the longest time.
    /// Returns the first one.
    fn keep(&self, state: &mut State, number: u64, bytes: &[u8]) -> Option<Arc<[u8]>> {
        let size = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        for (block, bytes) in (number..).zip(bytes.chunks(size)) {
            let used = state.clock;
            state.blocks.insert(block, Block::Here { bytes: bytes.into(), used });
        }
        let first = match state.blocks.get(&number) {
            Some(Block::Here { bytes, .. }) => Some(Arc::clone(bytes)),
            _ => None,
        };
        if state.blocks.len() > MOST_KEPT {
            let used = |block: &Block| match block {
                Block::Here { used, .. } => *used,
                Block::Coming => u64::MAX,
            };
            let mut ages: Vec<u64> = state.blocks.values().map(used).collect();
            ages.sort_unstable();
            // Half of them at once: this is rare then.
            let middle = ages.get(ages.len() / 2).copied().unwrap_or(0);
            state.blocks.retain(|_, block| used(block) >= middle);
        }
        first
    }

    /// Fetches a range. `None` if the registry sent the whole blob, which is kept.
    fn fetch(&self, start: u64, end: u64) -> Result<Option<Vec<u8>>, Fault> {
        let mut attempt = 0;
        loop {
            let (fault, again) = match self.try_fetch(start, end) {
                Ok(bytes) => return Ok(bytes),
                Err(Failed { fault, again }) => (fault, again),
            };
            attempt += 1;
            if !again || attempt >= ATTEMPTS {
                return Err(fault);
            }
            thread::sleep(PAUSE * attempt);
        }
    }

    fn try_fetch(&self, start: u64, end: u64) -> Result<Option<Vec<u8>>, Failed> {
        if self.whole.get().is_some() {
            return Ok(None);
        }
        let url = self.http.url(&format!("blobs/{}", self.digest)).map_err(Failed::for_good)?;
        let range = format!("bytes={start}-{}", end - 1);
        let make = |request: reqwest::blocking::RequestBuilder| request.header(RANGE, &range);
        let response = self.http.send(WHAT, Action::Pull, &Method::GET, &url, make);
        let response = response.map_err(Failed::for_now)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::OK => {
                self.take_whole(response)?;
                return Ok(None);
            }
            _ => {
                let fault = self.http.refusal(WHAT, response);
                let again = is_busy(&fault);
                return Err(Failed { fault, again });
            }
        }
        check_range(&response, start..end, self.size).map_err(Failed::for_good)?;
        let need = end - start;
        let mut bytes = Vec::with_capacity(usize::try_from(need).unwrap_or(0));
        let read = Body::new(response, need.saturating_add(1)).read_to_end(&mut bytes);
        self.http.fetched(bytes.len() as u64);
        read.map_err(|error| Failed::for_now(broken(&error)))?;
        let left = bytes.len() as u64;
        if left != need {
            let kind = ErrorKind::Truncated { need, left };
            return Err(Failed { fault: kind.into(), again: left < need });
        }
        Ok(Some(bytes))
    }

    /// Keeps the whole blob in a file without a name, and checks its digest. Threads that get the
    /// whole blob at the same time wait for the first of them.
    fn take_whole(&self, response: Response) -> Result<(), Failed> {
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.whole.get().is_some() {
            return Ok(());
        }
        let unwritable = |error| Failed::for_good(ErrorKind::Write(error).into());
        let mut file = temporary_file().map_err(unwritable)?;
        let mut hasher = Hasher::default();
        let mut body = Body::new(response, self.size.saturating_add(1));
        let mut piece = vec![0; PIECE];
        loop {
            let read = body.read(&mut piece);
            let read = read.map_err(|error| Failed::for_now(broken(&error)))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            self.http.fetched(bytes.len() as u64);
            hasher.update(bytes);
            file.write_all(bytes).map_err(unwritable)?;
        }
        let (need, left) = (self.size, hasher.written());
        if left > need {
            let kind = ErrorKind::TooLarge { size: left, limit: need };
            return Err(Failed::for_good(kind.into()));
        }
        if left < need {
            return Err(Failed::for_now(ErrorKind::Truncated { need, left }.into()));
        }
        check(hasher.digest(), self.digest).map_err(Failed::for_good)?;
        let _ = self.whole.set(file);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for Ranges {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.fill(offset, buf).map_err(|fault| {
            let kind = match fault.kind() {
                ErrorKind::Io(error) => error.kind(),
                _ => io::ErrorKind::Other,
            };
            io::Error::new(kind, Error::new(self.digest.to_string(), fault))
        })
    }
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = self.digest.to_string();
        f.debug_struct("Ranges").field("digest", &digest).finish_non_exhaustive()
    }
}

/// Blocks that a thread fetches. When the value is dropped, also by a panic, other threads may
/// fetch those that have not come.
struct Turn<'r> {
    ranges: &'r Ranges,
    blocks: Range<u64>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.ranges.state();
        for block in self.blocks.clone() {
            state.blocks.remove(&block);
        }
        drop(state);
        self.ranges.bell.notify_all();
    }
}

/// A range that did not come.
struct Failed {
    fault: Fault,
    /// True if another attempt may help.
    again: bool,
}

impl Failed {
    fn for_good(fault: Fault) -> Self {
        Self { fault, again: false }
    }

    fn for_now(fault: Fault) -> Self {
        // A refused login stays refused.
        let again = matches!(fault.kind(), ErrorKind::Unreachable(_) | ErrorKind::Truncated { .. });
        Self { fault, again }
    }
}

const WHAT: &str = "fetch a part of the layer";
/// Bytes of a block.
const BLOCK: u64 = 64 << 10;
/// The most blocks of one request: 4 MiB.
const MOST_AT_ONCE: u64 = 64;
/// The most blocks that are fetched before they are wanted: 1 MiB.
const MOST_AHEAD: u64 = 16;
/// The most blocks that are kept: 32 MiB.
const MOST_KEPT: usize = 512;
const PIECE: usize = 256 << 10;
/// Requests for a range before it is given up, and the pause after the first.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
