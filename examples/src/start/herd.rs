//! All copies, from the first restore to the last end.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use criu_rs::Pid;
use criu_rs::lazy::{LazyControl, LazyError, LazyReport};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::{Value, json};

use super::background::Background;
use super::launch::launch;
use super::memory::{Memory, tell_end};
use super::plan::Plan;
use super::wire::{self, Moment, News, Word};
use super::{Program, end_of};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::{Output, micros};
use crate::serving::raise_descriptors;
use crate::signals::Signals;

/// The copies, and what has become of them.
pub(super) struct Herd<'a> {
    program: &'a Program,
    args: &'a [OsString],
    output: &'a Output,
    signals: Signals,
    // Before the memory, which waits for the end of all restores.
    live: Vec<Live>,
    memory: Option<Memory>,
    failed: bool,
    /// The moment at which copies that still run are ended by force.
    stopping: Option<Instant>,
    /// True if a copy was stopped before it ran.
    cut_short: bool,
}

/// A copy that has been started.
struct Live {
    copy: u32,
    hostname: String,
    /// The first process of its pid namespace.
    first: Child,
    socket: OwnedFd,
    /// The part of the memory that is for this copy.
    control: Option<LazyControl>,
    /// The loss of memory during the restore.
    lost: Option<LazyReport>,
    begun: Moment,
    /// The root task, once it runs.
    root: Option<OwnedFd>,
    /// True if its end or its failure has been told.
    is_told: bool,
    /// The moment at which its first process was asked to end.
    asked: Option<Instant>,
}

impl<'a> Herd<'a> {
    /// Makes an empty one. [`run`](Self::run) notices the signals that ask to stop.
    pub(super) fn new(
        program: &'a Program,
        args: &'a [OsString],
        output: &'a Output,
        signals: Signals,
    ) -> Result<Self, Fault> {
        let memory = || {
            let options = program.lazy_options()?;
            Memory::open(program.images()?, options, &program.working_set, output)
        };
        let memory = (!program.eager).then(memory).transpose()?;
        let (live, failed, stopping, cut_short) = (Vec::new(), false, None, false);
        Ok(Self { program, args, output, signals, live, memory, failed, stopping, cut_short })
    }

    /// Starts the copies, and stays until the last has ended.
    pub(super) fn run(
        mut self,
        plan: Plan,
        mut background: Option<Background>,
    ) -> Result<Exit, Fault> {
        // Each copy takes some ten descriptors.
        raise_descriptors();
        let mut waiting: VecDeque<u32> = plan.copies().collect();
        loop {
            while self.has_room() && self.stopping.is_none() {
                let Some(copy) = waiting.pop_front() else { break };
                self.start(&plan, copy);
            }
            if self.stopping.is_some() {
                self.cut_short |= !waiting.is_empty();
                waiting.clear();
            }
            if waiting.is_empty() && self.live.iter().all(Live::is_settled) {
                if let Some(background) = background.take_if(|_| !self.live.is_empty()) {
                    let pid = std::process::id();
                    self.output.print(format!("process {pid} keeps the copies, until SIGTERM"));
                    self.output.object("background", json!({ "pid": pid }));
                    background.release(end_of(self.failed, self.cut_short))?;
                }
            }
            if waiting.is_empty() && self.live.is_empty() {
                return Ok(end_of(self.failed, self.cut_short));
            }
            self.wait(&plan, background.as_ref())?;
            self.press_on();
        }
    }

    fn has_room(&self) -> bool {
        let restoring = self.live.iter().filter(|live| !live.is_settled()).count();
        restoring < self.program.most_at_once()
    }

    /// Returns the standard error of copies: none in the background.
    fn errors(&self) -> Stdio {
        if self.program.background { Stdio::null() } else { Stdio::inherit() }
    }

