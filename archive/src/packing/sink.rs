//! The way from a tar stream to the bytes of an archive.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

#[cfg(feature = "zstd")]
use super::seekable::Writer;
use crate::member::MemberKind;

/// Forms in which a [`Sink`] packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// No packing.
    Plain,
    /// Independent zstd frames with a table of contents.
    #[cfg(feature = "zstd")]
    Seekable {
        /// Level of zstd: 1 is the quickest, 19 the smallest.
        level: i32,
        /// Threads that compress. The bytes are the same for any number.
        threads: usize,
    },
}

/// A member that is about to be written. Only a table of contents has its attributes.
#[cfg_attr(
    not(feature = "zstd"),
    expect(dead_code, reason = "archives with a table of contents are packed with zstd")
)]
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Name in the archive, as the tar header has it.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) modified: u64,
    /// Bytes of content.
    pub(crate) size: u64,
}

/// Pages of a working set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HotPages {
    /// Name of the member that has the pages, as [`Entry::path`].
    pub(crate) path: Vec<u8>,
    /// Offset in the content, in bytes.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) len: u64,
}

/// A writer that takes a tar stream and packs it.
///
/// For each member the caller calls [`begin`](Self::begin), writes the headers, calls
/// [`content`](Self::content), and writes the content and the zeros behind it. Behind the last
/// member the caller calls [`end`](Self::end), and writes the two blocks of zeros.
pub(crate) struct Sink<W: Write> {
    to: To<W>,
    at: u64,
    member: Option<Open>,
    is_ended: bool,
}

enum To<W: Write> {
    Plain(W, Option<Sha256>),
    #[cfg(feature = "zstd")]
    Seekable(Box<Writer<W>>),
}

/// A member that is being written.
struct Open {
    entry: Entry,
    header: u64,
    /// Offset of the content in the tar stream, once it has begun.
    content: Option<u64>,
}

/// Facts about a written archive.
#[derive(Debug)]
pub(crate) struct Written<W> {
    /// The writer that took the archive.
    pub(crate) out: W,
    /// SHA-256 of the whole tar stream: the diffID of an OCI layer. `None` if it was not wanted.
    pub(crate) diff_id: Option<[u8; 32]>,
    /// Bytes of the tar stream.
    pub(crate) unpacked: u64,
    /// Bytes of the pages that stand in the working set once more.
    pub(crate) hot_pages: u64,
}

impl<W: Write> Sink<W> {
    /// Begins an archive. With `has_digests` the SHA-256 of the tar stream is computed and, for a
    /// seekable archive, those of all members.
    ///
    /// # Errors
    /// Fails if there is no memory, or no thread.
    pub(crate) fn new(out: W, form: Form, has_digests: bool) -> io::Result<Self> {
        let to = match form {
            Form::Plain => To::Plain(out, has_digests.then(Sha256::new)),
            #[cfg(feature = "zstd")]
            Form::Seekable { level, threads } => {
                To::Seekable(Writer::new(out, level, threads, has_digests)?.into())
            }
        };
        Ok(Self { to, at: 0, member: None, is_ended: false })
    }

    /// Names the pages that a restore wants first, in this order. They are written once more, so
    /// that one read brings them. Has to be called before the first member; plain archives take no
    /// notice.
    ///
    /// # Errors
    /// Fails if the directory of temporary files takes no file.
    pub(crate) fn hot(&mut self, pages: Vec<HotPages>) -> io::Result<()> {
        match &mut self.to {
            To::Plain(..) => {
                drop(pages);
                Ok(())
            }
            #[cfg(feature = "zstd")]
            To::Seekable(writer) => writer.hot(pages),
        }
    }

    /// Says that the headers of a member follow.
    ///
    /// # Errors
    /// Fails if the member before is not complete.
    pub(crate) fn begin(&mut self, entry: Entry) -> io::Result<()> {
        self.close()?;
        if self.is_ended {
            return Err(misuse("begins behind the end of the archive", &entry));
        }
        self.member = Some(Open { entry, header: self.at, content: None });
        Ok(())
    }

