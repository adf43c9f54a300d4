//! Ways to read and write memory.

use std::str::FromStr;

use super::InvalidValue;

/// The way a pre-dump reads memory (`criu --pre-dump-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PreDumpMode {
    /// `splice`: through pipes, with the tasks frozen until the pipes are filled.
    #[default]
    Splice,
    /// `read`: with process_vm_readv(2), while the tasks run again.
    Read,
}

impl FromStr for PreDumpMode {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "splice" => Ok(Self::Splice),
            "read" => Ok(Self::Read),
            _ => Err(InvalidValue::new("a pre-dump mode", text, "splice or read")),
        }
    }
}

/// The way pages images are read and written (`criu --image-io-mode`). The images are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageIo {
    /// `writeback`: through the page cache.
    #[default]
    Writeback,
    /// `direct`: with `O_DIRECT`, if the file system supports it.
    Direct,
}

impl FromStr for ImageIo {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "writeback" => Ok(Self::Writeback),
            "direct" => Ok(Self::Direct),
            _ => Err(InvalidValue::new("an image I/O mode", text, "writeback or direct")),
        }
    }
}

/// LZ4 compression of pages images (`criu --compress`, `--compress-acceleration` and
/// `--compress-block`).
///
/// A CRIU built without LZ4 (Debian's 4.3) fails; ask [`Criu::features`](crate::Criu::features)
/// first.
///
/// ```
/// use criu_rs::Compression;
///
/// let quick = Compression::new().acceleration(8).block_size(1 << 20);
/// # drop(quick);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Compression {
    pub(crate) acceleration: Option<u32>,
    pub(crate) block_size: Option<u32>,
}

impl Compression {
    /// Returns compression with the best ratio, in blocks of 256 KiB (one page when sent to a page
    /// server or a streamer).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the acceleration, which trades ratio for speed: from 1, the default, to 65537.
    #[must_use]
    pub fn acceleration(mut self, level: u32) -> Self {
        self.acceleration = Some(level);
        self
    }

    /// Sets the number of bytes compressed together: a multiple of the page size, at most 4 MiB.
    #[must_use]
    pub fn block_size(mut self, bytes: u32) -> Self {
        self.block_size = Some(bytes);
        self
    }
}
