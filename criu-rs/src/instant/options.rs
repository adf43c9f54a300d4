//! The options of an instant capture.

use std::path::PathBuf;

/// The options of an instant capture.
///
/// ```
/// use criu_rs::instant::{Headroom, InstantOptions};
///
/// let options = InstantOptions::new()
///     .plugin("/opt/criu-rs/libcriu_plugin.so")
///     .least(64 << 20)
///     .headroom(Headroom::Accept)
///     .verify(true);
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct InstantOptions {
    pub(super) plugin: Option<PathBuf>,
    pub(super) pool: Option<usize>,
    pub(super) least: u64,
    pub(super) least_per_mapping: u64,
    pub(super) headroom: Headroom,
    pub(super) verify: bool,
    pub(super) early_flags: bool,
}

/// The memory that must be free before tasks get holders.
///
/// In the worst case the tasks write all their private memory while the holders live, and need so
/// much memory once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Headroom {
    /// Looks at the memory of the machine and at every memory cgroup above the tasks. Tasks for
    /// whose worst case there is no room are captured in the ordinary way.
    #[default]
    Check,
    /// Accepts the risk that memory runs out. The kernel then ends a holder, and the capture fails;
    /// the tasks run on.
    Accept,
}

impl InstantOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self {
            plugin: None,
            pool: None,
            least: LEAST,
            least_per_mapping: LEAST_PER_MAPPING,
            headroom: Headroom::Check,
            verify: false,
            early_flags: true,
        }
    }

    /// Uses the plugin at this path. By default `libcriu_plugin.so` is looked for beside the
    /// running program, then in `/usr/lib/criu-rs` and `/usr/local/lib/criu-rs`.
    ///
    /// Only root and the user of this process may be able to write the file.
    pub fn plugin(mut self, path: impl Into<PathBuf>) -> Self {
        self.plugin = Some(path.into());
        self
    }

    /// Sets the bytes of memory for the pages that CRIU reads itself. More pages go to a file
    /// without a name, in the images directory. By default the memory is as large as these pages
    /// are expected to be, and at most a quarter of the free memory of the machine.
    pub fn pool(mut self, bytes: usize) -> Self {
        self.pool = Some(bytes);
        self
    }

    /// Sets the private memory from which on a task gets a holder, in bytes.
    pub fn least(mut self, bytes: u64) -> Self {
        self.least = bytes;
        self
    }

    /// Sets the private memory per mapping from which on a task gets a holder, in bytes. The fork
    /// of a task takes time for each mapping, so a task with many small mappings gains nothing.
    pub fn least_per_mapping(mut self, bytes: u64) -> Self {
        self.least_per_mapping = bytes;
        self
    }

    /// Sets whether free memory is looked for first.
    pub fn headroom(mut self, headroom: Headroom) -> Self {
        self.headroom = headroom;
        self
    }

    /// Compares every page in the images with the holder once more, before the holder ends. This
    /// needs an images directory that holds the pages: a page server is not asked for them.
    pub fn verify(mut self, on: bool) -> Self {
        self.verify = on;
        self
    }

    /// Sets whether the flags of mappings, such as those of madvise(2), are read before the freeze.
    /// By default they are: the kernel looks at all pages to tell them, and in the freeze this
    /// takes 20 to 30 milliseconds for each GiB of small pages.
    ///
    /// Flags that have changed since then are found in the holder, and corrected in the images. A
    /// task whose mappings themselves have changed, and one with locked memory or `MADV_DONTFORK`,
    /// has its flags read in the freeze.
    pub fn early_flags(mut self, on: bool) -> Self {
        self.early_flags = on;
        self
    }
}

impl Default for InstantOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The smallest private memory of a task that gets a holder, in bytes.
const LEAST: u64 = 16 << 20;

/// The smallest private memory per mapping of a task that gets a holder, in bytes.
const LEAST_PER_MAPPING: u64 = 32 << 10;
