//! Messages between `start` and the first process of each copy, over a pair of sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The description of one copy, for its first process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Orders {
    pub(super) copy: u32,
    pub(super) copies: u32,
    pub(super) hostname: String,
    /// Variables for the identity.
    pub(super) variables: Vec<(String, String)>,
    /// The directory for the log and the statistics of the restore, and the socket of the memory.
    pub(super) work_dir: PathBuf,
    /// The file for what the copy prints; the caller's standard error unless given.
    pub(super) output: Option<PathBuf>,
    /// The files and pipes that are replaced by that file, as `--inherit-fd` names them.
    pub(super) streams: Vec<String>,
    /// The name of the log in messages.
    pub(super) log: PathBuf,
    /// True if memory comes on demand.
    pub(super) lazy: bool,
}

/// Words to the first process of a copy. If the other end is closed instead, its process is gone.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) enum Word {
    /// End all tasks.
    End,
    /// The end has been heard, and the directories of the copy are looked after.
    Bye,
}

/// News of a copy.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum News {
    /// The tasks run. The message comes with a descriptor of the root task.
    Runs {
        /// The time at which criu was asked.
        asked: Moment,
        /// The time at which criu had let the tasks run.
        ran: Moment,
    },
    /// The restore failed, and nothing of it is left.
    Failed {
        /// The failure, for a person.
        text: String,
        /// The failure, for a program.
        error: Value,
    },
    /// The root task has ended: with this code, or 128 and a signal.
    Ended(i32),
}

/// A moment of the clock that all processes of this machine share, in nanoseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Moment(u64);

impl Moment {
    /// Returns the present moment.
    pub(super) fn now() -> Self {
        let clock = nix::time::ClockId::CLOCK_MONOTONIC;
        let now = nix::time::clock_gettime(clock).map(std::time::Duration::from);
        Self(now.ok().and_then(|now| u64::try_from(now.as_nanos()).ok()).unwrap_or_default())
    }

    /// Returns the time since an earlier moment.
    pub(super) fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Makes a pair of connected sockets.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends a message, with a descriptor if there is one.
pub(super) fn send(
    to: impl AsFd,
    message: &impl Serialize,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if let Some(fd) = &fd {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
    }
    sendmsg(to, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for a message, and returns it with its descriptor. `None` if the other end is closed.
pub(super) fn receive<T: for<'a> Deserialize<'a>>(
    from: impl AsFd,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = match recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
        // The other end was closed before it read what is on its way to it.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        received => received?,
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fd = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.last();
        }
    }
    let message = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())?;
    Ok(Some((message, fd)))
}

/// The largest message: the excerpt of a log, and variables.
const MAX_MESSAGE: usize = 192 << 10;
