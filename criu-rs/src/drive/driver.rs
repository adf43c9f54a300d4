//! Drives one conversation with a criu: hooks, deadline, cancellation, the end of the process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::job::{Guard, Job};
use super::stop::Stopping;
use crate::diagnosis::{End, Failure, LogPlace, StopMethod, StopReason, Stopped, cause_of};
use crate::error::{Error, Misuse, Result};
use crate::hooks::{Action, Call, Hooks};
use crate::host::tree;
use crate::options::RunLimits;
use crate::rpc::{Conversation, CriuReqType, CriuResp, Step, Verdict};
use crate::sys::fd;
use crate::transport::{Ending, Heard, Link, Next, Subject, Worker};
use crate::undo::Strays;
use crate::value::{Cancel, Pid};

/// One operation under way.
#[derive(Debug)]
pub(crate) struct Driver {
    link: Link,
    operation: &'static str,
    subject: Subject,
    /// Whether memory goes to a page server.
    to_server: bool,
    strays: Strays,
    /// When the worker was started, in the kernel's ticks.
    since: Option<u64>,
    log: Option<LogPlace>,
    worker_ends: bool,
    /// Only the worker's end is waited for, not its reply before.
    only_end: bool,
    conversation: Conversation,
    /// The request, until it is sent.
    packet: Option<Vec<u8>>,
    epoll: Epoll,
    timer: TimerFd,
    limits: RunLimits,
    due: Option<Instant>,
    stopping: Option<Stopping>,
    guard: Option<Box<dyn Guard>>,
    /// Why an action was refused.
    refusal: Option<Error>,
    root: Option<(Pid, Option<OwnedFd>)>,
    /// Tasks that were restored in spite of a refusal, killed.
    killed: Vec<Pid>,
    /// Tasks that are saved, and that criu is to kill now.
    saved: Vec<(Pid, u64)>,
    reply: Option<Box<CriuResp>>,
    /// Since when the worker should be ending.
    leaving: Option<Instant>,
    over: bool,
}

/// What a successful operation leaves.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) reply: Box<CriuResp>,
    /// The root of a restored tree, with a descriptor from when it was still held.
    pub(crate) root: Option<(Pid, Option<OwnedFd>)>,
}

impl Driver {
    pub(crate) fn new(mut link: Link, job: Job, limits: RunLimits) -> Result<Self> {
        link.protect(job.subject);
        let system = |what: &'static str| move |source: Errno| Error::system(what, source);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let epoll = epoll.map_err(system("make an epoll descriptor"))?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )
        .map_err(system("make a timer"))?;
        let worker = link.worker.iter().flat_map(Worker::sources);
        let cancel = limits.cancel.as_ref().map(AsFd::as_fd);
        // A worker that asks nothing sends its reply and ends: one waking instead of two. The reply
        // waits in the socket meanwhile.
        let asks = job.request.opts.as_ref().is_some_and(|opts| opts.notify_scripts());
        let is_seen = link.worker.as_ref().is_some_and(Worker::end_is_seen);
        let only_end = !asks && job.worker_ends && is_seen;
        let socket = (!only_end).then(|| link.as_fd());
        for source in socket.into_iter().chain([timer.as_fd()]).chain(worker).chain(cancel) {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
            epoll.add(source, event).map_err(system("watch a descriptor"))?;
        }
        let (conversation, packet) = Conversation::new(&job.request);
        let due = limits.deadline.map(|limit| Instant::now() + limit);
        let driver = Self {
            since: link.since().filter(|_| !job.strays.is_empty()),
            link,
            operation: job.operation,
            subject: job.subject,
            to_server: job.request.opts.as_ref().is_some_and(|opts| opts.ps.is_some()),
            strays: job.strays,
            log: job.log,
            worker_ends: job.worker_ends,
            only_end,
            conversation,
            packet: Some(packet),
            epoll,
            timer,
            limits,
            due,
            stopping: None,
            guard: job.guard,
            refusal: None,
            root: None,
            killed: Vec::new(),
            saved: Vec::new(),
            reply: None,
            leaving: None,
            over: false,
        };
        driver.wake_at(driver.due)?;
        Ok(driver)
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        self.link.pid()
    }

