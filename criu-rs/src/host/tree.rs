//! Live process trees: finding their members, and ending whole trees.

use std::collections::HashSet;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use procfs::Current;
use procfs::process::Process;

use super::held::Held;
use crate::value::Pid;

/// The process and all its descendants, parents first. Processes that end meanwhile are left out.
pub(crate) fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        found.extend(children(pid));
    }
    found
}

/// All processes that this process sees.
pub(crate) fn all() -> Vec<Pid> {
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    all.filter_map(|process| Pid::try_from(process.pid()).ok()).collect()
}

/// Returns true if a process is the first of its pid namespace.
#[cfg(feature = "oci")]
pub(crate) fn is_first(pid: Pid) -> bool {
    let status = Process::new(pid.as_raw()).and_then(|process| process.status());
    status.is_ok_and(|status| status.nspid.and_then(|ids| ids.last().copied()) == Some(1))
}

/// The children of all threads of a process.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let Ok(tasks) = Process::new(pid.as_raw()).and_then(|process| process.tasks()) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| task.children().ok())
        .flatten()
        .filter_map(|child| Pid::try_from(child).ok())
        .collect()
}

/// The threads of a process.
pub(crate) fn threads(pid: Pid) -> Vec<Pid> {
    let tasks = Process::new(pid.as_raw()).and_then(|process| process.tasks());
    let ids = tasks.into_iter().flatten().flatten().map(|task| Pid::try_from(task.tid));
    ids.flatten().collect()
}

/// Returns true if a process has a tracer.
pub(crate) fn is_traced(pid: Pid) -> bool {
    let status = Process::new(pid.as_raw()).and_then(|process| process.status());
    status.is_ok_and(|status| status.tracerpid > 0)
}

/// Approximate bytes of memory that a dump of a tree saves: anonymous memory and swap. Processes
/// whose memory this process may not see count as zero.
pub(crate) fn memory(root: Pid) -> u64 {
    let of = |pid: Pid| {
        let rollup = Process::new(pid.as_raw()).and_then(|process| process.smaps_rollup()).ok()?;
        let all = rollup.memory_map_rollup.0;
        let sum = |name| all.iter().filter_map(|map| map.extension.map.get(name)).sum::<u64>();
        Some(sum("Anonymous") + sum("Swap"))
    };
    descendants(root).into_iter().filter_map(of).sum()
}

/// Kills whole trees and returns their processes.
///
/// All processes of a tree are stopped before any is killed: a process that outlives its parent is
/// adopted by another process and could no longer be found. Each is held when it is found, so that
/// no signal reaches a process that has got its number since.
pub(crate) fn kill_all(roots: Vec<Held>) -> Vec<Held> {
    let mut known: Vec<Held> = Vec::new();
    let mut seen: HashSet<Pid> = HashSet::new();
    let mut fresh = roots;
    for _ in 0..MAX_ROUNDS {
        fresh.retain(|held| seen.insert(held.pid()));
        fresh.iter().for_each(|held| held.signal(Signal::SIGSTOP));
        known.append(&mut fresh);
        // A process may fork before it has stopped.
        let held = |parent: &Held| {
            let parent = parent.pid();
            children(parent).into_iter().map(move |child| (child, parent))
        };
        let found = known.iter().flat_map(held).filter(|(child, _)| !seen.contains(child));
        fresh = found.filter_map(|(child, parent)| Held::child(child, parent)).collect();
        if fresh.is_empty() {
            break;
        }
    }
    known.iter().for_each(|held| held.signal(Signal::SIGKILL));
    known
}

/// Reaps the killed processes that are children of this process: restored siblings, and orphans if
/// this process is their reaper.
pub(crate) fn reap(killed: &[Held]) {
    killed.iter().for_each(Held::reap);
}

/// Waits at most a second until all of the processes are gone, and reaps the children of this
/// process among them. A failed restore leaves such children if this process is the reaper of
/// orphans. A zombie would keep its id from the next try.
pub(crate) fn bury(ended: &[Held]) {
    let limit = Instant::now() + Duration::from_secs(1);
    for held in ended {
        while held.is_there() && Instant::now() < limit {
            match held.try_reap() {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(_) => break,
                // Another process has to reap it.
                Err(_) if is_zombie(held.pid()) => break,
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The present time in the kernel's ticks since boot, the unit of a process's start time.
pub(crate) fn now() -> Option<u64> {
    let uptime = procfs::Uptime::current().ok()?.uptime_duration();
    let ticks = u128::from(procfs::ticks_per_second()) * uptime.as_millis() / 1000;
    u64::try_from(ticks).ok()
}

/// The start time of a process, in the kernel's ticks since boot.
pub(crate) fn started_at(pid: Pid) -> Option<u64> {
    Some(Process::new(pid.as_raw()).ok()?.stat().ok()?.starttime)
}

/// Returns true if the process that started at `since` is alive.
pub(crate) fn is_alive(pid: Pid, since: u64) -> bool {
    started_at(pid) == Some(since) && !is_zombie(pid)
}

/// Returns true if the process that started at `since` is alive and was not killed. A killed
/// process with much memory takes a while to disappear.
pub(crate) fn lives_on(pid: Pid, since: u64) -> bool {
    let Ok(process) = Process::new(pid.as_raw()) else { return false };
    let is_exiting = process.stat().is_ok_and(|stat| stat.flags & PF_EXITING != 0);
    let sigkill = 1 << (Signal::SIGKILL as u32 - 1);
    let is_killed = process.status().is_ok_and(|now| (now.sigpnd | now.shdpnd) & sigkill != 0);
    is_alive(pid, since) && !is_exiting && !is_killed
}

/// Returns true if a process has ended.
fn is_zombie(pid: Pid) -> bool {
    let stat = Process::new(pid.as_raw()).and_then(|process| process.stat());
    stat.is_ok_and(|stat| matches!(stat.state, 'Z' | 'X'))
}

/// Waits for a child of this process to end, and reaps it.
pub(crate) fn wait(child: Pid) -> io::Result<ExitStatus> {
    loop {
        match waitpid(child.nix(), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(_, signal, core)) => {
                let core = if core { 0x80 } else { 0 };
                return Ok(ExitStatus::from_raw(signal as i32 | core));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The kernel's flag in `/proc/PID/stat` for a process that is exiting.
const PF_EXITING: u32 = 4;

/// Most rounds of stopping before killing. Each round finds processes that were forked during the
/// round before.
const MAX_ROUNDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_tree_is_found_and_ended_whole() {
        let mut shell = Command::new("sh")
            .args(["-c", "(sleep 1000 & sleep 1000 & wait) & wait"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let root = Pid::from(&shell);
        let all = loop {
            let all = descendants(root);
            if all.len() == 4 {
                break all;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let killed = kill_all(vec![Held::child(root, Pid::this()).unwrap()]);
        assert_eq!(killed.iter().map(Held::pid).collect::<Vec<_>>(), all);
        reap(&killed);
        assert!(shell.wait().is_err(), "it has been reaped");
        let lives = |pid: &Pid| {
            let stat = Process::new(pid.as_raw()).and_then(|process| process.stat());
            stat.is_ok_and(|stat| stat.state != 'Z')
        };
        while all.iter().any(lives) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
