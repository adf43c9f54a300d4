//! Firecracker's hand-over: the memory of a virtual machine that is loaded from a snapshot.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use super::error::LazyError;
use super::handler::Handler;
use super::object::{ObjectPages, ObjectRun};
use super::options::LazyOptions;
use super::restoration::Restoration;
use crate::pages::page_size;
use crate::sys::{fd, stream};

/// A virtual machine whose memory Firecracker has handed over.
///
/// Firecracker does so when it loads a snapshot with the memory backend `Uffd`, whose
/// `backend_path` is the path of a socket that this process listens on. The message is one JSON
/// array with the regions of the memory, and comes with a userfaultfd.
///
/// ```no_run
/// use std::fs::File;
/// use std::os::unix::net::UnixListener;
/// use std::time::Duration;
///
/// use criu_rs::lazy::{FirecrackerGuest, LazyOptions};
///
/// let listener = UnixListener::bind("/run/vm.uffd")?;
/// let (stream, _) = listener.accept()?;
/// let guest = FirecrackerGuest::receive(&stream, Duration::from_secs(10))?;
/// let memory = guest.serve(File::open("/snapshots/vm.mem")?, LazyOptions::default())?;
/// // The virtual machine ends with the handler if pages are missing by then.
/// memory.restoration().wait(None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FirecrackerGuest {
    runs: Vec<ObjectRun>,
    uffd: OwnedFd,
    process: Option<OwnedFd>,
}

/// The memory of a virtual machine that comes from a file.
#[derive(Debug)]
pub struct FirecrackerMemory {
    restoration: Restoration,
    _handler: Handler,
}

impl FirecrackerGuest {
    /// Receives the hand-over from a connection, which says nothing more afterwards. The peer is
    /// the process that is killed if its pages are lost: the caller decides who may connect.
    ///
    /// # Errors
    /// [`LazyError::Guest`] for another message, or if none comes within a time;
    /// [`LazyError::PageSize`] for huge pages; [`LazyError::System`] if the system refuses a call.
    pub fn receive(stream: &UnixStream, within: Duration) -> Result<Self, LazyError> {
        let failed = LazyError::system("receive from Firecracker");
        let begun = Instant::now();
        stream::tell_senders(stream).map_err(&failed)?;
        let (mut text, mut fds, mut sender) = (Vec::new(), Vec::new(), None);
        let (mut buffer, mut parts) = ([0; 4096], 0);
        // The message may come in parts: it is complete when it is an array. Each part costs a look
        // at all before.
        let runs = loop {
            let left = within.saturating_sub(begun.elapsed());
            let part = match stream::receive(stream, &mut buffer).map_err(&failed)? {
                Some(part) if part.bytes == 0 => return Err(wrong("it ends early")),
                Some(part) => part,
                None if left.is_zero() => return Err(wrong("it does not come in time")),
                None => {
                    let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
                    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut fds, PollTimeout::from(millis)) {
                        Ok(_) | Err(Errno::EINTR) => continue,
                        Err(error) => return Err(failed(error.into())),
                    }
                }
            };
            text.extend_from_slice(buffer.get(..part.bytes).unwrap_or_default());
            fds.extend(part.fds);
            sender = sender.or(part.sender);
            parts += 1;
            if parts > MOST_PARTS {
                return Err(wrong("it comes in more than 100 parts"));
            }
            if text.len() > LONGEST || fds.len() > 1 {
                return Err(wrong("it is longer than 64 KiB, or has several descriptors"));
            }
            match serde_json::from_slice(&text) {
                Ok(message) => break regions(&message)?,
                Err(error) if error.is_eof() => {}
                Err(error) => return Err(wrong(&error.to_string())),
            }
        };
        let uffd = fds.pop().ok_or_else(|| wrong("it has no descriptor"))?;
        let process = sender.and_then(|sender| sender.pidfd.or_else(|| fd::open(sender.pid).ok()));
        Ok(Self { runs, uffd, process })
    }

    /// Serves the memory from a file, which Firecracker wrote with the snapshot. Nobody may write
    /// to the file meanwhile. Other virtual machines may come from the same file at the same time.
    ///
    /// # Errors
    /// The errors of [`ObjectPages::of_file`], of [`Handler::new`] and of [`Restoration::add`].
    pub fn serve(self, memory: File, options: LazyOptions) -> Result<FirecrackerMemory, LazyError> {
        let pages = ObjectPages::of_file(memory, self.runs)?;
        let missing = pages.missing(GUEST);
        let handler = Handler::new(Arc::new(pages), options)?;
        let restoration = handler.restoration();
        restoration.add(GUEST, self.uffd, &missing, self.process)?;
        restoration.complete();
        Ok(FirecrackerMemory { restoration, _handler: handler })
    }
}

impl FirecrackerMemory {
    /// Returns the progress, the numbers and the end of the memory's arrival.
    pub fn restoration(&self) -> &Restoration {
        &self.restoration
    }
}

/// Reads a whole message, and returns the number of its regions.
#[cfg(fuzzing)]
pub(crate) fn guest(text: &[u8]) -> Result<usize, LazyError> {
    let message = serde_json::from_slice(text).map_err(|error| wrong(&error.to_string()))?;
    regions(&message).map(|runs| runs.len())
}

/// Reads the regions of a message.
fn regions(message: &Value) -> Result<Vec<ObjectRun>, LazyError> {
    let region = |region: &Value| {
        let number = |name: &str| {
            let number = region.get(name).and_then(Value::as_u64);
            number.ok_or_else(|| wrong(&format!("a region has no number `{name}`")))
        };
        let (start, machine) = (number("base_host_virt_addr")?, page_size().bytes());
        let end = start.checked_add(number("size")?).ok_or_else(|| wrong("a region is too large"));
        // Firecracker before 1.10 does not name the size.
        let images = region.get("page_size").map_or(Ok(machine), |_| number("page_size"))?;
        if images != machine {
            return Err(LazyError::PageSize { images, machine });
        }
        Ok(ObjectRun::new(GUEST, start..end?, number("offset")?))
    };
    let regions = message.as_array().filter(|regions| !regions.is_empty());
    regions.ok_or_else(|| wrong("it is no array of regions"))?.iter().map(region).collect()
}

fn wrong(what: &str) -> LazyError {
    LazyError::Guest(what.to_owned())
}

/// The number of the virtual machine among the tasks of its handler.
const GUEST: u32 = 1;
/// The longest message. A region takes some 100 bytes, and a virtual machine has few.
const LONGEST: usize = 64 << 10;
/// The most parts of a message. Firecracker sends one.
const MOST_PARTS: u32 = 100;
