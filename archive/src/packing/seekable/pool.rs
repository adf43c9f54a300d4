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
    /// The bytes of the piece, if nobody reads them any more. Their memory serves another piece.
    pub(super) spent: Vec<u8>,
}

/// Workers of an archive.
pub(super) enum Pool {
    /// The caller's own thread compresses.
    Own(Box<Packer>, Option<Sha256>),
    Threads(Threads),
}

/// Threads that compress, and one that computes the digest of the tar stream if it is asked for.
pub(super) struct Threads {
    /// Taken at the end.
    work: Option<SyncSender<Job>>,
    hasher: Option<Hasher>,
    packers: Vec<JoinHandle<()>>,
    /// Results to come, the oldest first.
    waiting: VecDeque<Receiver<io::Result<Packed>>>,
    most: usize,
}

/// A thread that computes a digest of all pieces.
struct Hasher {
    pieces: SyncSender<Arc<Piece>>,
    thread: JoinHandle<Sha256>,
}

/// A piece, memory for its frames, and the place where they are waited for.
struct Job {
    piece: Arc<Piece>,
    room: Vec<u8>,
    result: SyncSender<io::Result<Packed>>,
}

impl Pool {
    /// Starts threads; with one the caller's own thread compresses.
    ///
    /// # Errors
    /// Fails if there is no memory, or no thread.
    pub(super) fn new(level: i32, threads: usize, has_digest: bool) -> io::Result<Self> {
        if threads <= 1 {
            let whole = has_digest.then(Sha256::new);
            return Ok(Self::Own(Box::new(Packer::new(level)?), whole));
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
                    let Ok(Job { piece, room, result }) = job else { return };
                    // Nobody waits if writing has failed.
                    let _ = result.send(pack(&mut packer, piece, room));
                }
            })?);
        }
        let hasher = has_digest.then(|| Hasher::new(threads)).transpose()?;
        let (work, most) = (Some(work), 2 * threads);
        let waiting = VecDeque::new();
        Ok(Self::Threads(Threads { work, hasher, packers, waiting, most }))
    }

    /// Hands over a piece with memory for its frames, and returns frames that are ready, of this
    /// piece or of earlier ones.
    ///
    /// # Errors
    /// Fails if there is no memory.
    pub(super) fn put(&mut self, piece: Piece, room: Vec<u8>) -> io::Result<Option<Packed>> {
        match self {
            Self::Own(packer, whole) => {
                if let Some(whole) = whole {
                    whole.update(&piece.bytes);
                }
                pack(packer, Arc::new(piece), room).map(Some)
            }
            Self::Threads(threads) => threads.put(piece, room),
        }
    }

    /// Waits for the next frames; `None` if there are no more.
    ///
    /// # Errors
    /// The errors of [`put`](Self::put).
    pub(super) fn next(&mut self) -> io::Result<Option<Packed>> {
        match self {
            Self::Own(..) => Ok(None),
            Self::Threads(threads) => threads.next(),
        }
    }

    /// Returns the digest of all bytes, if it was asked for.
    pub(super) fn digest(self) -> io::Result<Option<[u8; 32]>> {
        let whole = match self {
            Self::Own(_, whole) => whole,
            Self::Threads(mut threads) => threads.hasher.take().map(Hasher::join).transpose()?,
        };
        Ok(whole.map(|whole| whole.finalize().into()))
    }
}

impl Threads {
    fn put(&mut self, piece: Piece, room: Vec<u8>) -> io::Result<Option<Packed>> {
        let (result, waiting) = mpsc::sync_channel(1);
        let piece = Arc::new(piece);
        if let Some(hasher) = &self.hasher {
            hasher.pieces.send(Arc::clone(&piece)).map_err(|_| gone())?;
        }
        let work = self.work.as_ref().ok_or_else(gone)?;
        work.send(Job { piece, room, result }).map_err(|_| gone())?;
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
        self.work = None;
        self.waiting.clear();
        self.packers.drain(..).for_each(|packer| drop(packer.join()));
        self.hasher.take().map(Hasher::join);
    }
}

impl Hasher {
    fn new(most: usize) -> io::Result<Self> {
        let (pieces, all) = mpsc::sync_channel::<Arc<Piece>>(most);
        let thread = start("digest", move || {
            let mut whole = Sha256::new();
            all.iter().for_each(|piece| whole.update(&piece.bytes));
            whole
        })?;
        Ok(Self { pieces, thread })
    }

    fn join(self) -> io::Result<Sha256> {
        drop(self.pieces);
        self.thread.join().map_err(|_| gone())
    }
}

fn pack(packer: &mut Packer, piece: Arc<Piece>, room: Vec<u8>) -> io::Result<Packed> {
    let mut packed = Packed { bytes: room, ..Packed::default() };
    packed.bytes.clear();
    let mut rest = piece.bytes.as_slice();
    for cut in &piece.cuts {
        let (frame, behind) = rest.split_at_checked(*cut).unwrap_or((rest, &[]));
        let start = packed.bytes.len();
        let len = packer.pack(frame, &mut packed.bytes)?;
        let digest = frame_digest(packed.bytes.get(start..).unwrap_or_default());
        packed.frames.push((len, u32::try_from(frame.len()).unwrap_or(u32::MAX), digest));
        rest = behind;
    }
    packed.spent = Arc::into_inner(piece).map(|piece| piece.bytes).unwrap_or_default();
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
