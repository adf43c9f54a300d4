//! Tasks and tracers of a test, and the look at a task.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criu_plugin::inject::{self, Owner};

use super::raw::{self, ptrace};
use super::tracer::{MARK, SUSPEND_SECCOMP};
use super::victim::{self, BEATS, READY, STOP, TWIN, WRONG};

/// A task.
pub struct Victim {
    child: Child,
    page: &'static [AtomicU64; 512],
    _file: File,
    pub pid: i32,
}

impl Victim {
    /// Starts a task, and waits until it does what it is meant to do.
    pub fn start(kind: &str) -> Self {
        Self::prepared(kind, "")
    }

    pub fn prepared(kind: &str, how: &str) -> Self {
        Self::started(Command::new(std::env::current_exe().unwrap()), kind, how)
    }

    /// Starts a task as process 1 of a pid namespace.
    pub fn first(kind: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]).arg(std::env::current_exe().unwrap());
        let mut victim = Self::started(command, kind, "");
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", victim.pid));
        victim.pid = children.unwrap().trim().parse().unwrap();
        victim
    }

    fn started(mut command: Command, kind: &str, how: &str) -> Self {
        let file = File::from(raw::memory_file());
        file.set_len(4096).unwrap();
        let page = raw::shared(&file);
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        command.args(["--victim", &path, kind]);
        if !how.is_empty() {
            command.arg(how);
        }
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut victim = Self { child, page, _file: file, pid };
        victim.until("the task is ready", |victim| victim.get(READY) != 0);
        victim
    }

    pub fn get(&self, word: usize) -> u64 {
        self.page[word].load(Ordering::SeqCst)
    }

    pub fn result(&self) -> i64 {
        i64::from_ne_bytes(self.get(victim::RESULT).to_ne_bytes())
    }

    /// Waits for the task to make a system call, and to sleep in it.
    pub fn until_in(&mut self, number: libc::c_long) {
        self.until("the task is in its call", |victim| {
            let text = fs::read_to_string(format!("/proc/{}/syscall", victim.pid)).unwrap();
            text.split(' ').next() == Some(&number.to_string())
        });
    }

    pub fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is(self) {
            assert!(Instant::now() < deadline, "{what}: no");
            assert_eq!(self.child.try_wait().unwrap(), None, "{what}: the task has ended");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Sends the task a signal.
    pub fn signal(&self, signal: i32) {
        raw::signal(self.pid, signal);
    }

    /// Writes to the task's standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Makes sure that the task goes on as it was, and that nobody else runs its code.
    pub fn is_well(&mut self) {
        let beats = self.get(BEATS);
        self.until("the task goes on", |victim| victim.get(BEATS) > beats + 1);
        assert_eq!(self.get(TWIN), 0, "a twin runs");
        assert_eq!(self.get(WRONG), 0, "the task has found something changed");
        self.has_its_mask();
    }

    pub fn has_its_mask(&self) {
        // A task whose tracer was killed waits for its child on its way home.
        until("the task has its mask", || {
            let mask = victim::status(self.pid, "SigBlk").unwrap();
            u64::from_str_radix(&mask, 16) == Ok(victim::MASK)
        });
        assert_eq!(victim::status(self.pid, "TracerPid").unwrap(), "0");
    }

    pub fn children(&self) -> Vec<i32> {
        children(self.pid)
    }

    /// Ends the task, which has no child and has noticed nothing.
    pub fn finish(mut self) {
        assert_eq!(self.children(), [0; 0]);
        assert_eq!(self.get(TWIN), 0, "a twin runs");
        assert_eq!(self.get(WRONG), 0, "the task has found something changed");
        assert_eq!(self.get(victim::CHILDREN), 0, "SIGCHLD");
        self.page[STOP].store(1, Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the task does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(self.child.wait().unwrap().success());
    }

    /// Takes the status of a task that was killed.
    pub fn is_killed(&mut self) {
        assert_eq!(self.child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    /// Runs a tracer on the task. Returns what it has said.
    pub fn trace(&self, actions: &[&str]) -> Vec<String> {
        self.trace_with(SUSPEND_SECCOMP, actions)
    }

    pub fn trace_with(&self, options: usize, actions: &[&str]) -> Vec<String> {
        let mut tracer = Tracer::start(self.pid, options, actions);
        tracer.go();
        tracer.said().lines().map(str::to_owned).collect()
    }

    /// Makes a holder. Returns its process id.
    pub fn hold(&self) -> i32 {
        self.hold_with(SUSPEND_SECCOMP)
    }

    pub fn hold_with(&self, options: usize) -> i32 {
        let said = self.trace_with(options, &["hold"]);
        let holder = said[0].split(' ').next().unwrap().parse();
        holder.unwrap_or_else(|_| panic!("no holder: {said:?}"))
    }

    /// Kills a holder and reaps it through a thread of the running task.
    pub fn reap(&self, holder: i32, thread: i32) {
        let inner = victim::status(holder, "NSpid").unwrap();
        let inner = inner.split_whitespace().last().unwrap().to_owned();
        kill(holder);
        until("the holder is dead", || is_dead(holder));
        let mut tracer = Tracer::start(thread, 0, &["reap-on-small-stack", &inner]);
        tracer.go();
        assert_eq!(tracer.said(), "Ok(())\n");
        assert!(fs::metadata(format!("/proc/{holder}")).is_err(), "the holder is reaped");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // A holder outlives its task, and the tests that fail.
        for holder in children(self.pid) {
            kill(holder);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The children of a process, or none if it is gone.
fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// The tracer, a process that can be killed.
pub struct Tracer {
    child: Child,
    pid: i32,
    /// Pairs of marks that are of no interest.
    skipped: usize,
}

impl Tracer {
    pub fn start(victim: i32, options: usize, actions: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--tracer").arg(victim.to_string()).arg(options.to_string()).args(actions);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        Self { child, pid, skipped: 0 }
    }

    /// Leaves the first actions alone.
    pub fn skip(&mut self, actions: usize) {
        self.skipped = actions;
    }

    pub fn go(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"!").unwrap();
    }

    /// Waits for its end, which may be a failure.
    pub fn ends(mut self) {
        self.child.wait().unwrap();
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end. Returns what it has said.
    pub fn said(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "the tracer: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lets the tracer begin, and kills it at one of the entries and exits of its calls that change
    /// the task. The number of its other calls varies. Returns false if the tracer has come to its
    /// end before.
    pub fn kill_at(mut self, stop: usize) -> bool {
        ptrace::request(ptrace::SEIZE, self.pid, 0, 1).unwrap();
        ptrace::request(ptrace::INTERRUPT, self.pid, 0, 0).unwrap();
        self.go();
        // A mark is two stops. The first mark of an action is at its beginning, the second at its
        // end.
        let begin = 4 * self.skipped + 2;
        let (mut marks, mut stops) = (0, 0);
        while marks <= begin && stops <= stop {
            let status = ptrace::wait(self.pid);
            assert!(libc::WIFSTOPPED(status), "the tracer has ended: {status:#x}");
            let signal = match (status >> 16, libc::WSTOPSIG(status)) {
                (0, signal) if signal == libc::SIGTRAP | 0x80 => {
                    let number = ptrace::number(self.pid);
                    marks += usize::from(number == MARK);
                    stops += usize::from(marks == begin && CHANGES.contains(&number));
                    0
                }
                (0, signal) => signal,
                _ => 0,
            };
            if marks <= begin && stops <= stop {
                let signal = usize::try_from(signal).unwrap();
                ptrace::request(ptrace::SYSCALL, self.pid, 0, signal).unwrap();
            }
        }
        kill(self.pid);
        // Its death is told to its tracer, which is its parent, too.
        while libc::WIFSTOPPED(ptrace::wait(self.pid)) {}
        marks == begin
    }
}

/// All parked holders of the machine that tests have made.
pub fn holders() -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok());
    pids.filter(|pid| inject::parked(*pid) == Some(Owner { pid: 1, start: 2 })).collect()
}

/// System calls that change a task or its child.
const CHANGES: [libc::c_long; 3] = [libc::SYS_ptrace, libc::SYS_pwrite64, libc::SYS_kill];

/// Makes sure that a process is a parked holder.
pub fn is_parked(holder: i32) {
    until("the holder is parked", || inject::parked(holder) == Some(Owner { pid: 1, start: 2 }));
    let list = fs::read_dir(format!("/proc/{holder}/fd")).unwrap();
    assert_eq!(list.count(), 0, "the holder has descriptors");
    let text = fs::read_to_string(format!("/proc/{holder}/oom_score_adj")).unwrap();
    assert_eq!(text.trim(), "1000");
    assert_eq!(victim::status(holder, "SigBlk").unwrap(), "fffffffffffbfeff");
    let limits = fs::read_to_string(format!("/proc/{holder}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

pub fn kill(pid: i32) {
    raw::signal(pid, libc::SIGKILL);
}

/// Tells a process that is a zombie, or gone.
pub fn is_dead(pid: i32) -> bool {
    victim::status(pid, "State").is_none_or(|state| state.starts_with('Z'))
}

pub fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "{what}: no");
        std::thread::sleep(Duration::from_micros(200));
    }
}
