//! Unpacking from the first byte on.

#[cfg(any(feature = "gzip", feature = "zstd"))]
use std::io::BufRead;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criu_images::source::Blob;

use super::{HEAD, Packing, form};
use crate::bounds;
use crate::error::Fault;
use crate::in_order::InOrder;
use crate::tar::Stream;

/// A packed archive that can be unpacked several times, each time from the first byte on.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    packed: Blob,
    packing: Packing,
}

/// A tar stream that is being unpacked. Memory holds the window of the packing and small buffers,
/// never more: a zstd window has at most 128 MiB, and is refused above.
/// Packed bytes that unpack to nothing are bounded, too.
pub(crate) struct Unpacking {
    unpacked: Box<dyn Read + Send>,
    /// Bytes that came.
    made: Arc<AtomicU64>,
}

impl Opener {
    pub(crate) fn new(packed: Blob, packing: Packing) -> Self {
        Self { packed, packing }
    }

    /// Starts a pass.
    ///
    /// # Errors
    /// Fails if there is no memory.
    pub(crate) fn open(&self) -> io::Result<Unpacking> {
        Unpacking::new(InOrder::new(&self.packed), self.packing)
    }
}

/// Unpacks a stream that can be read once, such as a pipe.
///
/// # Errors
/// [`ErrorKind::Compressed`](crate::ErrorKind::Compressed) for a form that is not read;
/// [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(crate) fn unpack(mut input: impl Read + Send + 'static) -> Result<(Packing, Unpacking), Fault> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let packing = form(&head)?;
    Ok((packing, Unpacking::new(Cursor::new(head).chain(input), packing)?))
}

impl Unpacking {
    fn new(packed: impl Read + Send + 'static, packing: Packing) -> io::Result<Self> {
        // Tables and a working set stand in skippable frames.
        let tables = bounds::TOC.get().saturating_mul(4);
        Self::with_idle(packed, packing, bounds::HOT.get().saturating_add(tables))
    }

    /// Starts to unpack a stream that may have so many bytes more than its content accounts for.
    pub(super) fn with_idle(
        packed: impl Read + Send + 'static,
        packing: Packing,
        idle: u64,
    ) -> io::Result<Self> {
        let made = Arc::new(AtomicU64::new(0));
        let packed = Fed { packed, taken: 0, made: Arc::clone(&made), idle };
        let packed = BufReader::with_capacity(BUFFER, packed);
        let unpacked: Box<dyn Read + Send> = match packing {
            Packing::Plain => Box::new(packed),
            #[cfg(feature = "gzip")]
            Packing::Gzip => Box::new(gzip::Members::new(packed)),
            #[cfg(feature = "zstd")]
            Packing::Zstd | Packing::Seekable => Box::new(zstandard::Frames::new(packed)?),
            #[allow(unreachable_patterns, reason = "with all features nothing is left")]
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self { unpacked, made })
    }

    /// Unpacks until the end, at most `limit` bytes, and returns how many bytes came. Checksums at
    /// the end of a packed stream are compared only if the end is reached.
    ///
    /// # Errors
    /// The errors of reading.
    pub(crate) fn drain(&mut self, limit: u64) -> io::Result<u64> {
        io::copy(&mut self.by_ref().take(limit), &mut io::sink())
    }
}

impl Read for Unpacking {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.unpacked.read(buf)?;
        self.made.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

impl Stream for Unpacking {
    fn total(&self) -> Option<u64> {
        None
    }

    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        self.drain(bytes)
    }
}

impl std::fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Unpacking").finish_non_exhaustive()
    }
}

/// Packed bytes, as many as what came of them accounts for. Empty blocks and empty frames, which
/// give nothing, would keep a reader for as long as somebody sends them.
struct Fed<R> {
    packed: R,
    taken: u64,
    made: Arc<AtomicU64>,
    idle: u64,
}

impl<R: Read> Read for Fed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let made = self.made.load(Ordering::Relaxed);
        if self.taken > made.saturating_mul(MOST_PACKED).saturating_add(self.idle) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, EMPTY));
        }
        let len = self.packed.read(buf)?;
        self.taken = self.taken.saturating_add(len as u64);
        Ok(len)
    }
}

