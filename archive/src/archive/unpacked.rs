//! The bytes of an archive that can be unpacked only from the first byte on.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use criu_images::source::ReadAt;

use super::origin::Origin;
use crate::packing::{Opener, Spool};

/// The tar stream of a packed archive. Unpacking begins when a byte is asked for, and goes as far
/// as that byte. What has been unpacked stays in a temporary file without a name.
#[derive(Debug)]
pub(super) struct Unpacked {
    opener: Opener,
    /// Bytes of the tar stream.
    len: u64,
    spool: Mutex<Option<Spool>>,
    origin: Option<Arc<Origin>>,
}

impl Unpacked {
    pub(super) fn new(opener: Opener, len: u64, origin: Option<Arc<Origin>>) -> Self {
        Self { opener, len, spool: Mutex::new(None), origin }
    }

    fn spool(&self) -> io::Result<Spool> {
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spool) = &*spool {
            return Ok(spool.clone());
        }
        // The members were found by another pass.
        let checked = self.origin.as_ref().map_or(Ok(()), |origin| origin.check());
        checked.map_err(io::Error::other)?;
        Ok(spool.insert(Spool::ahead(self.opener.open()?)?).clone())
    }
}

impl ReadAt for Unpacked {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.spool()?.read_at(offset, buf)
    }
}
