//! The way from a tar stream to the bytes of an archive.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::member::MemberKind;

/// Forms in which a [`Sink`] packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Plain,
    /// Independent zstd frames with a table of contents.
    Seekable {
        /// Level of zstd: 1 is the quickest, 19 the smallest.
        level: i32,
        /// Threads that compress. The bytes are the same for any number.
        threads: usize,
    },
}

/// A member that is about to be written.
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

/// A writer that takes a tar stream and packs it.
///
/// For each member the caller calls [`begin`](Self::begin), writes the headers, calls
/// [`content`](Self::content), and writes the content and the zeros behind it. Behind the last
/// member the caller calls [`end`](Self::end), and writes the two blocks of zeros.
#[derive(Debug)]
pub(crate) struct Sink<W> {
    out: W,
    whole: Sha256,
    at: u64,
}

/// Facts about a written archive.
#[derive(Debug)]
pub(crate) struct Written<W> {
    /// Where the archive went.
    pub(crate) out: W,
    /// SHA-256 of the whole tar stream: the diffID of an OCI layer.
    pub(crate) diff_id: [u8; 32],
    /// Bytes of the tar stream.
    pub(crate) unpacked: u64,
}

impl<W: Write> Sink<W> {
    /// Begins an archive.
    ///
    /// # Errors
    /// Fails if there is no memory.
    pub(crate) fn new(out: W, form: Form) -> io::Result<Self> {
        match form {
            Form::Plain => Ok(Self { out, whole: Sha256::new(), at: 0 }),
            Form::Seekable { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Says that the headers of a member follow.
    ///
    /// # Errors
    /// Fails if the member before is not complete; the errors of writing.
    pub(crate) fn begin(&mut self, entry: Entry) -> io::Result<()> {
        drop(entry);
        Ok(())
    }

    /// Says that the content of the member follows.
    ///
    /// # Errors
    /// The errors of writing.
    pub(crate) fn content(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Says that the end of the tar stream follows.
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin).
    pub(crate) fn end(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Writes what is left, without a sync of the file.
    ///
    /// # Errors
    /// The errors of writing.
    pub(crate) fn finish(mut self) -> io::Result<Written<W>> {
        self.out.flush()?;
        let diff_id = self.whole.finalize().into();
        Ok(Written { out: self.out, diff_id, unpacked: self.at })
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.out.write(bytes)?;
        self.whole.update(bytes.get(..len).unwrap_or_default());
        self.at = self.at.saturating_add(len as u64);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
