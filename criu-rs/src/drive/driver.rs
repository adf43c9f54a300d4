//! Drives one conversation with a criu: does what its course orders, with real processes and the
//! real clock.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::course::{Course, Fault, Order, Seen};
use super::job::{Guard, Job};
use super::probes;
use super::watch::Watch;
use crate::diagnosis::{
    Asked, End, Failure, LogPlace, Stopped, diagnose, is_harmless, name_from_images,
};
use crate::error::{Error, Misuse, Result};
use crate::hooks::{Action, Call, HookError, Hooks};
use crate::host::{Held, tree};
use crate::options::RunLimits;
use crate::rpc::{CriuReqType, CriuResp, Verdict};
use crate::sys::fd;
use crate::transport::{Endable, Ending, Link, Subject, Worker};
use crate::undo::{Life, Strays};
use crate::value::{Cancel, Pid, printable};

/// An operation under way.
#[derive(Debug)]
pub(crate) struct Driver {
    link: Link,
    watch: Watch,
    course: Course,
    facts: Facts,
    cancel: Option<Cancel>,
    guards: Vec<Box<dyn Guard>>,
    tasks: Tasks,
    /// The time when the worker was first seen to have ended, in the kernel's ticks.
    gone: Option<u64>,
}

/// The facts of an operation that are known from its beginning.
#[derive(Debug)]
struct Facts {
    operation: &'static str,
    /// Memory goes to a page server.
    to_server: bool,
    /// The restore was given a root directory.
    has_root: bool,
    log: Option<Arc<LogPlace>>,
    images: Option<OwnedFd>,
    strays: Strays,
    /// The time at which the worker of a restore was started, in the kernel's ticks.
    since: Option<u64>,
}

/// The tasks that an operation has come to know.
#[derive(Debug, Default)]
struct Tasks {
    /// The root of a restored tree, with a descriptor from the time when it was held.
    root: Option<(Pid, Option<OwnedFd>)>,
    /// Tasks that a service restored in spite of a refusal, killed.
    killed: Vec<Held>,
    /// Tasks that are saved, and that criu is to kill now, with the times of their start.
    saved: Vec<(Pid, u64)>,
}

/// The outcome of a successful operation.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) reply: Box<CriuResp>,
    /// The root of a restored tree, with a descriptor from the time when it was held.
    pub(crate) root: Option<(Pid, Option<OwnedFd>)>,
}

impl Driver {
    pub(crate) fn new(mut link: Link, job: Job, limits: RunLimits) -> Result<Self> {
        if let Some(failure) = probes::foresee(&job, &link) {
            return Err(Error::Failed(failure));
        }
        link.protect(job.subject);
        let log = job.log.map(Arc::new);
        if let Some(worker) = &mut link.worker {
            worker.log.clone_from(&log);
        }
        let mut course =
            Course::new(&job.request, job.subject, job.worker_ends, &limits, Instant::now());
        // A worker that asks nothing sends its reply and ends: one waking instead of two. The reply
        // waits in the socket meanwhile.
        let asks = job.request.opts.as_ref().is_some_and(|opts| opts.notify_scripts());
        let is_seen = link.worker.as_ref().is_some_and(Worker::end_is_seen);
        let only_end = !asks && job.worker_ends && is_seen;
        if only_end {
            course.wait_for_the_end_only();
        }
        let socket = (!only_end).then(|| link.as_fd());
        let worker = link.worker.iter().flat_map(Worker::sources);
        let cancel = limits.cancel.as_ref().map(AsFd::as_fd);
        let watch = Watch::new(socket.into_iter().chain(worker).chain(cancel))?;
        watch.wake_at(course.due())?;
        let facts = Facts {
            operation: job.operation,
            to_server: job.request.opts.as_ref().is_some_and(|opts| opts.ps.is_some()),
            has_root: job.request.opts.as_ref().is_some_and(|opts| opts.root.is_some()),
            log,
            images: job.images,
            since: link.since().filter(|_| !job.strays.is_empty()),
            strays: job.strays,
        };
        let (guards, cancel) = (job.guards, limits.cancel);
        Ok(Self { link, watch, course, facts, cancel, guards, tasks: Tasks::default(), gone: None })
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        self.link.pid()
    }

