//! The memory that captures go into.

use std::{fmt, io};

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::host::tree;
use crate::value::Pid;

/// Memory for captures, allocated in advance and in huge pages if the machine has them.
///
/// Use a pool again for the next capture: memory that has been used before makes a capture quick.
///
/// ```
/// use criu_rs::pages::Pool;
///
/// let pool = Pool::new(64 << 20)?;
/// assert_eq!(pool.size(), 64 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "dropping a pool gives its memory back"]
pub struct Pool(pub(super) MmapMut);

impl Pool {
    /// Allocates a pool of `bytes` bytes; a smaller number than 1 MiB becomes 1 MiB. This takes
    /// about 0.3 s per GiB.
    ///
    /// # Errors
    /// The system does not have so much memory.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let mut map = MmapOptions::new().len(bytes.max(SMALLEST)).map_anon()?;
        // Without huge pages the pool is slower, and as good.
        let _ = map.advise(Advice::HugePage);
        if map.advise(Advice::PopulateWrite).is_err() {
            for byte in map.iter_mut().step_by(4096) {
                *byte = 0;
            }
        }
        Ok(Self(map))
    }

    /// Estimates the bytes that a capture of a process and its descendants takes.
    ///
    /// The processes may use more or less when the capture is made. Pages that do not fit into the
    /// pool are written to disk while the processes are frozen.
    pub fn needed(root: Pid) -> u64 {
        let pages = tree::memory(root);
        // A header stands before each run of pages.
        pages.saturating_add(pages / 64)
    }

    /// Returns the number of bytes in the pool.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.size()).finish()
    }
}

/// The size of the smallest pool, in bytes.
const SMALLEST: usize = 1 << 20;
