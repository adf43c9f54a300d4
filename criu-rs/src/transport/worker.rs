//! A `criu swrk` process that this process starts, listens to, ends and reaps.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::pipe2;

use super::endable::Endable;
use super::ending::Ending;
use super::handed::{Launch, WORKER_SOCKET};
use super::subject::Subject;
use super::{safe_point, standstill};
use crate::diagnosis::LogPlace;
use crate::host::{Held, tree};
use crate::sys::{fd, spawn};
use crate::undo::{Connections, Life};
use crate::value::{Pid, printable};

/// A criu process of ours. On drop, it is ended at a safe point and reaped.
#[derive(Debug)]
pub(crate) struct Worker {
    pid: Pid,
    /// A descriptor that is readable once the process has ended; absent before Linux 5.3.
    pidfd: Option<OwnedFd>,
    /// The pipe with the worker's standard output and error.
    printed: Option<std::fs::File>,
    /// The end of what the worker has printed.
    tail: Vec<u8>,
    /// The names in `/proc/PID/fd` of the pipe with its output and of its socket. Only the worker
    /// and the processes that it makes can write to these.
    marks: Vec<OsString>,
    /// The log of the operation under way.
    pub(crate) log: Option<Arc<LogPlace>>,
    /// `true` if the worker leads its own process group.
    own_group: bool,
    /// The tasks that the worker works on.
    pub(crate) subject: Subject,
    /// The connections that CRIU holds during a dump, to be released before the worker is ended.
    pub(crate) connections: Option<Arc<Connections>>,
    /// `true` if processes of the worker's group live on after it: a page server in the background.
    pub(crate) helpers_stay: bool,
    /// The exit status, once the worker is reaped.
    ended: Option<ExitStatus>,
}

impl Worker {
    /// Starts `criu swrk`, with the socket and the placed descriptors where CRIU looks for them.
    pub(super) fn start(
        path: &Path,
        launch: &Launch<'_>,
        socket: OwnedFd,
        placed: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        // Not this process's own output: criu's output must not mix with the caller's, and the
        // restored tasks must not inherit the caller's terminal.
        let (printed, output) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        nix::fcntl::fcntl(&output, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))?;
        // CRIU reads the terminal of a shell job from its standard input.
        let input = if launch.shell_job { fd::duplicate(0, 3)? } else { open_null()? };
        let again = output.try_clone()?;
        let fds: Vec<OwnedFd> = [input, output, again, socket].into_iter().chain(placed).collect();
        let number = WORKER_SOCKET.to_string();
        let words = [OsStr::new("swrk"), OsStr::new(&number)];
        let args = launch.arguments.iter().map(AsRef::as_ref).chain(words);
        let args: Vec<&OsStr> = std::iter::once(path.as_os_str()).chain(args).collect();
        let program = spawn::Program {
            path,
            args: &args,
            env: launch.env,
            own_env: true,
            own_group: !launch.shell_job,
        };
        let pid = program.spawn(&fds)?;
        let pidfd = fd::open(pid).ok();
        let pid = Pid::new(pid.as_raw())
            .ok_or_else(|| io::Error::other("posix_spawn returned an invalid process id"))?;
        Ok(Self {
            pid,
            pidfd,
            printed: Some(printed.into()),
            tail: Vec::new(),
            marks: fds.iter().skip(2).take(2).filter_map(|fd| fd::link(fd).ok()).collect(),
            log: None,
            own_group: program.own_group,
            subject: Subject::None,
            connections: None,
            helpers_stay: false,
            ended: None,
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the evidence by which a process of this criu is known. `since` and `until` are the
    /// times of criu's start and end, in the kernel's ticks.
    pub(crate) fn life(&self, since: u64, until: u64) -> Life {
        let log = self.log.as_ref().and_then(|log| log.identity());
        Life { since, until, marks: self.marks.clone(), log }
    }

    /// Says whether a descriptor tells that the process has ended.
    pub(crate) fn end_is_seen(&self) -> bool {
        self.pidfd.is_some()
    }

    /// Returns the descriptors that become readable when the worker has printed or ended.
    pub(crate) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let printed = self.printed.as_ref().map(AsFd::as_fd);
        printed.into_iter().chain(self.pidfd.as_ref().map(AsFd::as_fd))
    }

    /// Reads what the worker has printed. Returns the pipe once nothing more can come.
    ///
    /// A worker that prints without end is not listened to without end: the pipe stays readable,
    /// and the caller looks at its clock meanwhile.
    pub(crate) fn listen(&mut self) -> Option<std::fs::File> {
        let mut chunk = [0; 4096];
        for _ in 0..MAX_CHUNKS {
            match self.printed.as_mut()?.read(&mut chunk) {
                Ok(0) => return self.printed.take(),
                Ok(length) => {
                    self.tail.extend(chunk.iter().take(length));
                    let over = self.tail.len().saturating_sub(MAX_TAIL);
                    self.tail.drain(..over);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Returns the end of what the worker has printed, fit for a terminal.
    pub(crate) fn said(&mut self) -> String {
        self.listen();
        printable(&self.tail)
    }

    /// Says whether the worker has ended. Its helpers are not touched: its answer may say that they
    /// are to stay.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some() || !is_running(self.peek())
    }

    /// Looks without reaping: as long as the process is a zombie, nobody else can get its id, which
    /// is also its group's id.
    fn peek(&self) -> nix::Result<WaitStatus> {
        let peek = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.pid.nix()), peek)
    }

    /// Returns the exit status if the worker has ended. Its helpers have then been ended as well,
    /// unless they are to stay.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            match self.peek() {
                seen if is_running(seen) => return None,
                Ok(_) => {
                    if !self.helpers_stay {
                        self.signal_group(Signal::SIGKILL);
                    }
                    self.ended = Some(self.reap());
                }
                // The caller has reaped the process, or ignores SIGCHLD.
                Err(_) => self.ended = Some(ExitStatus::default()),
            }
        }
        self.ended
    }

    fn reap(&self) -> ExitStatus {
        let status = tree::wait(self.pid).unwrap_or_default();
        // Helpers are killed by now. They become our children if this process reaps orphans.
        if self.own_group && !self.helpers_stay {
            let group = nix::unistd::Pid::from_raw(-self.pid.as_raw());
            while !matches!(waitpid(group, None), Err(error) if error != Errno::EINTR) {}
        }
        status
    }

    /// Signals the process and the helpers that it has forked.
    ///
    /// The group has the process's number, which belongs to nobody else until the process is
    /// reaped. A caller who reaps all children may have done so: then the number may be another's,
    /// and the helpers are left.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if self.ended.is_some() {
            return;
        }
        if self.own_group && self.peek().is_ok() {
            let _ = killpg(self.pid.nix(), signal);
        } else if let Some(criu) = self.held() {
            criu.signal(signal);
        }
    }

    /// The process itself. `None` if it has been reaped.
    fn held(&self) -> Option<Held> {
        match &self.pidfd {
            Some(pidfd) => Held::by(self.pid, pidfd.as_fd()),
            None => Held::child(self.pid, Pid::this()),
        }
    }

    /// Leaves the process to the caller, who reaps it from now on.
    pub(crate) fn release(mut self) -> (Pid, Option<OwnedFd>) {
        self.ended = Some(ExitStatus::default());
        (self.pid, self.pidfd.take())
    }
}