    /// Does everything that can be done without waiting. `None`: call again when the descriptor is
    /// readable.
    pub(crate) fn advance(&mut self, hooks: &mut dyn Hooks) -> Result<Option<Finished>> {
        if self.over {
            return Err(Misuse::SessionOver.into());
        }
        let result = self.step(hooks).or_else(|error| self.complete().ok_or(error).map(Some));
        self.over = !matches!(result, Ok(None));
        if let (Err(_), Some(since)) = (&result, self.since) {
            let ended = self.link.worker.as_mut().and_then(Worker::try_wait);
            if self.link.worker.is_none() || ended.is_some() {
                let root = match self.subject {
                    Subject::Restored { root, .. } => root,
                    _ => None,
                };
                // One that ends by itself takes what it has made away.
                match ended.is_some_and(|status| status.signal().is_some()) {
                    true => self.strays.end(since, root),
                    false => self.strays.bury(since),
                }
            }
        }
        result
    }

    /// Goes on to the end; the connection is for what else there is to say on it.
    pub(crate) fn finish(mut self, hooks: &mut dyn Hooks) -> Result<(Finished, Link)> {
        loop {
            if let Some(finished) = self.advance(hooks)? {
                return Ok((finished, self.link));
            }
            self.wait()?;
        }
    }