/// Most packed bytes for each byte that comes. A frame of one byte has some 20.
const MOST_PACKED: u64 = 32;

const EMPTY: &str = "the packed stream goes on and unpacks to almost nothing";

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

#[cfg(feature = "gzip")]
mod gzip {
    use flate2::bufread::GzDecoder;

    use super::*;

    /// A gzip stream of several members. Zeros at the end are passed over, as by gzip.
    pub(super) enum Members<R> {
        In(Box<GzDecoder<R>>),
        Between,
        End,
    }

    impl<R: BufRead> Members<R> {
        pub(super) fn new(packed: R) -> Self {
            Self::In(GzDecoder::new(packed).into())
        }
    }

    impl<R: BufRead> Read for Members<R> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if buf.is_empty() {
                return Ok(0);
            }
            while let Self::In(member) = self {
                let len = member.read(buf).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => cut("gzip"),
                    _ => error,
                })?;
                if len > 0 {
                    return Ok(len);
                }
                let Self::In(member) = std::mem::replace(self, Self::Between) else { break };
                let mut packed = member.into_inner();
                *self = if next(&mut packed)? {
                    Self::In(GzDecoder::new(packed).into())
                } else {
                    Self::End
                };
            }
            match self {
                Self::Between => Err(io::Error::other("the gzip stream is damaged")),
                _ => Ok(0),
            }
        }
    }

    /// Passes over zeros. Returns false at the end.
    fn next(packed: &mut impl BufRead) -> io::Result<bool> {
        loop {
            let ready = packed.fill_buf()?;
            match ready.iter().position(|byte| *byte != 0) {
                Some(zeros) => {
                    packed.consume(zeros);
                    return Ok(true);
                }
                None if ready.is_empty() => return Ok(false),
                None => {
                    let zeros = ready.len();
                    packed.consume(zeros);
                }
            }
        }
    }
}

#[cfg(feature = "zstd")]
mod zstandard {
    use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};
    use zstd::zstd_safe::DParameter;

    use super::*;

    /// A zstd stream of several frames. Skippable frames are passed over.
    pub(super) struct Frames<R> {
        packed: R,
        decoder: Decoder<'static>,
        /// Set between frames, where the stream may end.
        is_between: bool,
    }

    impl<R: BufRead> Frames<R> {
        pub(super) fn new(packed: R) -> io::Result<Self> {
            let mut decoder = Decoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
            Ok(Self { packed, decoder, is_between: true })
        }
    }

    impl<R: BufRead> Read for Frames<R> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if buf.is_empty() {
                return Ok(0);
            }
            loop {
                let ready = self.packed.fill_buf()?;
                let is_end = ready.is_empty();
                if is_end && self.is_between {
                    return Ok(0);
                }
                let mut input = InBuffer::around(ready);
                let mut output = OutBuffer::around(buf);
                let hint = self.decoder.run(&mut input, &mut output).map_err(explain)?;
                let (used, made) = (input.pos(), output.pos());
                self.packed.consume(used);
                if used > 0 || made > 0 {
                    self.is_between = hint == 0;
                }
                if made > 0 {
                    return Ok(made);
                }
                if hint == 0 {
                    self.decoder.reinit()?;
                } else if is_end {
                    return Err(cut("zstd"));
                }
            }
        }
    }

    fn explain(error: io::Error) -> io::Error {
        if error.to_string().contains("too much memory") {
            return io::Error::new(io::ErrorKind::OutOfMemory, WINDOW);
        }
        io::Error::new(io::ErrorKind::InvalidData, format!("the zstd stream is damaged: {error}"))
    }

    /// Largest window, as a power of two: that of `zstd --long=27`, which zstd's own tool accepts
    /// without being asked.
    const WINDOW_LOG: u32 = 27;

    const WINDOW: &str =
        "the zstd window is above 128 MiB: pack it again, as `zstd -d --long=31 | zstd` does";
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
fn cut(form: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the {form} stream ends early"))
}
