//! Programs that end because a restore interrupts the system call in which they wait.
//!
//! A task that waits in poll(2) gets `EINTR` from it after a restore, because CRIU cannot restart
//! that call. Nearly every program goes on. Programs that take their signals from a signalfd need
//! not expect `EINTR`, and those of util-linux that hold the master of a terminal do not:
//! script(1), scriptlive(1), and `--pty` of su(1), runuser(1) and setpriv(1). They end their child
//! and themselves.

use super::finding::{Finding, Severity};
use super::live::{Task, Tree};
#[cfg(target_arch = "x86_64")]
use super::proc;

/// Looks for the programs by what they hold and wait for.
pub(super) fn look(tree: &Tree) -> Vec<Finding> {
    tree.alive().filter(|task| waits_in_poll(task) && holds_a_terminal(task)).map(found).collect()
}

fn found(task: &Task) -> Finding {
    let what = "a program like script(1) ends itself and its child right after a restore";
    let detail = "it waits in poll(2), which a restore interrupts, and it takes all signals from a \
                  signalfd";
    let hint = "save the child alone, in a session of its own, and record its new terminal instead";
    Finding::new(Severity::Loses, what).pid(task.pid).detail(detail).hint(hint)
}

/// Says whether the first thread waits in poll(2) now. A system call that is restarted by another
/// number, as ppoll(2) on other architectures, is not interrupted.
fn waits_in_poll(task: &Task) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let call = proc::text(proc::of(task.pid, "syscall")).unwrap_or_default();
        let number = call.split_whitespace().next().and_then(|word| word.parse().ok());
        number == Some(libc::SYS_poll)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = task;
        false
    }
}

/// Says whether a task has a signalfd and the master of a terminal.
fn holds_a_terminal(task: &Task) -> bool {
    let has = |name: &str| task.fds.iter().flatten().any(|fd| fd.name().ends_with(name));
    has("[signalfd]") && has("/ptmx")
}
