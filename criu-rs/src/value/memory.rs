//! How memory is read and written.

use std::str::FromStr;

use super::InvalidValue;

/// How a pre-dump reads memory: what `criu --pre-dump-mode` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PreDumpMode {
    /// `splice`: through pipes, with the tasks frozen until they are filled.
    #[default]
    Splice,
    /// `read`: with process_vm_readv, after the tasks have been let go.
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

/// How pages images are read and written: what `criu --image-io-mode` takes. The bytes are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageIo {
    /// `writeback`: through the page cache.
    #[default]
    Writeback,
    /// `direct`: with `O_DIRECT`, where the file system has it.
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

/// LZ4 compression of pages images: what `criu --compress` and its companions take.
///
/// A CRIU built without LZ4 (Debian's 4.3) fails; ask [`Criu::features`](crate::Criu::features) first.
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
    /// Blocks of 256 KiB (one page towards a page server or a streamer), the best ratio.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trades ratio for speed: 1, the default, to 65537.
    pub fn acceleration(mut self, level: u32) -> Self {
        self.acceleration = Some(level);
        self
    }

    /// Bytes that are compressed together: a multiple of the page size, at most 4 MiB.
    pub fn block_size(mut self, bytes: u32) -> Self {
        self.block_size = Some(bytes);
        self
    }
}
