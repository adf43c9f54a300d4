//! Points at which criu can be ended without harm to a task.
//!
//! While criu has a task execute code of its own, the task's registers are not its own, and for
//! some system calls neither are the first bytes of its program. If criu dies then, the task
//! continues with them and crashes. There are two such times, a few milliseconds at the beginning
//! and the end of each task's dump:
//!
//! * criu executes a system call in the task's name: it overwrites the start of the first
//!   executable mapping with a system call and a trap, and restores the old bytes afterwards;
//! * criu's "parasite" code, in a mapping called CRIUMFD, runs in the task. The parasite is
//!   harmless only while it waits for a command: when the connection to criu ends, it restores the
//!   task's registers.
//!
//! Between the two, while memory is being copied, the parasite waits, so most of a dump is safe.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use procfs::process::{MMPermissions, MMapPath, Process, Task};

use crate::host::{Held, held, tree};
use crate::value::Pid;

/// Stops criu and its helpers at a point where ending them harms no task of the tree at `root`.
///
/// If this is not such a point, they continue and the answer is `false`.
pub(crate) fn hold(criu: Pid, root: Pid) -> bool {
    let held: Vec<Held> = tree::descendants(criu).into_iter().filter_map(Held::of).collect();
    // A number may have got another owner since it was listed.
    let known = tree::descendants(criu);
    let held: Vec<Held> = held.into_iter().filter(|held| known.contains(&held.pid())).collect();
    held.iter().for_each(stop);
    let processes: Vec<Pid> = held.iter().map(Held::pid).collect();
    let safe = !processes.iter().any(|pid| is_iptables(*pid))
        && tree::descendants(root).into_iter().all(|pid| is_safe(pid, &processes));
    if !safe {
        held.iter().for_each(|held| held.signal(Signal::SIGCONT));
    }
    safe
}

/// Says whether a process is iptables, which may hold the lock that others need to undo what it
/// does.
fn is_iptables(pid: Pid) -> bool {
    let program = Process::new(pid.as_raw()).and_then(|process| process.exe());
    let name = program.ok().and_then(|program| program.file_name()?.to_str().map(str::to_owned));
    name.is_some_and(|name| name.contains("tables"))
}

/// Stops a process and waits until it has stopped.
fn stop(held: &Held) {
    held.signal(Signal::SIGSTOP);
    let limit = Instant::now() + MAX_STOP;
    while Instant::now() < limit {
        match held::stat(held.pid()).map(|stat| stat.state).filter(|_| held.is_there()) {
            Some('T' | 'Z') | None => return,
            Some(_) => std::thread::yield_now(),
        }
    }
}

/// Says whether criu can end now without harm to this task.
fn is_safe(pid: Pid, criu: &[Pid]) -> bool {
    let Ok(process) = Process::new(pid.as_raw()) else {
        return true;
    };
    let Ok(maps) = process.maps() else {
        return !is_traced(&process, criu);
    };
    let executable = |map: &&procfs::process::MemoryMap| map.perms.contains(MMPermissions::EXECUTE);
    if let Some(first) = maps.iter().find(executable) {
        let mut bytes = [0; REMOTE_SYSCALL.len()];
        let read = process.mem().ok().map(|mem| mem.read_exact_at(&mut bytes, first.address.0));
        if REMOTE_SYSCALL.is_empty() || !matches!(read, Some(Ok(()))) || bytes == *REMOTE_SYSCALL {
            return !is_traced(&process, criu);
        }
    }
    let parasite: Vec<(u64, u64)> = maps
        .iter()
        .filter(|map| matches!(&map.pathname, MMapPath::Path(path) if is_parasite(path)))
        .map(|map| map.address)
        .collect();
    if parasite.is_empty() {
        return true;
    }
    let Ok(tasks) = process.tasks() else {
        return true;
    };
    tasks.flatten().all(|task| waits_or_is_itself(&task, &parasite))
}

/// Says whether a thread executes its own code, or the parasite's while the parasite waits for a
/// command.
///
/// A waiting parasite sleeps. If its thread is stopped instead, criu is about to make the parasite
/// leave over a breakpoint, which nobody would catch after criu's end.
fn waits_or_is_itself(task: &Task, parasite: &[(u64, u64)]) -> bool {
    let path = format!("/proc/{}/task/{}/syscall", task.pid, task.tid);
    let Ok(text) = std::fs::read_to_string(path) else { return true };
    let Some((number, program_counter)) = place(&text) else { return false };
    let inside = |&(start, end): &(u64, u64)| (start..end).contains(&program_counter);
    let sleeps = || task.stat().is_ok_and(|stat| stat.state == 'S');
    !parasite.iter().any(inside) || (RECEIVING.contains(&number) && sleeps())
}

/// Reads the system call, or -1, and the program counter from `/proc/PID/task/TID/syscall`. Returns
/// `None` for a running thread.
fn place(text: &str) -> Option<(i64, u64)> {
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let counter = words.next_back()?.strip_prefix("0x")?;
    Some((number, u64::from_str_radix(counter, 16).ok()?))
}

/// Says whether one of criu's processes traces the task.
fn is_traced(process: &Process, criu: &[Pid]) -> bool {
    let traced_by = |pid: Pid| criu.contains(&pid);
    process.status().is_ok_and(|status| Pid::new(status.tracerpid).is_some_and(traced_by))
}

/// Says whether a mapping's path is that of the parasite.
fn is_parasite(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"/memfd:CRIUMFD")
}

/// The time that a stopped process may take to show it: at most a turn of the scheduler.
const MAX_STOP: Duration = Duration::from_millis(50);

/// The code that criu writes over the program to execute a system call: `syscall`, `int3`.
#[cfg(target_arch = "x86_64")]
const REMOTE_SYSCALL: &[u8; 3] = &[0x0f, 0x05, 0xcc];
/// The code that criu writes over the program to execute a system call: `svc #0`, `brk #0`.
#[cfg(target_arch = "aarch64")]
const REMOTE_SYSCALL: &[u8; 8] = &[0x01, 0x00, 0x00, 0xd4, 0x00, 0x00, 0x20, 0xd4];
/// Unknown on this architecture: a traced task counts as unsafe.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REMOTE_SYSCALL: &[u8; 0] = &[];

/// The system calls in which the parasite waits: recvfrom(2) and recvmsg(2).
const RECEIVING: [i64; 2] = [libc::SYS_recvfrom, libc::SYS_recvmsg];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_in_each_form() {
        let call = "45 0x3 0x7f 0x20 0x0 0x0 0x0 0x7ffc4b8 0x7fcfb34f2d90\n";
        assert_eq!(place(call), Some((45, 0x7fcf_b34f_2d90)));
        assert_eq!(place("-1 0x7fcfb3501628 0x7fcfb34f2d90\n"), Some((-1, 0x7fcf_b34f_2d90)));
        assert_eq!(place("running\n"), None);
        assert_eq!(place(""), None);
    }
}
