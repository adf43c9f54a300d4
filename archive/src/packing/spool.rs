//! Bytes of a stream that are kept as far as somebody has asked for them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{env, fmt, fs};

use criu_images::source::{Blob, ReadAt};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::ahead::Ahead;
use crate::tar::Stream;

/// Bytes of a stream, readable at any place. The stream is read forward, as far as somebody asks.
/// The bytes that were read are in an unlinked temporary file, with holes for zeros. Memory holds
/// one piece.
/// An error of the stream stays: bytes before it can be read, bytes behind it cannot. Cheap to
/// clone; several threads may read at once.
#[derive(Clone, Debug)]
pub(crate) struct Spool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: File,
    /// Bytes that are kept.
    end: AtomicU64,
    state: Mutex<State>,
    /// Told when a piece has come, and at the end.
    change: Condvar,
}

enum State {
    /// Nobody reads the stream.
    Ready(Source),
    /// A thread reads a piece.
    Busy,
    /// The stream has ended.
    Ended,
    /// The stream has failed.
    Failed(io::ErrorKind, Arc<str>),
}

struct Source {
    stream: Box<dyn Read + Send>,
    piece: Vec<u8>,
}

impl Spool {
    /// Makes a spool of a stream, which may be one that can be read once.
    ///
    /// # Errors
    /// Fails if the directory of temporary files takes no file, with its path.
    pub(crate) fn new(stream: impl Read + Send + 'static) -> io::Result<Self> {
        let source = Source { stream: Box::new(stream), piece: Vec::new() };
        Ok(Self(Arc::new(Inner {
            kept: temporary_file()?,
            end: AtomicU64::new(0),
            state: Mutex::new(State::Ready(source)),
            change: Condvar::new(),
        })))
    }

    /// Makes a spool of a stream that another thread reads ahead, such as one that is unpacked.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new); the system starts no thread.
    pub(crate) fn ahead(stream: impl Read + Send + 'static) -> io::Result<Self> {
        Self::new(Ahead::new(stream)?)
    }

    /// Reads the stream until `offset` or its end, and returns how many bytes are kept.
    ///
    /// # Errors
    /// The error of the stream; the error of writing the temporary file.
    pub(crate) fn reach(&self, offset: u64) -> io::Result<u64> {
        let end = self.0.end.load(Ordering::Acquire);
        if end >= offset {
            return Ok(end);
        }
        let mut state = self.0.lock();
        loop {
            let end = self.0.end.load(Ordering::Acquire);
            if end >= offset {
                return Ok(end);
            }
            match std::mem::replace(&mut *state, State::Busy) {
                State::Ready(source) => {
                    drop(state);
                    let turn = Turn(&self.0, None);
                    turn.take(source);
                    state = self.0.lock();
                }
                State::Busy => {
                    let waited = self.0.change.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
                State::Ended => {
                    *state = State::Ended;
                    return Ok(end);
                }
                State::Failed(kind, text) => {
                    let error = io::Error::new(kind, text.to_string());
                    *state = State::Failed(kind, text);
                    return Err(error);
                }
            }
        }
    }

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// The errors of [`reach`](Self::reach); `UnexpectedEof` behind the end of the stream.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if self.reach(end)? < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.kept.read_exact_at(buf, offset)
    }

    /// The temporary file.
    #[cfg(all(test, feature = "zstd"))]
    pub(super) fn kept(&self) -> &File {
        &self.0.kept
    }

    /// Returns the first `len` bytes of the stream, which need not have come yet.
    pub(crate) fn blob(&self, len: u64) -> Blob {
        Blob::new(Part { spool: self.clone(), len })
    }

    /// Returns the bytes as a stream from the first on. Bytes passed over are kept, too.
    pub(crate) fn stream(&self) -> SpoolStream {
        SpoolStream { spool: self.clone(), at: 0 }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of a thread that reads a piece. The state is put back even if the stream panics.
struct Turn<'s>(&'s Inner, Option<State>);

impl Turn<'_> {
    fn take(mut self, mut source: Source) {
        self.1 = Some(match self.0.piece(&mut source) {
            Ok(0) => State::Ended,
            Ok(_) => State::Ready(source),
            Err(error) => State::Failed(error.kind(), error.to_string().into()),
        });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let broken = || State::Failed(io::ErrorKind::Other, "reading the stream panicked".into());
        *self.0.lock() = self.1.take().unwrap_or_else(broken);
        self.0.change.notify_all();
    }
}

