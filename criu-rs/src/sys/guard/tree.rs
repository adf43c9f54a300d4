//! The trees of processes that a guard kills.

use super::raw::{self, List};
use super::table::Space;
use super::text::{Text, numbers};

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
    add_children(parent.pid, &mut pids);
    for pid in pids.items().iter().copied() {
        if members.items().iter().any(|member| member.pid == pid) {
            continue;
        }
        let Ok(process @ 0..) = i32::try_from(raw::open_process(pid)) else { continue };
        // Numbers tell of these processes as long as neither has been reaped since.
        let is_child = parent_of(pid) == Some(parent.pid);
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

/// Returns the parent of a process, by its number.
fn parent_of(pid: i32) -> Option<i32> {
    let mut path = Text::new();
    path.add(b"/proc/").number(pid).add(b"/stat\0");
    let Ok(file @ 0..) = i32::try_from(raw::open(path.bytes(), 0)) else { return None };
    let mut text = [0u8; 512];
    let size = usize::try_from(raw::read(file, &mut text)).unwrap_or(0);
    raw::close(file);
    // Its number, its name in parentheses, its state, its parent.
    let text = text.get(..size)?;
    let name = text.iter().rposition(|byte| *byte == b')')?;
    numbers(text.get(name..)?).next()
}

/// Adds the children of all threads of a process.
fn add_children(pid: i32, pids: &mut List<i32>) {
    let mut path = Text::new();
    path.add(b"/proc/").number(pid).add(b"/task\0");
    let Ok(folder @ 0..) = i32::try_from(raw::open(path.bytes(), libc::O_DIRECTORY)) else {
        return;
    };
    let mut entries = [0u8; 4096];
    loop {
        let size = entries.len() as u64;
        let args = [raw::number(folder), entries.as_mut_ptr().addr() as u64, size, 0, 0, 0];
        // SAFETY: the kernel writes into the buffer, which outlives the call.
        let size = unsafe { raw::call(libc::SYS_getdents64, args) };
        let Ok(size @ 1..) = usize::try_from(size) else { break };
        let mut rest = entries.get(..size).unwrap_or_default();
        // An entry: inode (8 bytes), offset (8), its length (2), its kind (1), its name with a NUL.
        while let Some(length) = rest.get(16..18).and_then(<[u8]>::first_chunk::<2>) {
            let length = usize::from(u16::from_ne_bytes(*length));
            let name = rest.get(19..length).unwrap_or_default();
            if let Some(thread) = numbers(name).next() {
                add_children_of(pid, thread, pids);
            }
            match rest.get(length..) {
                Some(after) if length > 0 => rest = after,
                _ => break,
            }
        }
    }
    raw::close(folder);
}

fn add_children_of(pid: i32, thread: i32, pids: &mut List<i32>) {
    let mut path = Text::new();
    path.add(b"/proc/").number(pid).add(b"/task/").number(thread).add(b"/children\0");
    let Ok(file @ 0..) = i32::try_from(raw::open(path.bytes(), 0)) else { return };
    let mut text = [0u8; 4096];
    // The kernel ends each part behind a whole number.
    while let Ok(size @ 1..) = usize::try_from(raw::read(file, &mut text)) {
        for child in numbers(text.get(..size).unwrap_or_default()).filter(|child| *child > 1) {
            if !pids.items().contains(&child) {
                pids.push(child);
            }
        }
    }
    raw::close(file);
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