    fn start(&mut self, plan: &Plan, copy: u32) {
        let begun = Moment::now();
        let started = plan.orders(copy).and_then(|orders| {
            let memory = self.memory.as_mut();
            let control = memory.map(|memory| memory.serve(copy, &orders.work_dir)).transpose()?;
            let launched = launch(self.args, &orders, self.errors()).inspect_err(|_| {
                control.iter().for_each(LazyControl::finish);
            })?;
            Ok((orders, control, launched))
        });
        match started {
            Ok((orders, control, (first, socket))) => self.live.push(Live {
                copy,
                hostname: orders.hostname,
                first,
                socket,
                control,
                lost: None,
                begun,
                root: None,
                is_told: false,
                asked: None,
            }),
            Err(fault) => {
                self.failed = true;
                tell_failure(self.output, copy, &fault.to_string(), fault.to_json());
                plan.is_over(copy);
            }
        }
    }

    /// Waits until something happens, and deals with it.
    fn wait(&mut self, plan: &Plan, background: Option<&Background>) -> Result<(), Fault> {
        let foreground = background.map(Background::foreground);
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.live.iter().map(|it| PollFd::new(it.socket.as_fd(), PollFlags::POLLIN)));
        let memory = self.memory.as_ref().map(Memory::as_fd);
        fds.extend(memory.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(foreground.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let pause = match self.stopping {
            Some(_) => PollTimeout::from(50u16),
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, pause) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(source) => return Err(Fault::system("wait for the copies", source)),
        }
        let mut is_ready = fds.iter().map(|fd| fd.any() == Some(true)).collect::<VecDeque<_>>();
        drop(fds);
        let is_signalled = is_ready.pop_front() == Some(true);
        // The process in the foreground has been ended before the copies ran.
        let is_alone = foreground.is_some() && is_ready.pop_back() == Some(true);
        // Before the copies themselves, whose failure this may explain.
        self.hear_of_memory();
        let mut live = std::mem::take(&mut self.live);
        live.retain_mut(|live| {
            let is_ready = is_ready.pop_front() == Some(true);
            !is_ready || self.hear(plan, live)
        });
        self.live = live;
        if is_signalled && self.signals.next().is_some() || is_alone {
            self.stop();
        }
        Ok(())
    }

    fn hear_of_memory(&mut self) {
        let failed = &mut self.failed;
        let heard = self.memory.as_ref().map(|memory| memory.hear(self.output, failed));
        for (copy, report) in heard.unwrap_or_default() {
            if report.result.is_ok() {
                tell_end(self.output, copy, &report);
                continue;
            }
            // A copy that fails or ends needs no memory any more.
            let is_wanting = |live: &&mut Live| live.copy == copy && !live.is_told;
            match self.live.iter_mut().find(is_wanting) {
                _ if self.stopping.is_some() => {}
                Some(live) if live.root.is_some() => {
                    self.failed = true;
                    tell_end(self.output, copy, &report);
                }
                Some(live) => live.lost = Some(report),
                None => {}
            }
        }
    }

    /// Hears news of a copy. Returns false if the copy is over.
    fn hear(&mut self, plan: &Plan, live: &mut Live) -> bool {
        match wire::receive::<News>(&live.socket) {
            Ok(Some((News::Runs { asked, ran }, root))) => {
                self.tell_running(live, root.as_ref(), asked, ran);
                live.root = root;
                if let Some(lost) = live.lost.take() {
                    self.failed = true;
                    tell_end(self.output, live.copy, &lost);
                }
                if self.stopping.is_some() {
                    live.end_softly();
                }
                true
            }
            Ok(Some((News::Failed { mut text, mut error }, _))) => {
                if let Some(lost) = live.lost.take().and_then(own_error) {
                    text = format!("{text}\nmemory: {lost}");
                    error["memory"] = json!(lost);
                }
                live.is_told = true;
                plan.is_over(live.copy);
                live.tell(Word::Bye);
                if self.stopping.is_some() {
                    self.cut_short = true;
                } else {
                    self.failed = true;
                    tell_failure(self.output, live.copy, &text, error);
                }
                true
            }
            Ok(Some((News::Ended(code), _))) => {
                live.is_told = true;
                let copy = live.copy;
                plan.is_over(copy);
                live.tell(Word::Bye);
                if self.stopping.is_none() {
                    self.output.say(format!("copy {copy} has ended: {}", in_words(code)));
                }
                self.output.object("ended", json!({ "copy": copy, "exit": code }));
                true
            }
            Ok(None) | Err(_) => {
                let ended = live.first.wait();
                if !live.is_told && self.stopping.is_none() {
                    self.failed = true;
                    let ended = ended.map_or_else(|error| error.to_string(), |it| it.to_string());
                    let text = format!("its first process has ended: {ended}");
                    tell_failure(self.output, live.copy, &text, json!({ "message": text }));
                }
                if !live.is_told {
                    plan.is_over(live.copy);
                }
                false
            }
        }
    }

