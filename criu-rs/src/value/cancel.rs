//! Cancelling an operation from elsewhere.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::system::SystemError;

/// Cancels the operations it was given to, from another thread or from a signal handler's thread.
///
/// An operation that is cancelled stops at CRIU's next action, where CRIU can undo what it has begun;
/// where none comes within the operation's grace time, criu is ended at the next safe point. One that
/// is complete before that returns its outcome after all, and so does a dump whose tasks are saved and being killed.
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
    /// One that is not cancelled yet.
    ///
    /// # Errors
    /// [`SystemError`] when no descriptor can be had.
    pub fn new() -> Result<Self, SystemError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_flags(flags)
            .map(|event| Self(Arc::new(event)))
            .map_err(|source| SystemError::new("make an eventfd", source))
    }

    /// Cancels, for good.
    pub fn cancel(&self) {
        // It can fail only when it has been called 2^64 times.
        let _ = self.0.write(1);
    }

    /// Whether [`Cancel::cancel`] has been called.
    pub fn is_cancelled(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Cancel {
    /// Readable from the moment of cancelling.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
