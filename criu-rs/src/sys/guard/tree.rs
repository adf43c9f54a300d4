//! The trees of processes that a guard kills.

use super::table::Space;
use crate::sys::list::List;
use crate::sys::{proc, raw};

/// A process of a tree.
#[derive(Clone, Copy)]
struct Member {
    pid: i32,
    process: i32,
}

/// Kills the processes of spaces and their descendants, and adds their descriptors to a list.
///
/// All are stopped before any is killed: a process that outlives its parent is adopted by another
/// process and could no longer be found. Each is held by a descriptor when it is found, so that no
/// signal reaches a process that has got its number since.
pub(super) fn kill(spaces: &[Space], killed: &mut List<i32>) {
    let mut members = List::new();
    for space in spaces.iter().filter(|space| space.process >= 0) {
        raw::signal(space.process, libc::SIGSTOP);
        if !members.push(Member { pid: space.pid, process: space.process }) {
            raw::signal(space.process, libc::SIGKILL);
        }
    }
    // A process may fork before it has stopped.
    for _ in 0..MOST_ROUNDS {
        let before = members.items().len();
        let mut at = 0;
        while let Some(member) = members.get(at) {
            at += 1;
            stop_children(member, &mut members);
        }
        if members.items().len() == before {
            break;
        }
    }
    for member in members.items() {
        raw::signal(member.process, libc::SIGKILL);
        killed.push(member.process);
    }
}

/// Stops the children of a process that are not known yet, and adds them to the members.
fn stop_children(parent: Member, members: &mut List<Member>) {
    if parent.pid <= 1 {
        return;
    }
    let mut pids = List::new();
    proc::each_child(parent.pid, |pid| {
        pids.push(pid);
    });
    for pid in pids.items().iter().copied() {
        if members.items().iter().any(|member| member.pid == pid) {
            continue;
        }
        let Ok(process @ 0..) = i32::try_from(raw::open_process(pid)) else { continue };
        // Numbers tell of these processes as long as neither has been reaped since.
        let is_child = proc::Stat::of(pid).is_some_and(|stat| stat.parent == parent.pid);
        if is_child && raw::signal(process, 0) && raw::signal(parent.process, 0) {
            raw::signal(process, libc::SIGSTOP);
            if members.push(Member { pid, process }) {
                continue;
            }
            raw::signal(process, libc::SIGKILL);
        }
        raw::close(process);
    }
    pids.free();
}

/// The most looks for processes that were forked during the last look.
const MOST_ROUNDS: u32 = 10;

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn shell() -> Child {
        let script = "sleep 100 & (sleep 100 & echo; wait) & wait";
        let mut child = Command::new("sh");
        let mut child = child.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        child
    }

    fn number(child: &Child) -> i32 {
        child.id().try_into().unwrap()
    }

    fn space(pid: i32, pidfd: &impl AsRawFd) -> Space {
        Space { id: 1, uffd: -1, process: pidfd.as_raw_fd(), pid }
    }

    #[test]
    fn a_tree_is_killed_whole() {
        let mut root = shell();
        let pidfd = criu_lab::lazy::pidfd(root.id());
        let mut killed = List::new();
        kill(&[space(number(&root), &pidfd)], &mut killed);
        root.wait().unwrap();
        assert_eq!(killed.items().len(), 4);
        // Nobody holds the other end of the pipe any more.
        let mut rest = Vec::new();
        std::io::Read::read_to_end(root.stdout.as_mut().unwrap(), &mut rest).unwrap();
    }

    #[test]
    fn children_of_a_stranger_that_has_got_the_number_of_a_task_live_on() {
        let (mut stranger, mut task) = (shell(), Command::new("true").spawn().unwrap());
        let pidfd = criu_lab::lazy::pidfd(task.id());
        task.wait().unwrap();
        let mut killed = List::new();
        kill(&[space(number(&stranger), &pidfd)], &mut killed);
        assert_eq!(killed.items().len(), 1);
        let own = criu_lab::lazy::pidfd(stranger.id());
        kill(&[space(number(&stranger), &own)], &mut killed);
        assert_eq!(killed.items().len(), 5);
        stranger.wait().unwrap();
    }
}
