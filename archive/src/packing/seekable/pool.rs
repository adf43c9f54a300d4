//! Threads that compress. What goes in comes out in order, and a bounded number of pieces waits.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};

use super::digests::{FrameDigest, frame_digest};
use super::frames::Packer;

/// A piece of the tar stream, cut into frames.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// Sizes of the frames, which are all bytes together.
    pub(super) cuts: Vec<usize>,
}

/// Frames of a piece.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    /// Packed size, unpacked size, and digest of each frame.
    pub(super) frames: Vec<(u32, u32, FrameDigest)>,
}

/// Workers of an archive.
pub(super) enum Pool {
    /// The caller's own thread compresses.
    Own(Box<Packer>, Sha256),
    Threads(Threads),
}

/// Threads that compress, and one that computes the digest of the tar stream.
pub(super) struct Threads {
    /// Taken at the end.
    work: Option<SyncSender<Job>>,
    hash: Option<SyncSender<Arc<Piece>>>,
    hasher: Option<JoinHandle<Sha256>>,
    packers: Vec<JoinHandle<()>>,
    /// Results to come, the oldest first.
    waiting: VecDeque<Receiver<io::Result<Packed>>>,
    most: usize,
}

type Job = (Arc<Piece>, SyncSender<io::Result<Packed>>);

impl Pool {
    /// Starts threads; with one the caller's own thread compresses.
    ///
    /// # Errors
    /// Fails if there is no memory, or no thread.
    pub(super) fn new(level: i32, threads: usize) -> io::Result<Self> {
        if threads <= 1 {
            return Ok(Self::Own(Box::new(Packer::new(level)?), Sha256::new()));
        }
        let threads = threads.min(MOST_THREADS);
        let (work, jobs) = mpsc::sync_channel::<Job>(threads);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut packers = Vec::new();
        for _ in 0..threads {
            let mut packer = Packer::new(level)?;
            let jobs = Arc::clone(&jobs);
            packers.push(start("pack", move || {
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((piece, result)) = job else { return };
                    // Nobody waits if writing has failed.
                    let _ = result.send(pack(&mut packer, &piece));
                }
            })?);
        }
        let (hash, pieces) = mpsc::sync_channel::<Arc<Piece>>(threads);
        let hasher = start("digest", move || {
            let mut whole = Sha256::new();
            pieces.iter().for_each(|piece| whole.update(&piece.bytes));
            whole
        })?;
        let (work, hash, hasher) = (Some(work), Some(hash), Some(hasher));
        let most = 2 * threads;
        let waiting = VecDeque::new();
        Ok(Self::Threads(Threads { work, hash, hasher, packers, waiting, most }))
    }

    /// Hands over a piece, and returns frames that are ready, of this piece or of earlier ones.
    ///
    /// # Errors
    /// Fails if there is no memory.
    pub(super) fn put(&mut self, piece: Piece) -> io::Result<Option<Packed>> {
        match self {
            Self::Own(packer, whole) => {
                whole.update(&piece.bytes);
                pack(packer, &piece).map(Some)
            }
            Self::Threads(threads) => threads.put(piece),
        }
    }

    /// Waits for the next frames; `None` if there are no more.
    ///
    /// # Errors
    /// Those of [`put`](Self::put).
    pub(super) fn next(&mut self) -> io::Result<Option<Packed>> {
        match self {
            Self::Own(..) => Ok(None),
            Self::Threads(threads) => threads.next(),
        }
    }

    /// Returns the digest of all bytes.
    pub(super) fn digest(self) -> io::Result<[u8; 32]> {
        let whole = match self {
            Self::Own(_, whole) => whole,
            Self::Threads(mut threads) => {
                threads.hash = None;
                let hasher = threads.hasher.take().map(JoinHandle::join);
                hasher.and_then(Result::ok).ok_or_else(gone)?
            }
        };
        Ok(whole.finalize().into())
    }
}

impl Threads {
    fn put(&mut self, piece: Piece) -> io::Result<Option<Packed>> {
        let (result, waiting) = mpsc::sync_channel(1);
        let piece = Arc::new(piece);
        let (hash, work) = self.hash.as_ref().zip(self.work.as_ref()).ok_or_else(gone)?;
        hash.send(Arc::clone(&piece)).map_err(|_| gone())?;
        work.send((piece, result)).map_err(|_| gone())?;
        self.waiting.push_back(waiting);
        if self.waiting.len() < self.most { Ok(None) } else { self.next() }
    }

    fn next(&mut self) -> io::Result<Option<Packed>> {
        let Some(first) = self.waiting.pop_front() else { return Ok(None) };
        first.recv().map_err(|_| gone())?.map(Some)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Threads end when nothing can come any more.
        (self.work, self.hash) = (None, None);
        self.waiting.clear();
        self.packers.drain(..).for_each(|packer| drop(packer.join()));
        self.hasher.take().map(JoinHandle::join);
    }
}

fn pack(packer: &mut Packer, piece: &Piece) -> io::Result<Packed> {
    let mut packed = Packed::default();
    let mut rest = piece.bytes.as_slice();
    for cut in &piece.cuts {
        let (frame, behind) = rest.split_at_checked(*cut).unwrap_or((rest, &[]));
        let start = packed.bytes.len();
        let len = packer.pack(frame, &mut packed.bytes)?;
        let digest = frame_digest(packed.bytes.get(start..).unwrap_or_default());
        packed.frames.push((len, u32::try_from(frame.len()).unwrap_or(u32::MAX), digest));
        rest = behind;
    }
    Ok(packed)
}

fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses has ended early")
}

/// More threads than this are not started.
const MOST_THREADS: usize = 64;
