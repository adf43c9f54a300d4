//! The counters of the demo's processes, in memory that they share.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// Everything that is counted, each in its place in the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    Thread1,
    Thread2,
    Thread3,
    /// Times that a thread has found its memory unchanged.
    Memory,
    /// Numbers that have come out of the pipe.
    Pipe,
    /// Numbers that have come back over the socket.
    Socket,
    /// The sum that two processes add up together.
    Shared,
    /// Numbers that were lost or came in the wrong order. It stays zero.
    Faults,
}

/// The counters to look at, with a description.
pub(crate) const SHOWN: &[(Counter, &str)] = &[
    (Counter::Thread1, "thread 1"),
    (Counter::Thread2, "thread 2"),
    (Counter::Thread3, "thread 3"),
    (Counter::Memory, "checks of 8 MiB of memory"),
    (Counter::Pipe, "numbers through the pipe"),
    (Counter::Socket, "round trips over the socket"),
    (Counter::Shared, "sum that two processes share"),
];

/// The counters, mapped.
pub(crate) struct Counters(MmapRegion);

impl Counters {
    pub(crate) fn map(file: File) -> io::Result<Self> {
        MmapRegion::from_file(FileOffset::new(file, 0), SIZE).map(Self).map_err(io::Error::other)
    }

    pub(crate) fn of(&self, counter: Counter) -> io::Result<&AtomicU64> {
        self.0.get_atomic_ref(counter as usize * 8).map_err(io::Error::other)
    }
}

/// The state of the counters at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot([u8; SIZE]);

impl Snapshot {
    /// Returns the state before anything was counted.
    pub(crate) fn zero() -> Self {
        Self([0; SIZE])
    }

    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        let mut bytes = [0; SIZE];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self(bytes))
    }

    pub(crate) fn of_bytes(
        fill: impl FnOnce(&mut [u8]) -> criu_images::Result<()>,
    ) -> criu_images::Result<Self> {
        let mut bytes = [0; SIZE];
        fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    pub(crate) fn get(&self, counter: Counter) -> u64 {
        let place = counter as usize * 8;
        let bytes = self.0.get(place..place + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_ne_bytes(bytes.unwrap_or_default())
    }

    /// Tells if every counter is beyond its earlier state.
    pub(crate) fn is_beyond(&self, earlier: &Self) -> bool {
        SHOWN.iter().all(|&(counter, _)| self.get(counter) > earlier.get(counter))
    }
}

/// The size of the shared memory: one page, wherever this runs.
pub(crate) const SIZE: usize = 4096;