impl Inner {
    /// Reads a piece, and keeps it. Returns its size.
    fn piece(&self, source: &mut Source) -> io::Result<usize> {
        source.piece.resize(PIECE, 0);
        let mut len = 0;
        let mut result = Ok(());
        while let Some(rest) = source.piece.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match source.stream.read(rest) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        // What came before an error can be read.
        let start = self.end.load(Ordering::Relaxed);
        let piece = source.piece.get(..len).unwrap_or_default();
        let end = start.saturating_add(len as u64);
        self.keep(start, piece).and_then(|()| self.kept.set_len(end)).map_err(|error| {
            let place = env::temp_dir();
            let text = format!("a temporary file in {}: {error}", place.display());
            io::Error::new(error.kind(), text)
        })?;
        self.end.store(end, Ordering::Release);
        result.map(|()| len)
    }

    fn keep(&self, mut at: u64, piece: &[u8]) -> io::Result<()> {
        // Blocks with something but zeros that follow each other are written at once.
        let is_zero = |block: &[u8]| {
            block.chunks(ZEROS.len()).all(|part| ZEROS.get(..part.len()) == Some(part))
        };
        let mut blocks = piece.chunks(BLOCK).peekable();
        let mut rest = piece;
        while blocks.peek().is_some() {
            let mut take = |zero: bool| {
                let mut len = 0;
                while let Some(block) = blocks.next_if(|block| is_zero(block) == zero) {
                    len += block.len();
                }
                len
            };
            let zeros = take(true);
            let data = take(false);
            let (_, behind) = rest.split_at_checked(zeros).unwrap_or_default();
            let (data, behind) = behind.split_at_checked(data).unwrap_or_default();
            at = at.saturating_add(zeros as u64);
            self.kept.write_all_at(data, at)?;
            at = at.saturating_add(data.len() as u64);
            rest = behind;
        }
        Ok(())
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(_) => f.write_str("Ready"),
            Self::Busy => f.write_str("Busy"),
            Self::Ended => f.write_str("Ended"),
            Self::Failed(_, text) => f.debug_tuple("Failed").field(text).finish(),
        }
    }
}

/// The first bytes of a spool, of a known number.
#[derive(Debug)]
struct Part {
    spool: Spool,
    len: u64,
}

impl ReadAt for Part {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.spool.read_at(offset, buf)
    }
}

/// Bytes of a spool from the first on.
#[derive(Debug)]
pub(crate) struct SpoolStream {
    spool: Spool,
    at: u64,
}

impl Read for SpoolStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let end = self.spool.reach(self.at.saturating_add(buf.len() as u64))?;
        let left = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let (buf, _) = buf.split_at_mut(left.min(buf.len()));
        self.spool.read_at(self.at, buf)?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }
}

impl Stream for SpoolStream {
    fn total(&self) -> Option<u64> {
        None
    }

    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        let from = self.at;
        let to = from.saturating_add(bytes);
        self.at = self.spool.reach(to)?.min(to);
        Ok(self.at.saturating_sub(from))
    }
}

/// Makes a file without a name in the directory of temporary files. Nobody else can open it.
pub(crate) fn temporary_file() -> io::Result<File> {
    let directory = env::temp_dir();
    let made = nameless(&directory).or_else(|error| match error.raw_os_error() {
        // File systems without O_TMPFILE.
        Some(libc_code) if libc_code == nix::libc::EOPNOTSUPP => removed(&directory),
        _ => Err(error),
    });
    made.map_err(|error| {
        let text = format!("a temporary file in {}: {error}", directory.display());
        io::Error::new(error.kind(), text)
    })
}

fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_EXCL;
    Ok(nix::fcntl::open(directory, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

/// Makes a file, and removes its name.
fn removed(directory: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).create_new(true).mode(0o600);
    let process = std::process::id();
    for number in 0..1000 {
        let path = directory.join(format!(".criu-archive-{process}-{number}"));
        match options.open(&path) {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Bytes that are read from the stream at once.
const PIECE: usize = 256 << 10;

/// Zeros to compare with: comparing slices is faster than looking at single bytes.
const ZEROS: [u8; 64] = [0; 64];

/// Unit of holes.
const BLOCK: usize = 4096;