    /// Says that the content of the member follows.
    ///
    /// # Errors
    /// Fails if there are no whole headers; the errors of writing.
    pub(crate) fn content(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.member else { return Err(io::ErrorKind::InvalidInput.into()) };
        let headers = self.at.saturating_sub(open.header);
        if headers == 0 || headers % BLOCK != 0 || open.content.is_some() {
            return Err(misuse("has no whole headers before its content", &open.entry));
        }
        open.content = Some(self.at);
        match &mut self.to {
            To::Plain(..) => Ok(()),
            #[cfg(feature = "zstd")]
            To::Seekable(writer) => writer.content(&open.entry),
        }
    }

    /// Says that the end of the tar stream follows: zeros, at least two blocks.
    ///
    /// # Errors
    /// Fails if the last member is not complete.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.close()?;
        self.is_ended = true;
        Ok(())
    }

    /// Writes what is left, without a sync of the file.
    ///
    /// # Errors
    /// Fails if the last member is not complete; the errors of writing.
    pub(crate) fn finish(mut self) -> io::Result<Written<W>> {
        self.close()?;
        match self.to {
            To::Plain(mut out, whole) => {
                out.flush()?;
                let diff_id = whole.map(|whole| whole.finalize().into());
                Ok(Written { out, diff_id, unpacked: self.at, hot_pages: 0 })
            }
            #[cfg(feature = "zstd")]
            To::Seekable(writer) => writer.finish(),
        }
    }

    /// Ends the member that is open.
    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.member.take() else { return Ok(()) };
        let filled = open.entry.size.checked_next_multiple_of(BLOCK);
        let end = open.content.zip(filled).and_then(|(start, size)| start.checked_add(size));
        if end != Some(self.at) {
            return Err(misuse("has another size than was said", &open.entry));
        }
        match &mut self.to {
            To::Plain(..) => {}
            #[cfg(feature = "zstd")]
            To::Seekable(writer) => {
                let Open { entry, header, content } = open;
                let headers = (content.unwrap_or(header) - header) / BLOCK;
                writer.done(entry, u32::try_from(headers).map_err(io::Error::other)?);
            }
        }
        Ok(())
    }

    /// Returns how many of `len` bytes belong together, and the offset in the content if they are
    /// content.
    ///
    /// # Errors
    /// Fails for bytes behind the content and the zeros that fill its last block.
    fn part(&self, len: usize) -> io::Result<(usize, Option<u64>)> {
        let Some(open) = &self.member else {
            return if self.is_ended {
                Ok((len, None))
            } else {
                Err(io::ErrorKind::InvalidInput.into())
            };
        };
        let Some(start) = open.content else { return Ok((len, None)) };
        let done = self.at.saturating_sub(start);
        let size = open.entry.size;
        let (left, content) = match size.checked_sub(done).filter(|left| *left > 0) {
            Some(left) => (left, Some(done)),
            None => (size.saturating_sub(done).max(size.next_multiple_of(BLOCK) - done), None),
        };
        match usize::try_from(left).unwrap_or(usize::MAX).min(len) {
            0 => Err(misuse("goes on behind its size", &open.entry)),
            len => Ok((len, content)),
        }
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let part = self.part(bytes.len())?;
        let bytes = bytes.get(..part.0).unwrap_or_default();
        let len = match &mut self.to {
            To::Plain(out, whole) => {
                let len = out.write(bytes)?;
                if let Some(whole) = whole {
                    whole.update(bytes.get(..len).unwrap_or_default());
                }
                len
            }
            #[cfg(feature = "zstd")]
            To::Seekable(writer) => {
                writer.put(bytes, part.1)?;
                bytes.len()
            }
        };
        self.at = self.at.saturating_add(len as u64);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Plain(out, _) => out.flush(),
            // Frames that are not complete wait.
            #[cfg(feature = "zstd")]
            To::Seekable(_) => Ok(()),
        }
    }
}

fn misuse(what: &str, entry: &Entry) -> io::Error {
    let text = format!("{}: {what}", criu_images::Text(&entry.path));
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Unit of headers and contents.
const BLOCK: u64 = 512;
