//! Content of members in the making.

use std::fmt;
use std::sync::Arc;

use criu_images::source::{Blob, ReadAt, Source};

use crate::archive::Archive;
use crate::error::{Error, ErrorKind, Fault};

/// Content of a member in the making.
#[derive(Clone)]
pub(crate) enum Content {
    Directory,
    SymbolicLink(Box<[u8]>),
    /// Bytes, and what their place is called in errors.
    Bytes(Blob),
    /// A file of a source of images. The file is opened when it is written.
    File {
        source: Arc<dyn Source>,
        place: String,
        name: String,
        size: u64,
    },
    /// A file of an archive. Members that are one file there are hard links of each other here.
    Member {
        archive: Archive,
        path: String,
        size: u64,
    },
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "Directory",
            Self::SymbolicLink(_) => "SymbolicLink",
            Self::Bytes(_) => "Bytes",
            Self::File { .. } => "File",
            Self::Member { .. } => "Member",
        })
    }
}

impl Content {
    /// Bytes of the content.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Directory | Self::SymbolicLink(_) => 0,
            Self::Bytes(blob) => blob.len(),
            Self::File { size, .. } | Self::Member { size, .. } => *size,
        }
    }

    /// Opens the bytes. `None` for a member without content.
    ///
    /// # Errors
    /// The errors of the place where the bytes are; [`ErrorKind::Changed`].
    pub(crate) fn open(&self) -> Result<Option<Blob>, Error> {
        match self {
            Self::Directory | Self::SymbolicLink(_) => Ok(None),
            Self::Bytes(blob) => Ok(Some(blob.clone())),
            Self::Member { archive, path, .. } => archive.bytes(path).map(Some),
            Self::File { source, place, name, size } => {
                let opened = source.open(name);
                let opened = opened.map_err(|error| Error::new(place, ErrorKind::Images(error)))?;
                let fail = |kind: ErrorKind| Error::new(place, Fault::from(kind).of(name));
                let blob = opened.ok_or_else(|| fail(ErrorKind::Missing))?;
                if blob.len() != *size {
                    return Err(fail(ErrorKind::Changed { before: *size, now: blob.len() }));
                }
                Ok(Some(blob))
            }
        }
    }

    /// Looks at the file again once all of its bytes have been read.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] if the file has grown or shrunk in the meantime.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self::File { source, place, name, size } = self else { return Ok(()) };
        let now = source.size(name);
        let now = now.map_err(|error| Error::new(place, ErrorKind::Images(error)))?.unwrap_or(0);
        if now == *size {
            return Ok(());
        }
        Err(Error::new(place, Fault::from(ErrorKind::Changed { before: *size, now }).of(name)))
    }

    /// Makes an error of a read that failed.
    pub(crate) fn unread(&self, member: &str, error: std::io::Error) -> Error {
        let is_short = error.kind() == std::io::ErrorKind::UnexpectedEof;
        match self {
            Self::File { source, place, name, size } => {
                let now = source.size(name).ok().flatten().unwrap_or(0);
                let kind = if is_short && now < *size {
                    ErrorKind::Changed { before: *size, now }
                } else {
                    error.into()
                };
                Error::new(place, Fault::from(kind).of(name))
            }
            Self::Member { archive, path, .. } => archive.fail(path, error.into()),
            _ => Error::new(member, ErrorKind::from(error)),
        }
    }
}

/// Pieces of bytes, one behind the other.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// Each piece with its first offset.
    pieces: Vec<(u64, Blob)>,
    len: u64,
}

impl Pieces {
    /// Joins pieces.
    pub(crate) fn join(pieces: impl IntoIterator<Item = Blob>) -> Blob {
        let mut joined = Self { pieces: Vec::new(), len: 0 };
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let start = joined.len;
            joined.len = joined.len.saturating_add(piece.len());
            joined.pieces.push((start, piece));
        }
        Blob::new(joined)
    }
}

impl ReadAt for Pieces {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> std::io::Result<()> {
        while !buf.is_empty() {
            let at = self.pieces.partition_point(|(start, _)| *start <= offset);
            let piece = at.checked_sub(1).and_then(|at| self.pieces.get(at));
            let (start, piece) = piece.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            let inner = offset - start;
            let left = piece.len().saturating_sub(inner);
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            if len == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let (here, rest) = buf.split_at_mut(len);
            piece.read_at(inner, here)?;
            offset += len as u64;
            buf = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn pieces_read_as_one() {
        let pieces = [&b"abc"[..], b"", b"d", b"efgh"].map(|piece| Blob::from(piece.to_vec()));
        let joined = Pieces::join(pieces);
        assert_eq!(joined.len(), 8);
        for start in 0..8usize {
            for end in start..=8 {
                let mut buf = vec![0; end - start];
                joined.read_at(start as u64, &mut buf).unwrap();
                assert_eq!(buf, b"abcdefgh"[start..end]);
            }
        }
        assert!(joined.read_at(5, &mut [0; 4]).is_err());
    }
}
