//! The loop that drives a page session, for every receiver.

use criu_images::memory::PageObject;

use super::error::PagesError;
use super::proto::Layout;
use super::session::{PageSession, PageStep};

/// A receiver of a page session: brings the session's bytes and does what its steps say.
///
/// [`drive`] calls the methods. The session ends with the first error that one of them returns. A
/// receiver that keeps nothing needs only the required methods:
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// use criu_rs::pages::{Client, Layout, PageReceiver, PageSession, PagesError, Socket, drive};
///
/// struct Discard(UnixStream, Vec<u8>);
///
/// impl PageReceiver for Discard {
///     fn unread(&self, _: &PageSession) -> &[u8] {
///         &self.1
///     }
///     fn take(&mut self, bytes: usize) -> Result<(), PagesError> {
///         self.1.drain(..bytes);
///         Ok(())
///     }
///     fn receive(&mut self, _: &mut PageSession, _: usize) -> Result<bool, PagesError> {
///         let mut piece = [0; 4096];
///         let size = self.0.read(&mut piece).unwrap_or(0);
///         self.1.extend(&piece[..size]);
///         Ok(size > 0)
///     }
///     fn answer(&mut self, bytes: &[u8]) -> Result<(), PagesError> {
///         let failed = |source| PagesError::Socket { what: "answer", source };
///         self.0.write_all(bytes).map_err(failed)
///     }
/// }
///
/// let (near, far) = UnixStream::pair()?;
/// let client = std::thread::spawn(move || Client::new(Socket::from(far), Layout::Wide).close());
/// let closed = drive(&mut PageSession::new(None), &mut Discard(near, Vec::new()))?;
/// assert!(closed && client.join().is_ok_and(|sent| sent.is_ok()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait PageReceiver {
    /// Returns the received bytes that have not been taken yet. A receiver may hold some back until
    /// more have come.
    fn unread(&self, session: &PageSession) -> &[u8];

    /// Takes the first `bytes` of the unread bytes, after the step that they asked for.
    ///
    /// # Errors
    /// The receiver's own.
    fn take(&mut self, bytes: usize) -> Result<(), PagesError>;

    /// Receives more bytes. The session needs at least `need` unread bytes in all; fewer may come
    /// at once. Returns `false` when no more will come.
    ///
    /// A receiver may move bytes of a run without a buffer: it tells the session by
    /// [`passed`](PageSession::passed).
    ///
    /// # Errors
    /// The receiver's own.
    fn receive(&mut self, session: &mut PageSession, need: usize) -> Result<bool, PagesError>;

    /// Receives more bytes or settles the layout, for [`PageStep::MoreOrAssume`]. The default
    /// settles on the narrow layout.
    ///
    /// # Errors
    /// The receiver's own.
    fn receive_or_assume(&mut self, session: &mut PageSession) -> Result<(), PagesError> {
        session.assume(Layout::Narrow);
        Ok(())
    }

    /// Sends an answer to the peer.
    ///
    /// # Errors
    /// The receiver's own.
    fn answer(&mut self, bytes: &[u8]) -> Result<(), PagesError>;

    /// Begins an object. The default does nothing.
    ///
    /// # Errors
    /// The receiver's own.
    fn open(&mut self, _object: PageObject) -> Result<(), PagesError> {
        Ok(())
    }

    /// Returns `true` if the parent set has an object. The default has no parent set.
    ///
    /// # Errors
    /// The receiver's own.
    fn parent_has(&mut self, _object: PageObject) -> Result<bool, PagesError> {
        Ok(false)
    }

    /// Adds a run of pages to the open object. As many bytes follow as the session's
    /// [`payload`](PageSession::payload) says. The default does nothing.
    ///
    /// # Errors
    /// The receiver's own.
    fn run(
        &mut self,
        _session: &PageSession,
        _address: u64,
        _pages: u64,
        _flags: u16,
    ) -> Result<(), PagesError> {
        Ok(())
    }

    /// Keeps the first `bytes` of the unread bytes, which belong to the run. The default does
    /// nothing.
    ///
    /// # Errors
    /// The receiver's own.
    fn payload(&mut self, _bytes: usize) -> Result<(), PagesError> {
        Ok(())
    }

    /// Sends pages of a task, at most `pages` from `address` on. The header before them repeats
    /// `id`.
    ///
    /// # Errors
    /// The receiver's own. The default has no pages and returns [`PagesError::NoPage`].
    fn send(
        &mut self,
        _session: &PageSession,
        pid: u32,
        address: u64,
        _pages: u64,
        _id: u64,
    ) -> Result<(), PagesError> {
        Err(serves_nothing(pid, address))
    }

    /// Ends the session: the peer has sent everything. The default answers 0, for success.
    ///
    /// # Errors
    /// The receiver's own.
    fn close(&mut self) -> Result<(), PagesError> {
        self.answer(&0i32.to_ne_bytes())
    }
}

/// Drives a session until it is closed. Returns `false` if its bytes end before that.
///
/// # Errors
/// [`PagesError::Protocol`] if the peer breaks the protocol, and the receiver's errors.
pub fn drive<R: PageReceiver>(
    session: &mut PageSession,
    receiver: &mut R,
) -> Result<bool, PagesError> {
    loop {
        let (taken, step) = session.next(receiver.unread(session))?;
        match step {
            PageStep::Payload(bytes) => receiver.payload(bytes)?,
            PageStep::Run { address, pages, flags } => {
                receiver.run(session, address, pages, flags)?;
            }
            PageStep::More(need) => {
                if !receiver.receive(session, need)? {
                    return Ok(false);
                }
            }
            PageStep::MoreOrAssume => receiver.receive_or_assume(session)?,
            PageStep::Open { object, answer } => {
                receiver.open(object)?;
                if answer {
                    let parent = receiver.parent_has(object)?;
                    receiver.answer(&[u8::from(parent)])?;
                }
            }
            PageStep::Parent { object } => {
                let parent = receiver.parent_has(object)?;
                receiver.answer(&i32::from(parent).to_ne_bytes())?;
            }
            PageStep::Get { pid, address, pages, id } => {
                receiver.send(session, pid, address, pages, id)?;
            }
            PageStep::Close => {
                receiver.take(taken)?;
                receiver.close()?;
                return Ok(true);
            }
            PageStep::Ended => return Ok(true),
        }
        receiver.take(taken)?;
    }
}

/// Returns the error of an end that has no pages to send.
pub(super) fn serves_nothing(pid: u32, address: u64) -> PagesError {
    PagesError::NoPage { pid, address, why: "this server serves no pages".to_owned() }
}