    /// Does everything that can be done without waiting. `None`: call again when the descriptor is
    /// readable.
    pub(crate) fn advance(&mut self, hooks: &mut dyn Hooks) -> Result<Option<Finished>> {
        if self.course.is_over() {
            return Err(Misuse::SessionOver.into());
        }
        let result = self.step(hooks).or_else(|error| self.complete().ok_or(error).map(Some));
        if !matches!(result, Ok(None)) {
            self.course.end();
        }
        if result.is_err() {
            self.bury_strays();
        }
        result
    }

    /// Goes on to the end. Returns the outcome and the connection, for further requests.
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
        self.watch.wait()
    }

    /// Returns whether the tasks are saved and being killed. From now on that may not take long.
    pub(crate) fn hurry_if_saved(&mut self) -> bool {
        if self.tasks.saved.is_empty() {
            return false;
        }
        self.forget_cancel();
        self.course.hurry(Instant::now());
        true
    }

    /// Returns the connection, for further requests.
    pub(crate) fn into_link(self) -> Link {
        self.link
    }

    /// Carries out orders, until one is to wait.
    fn step(&mut self, hooks: &mut dyn Hooks) -> Result<Option<Finished>> {
        loop {
            // Looked at before a packet is, so that no packet a worker has left behind is missed.
            let seen = self.look();
            self.notice_stop(seen);
            let (worker, hang_up) = self.link.parts();
            let mut order = self.course.next(seen, worker, hang_up);
            if let Order::Receive = order {
                let heard = self.link.receive()?;
                let (worker, hang_up) = self.link.parts();
                order = self.course.hear(heard, seen, worker, hang_up);
            }
            match order {
                Order::Send(packet) => self.send(&packet)?,
                Order::Ask(call) => self.ask(call, hooks),
                Order::Replied { success } => self.take_note(success),
                Order::Closed => self.watch.forget(&self.link),
                // `hear` gives no such order.
                Order::Receive => {}
                Order::Wait(at) => {
                    self.watch.wake_at(at)?;
                    return Ok(None);
                }
                Order::Kill(at) => {
                    if let Some(worker) = &mut self.link.worker {
                        worker.kill();
                    }
                    self.watch.wake_at(Some(at))?;
                    return Ok(None);
                }
                Order::Finish(reply) => {
                    self.link.protect(Subject::None);
                    return Ok(Some(Finished { reply, root: self.tasks.root.take() }));
                }
                Order::Fail(fault) => return Err(self.fault(fault)),
            }
        }
    }

    /// Looks at criu and at the cancel.
    fn look(&mut self) -> Seen {
        if let Some(worker) = &mut self.link.worker {
            if let Some(printed) = worker.listen() {
                self.watch.forget(&printed);
            }
        }
        // A worker that has ended may have left word that helpers are to stay: a page server that
        // has started is one until it has a session of its own. So it is not reaped yet.
        let worker = self.link.worker.as_ref().map(Worker::has_ended);
        if worker == Some(true) && self.gone.is_none() {
            self.gone = tree::now();
        }
        let is_cancelled = self.cancel.as_ref().is_some_and(Cancel::is_cancelled);
        Seen { now: Instant::now(), worker, is_cancelled }
    }

    fn notice_stop(&mut self, seen: Seen) {
        if self.course.notice(seen) {
            self.forget_cancel();
        }
    }

    /// A cancel that has come stays readable, and would wake us again and again.
    fn forget_cancel(&self) {
        if let Some(cancel) = &self.cancel {
            self.watch.forget(cancel);
        }
    }

    fn send(&mut self, packet: &[u8]) -> Result<()> {
        if let Some(connections) = self.link.worker.as_ref().and_then(|w| w.connections.as_ref()) {
            connections.expect();
        }
        match self.link.send(packet) {
            Ok(()) => Ok(()),
            // A criu that has gone may have left word why.
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(Error::system("send the request to criu", error)),
        }
    }

    /// Takes note of a reply.
    fn take_note(&mut self, success: bool) {
        if !success {
            // CRIU has let the tasks go.
            self.tasks.saved.clear();
        }
        if let Some(worker) = &mut self.link.worker {
            worker.helpers_stay = success;
        }
    }

    /// Answers an action, by the caller's hook or by a refusal if the operation is to stop.
    fn ask(&mut self, call: Call, hooks: &mut dyn Hooks) {
        let is_last = call.action == Action::PostDump;
        let verdict = self.verdict(call, hooks);
        let is_saved = is_last && matches!(verdict, Verdict::GoOn);
        let saved = if is_saved { self.tasks_to_end() } else { Vec::new() };
        let answer = self.course.answer(&verdict);
        if self.link.send(&answer).is_ok() && !saved.is_empty() {
            self.tasks.saved = saved;
            self.link.protect(Subject::Saved);
        }
    }

    fn verdict(&mut self, call: Call, hooks: &mut dyn Hooks) -> Verdict {
        let action = call.action;
        if let (Some(root), Subject::Restored { root: known }) =
            (call.root, &mut self.course.subject)
        {
            *known = Some(root);
            self.link.protect(self.course.subject);
            if action == Action::PostRestore && self.link.numbers_processes_as_here() {
                // The root is held until this is answered: nobody else can have its id.
                self.tasks.root = Some((root, fd::open(root.nix()).ok()));
            }
        }
        if self.course.is_stopping() {
            return Verdict::Refuse;
        }
        if !self.course.has_refused() {
            let root = self.tasks.root.as_ref().map(|(root, _)| *root);
            let checked = self.guards.iter_mut().try_for_each(|guard| guard.check(action, root));
            let hooked = |source: HookError| Error::Hook { action, source: source.into() };
            match checked.and_then(|()| call.answer(hooks).map_err(hooked)) {
                Ok(externals) if externals.is_empty() => return Verdict::GoOn,
                Ok(externals) => return Verdict::GoOnWith(externals),
                Err(refusal) => self.course.refuse(refusal),
            }
        }
        // CRIU goes on after a refusal here, and would let the tasks run. At network-unlock it must
        // go on, to take its rules away; pre-resume comes next.
        if matches!(action, Action::PreResume | Action::PostResume) {
            match &mut self.link.worker {
                Some(worker) => Ending::default().finish(worker),
                // Reaped only after CRIU has let go of them.
                None => self.tasks.killed = self.kill_restored(),
            }
        }
        Verdict::Refuse
    }

    /// Returns the tasks that criu will kill when it is told to go on, because their images are
    /// complete. A worker that has gone kills no task, and a service in another pid namespace
    /// numbers them otherwise.
    fn tasks_to_end(&mut self) -> Vec<(Pid, u64)> {
        let is_there = match &self.link.worker {
            Some(worker) => !worker.has_ended(),
            None => self.link.numbers_processes_as_here(),
        };
        let (Subject::Tasks { root, end: true }, true) = (self.course.subject, is_there) else {
            return Vec::new();
        };
        let tasks = tree::descendants(root).into_iter();
        let tasks = tasks.filter_map(|pid| Some((pid, tree::started_at(pid)?)));
        tasks.filter(|(pid, since)| tree::is_alive(*pid, *since)).collect()
    }

    /// Completes a dump whose tasks are saved, if criu has gone before all were killed. Returns
    /// `None` if criu had not begun to kill them: they run on.
    fn complete(&mut self) -> Option<Finished> {
        let saved = std::mem::take(&mut self.tasks.saved);
        let (root, since) = *saved.first()?;
        if let Some(worker) = &mut self.link.worker {
            Ending::default().finish(worker);
        }
        // CRIU begins with the root.
        if tree::lives_on(root, since) {
            return None;
        }
        let alive = || saved.iter().filter(|(pid, since)| tree::is_alive(*pid, *since));
        let rest = alive().filter(|(pid, since)| tree::lives_on(*pid, *since));
        tree::kill_all(rest.filter_map(|(pid, since)| Held::started_at(*pid, *since)).collect());
        let limit = Instant::now() + DEATH_TIME;
        while alive().next().is_some() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        let reply =
            CriuResp { r#type: CriuReqType::Dump.into(), success: true, ..Default::default() };
        Some(Finished { reply: Box::new(reply), root: None })
    }

    /// Ends what a failed restore has left, once its worker has gone.
    fn bury_strays(&mut self) {
        let Some(since) = self.facts.since else { return };
        let until = self.gone.or_else(tree::now).unwrap_or(u64::MAX);
        let ended = self.link.worker.as_mut().and_then(Worker::try_wait);
        if self.link.worker.is_some() && ended.is_none() {
            return;
        }
        let named = match self.course.subject {
            Subject::Restored { root } => root,
            _ => None,
        };
        let life = match &self.link.worker {
            Some(worker) => worker.life(since, until),
            None => {
                let log = self.facts.log.as_ref().and_then(|log| log.identity());
                Life { since, until, log, ..Life::default() }
            }
        };
        // A worker that ends by itself takes what it has made away, except for processes of criu
        // that a task started and that outlived the task.
        if ended.is_some_and(|status| status.signal().is_some()) {
            let root = self.tasks.root.as_ref();
            let root = root.and_then(|(pid, pidfd)| Held::by(*pid, pidfd.as_ref()?.as_fd()));
            self.facts.strays.end(&life, named, root);
        } else {
            self.facts.strays.end_helpers(&life);
            self.facts.strays.bury(&life);
        }
    }

    /// Kills what a service has restored in spite of a refusal.
    fn end_restored(&mut self) {
        let killed = self.kill_restored();
        tree::reap(&self.tasks.killed);
        tree::reap(&killed);
    }

    fn kill_restored(&self) -> Vec<Held> {
        match (&self.link.worker, &self.tasks.root) {
            (None, Some((root, Some(pidfd)))) => {
                tree::kill_all(Held::by(*root, pidfd.as_fd()).into_iter().collect())
            }
            // Nothing tells a root from another process that has got its number.
            _ => Vec::new(),
        }
    }

    fn fault(&mut self, fault: Fault) -> Error {
        match fault {
            Fault::Stopped(why, how) => {
                Stopped { operation: self.facts.operation, why, how }.into()
            }
            Fault::Refused { refusal, has_replied } => {
                if has_replied {
                    self.end_restored();
                }
                refusal
            }
            Fault::Failed(end, reply) => self.failed(end, reply.as_deref()),
            Fault::Broken(error) => error,
        }
    }

    fn failed(&mut self, end: End, reply: Option<&CriuResp>) -> Error {
        let exit: Option<ExitStatus> = self.link.worker.as_mut().and_then(Worker::try_wait);
        let message = reply.and_then(|reply| reply.cr_errmsg.as_deref()).map(printable);
        let message = message.filter(|message| !is_harmless(message));
        let log = self.facts.log.as_ref().map(|log| log.excerpt(message.as_deref()));
        let mut failure = Failure {
            operation: self.facts.operation,
            end,
            errno: reply.and_then(|reply| reply.cr_errno),
            message,
            exit,
            output: self.link.worker.as_mut().map(Worker::said).unwrap_or_default(),
            log: log.unwrap_or(Ok(None)).map_err(Arc::new),
            cause: None,
            seen: None,
            root: reply.and_then(|reply| Pid::new(reply.restore.as_ref()?.pid)),
        };
        let target = match self.course.subject {
            Subject::Tasks { root, .. } => Some(root),
            _ => None,
        };
        let asked =
            Asked { root: target, to_server: self.facts.to_server, has_root: self.facts.has_root };
        diagnose(&mut failure, &asked);
        if let Some(images) = &self.facts.images {
            name_from_images(&mut failure, images);
        }
        Error::Failed(Box::new(failure))
    }
}

impl AsFd for Driver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// The time that is waited for tasks to die.
const DEATH_TIME: Duration = Duration::from_secs(1);