    /// Waits until there is something to do.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(source) => Err(Error::system("wait for criu", source)),
        }
    }

    /// Where the tasks are saved and criu has gone before all were killed: what remains to be done. Nothing where it had not begun,
    /// and they run on.
    fn complete(&mut self) -> Option<Finished> {
        let saved = std::mem::take(&mut self.saved);
        let (root, since) = *saved.first()?;
        if let Some(worker) = &mut self.link.worker {
            Ending::default().finish(worker);
        }
        // CRIU begins with it.
        if tree::lives_on(root, since) {
            return None;
        }
        let alive = || saved.iter().filter(|(pid, since)| tree::is_alive(*pid, *since));
        let rest = alive().filter(|(pid, since)| tree::lives_on(*pid, *since));
        tree::kill_all(&rest.map(|(pid, _)| *pid).collect::<Vec<_>>());
        let limit = Instant::now() + DEATH_TIME;
        while alive().next().is_some() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        let reply =
            CriuResp { r#type: CriuReqType::Dump.into(), success: true, ..Default::default() };
        Some(Finished { reply: Box::new(reply), root: None })
    }

    /// Whether the tasks are saved and being killed; from now on that may not take long.
    pub(crate) fn hurry_if_saved(&mut self) -> bool {
        if self.saved.is_empty() {
            return false;
        }
        self.forget_cancel();
        self.stopping = Some(Stopping::new(StopReason::Cancelled, Duration::ZERO));
        true
    }

    /// A cancel that has come stays readable, and would wake us again and again.
    fn forget_cancel(&self) {
        if let Some(cancel) = &self.limits.cancel {
            let _ = self.epoll.delete(cancel);
        }
    }

    fn step(&mut self, hooks: &mut dyn Hooks) -> Result<Option<Finished>> {
        self.notice_stop();
        if let Some(packet) = self.packet.take() {
            if let Some(stopping) = &self.stopping {
                return Err(self.stopped(stopping.why, StopMethod::NotStarted));
            }
            if let Some(connections) =
                self.link.worker.as_ref().and_then(|w| w.connections.as_ref())
            {
                connections.expect();
            }
            match self.link.send(&packet) {
                Ok(()) => {}
                // A criu that has gone may have left word why.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(Error::system("send the request to criu", error)),
            }
        }
        loop {
            let mut ended = false;
            if let Some(worker) = &mut self.link.worker {
                if let Some(printed) = worker.listen() {
                    let _ = self.epoll.delete(&printed);
                }
                // Before looking for a packet, so that none it has left behind is missed. It may say that helpers are
                // to stay: a page server that has started is one until it has a session of its own.
                ended = worker.has_ended();
            }
            if self.reply.is_some() {
                return self.settle(ended);
            }
            if self.leaving.is_some() {
                return if ended { Err(self.died()) } else { self.linger() };
            }
            match self.link.receive()? {
                Heard::Packet(packet) => {
                    match self.conversation.receive(&packet.bytes, packet.fds)? {
                        Step::Hook(call) => {
                            let is_last = call.action == Action::PostDump;
                            let verdict = self.ask(call, hooks);
                            let is_saved = is_last && matches!(verdict, Verdict::GoOn);
                            let saved = if is_saved { self.tasks_to_end() } else { Vec::new() };
                            let answer = self.conversation.answer(&verdict);
                            if self.link.send(&answer).is_ok() && !saved.is_empty() {
                                self.saved = saved;
                                self.link.protect(Subject::Saved);
                            }
                            self.notice_stop();
                        }
                        Step::Done(reply) => {
                            if !reply.success {
                                // Then it has let them go.
                                self.saved.clear();
                            }
                            if let Some(worker) = &mut self.link.worker {
                                worker.helpers_stay = reply.success;
                            }
                            self.reply = Some(reply);
                        }
                    }
                }
                Heard::Nothing if ended => return Err(self.died()),
                Heard::Nothing => return self.linger(),
                Heard::Closed => {
                    let _ = self.epoll.delete(&self.link);
                    if self.link.worker.is_none() {
                        return Err(self.died());
                    }
                    self.leaving = Some(Instant::now());
                }
            }
        }
    }

    /// Nothing has come: see to stopping, and set the clock.
    fn linger(&mut self) -> Result<Option<Finished>> {
        let mut wake = self.due;
        if let Some(stopping) = &mut self.stopping {
            match stopping.advance(&mut self.link) {
                Next::Wait(until) => wake = Some(until),
                Next::Over(how) => {
                    let why = stopping.why;
                    return Err(self.stopped(why, how));
                }
            }
        } else if let Some(since) = self.leaving {
            wake = Some(self.see_out(since));
        } else if self.only_end {
            // It may not end as it should.
            let patrol = Instant::now() + PATROL;
            wake = Some(wake.map_or(patrol, |wake| wake.min(patrol)));
        }
        self.wake_at(wake)?;
        Ok(None)
    }

    /// The reply is there: see the worker out.
    fn settle(&mut self, ended: bool) -> Result<Option<Finished>> {
        if self.worker_ends && !ended && self.link.worker.is_some() {
            let since = *self.leaving.get_or_insert_with(Instant::now);
            let wake = self.see_out(since);
            self.wake_at(Some(wake))?;
            return Ok(None);
        }
        let Some(reply) = self.reply.take() else {
            return Ok(None);
        };
        if let Some(refusal) = self.refusal.take() {
            self.end_restored();
            return Err(refusal);
        }
        let kind = CriuReqType::try_from(reply.r#type).unwrap_or(CriuReqType::Empty);
        if reply.success && kind != CriuReqType::Empty {
            self.link.protect(Subject::None);
            return Ok(Some(Finished { reply, root: self.root.take() }));
        }
        if let Some(stopping) = &self.stopping {
            return Err(self.stopped(stopping.why, StopMethod::Refused));
        }
        let end = if kind == CriuReqType::Empty { End::NotUnderstood } else { End::Refused };
        Err(self.failed(end, Some(&reply)))
    }

    /// Kills what a service has restored in spite of a refusal.
    fn end_restored(&mut self) {
        let killed = self.kill_restored();
        tree::reap(&self.killed);
        tree::reap(&killed);
    }

    fn kill_restored(&self) -> Vec<Pid> {
        match (&self.link.worker, &self.root) {
            (None, Some((root, _))) => tree::kill_all(&[*root]),
            _ => Vec::new(),
        }
    }

    /// Gives a worker that should be ending its time; returns when to look again.
    fn see_out(&self, since: Instant) -> Instant {
        let now = Instant::now();
        if let Some(worker) = &self.link.worker {
            if now > since + EXIT_TIME {
                worker.signal_group(Signal::SIGKILL);
            }
        }
        // Without a pidfd nothing becomes readable when it ends.
        now + Duration::from_millis(20)
    }

    /// Answers an action: by the caller's hook, or by refusing where the operation is to stop.
    fn ask(&mut self, call: Call, hooks: &mut dyn Hooks) -> Verdict {
        let action = call.action;
        if let (Some(root), Subject::Restored { root: known, .. }) = (call.root, &mut self.subject)
        {
            *known = Some(root);
            self.link.protect(self.subject);
            if action == Action::PostRestore && self.link.numbers_processes_as_here() {
                // The root is held until this is answered: nobody else can have its id.
                self.root = Some((root, fd::open(root.nix()).ok()));
            }
        }
        if self.stopping.is_some() {
            return Verdict::Refuse;
        }
        if self.refusal.is_none() {
            let root = self.root.as_ref().map(|(root, _)| *root);
            let checked = self.guard.as_mut().map_or(Ok(()), |guard| guard.check(action, root));
            let hooked = |source| Error::Hook { action, source };
            match checked.and_then(|()| call.answer(hooks).map_err(hooked)) {
                Ok(externals) if externals.is_empty() => return Verdict::GoOn,
                Ok(externals) => return Verdict::GoOnWith(externals),
                Err(refusal) => self.refusal = Some(refusal),
            }
        }
        // CRIU goes on after a refusal here, and would let the tasks run. At network-unlock it must
        // go on, to take its rules away; pre-resume comes next.
        if matches!(action, Action::PreResume | Action::PostResume) {
            match &mut self.link.worker {
                Some(worker) => Ending::default().finish(worker),
                // Not reaped before CRIU has let go of them.
                None => self.killed = self.kill_restored(),
            }
        }
        Verdict::Refuse
    }

    /// The tasks that criu will kill when it is told to go on, for their images are complete. A worker that has gone will
    /// not, and of a service in another pid namespace nothing can be told.
    fn tasks_to_end(&mut self) -> Vec<(Pid, u64)> {
        let is_there = match &mut self.link.worker {
            Some(worker) => !worker.has_ended(),
            None => self.link.numbers_processes_as_here(),
        };
        let (Subject::Tasks { root, end: true }, true) = (self.subject, is_there) else {
            return Vec::new();
        };
        let tasks = tree::descendants(root).into_iter();
        let tasks = tasks.filter_map(|pid| Some((pid, tree::started_at(pid)?)));
        tasks.filter(|(pid, since)| tree::is_alive(*pid, *since)).collect()
    }

    fn notice_stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let why = if self.limits.cancel.as_ref().is_some_and(Cancel::is_cancelled) {
            StopReason::Cancelled
        } else if self.due.is_some_and(|due| Instant::now() >= due) {
            StopReason::Deadline(self.limits.deadline.unwrap_or_default())
        } else {
            return;
        };
        self.forget_cancel();
        let grace = match self.subject {
            Subject::None => Duration::ZERO,
            _ => self.limits.grace,
        };
        self.stopping = Some(Stopping::new(why, grace));
    }

    fn wake_at(&self, at: Option<Instant>) -> Result<()> {
        let set = match at {
            None => self.timer.unset(),
            Some(at) => {
                // Zero would switch it off.
                let left =
                    at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
                self.timer.set(expiration, TimerSetTimeFlags::empty())
            }
        };
        set.map_err(|source| Error::system("set a timer", source))
    }

    /// The connection, for what else there is to say on it.
    pub(crate) fn into_link(self) -> Link {
        self.link
    }

    fn stopped(&self, why: StopReason, how: StopMethod) -> Error {
        Stopped { operation: self.operation, why, how }.into()
    }

    fn died(&mut self) -> Error {
        if let Some(stopping) = &self.stopping {
            let how = stopping.method(&self.link);
            return self.stopped(stopping.why, how);
        }
        match self.refusal.take() {
            Some(refusal) => refusal,
            None => self.failed(End::Died, None),
        }
    }

    fn failed(&mut self, end: End, reply: Option<&CriuResp>) -> Error {
        let text = |bytes: &[u8]| crate::value::printable(bytes);
        let exit: Option<ExitStatus> = self.link.worker.as_mut().and_then(Worker::try_wait);
        let mut failure = Failure {
            operation: self.operation,
            end,
            errno: reply.and_then(|reply| reply.cr_errno),
            message: reply.and_then(|reply| reply.cr_errmsg.as_deref()).map(text),
            exit,
            output: self.link.worker.as_mut().map(Worker::said).unwrap_or_default(),
            log: self.log.as_ref().map_or(Ok(None), LogPlace::excerpt),
            cause: None,
            root: reply.and_then(|reply| Pid::new(reply.restore.as_ref()?.pid)),
        };
        let target = match self.subject {
            Subject::Tasks { root, .. } => Some(root),
            _ => None,
        };
        failure.cause = cause_of(&failure, target, self.to_server);
        Error::Failed(Box::new(failure))
    }
}

impl AsFd for Driver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// How long is waited for tasks to die.
const DEATH_TIME: Duration = Duration::from_secs(1);

/// How long a worker may take to end after its reply, or after it has closed the connection.
const EXIT_TIME: Duration = Duration::from_secs(5);

/// How often to look for a reply that nothing announces.
const PATROL: Duration = Duration::from_secs(1);
