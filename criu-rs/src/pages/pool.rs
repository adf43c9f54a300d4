//! Memory for captures.

use std::{fmt, io};

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::host::tree;
use crate::value::Pid;

/// Memory that captures go into, there from the beginning: huge pages where the machine has them. It is meant to be
/// used again, because memory that has been used is what makes a capture quick.
///
/// ```
/// use criu_rs::pages::Pool;
///
/// let pool = Pool::new(64 << 20)?;
/// assert_eq!(pool.size(), 64 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "dropped, it gives its memory back"]
pub struct Pool(pub(super) MmapMut);

impl Pool {
    /// A pool of so many bytes, a MiB at least. It takes about 0.3 s a GiB.
    ///
    /// # Errors
    /// When there is not as much memory.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let mut map = MmapOptions::new().len(bytes.max(SMALLEST)).map_anon()?;
        // Without huge pages it is slower, and as good.
        let _ = map.advise(Advice::HugePage);
        if map.advise(Advice::PopulateWrite).is_err() {
            for byte in map.iter_mut().step_by(4096) {
                *byte = 0;
            }
        }
        Ok(Self(map))
    }

    /// Bytes that a capture of a process and its descendants takes, about: they may use more, or less, by
    /// the time it is made. What does not fit into a pool goes to disk while they stand still.
    pub fn needed(root: Pid) -> u64 {
        let pages = tree::memory(root);
        // A header stands before each run of pages.
        pages.saturating_add(pages / 64)
    }

    /// Its number of bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.size()).finish()
    }
}

/// Bytes of the smallest pool.
const SMALLEST: usize = 1 << 20;
