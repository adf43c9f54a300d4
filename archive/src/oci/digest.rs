//! Digests of blobs.

use std::fmt;
use std::io::{self, BufReader};
use std::str::FromStr;

use criu_images::source::Blob;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::digest::Sha256 as Sum;
use crate::in_order::InOrder;

/// The SHA-256 of a blob, which is also its name: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Takes a SHA-256 that is known.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The 32 bytes of the SHA-256.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Computes the digest of bytes in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Computes the digest of a blob by reading all of it.
    ///
    /// # Errors
    /// The errors of reading the blob.
    pub fn of_blob(blob: &Blob) -> io::Result<Self> {
        let mut hasher = Hasher::default();
        io::copy(&mut reading(blob), &mut hasher)?;
        Ok(hasher.digest())
    }

    /// Returns the 64 hexadecimal digits, which are also the name of the file in a layout.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.hex())
    }
}

/// A text that is no digest, or one of another algorithm.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 hexadecimal digits in lower case")]
pub struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let digits = text.strip_prefix(ALGORITHM).ok_or(InvalidDigest)?;
        let sum: Sum = digits.parse().map_err(|_| InvalidDigest)?;
        Ok(Self(sum.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A writer that computes the digest of what is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hasher {
    sha256: Sha256,
    written: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.written = self.written.saturating_add(bytes.len() as u64);
    }

    /// Number of bytes written.
    #[cfg(feature = "registry")]
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn digest(self) -> Digest {
        Digest(self.sha256.finalize().into())
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob read from its first byte to its last.
pub(crate) type Reading = BufReader<InOrder>;

/// Begins to read a blob.
pub(crate) fn reading(blob: &Blob) -> Reading {
    BufReader::with_capacity(PIECE, InOrder::new(blob))
}

const ALGORITHM: &str = "sha256:";
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_its_text() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse(), Ok(Digest::of(b"")));
        let upper = empty.to_uppercase();
        for wrong in ["", "sha256:", &empty[..70], &upper, "sha512:00", &format!("{empty}0")] {
            assert_eq!(wrong.parse::<Digest>(), Err(InvalidDigest), "{wrong}");
        }
        let blob = Blob::from(vec![7; PIECE + 1]);
        assert_eq!(Digest::of_blob(&blob).unwrap(), Digest::of(&vec![7; PIECE + 1]));
    }
}
