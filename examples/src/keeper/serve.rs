//! A keeper: the process that has the forks of a round, until the next one is complete.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criu_rs::Pid;
use criu_rs::instant::{InstantSeries, SeriesBase};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::asked::{BUSY, COMPLETE, PATIENCE, listen, peer, started_at};
use super::file::Entry;
use crate::signals::Signals;

/// A keeper.
#[derive(Debug)]
pub(super) struct Keeper<'a> {
    series: InstantSeries<'a>,
    /// The answer to whoever asks.
    base: String,
    root: Pid,
    /// Readable when the root of the tree has ended.
    life: OwnedFd,
    listener: UnixListener,
    entry: Entry,
    /// Absolute path of the images directory.
    directory: PathBuf,
    /// The time for which nobody need ask.
    keep: Duration,
}

impl<'a> Keeper<'a> {
    /// Makes a keeper of the last round of a series, and a file that leads to it.
    pub(super) fn new(
        series: InstantSeries<'a>,
        base: &SeriesBase,
        directory: PathBuf,
        keep: Duration,
    ) -> io::Result<Self> {
        let root = base.root();
        let life = life(root)?;
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let start = started_at(pid).ok_or_else(|| io::Error::other("no /proc/self/stat"))?;
        let random = RandomState::new().hash_one(start);
        let socket = format!("criu-rs-keeper-{pid}-{random:016x}");
        let listener = listen(&socket)?;
        let entry = Entry { pid, start, socket, ended: None };
        entry.write(&directory)?;
        let base = format!("{base}\n");
        Ok(Self { series, base, root, life, listener, entry, directory, keep })
    }

    /// Keeps the forks until there is a reason to end them. Then ends them, and returns the reason.
    pub(super) fn serve(self, signals: &Signals) -> String {
        let mut asker = None;
        let (why, is_complete) = self.wait(signals, &mut asker);
        let Self { series, entry, directory, .. } = self;
        drop(series);
        let entry = Entry { ended: Some(why.clone()), ..entry };
        if let Err(error) = entry.write(&directory) {
            let _ = writeln!(io::stderr(), "cannot write {}: {error}", directory.display());
        }
        // Whoever is connected may read the reason from now on.
        if let Some(mut asker) = asker.filter(|_| is_complete) {
            let _ = asker.write_all(&[COMPLETE]);
        }
        why
    }

    /// Waits for a reason to end. Returns it, and says whether it is that the next round is
    /// complete.
    fn wait(&self, signals: &Signals, asker: &mut Option<UnixStream>) -> (String, bool) {
        let mut until = Instant::now().checked_add(self.keep);
        loop {
            if let Some(end) = self.series.ended() {
                return (end.to_string(), false);
            }
            if let Some(received) = signals.next() {
                return (format!("{} came", received.signal.as_str()), false);
            }
            if asker.is_none() && until.is_some_and(|until| Instant::now() >= until) {
                return (format!("no next round came in {} seconds", self.keep.as_secs()), false);
            }
            match self.look(signals, asker.as_ref()) {
                Event::Ended => return (format!("process {} has ended", self.root), false),
                Event::Asked => self.accept(asker),
                Event::Told if asker.as_ref().is_some_and(is_complete) => {
                    return ("the next round was made".into(), true);
                }
                Event::Told => {
                    *asker = None;
                    until = Instant::now().checked_add(self.keep);
                }
                Event::None => {}
            }
        }
    }

    /// Waits for a moment.
    fn look(&self, signals: &Signals, asker: Option<&UnixStream>) -> Event {
        let mut fds = vec![
            PollFd::new(self.life.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(asker.map(|asker| PollFd::new(asker.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::from(TURN)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Event::None,
        }
        let is_ready = |at: usize| fds.get(at).and_then(PollFd::any) == Some(true);
        // Somebody who is connected goes first: the next round may have ended the process.
        match () {
            () if is_ready(3) => Event::Told,
            () if is_ready(0) => Event::Ended,
            () if is_ready(1) => Event::Asked,
            () => Event::None,
        }
    }

    /// Tells somebody of the own user what there is. Others hear nothing.
    fn accept(&self, asker: &mut Option<UnixStream>) {
        let Ok((mut came, _)) = self.listener.accept() else { return };
        let is_set = came.set_nonblocking(false).and_then(|()| came.set_write_timeout(Some(SOON)));
        if peer(&came).is_none() || is_set.is_err() {
            return;
        }
        match asker {
            Some(_) => drop(came.write_all(BUSY.as_bytes())),
            None => {
                let is_told = came.write_all(self.base.as_bytes()).is_ok();
                *asker = is_told.then_some(came);
            }
        }
    }
}

/// An event that a keeper waits for.
enum Event {
    None,
    /// The root of the tree has ended.
    Ended,
    /// Somebody wants to connect.
    Asked,
    /// Somebody who is connected has said something, or is gone.
    Told,
}

/// Tells whether somebody says that the next round is complete.
fn is_complete(mut told: &UnixStream) -> bool {
    let mut byte = [0];
    let is_set = told.set_read_timeout(Some(PATIENCE)).is_ok();
    is_set && told.read(&mut byte).is_ok_and(|bytes| bytes == 1) && byte == [COMPLETE]
}

/// Returns a descriptor that can be read when a process has ended.
fn life(pid: Pid) -> io::Result<OwnedFd> {
    let raw = rustix::process::Pid::from_raw(pid.as_raw());
    let raw = raw.ok_or_else(|| io::Error::other("no process"))?;
    Ok(pidfd_open(raw, PidfdFlags::empty())?)
}

/// The time between two looks at the series, in milliseconds.
const TURN: u8 = 200;

/// The time in which somebody takes what the keeper says.
const SOON: Duration = Duration::from_secs(2);
