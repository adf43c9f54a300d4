//! Forms in which archives are packed, and the ways from packed bytes to the tar stream.

mod forward;
mod sink;
mod spool;

use std::ops::Range;

use criu_images::source::Blob;

use crate::error::{ErrorKind, Fault};
use crate::tar::Found;

pub(crate) use forward::{Opener, Unpacking, unpack};
pub(crate) use sink::{Entry, Form, Sink, Written};
pub(crate) use spool::Spool;

/// Forms in which the tar stream of an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packing {
    /// Not at all.
    Plain,
    /// One gzip stream.
    Gzip,
    /// One zstd frame, or several without a table of contents.
    Zstd,
    /// Independent zstd frames with a table of contents at the end: any page can be read without
    /// what lies before it.
    Seekable,
}

/// The tar stream of an archive, as the packing lets it be read.
#[derive(Debug)]
pub(crate) enum Layer {
    /// Bytes of the tar stream that can be read at any place.
    Anywhere {
        packing: Packing,
        bytes: Blob,
        /// Table of contents of an archive that this crate wrote.
        toc: Option<Toc>,
    },
    /// Bytes that have to be unpacked from the first on.
    Forward { packing: Packing, opener: Opener },
}

/// A table of contents: the members of an archive without a look at their headers. Members and the
/// zeros behind the last one tile the tar stream: there is no gap, and no byte is in two members.
#[derive(Debug)]
pub(crate) struct Toc {
    pub(crate) members: Vec<Listed>,
    /// SHA-256 of the tar stream, as the writer has seen it: the diffID of an OCI layer.
    pub(crate) diff_id: [u8; 32],
    /// SHA-256 of the table in the packed archive, with [`place`](Self::place) as its range.
    pub(crate) digest: [u8; 32],
    /// Range of the table in the packed archive.
    pub(crate) place: Range<u64>,
    /// Range of the working set in the packed archive, if one was recorded. One read brings all of
    /// its pages.
    pub(crate) hot: Option<Range<u64>>,
}

/// A member as the table of contents describes it. The headers in the tar stream are the truth.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Offset of the first header of the member in the tar stream: that of PAX records or a long
    /// name, if the member has any.
    pub(crate) header: u64,
    pub(crate) found: Found,
}

/// Finds the packing of an archive by its first and last bytes.
///
/// # Errors
/// [`ErrorKind::Compressed`] for a form that is not read; [`ErrorKind::Io`].
pub(crate) fn layer(packed: &Blob) -> Result<Layer, Fault> {
    let mut head = [0; HEAD];
    let len = usize::try_from(packed.len()).unwrap_or(usize::MAX).min(head.len());
    let (head, _) = head.split_at_mut(len);
    packed.read_at(0, head)?;
    Ok(match form(head)? {
        Packing::Plain => {
            Layer::Anywhere { packing: Packing::Plain, bytes: packed.clone(), toc: None }
        }
        packing => Layer::Forward { packing, opener: Opener::new(packed.clone(), packing) },
    })
}

/// Returns the packing of bytes by their magic.
fn form(head: &[u8]) -> Result<Packing, ErrorKind> {
    match compressor(head) {
        None => Ok(Packing::Plain),
        Some("gzip") if cfg!(feature = "gzip") => Ok(Packing::Gzip),
        Some("zstd") if cfg!(feature = "zstd") => Ok(Packing::Zstd),
        Some(program) => Err(ErrorKind::Compressed(program)),
    }
}

/// Returns the name of the program that unpacks bytes, by their magic.
pub(crate) fn compressor(head: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], _); 6] = [
        (&[0x1f, 0x8b], "gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (b"\xfd7zXZ", "xz"),
        (b"BZh", "bzip2"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
        (b"LZIP", "lzip"),
    ];
    let skippable = |head: &[u8]| matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    let found = magics.iter().find(|(magic, _)| head.starts_with(magic));
    found.map(|(_, program)| *program).or(skippable(head).then_some("zstd"))
}

/// Bytes that tell the packing.
const HEAD: usize = 6;
