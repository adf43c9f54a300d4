//! Fingerprints of images.

use std::fmt;

use super::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::{self, Kind};
use crate::source::{Blob, Source};

/// A number that tells images apart: a digest of the inventory and of all pagemaps.
///
/// Pages are not read, so a fingerprint takes milliseconds even of large images. Images keep their
/// fingerprint when they are copied or packed. An edit that leaves inventory and pagemaps alone
/// keeps it, too. Another dump of the same tasks has another fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Takes the fingerprint of images.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the files cannot be listed or read; [`ErrorKind::NotAFile`];
    /// [`ErrorKind::TooLarge`] for a file above [`IMAGE`](crate::bounds::IMAGE).
    pub fn of(images: &dyn Source) -> Result<Self> {
        let mut names = images.names()?;
        names.retain(|name| Kind::of_file(name).is_some_and(|(kind, _)| KINDS.contains(&kind)));
        names.sort_unstable();
        let mut digest = Digest::new();
        for name in names {
            let Some(blob) = images.open(&name)? else { continue };
            digest.add(name.as_bytes());
            digest.word(blob.len());
            add_file(&mut digest, &blob).map_err(|kind| Error::new(name, kind))?;
        }
        Ok(Self(digest.finish()))
    }

    pub(super) fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn add_file(digest: &mut Digest, blob: &Blob) -> Result<(), ErrorKind> {
    let (size, limit) = (blob.len(), crate::bounds::IMAGE.get());
    if size > limit {
        return Err(ErrorKind::TooLarge { size, limit });
    }
    let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
    let mut at = 0;
    while at < size {
        let len = piece.len().min(usize::try_from(size - at).unwrap_or(PIECE));
        let Some(part) = piece.get_mut(..len) else { break };
        blob.read_at(at, part).map_err(ErrorKind::Io)?;
        digest.add(part);
        at += len as u64;
    }
    Ok(())
}

const KINDS: [&Kind; 3] = [kind::INVENTORY, kind::PAGEMAP, kind::PAGEMAP_SHMEM];

/// Bytes read at once, a multiple of 8.
const PIECE: usize = 64 << 10;