impl Endable for Worker {
    fn subject(&self) -> Subject {
        self.subject
    }

    fn has_ended(&self) -> bool {
        self.has_ended()
    }

    fn is_gone(&mut self) -> bool {
        self.try_wait().is_some()
    }

    fn hold(&mut self, root: Pid) -> bool {
        let is_safe = safe_point::hold(self.pid, root);
        if let Some(connections) = self.connections.as_ref().filter(|_| is_safe) {
            connections.release();
        }
        is_safe
    }

    fn halt(&mut self) -> bool {
        self.ended.is_none() && self.held().is_some_and(|criu| standstill::halt(&criu))
    }

    fn sweep(&mut self, root: Option<Pid>) -> Vec<Held> {
        let since = tree::started_at(self.pid).unwrap_or(u64::MAX);
        standstill::sweep(self.pid, root, &self.life(since, u64::MAX))
    }

    fn terminate(&mut self) {
        // A stopped process takes SIGTERM as soon as it continues, before anything else.
        self.signal_group(Signal::SIGTERM);
        self.signal_group(Signal::SIGCONT);
    }

    fn kill(&mut self) {
        self.signal_group(Signal::SIGKILL);
    }

    fn bury(&mut self, tasks: &[Held]) {
        tree::reap(tasks);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        Ending::default().finish(self);
    }
}

fn is_running(seen: nix::Result<WaitStatus>) -> bool {
    matches!(seen, Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
}

fn open_null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// The number of bytes of criu's output that are kept.
const MAX_TAIL: usize = 16 << 10;
/// The chunks that are read of a worker's output at once: four times what a pipe holds.
const MAX_CHUNKS: u32 = 64;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_worker_that_prints_without_end_is_not_listened_to_without_end() {
        let (sender, listened) = mpsc::channel();
        std::thread::spawn(move || {
            let mut worker = Worker {
                pid: Pid::this(),
                pidfd: None,
                marks: Vec::new(),
                log: None,
                printed: Some(std::fs::File::open("/dev/zero").unwrap()),
                tail: Vec::new(),
                own_group: false,
                subject: Subject::None,
                connections: None,
                helpers_stay: false,
                ended: Some(ExitStatus::default()),
            };
            let over = worker.listen().is_some();
            let _ = sender.send((over, worker.printed.is_some(), worker.tail.len()));
        });
        let listened = listened.recv_timeout(Duration::from_secs(10));
        assert_eq!(listened.expect("an end"), (false, true, MAX_TAIL));
    }
}
