//! The table of contents of a seekable archive.

use std::io;
use std::ops::Range;

#[cfg(feature = "zstd")]
use super::seekable::Shared;
use crate::tar::Found;

/// A table of contents: the members of an archive without a look at their headers. Members and the
/// zeros behind the last one tile the tar stream: there is no gap, and no byte is in two members.
#[derive(Debug)]
pub(crate) struct Toc {
    pub(crate) members: Vec<Listed>,
    /// SHA-256 of the tar stream, as the writer has seen it: the diffID of an OCI layer. `None` if
    /// the writer was not asked for digests.
    pub(crate) diff_id: Option<[u8; 32]>,
    /// Set if the archive has digests of its members. It always has those of its frames.
    pub(crate) has_digests: bool,
    /// SHA-256 of the table in the packed archive, with [`place`](Self::place) as its range.
    pub(crate) digest: [u8; 32],
    /// Range of the table in the packed archive.
    pub(crate) place: Range<u64>,
    pub(super) reader: Shared,
}

/// A member as the table of contents describes it. The headers in the tar stream are the truth.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Offset of the first header of the member in the tar stream: that of PAX records or a long
    /// name, if the member has any.
    pub(crate) header: u64,
    /// Number of files with content before this member: the row of its digest.
    pub(crate) row: u64,
    pub(crate) found: Found,
}

#[cfg(feature = "zstd")]
impl Toc {
    /// Brings the working set by one read, packed, into memory. Its pages are served from there
    /// from then on. Returns the bytes of its pages, 0 if none was recorded.
    ///
    /// # Errors
    /// `InvalidData` if the working set is damaged; the errors of reading.
    pub(crate) fn prefetch(&self) -> io::Result<u64> {
        let Some(hot) = self.reader.hot() else { return Ok(0) };
        hot.load()?;
        Ok(hot.unpacked())
    }

    /// Compares each frame that is read from now on with its digest, and the working set with the
    /// frames that have the same pages. Returns false if the working set has other pages.
    ///
    /// # Errors
    /// `InvalidData` for a frame with another digest; the errors of reading.
    pub(crate) fn check_frames(&self) -> io::Result<bool> {
        self.reader.check_frames();
        self.reader.compare_hot()
    }

    /// SHA-256 of a member's content, as the writer has seen it. `row` is that of a member with a
    /// digest.
    ///
    /// # Errors
    /// `InvalidData` if the digests are damaged; the errors of reading.
    pub(crate) fn digest_of(&self, row: u64) -> io::Result<[u8; 32]> {
        self.reader.digest(row)
    }
}

/// The reader of a seekable archive. Without zstd there is none, and so no table of contents.
#[cfg(not(feature = "zstd"))]
#[derive(Debug)]
pub(super) enum Shared {}

#[cfg(not(feature = "zstd"))]
impl Toc {
    pub(crate) fn prefetch(&self) -> io::Result<u64> {
        match self.reader {}
    }

    pub(crate) fn check_frames(&self) -> io::Result<bool> {
        match self.reader {}
    }

    pub(crate) fn digest_of(&self, _row: u64) -> io::Result<[u8; 32]> {
        match self.reader {}
    }
}

impl Listed {
    /// Returns true for a member whose content has a digest in an archive with digests.
    pub(crate) fn has_content(&self) -> bool {
        self.found.sort == crate::tar::Sort::File && self.found.size > 0
    }
}