    fn tell_running(&self, live: &Live, root: Option<&OwnedFd>, asked: Moment, ran: Moment) {
        let (copy, hostname) = (live.copy, &live.hostname);
        let pid = root.and_then(number_of);
        let (first, restore) = (ran.since(live.begun), ran.since(asked));
        let shown = pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        let time = first.as_secs_f64() * 1000.0;
        self.output
            .print(format!("copy {copy}: process {shown} runs on {hostname} after {time:.1} ms"));
        self.output.object(
            "running",
            json!({
                "copy": copy,
                "pid": pid.map(Pid::as_raw),
                "hostname": hostname,
                "first_instruction_us": micros(first),
                "restore_us": micros(restore),
            }),
        );
    }

    /// Ends the copies: softly at the first call, by force at the second.
    fn stop(&mut self) {
        let is_first = self.stopping.is_none();
        let grace = if is_first { self.program.grace() } else { Duration::ZERO };
        self.stopping = Some(Instant::now() + grace);
        if is_first {
            self.live.iter_mut().for_each(Live::end_softly);
        }
    }

    /// Ends copies that have not ended in time.
    fn press_on(&mut self) {
        let now = Instant::now();
        let is_over_time = self.stopping.is_some_and(|limit| limit <= now);
        for live in &mut self.live {
            match live.asked {
                None if is_over_time => live.end(),
                Some(asked) if now.duration_since(asked) > LAST_GRACE => {
                    // The kernel ends the whole namespace.
                    let _ = live.first.kill();
                }
                _ => {}
            }
        }
    }
}

impl Live {
    /// Returns true if the copy is not being restored any more.
    fn is_settled(&self) -> bool {
        self.root.is_some() || self.is_told
    }

    /// Asks the root task to end, or ends the restore.
    fn end_softly(&mut self) {
        match &self.root {
            // A task that has ended needs no signal.
            Some(root) => drop(pidfd_send_signal(root, Signal::TERM)),
            None => self.end(),
        }
    }

    /// Has the first process end everything.
    fn end(&mut self) {
        self.tell(Word::End);
        self.asked.get_or_insert_with(Instant::now);
    }

    fn tell(&self, word: Word) {
        // A process that does not hear this has ended.
        let _ = wire::send(&self.socket, &word, None);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Nobody waits for memory any more.
        self.control.iter().for_each(LazyControl::stop);
    }
}

fn tell_failure(output: &Output, copy: u32, text: &str, error: Value) {
    output.say_lines(format_args!("copy {copy} failed: {text}"));
    output.object("failed", json!({ "copy": copy, "error": error }));
}

/// Returns the error of memory that has made a restore fail. A restore that fails by itself ends
/// the hand-over of its memory, too.
fn own_error(lost: LazyReport) -> Option<String> {
    let error = lost.result.err()?;
    let is_of_restore = matches!(error, LazyError::Stopped | LazyError::Handover(_));
    (!is_of_restore).then(|| error.to_string())
}

fn in_words(code: i32) -> String {
    match code.checked_sub(128).map(nix::sys::signal::Signal::try_from) {
        Some(Ok(signal)) => format!("killed by {signal}"),
        _ => format!("exit status {code}"),
    }
}

/// Returns the process id of a descriptor's process, as this process sees it.
fn number_of(process: &OwnedFd) -> Option<Pid> {
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
    let number = about.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok()
}

/// The time that the first process of a copy has to end everything by itself.
const LAST_GRACE: Duration = Duration::from_secs(5);
