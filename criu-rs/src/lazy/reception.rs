//! The reception of a restore: takes its tasks from a connection, and gives these to a handler.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::error::LazyError;
use super::handover::{Handover, HandoverError, Step};
use super::restoration::Restoration;
use super::snapshot::Snapshot;
use crate::sys::stream::{self, Sender};
use crate::sys::{fd, proc_link};
use crate::value::Cancel;

/// Takes the tasks of one restore, and returns when all of them are restored. A restore that fails
/// or breaks the protocol is given up: the tasks that have handed over are killed.
///
/// # Errors
/// [`LazyError::Handover`] for a restore that fails or breaks the protocol;
/// [`LazyError::Stalled`] for one that says nothing for longer than `patience`;
/// [`LazyError::Stopped`] if `stop` is cancelled; the errors of the handler.
pub(crate) fn receive(
    stream: &UnixStream,
    snapshot: &Snapshot,
    restoration: &Restoration,
    patience: Option<Duration>,
    stop: &Cancel,
) -> Result<(), LazyError> {
    let mut reception = Reception { snapshot, restoration, processes: Vec::new() };
    let result = reception.run(stream, patience, stop);
    match &result {
        Ok(()) => restoration.complete(),
        Err(_) => {
            // CRIU kills them, too, unless criu itself was killed.
            reception.kill();
            restoration.give_up(HandoverError::Incomplete.into());
        }
    }
    result
}

struct Reception<'r> {
    snapshot: &'r Snapshot,
    restoration: &'r Restoration,
    processes: Vec<OwnedFd>,
}

impl Reception<'_> {
    fn run(
        &mut self,
        stream: &UnixStream,
        patience: Option<Duration>,
        stop: &Cancel,
    ) -> Result<(), LazyError> {
        let tasks = self.snapshot.tasks().iter().map(|task| task.pid());
        let zombies = self.snapshot.zombies().iter().copied();
        let mut handover = Handover::new(tasks, zombies);
        let mut buffer = [0; BUFFER];
        while !handover.is_complete() {
            wait(stream, patience, &[stop])?;
            let part = stream::receive(stream, &mut buffer)
                .map_err(LazyError::system("receive from a restore"))?;
            let Some(part) = part else { continue };
            if part.bytes == 0 {
                handover.end()?;
            }
            let mut sender = part.sender;
            let bytes = buffer.get(..part.bytes).unwrap_or_default();
            handover.receive(bytes, part.fds, |step| match step {
                Step::Task { pid, uffd } => self.task(pid, uffd, sender.take()),
                Step::Zombie | Step::Complete => Ok(()),
            })?;
        }
        Ok(())
    }

    fn task(&mut self, pid: u32, uffd: OwnedFd, sender: Option<Sender>) -> Result<(), LazyError> {
        refuse_other(pid, &uffd)?;
        make_non_blocking(&uffd).map_err(LazyError::system("set the mode of a userfaultfd"))?;
        // Before Linux 6.5 the task is found by its number: it waits for its restore, and keeps it.
        let process = sender.and_then(|sender| match sender.pidfd {
            Some(pidfd) => Some(pidfd),
            None => fd::open(sender.pid).ok(),
        });
        let again = process.as_ref().map(OwnedFd::try_clone).transpose();
        self.processes.extend(again.map_err(LazyError::system("duplicate a descriptor"))?);
        let missing = self.snapshot.task(pid).map(|task| task.missing()).unwrap_or_default();
        self.restoration.add(pid, uffd, missing, process)
    }

    fn kill(&self) {
        for process in &self.processes {
            let _ = fd::signal(process, Signal::SIGKILL);
        }
    }
}

/// Waits until a restore says something, or its connection ends.
///
/// # Errors
/// [`LazyError::Stalled`] for one that says nothing for longer than `patience`;
/// [`LazyError::Stopped`] if one of `stops` is cancelled.
pub(crate) fn wait(
    stream: &UnixStream,
    patience: Option<Duration>,
    stops: &[&Cancel],
) -> Result<(), LazyError> {
    let until = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // A rest below a millisecond counts as one.
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        let stops = stops.iter().map(|stop| stop.as_fd());
        let fds = [stream.as_fd()].into_iter().chain(stops);
        let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => {
                return Err(LazyError::Stalled { patience: patience.unwrap_or_default() });
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) if fds.iter().skip(1).any(|fd| fd.any() == Some(true)) => {
                return Err(LazyError::Stopped);
            }
            Ok(_) => return Ok(()),
            Err(source) => return Err(LazyError::system("wait for a restore")(source.into())),
        }
    }
}

/// Refuses a descriptor that is no userfaultfd.
fn refuse_other(pid: u32, uffd: &OwnedFd) -> Result<(), HandoverError> {
    // Without /proc the first use of the descriptor will tell.
    let Ok(found) = std::fs::read_link(proc_link(uffd.as_fd())) else { return Ok(()) };
    let found = found.to_string_lossy().into_owned();
    if found == "anon_inode:[userfaultfd]" {
        return Ok(());
    }
    Err(HandoverError::NoUserfaultfd { pid, found })
}

/// Lets reads of a descriptor return at once, as CRIU has set it.
fn make_non_blocking(uffd: &OwnedFd) -> std::io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(uffd, FcntlArg::F_GETFL)?);
    if !flags.contains(OFlag::O_NONBLOCK) {
        fcntl(uffd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(())
}

/// Bytes that are received at once. A task's message has five, and comes alone.
const BUFFER: usize = 64;
