//! A handle that cancels operations.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::system::SystemError;

/// Cancels operations from another thread, such as one that handles signals.
///
/// A cancelled operation stops at CRIU's next action, where CRIU can undo what it has begun. If no
/// action comes within the operation's grace time, criu is ended at the next safe point. An
/// operation that completes before that returns its outcome, and so does a dump whose tasks are
/// saved and already being killed.
///
/// ```
/// use criu_rs::Cancel;
///
/// let cancel = Cancel::new()?;
/// let other = cancel.clone();
/// std::thread::spawn(move || other.cancel()).join().unwrap();
/// assert!(cancel.is_cancelled());
/// # Ok::<(), criu_rs::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cancel(Arc<EventFd>);

impl Cancel {
    /// Returns a handle that is not cancelled yet.
    ///
    /// # Errors
    /// [`SystemError`] if no descriptor is available.
    pub fn new() -> Result<Self, SystemError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_flags(flags)
            .map(|event| Self(Arc::new(event)))
            .map_err(|source| SystemError::new("make an eventfd", source))
    }

    /// Cancels every operation that has this handle, for good.
    pub fn cancel(&self) {
        // Fails only if the counter would pass 2^64 - 2; the descriptor stays readable then.
        let _ = self.0.write(1);
    }

    /// Returns `true` once [`Cancel::cancel`] has been called.
    pub fn is_cancelled(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Cancel {
    /// A descriptor that becomes readable when the handle is cancelled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
