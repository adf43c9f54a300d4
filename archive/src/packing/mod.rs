//! Forms in which archives are packed, and the ways from packed bytes to the tar stream.

mod ahead;
mod forward;
#[cfg(feature = "zstd")]
mod seekable;
mod sink;
mod spool;
mod toc;
mod working_set;

use criu_images::source::Blob;

use crate::error::{ErrorKind, Fault};

pub(crate) use forward::{Opener, unpack};
pub(crate) use sink::{Entry, Form, HotPages, Sink, Written};
pub(crate) use spool::Spool;
#[cfg(feature = "registry")]
pub(crate) use spool::temporary_file;
pub(crate) use toc::{Listed, Toc};
pub(crate) use working_set::working_set;

/// Forms in which the tar stream of an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packing {
    /// No packing.
    Plain,
    /// A gzip stream.
    Gzip,
    /// Zstd frames without a table of contents, mostly a single frame.
    Zstd,
    /// Independent zstd frames with a table of contents at the end: any page can be read without
    /// what lies before it.
    Seekable,
}

impl Packing {
    /// Name of the form, as reports have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Seekable => "seekable zstd",
        }
    }
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

/// Finds the packing of an archive by its first and last bytes.
///
/// # Errors
/// [`ErrorKind::Compressed`] for a form that is not read; [`ErrorKind::Malformed`],
/// [`ErrorKind::Value`] and [`ErrorKind::TooLarge`] for a table of contents that is damaged or
/// lies; [`ErrorKind::Io`].
pub(crate) fn layer(packed: &Blob) -> Result<Layer, Fault> {
    find(packed, None)
}

/// Finds the packing of a seekable archive whose table of contents has this SHA-256. Each frame
/// that is read later is compared with its digest.
///
/// # Errors
/// The errors of [`layer`]; [`ErrorKind::Malformed`] if the archive has no table of contents, or
/// another one.
pub(crate) fn layer_verified(packed: &Blob, digest: [u8; 32]) -> Result<Layer, Fault> {
    match find(packed, Some(digest))? {
        layer @ Layer::Anywhere { toc: Some(_), .. } => Ok(layer),
        _ => Err(ErrorKind::Malformed("has no table of contents").into()),
    }
}

fn find(packed: &Blob, digest: Option<[u8; 32]>) -> Result<Layer, Fault> {
    let mut head = [0; HEAD];
    let len = usize::try_from(packed.len()).unwrap_or(usize::MAX).min(head.len());
    let (head, _) = head.split_at_mut(len);
    packed.read_at(0, head)?;
    let packing = form(head)?;
    #[cfg(feature = "zstd")]
    if packing == Packing::Zstd {
        if let Some(layer) = seekable::open(packed, digest)? {
            return Ok(layer);
        }
    }
    #[cfg(not(feature = "zstd"))]
    let _ = digest;
    Ok(match packing {
        Packing::Plain => Layer::Anywhere { packing, bytes: packed.clone(), toc: None },
        packing => Layer::Forward { packing, opener: Opener::new(packed.clone(), packing) },
    })
}

/// Returns the packing of bytes by their magic.
fn form(head: &[u8]) -> Result<Packing, ErrorKind> {
    if head.starts_with(AGE) || head.starts_with(AGE_TEXT) {
        return Err(ErrorKind::Encrypted);
    }
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

/// First bytes of a file that is encrypted with age, of any version.
pub(crate) const AGE: &[u8] = b"age-encryption.org/";

/// First bytes of such a file as text.
pub(crate) const AGE_TEXT: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE";

/// Bytes that tell the packing.
const HEAD: usize = 32;

#[cfg(all(test, feature = "zstd"))]
mod tests;
