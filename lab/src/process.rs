//! Processes: their states, their descendants, their end.

use std::ffi::OsStr;
use std::fmt::{Debug, Display};
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use procfs::process::Process;

use crate::place::names;

/// A process id in the type that a suite has for it, such as `criu_rs::Pid` or `i32`.
pub trait ProcessId: Copy + Display {
    /// The id of this number.
    fn of(raw: i32) -> Self;

    /// The number.
    fn raw(self) -> i32;
}

impl<T: Copy + Display + TryFrom<i32, Error: Debug>> ProcessId for T {
    fn of(raw: i32) -> Self {
        Self::try_from(raw).unwrap()
    }

    fn raw(self) -> i32 {
        self.to_string().parse().unwrap()
    }
}

/// A command that closes all descriptors above standard error, starts a session and becomes a
/// program with the words that follow. For tests that run as threads of one process, which cannot
/// [`prepare`].
pub fn apart(program: impl AsRef<OsStr>) -> Command {
    let close = "for fd in /proc/self/fd/*; do fd=${fd##*/}; \
                 [ $fd -gt 2 ] && eval \"exec $fd>&-\"; done; exec setsid \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", close, "bash"]).arg(program);
    command
}

/// Makes this process fit to dump others: closes what it inherited above standard error, starts a
/// session and becomes the reaper of its descendants.
///
/// CRIU cannot dump a descriptor that belongs to whoever started the tests.
pub fn prepare() {
    close_inherited();
    let _ = nix::unistd::setsid();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
}

/// Closes all descriptors above standard error.
pub fn close_inherited() {
    for number in descriptors().into_iter().filter(|&number| number > 2) {
        // The descriptor that has read the folder is closed by now.
        let _ = nix::unistd::close(number);
    }
}

/// The numbers of the open descriptors, ascending. The last one read the folder.
pub(crate) fn descriptors() -> Vec<i32> {
    let mut numbers: Vec<i32> =
        names("/proc/self/fd").iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The state letter of a process in `/proc`, while there is such a process.
pub fn state(pid: impl ProcessId) -> Option<char> {
    Process::new(pid.raw()).ok()?.stat().ok().map(|stat| stat.state)
}

/// Returns true if all threads of a process are stopped: its memory does not change then.
pub fn is_stopped(pid: impl ProcessId) -> bool {
    let Ok(threads) = Process::new(pid.raw()).and_then(|process| process.tasks()) else {
        return false;
    };
    threads.flatten().all(|thread| thread.stat().is_ok_and(|stat| stat.state == 'T'))
}

/// Returns true if the first thread of a process catches a signal, or holds it back: then the
/// signal does not kill the process.
pub fn holds(pid: impl ProcessId, signal: Signal) -> bool {
    let status = Process::new(pid.raw()).and_then(|process| process.status());
    status.is_ok_and(|status| (status.sigcgt | status.sigblk) & (1 << (signal as i32 - 1)) != 0)
}

/// Returns true once a process has ended with all its threads: before, it cannot be reaped.
pub fn has_ended(pid: impl ProcessId) -> bool {
    match state(pid) {
        None => true,
        Some('Z') => {
            let tasks = Process::new(pid.raw()).and_then(|process| process.tasks());
            tasks.is_ok_and(|tasks| tasks.count() < 2)
        }
        Some(_) => false,
    }
}

/// Returns true while `/proc` has an entry of a process, which a zombie has too.
pub fn exists(pid: impl ProcessId) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The name of a process, at most 15 bytes.
pub fn name(pid: impl ProcessId) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The children of a process, of all its threads.
pub fn children<P: ProcessId>(pid: P) -> Vec<P> {
    let Ok(tasks) = Process::new(pid.raw()).and_then(|process| process.tasks()) else {
        return Vec::new();
    };
    let children = tasks.flatten().filter_map(|task| task.children().ok()).flatten();
    children.map(|child| P::of(i32::try_from(child).unwrap())).collect()
}

/// A process and all its descendants, parents first.
pub fn descendants<P: ProcessId>(root: P) -> Vec<P> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        found.extend(children(pid));
    }
    found
}

/// All sleeping threads of a process and its descendants, with their stack pointers.
pub(crate) fn stack_pointers<P: ProcessId>(root: P) -> Vec<(i32, u64)> {
    let pids = descendants(root).into_iter();
    let tasks = pids.filter_map(|pid| Process::new(pid.raw()).ok()?.tasks().ok()).flatten();
    let pointer = |task: procfs::process::Task| {
        // "230 0x0 0x0 0x7ffd8d6bcb90 0x0 0x0 0x0 0x7ffd8d6bcb50 0x7f4f3f1d2a53", or "running"
        let path = format!("/proc/{}/task/{}/syscall", task.pid, task.tid);
        let text = fs::read_to_string(path).ok()?;
        let pointer = text.split_whitespace().nth_back(1)?;
        let pointer = u64::from_str_radix(pointer.strip_prefix("0x")?, 16).ok()?;
        Some((task.tid, pointer))
    };
    tasks.filter_map(|task| pointer(task.ok()?)).collect()
}

/// Sends a signal. Returns false if there is no such process.
pub fn send(pid: impl ProcessId, signal: Signal) -> bool {
    kill(nix::unistd::Pid::from_raw(pid.raw()), signal).is_ok()
}

/// Kills a process and all its descendants; returns who they were.
pub fn kill_tree<P: ProcessId>(root: P) -> Vec<P> {
    let tree = descendants(root);
    for &pid in &tree {
        send(pid, Signal::SIGKILL);
    }
    tree
}

/// Reaps every child that has ended.
pub fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
