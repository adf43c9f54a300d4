//! A wait that keeps the processor.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A wait for the answer to a fault that keeps the processor for a moment.
///
/// A thread that sleeps is woken from another processor, which between virtual processors takes
/// longer than the answer itself. A wait that was in vain is not repeated for a while: then the
/// server needs this processor, or is far away.
#[derive(Debug, Default)]
pub(super) struct Awake {
    /// The waits that are left out.
    rest: u32,
}

impl Awake {
    /// Waits until a descriptor is readable, at most [`MOMENT`].
    pub(super) fn wait(&mut self, fd: BorrowedFd<'_>) {
        if let Some(rest) = self.rest.checked_sub(1) {
            self.rest = rest;
            return;
        }
        let end = Instant::now() + MOMENT;
        while let Ok(0) = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO) {
            if Instant::now() >= end {
                self.rest = REST;
                return;
            }
        }
    }
}

/// The longest wait.
const MOMENT: Duration = Duration::from_micros(80);

/// The waits that are left out after one in vain.
const REST: u32 = 100;
