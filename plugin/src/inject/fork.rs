//! The fork of a stopped task.

use std::time::Duration;

use super::filter::{self, Verdict};
use super::frame::{Call, NOBODY, WALL};
use super::guest::{Guest, Made, Room, pass};
use super::park::Twin;
use super::time::{Moment, Patience};
use super::trace::{Registers, Thread};
use super::{GiveUp, Held, Owner, end};
use crate::journal::Reason;
use crate::sys::call::{self, Fd};
use crate::sys::errno::Errno;
use crate::sys::path::Path;
use crate::sys::proc::{Status, each};

/// Forks a task, and parks the child.
pub(super) fn fork_held(task: i32, owner: Owner) -> Result<Held, GiveUp> {
    let start = Moment::now();
    let deadline = start + PATIENCE;
    let thread = Thread(task);
    let registers = thread.registers().map_err(GiveUp::with(Reason::Stop))?;
    let is_detached = look(thread, &registers)?;
    let mut room = Room::new();
    let guest = Guest::look(task, thread, registers, &mut room)?;
    let twin = match fork(&guest, deadline) {
        Ok(twin) => twin,
        Err(why) => {
            guest.leave(Moment::now() + BACK).map_err(GiveUp::with(Reason::Lost))?;
            return Err(why);
        }
    };
    let parked = twin.park(&guest, owner, is_detached, deadline);
    if parked.is_err() {
        twin.kill(Moment::now() + BACK);
    }
    if let Err(errno) = guest.restore() {
        // The journal will not name the holder, so nobody else would end it.
        let _ = call::kill(twin.thread.0);
        return Err(GiveUp::with(Reason::Lost)(errno));
    }
    match parked {
        Ok(born) => {
            let nanoseconds = Moment::now().since(start);
            Ok(Held { pid: twin.thread.0, start: born, nanoseconds })
        }
        Err(why) => {
            // The child is dead, but the task has not noticed.
            let _ = end::wait_through(task, thread, twin.inner);
            Err(why)
        }
    }
}

/// Makes sure that the task may fork. Returns whether the holder may be detached: a holder that a
/// filter would kill has to begin its sleep while it is traced.
fn look(thread: Thread, registers: &Registers) -> Result<bool, GiveUp> {
    let fork = GiveUp::with(Reason::Fork);
    // The child would be the first process of a pid namespace, and end it.
    let own = namespace(thread.0, "ns/pid").map_err(fork)?;
    if namespace(thread.0, "ns/pid_for_children") != Ok(own) {
        return Err(fork(Errno(libc::EXDEV)));
    }
    let call = |number, arguments| filter::Call { number, arguments };
    let needed = [
        call(libc::SYS_clone, [FLAGS, registers.rsp, registers.rsp, 0, 0, 0]),
        call(libc::SYS_wait4, [NOBODY, 0, WALL, 0, 0, 0]),
        call(libc::SYS_rt_sigreturn, [0; 6]),
        call(libc::SYS_exit_group, [0; 6]),
    ];
    match pass(thread, registers, &needed, &[call(libc::SYS_ppoll, [0; 6])])? {
        [Verdict::Pass] => Ok(true),
        [Verdict::Die] => Ok(false),
        // The holder would run on in code of the task after a freeze.
        [Verdict::Other] => Err(GiveUp::because(Reason::Filter)),
    }
}

/// A link of a process to a namespace.
fn namespace(pid: i32, name: &str) -> Result<[u8; 64], Errno> {
    let mut text = [0; 64];
    call::link(&Path::in_process(pid, name)?, &mut text)?;
    Ok(text)
}

/// Makes the child. The task is in `PTRACE_EVENT_STOP` then.
fn fork(guest: &Guest<'_>, deadline: Moment) -> Result<Twin, GiveUp> {
    let stop = GiveUp::with(Reason::Stop);
    guest.enter(deadline).map_err(stop)?;
    let layout = &guest.layout;
    let arguments = [FLAGS, layout.end_chain, layout.child, 0, 0, 0];
    let clone = Call { number: libc::SYS_clone, arguments, stack: layout.wait_chain };
    let Made { result, message } = guest.call(&clone, deadline).map_err(stop)?;
    let inner = match i32::try_from(result) {
        Ok(inner @ 1..) => inner,
        Ok(errno) => return Err(GiveUp { reason: Reason::Fork, errno: errno.wrapping_neg() }),
        Err(_) => return Err(GiveUp::because(Reason::Fork)),
    };
    let settled = guest.settle(deadline).map_err(stop);
    let pid = match message.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0) {
        Some(pid) => Ok(pid),
        None => find(guest.thread.0, inner, deadline),
    };
    let twin = Twin { thread: Thread(pid.map_err(GiveUp::with(Reason::Park))?), inner };
    if settled.is_err() {
        twin.kill(Moment::now() + BACK);
    }
    settled.map(|()| twin)
}

/// Finds a child by its number in the pid namespace of its parent.
fn find(task: i32, inner: i32, deadline: Moment) -> Result<i32, Errno> {
    let depth = Status::of(task)?.depth;
    if depth == 1 {
        return Ok(inner);
    }
    let patience = Patience::until(deadline);
    loop {
        if let Some(child) = search(task, inner, depth)? {
            return Ok(child);
        }
        patience.wait()?;
    }
}

/// Looks at the children of a task, which are the children of its first thread.
fn search(task: i32, inner: i32, depth: usize) -> Result<Option<i32>, Errno> {
    let mut found = None;
    let listed = each(&Fd::children(task, task)?, |pid| {
        let pid = i32::try_from(pid).unwrap_or(0);
        if Status::of(pid).is_ok_and(|status| status.at_depth(depth) == Some(inner)) {
            found = Some(pid);
        }
        Ok(())
    });
    listed.map(|()| found)
}

/// The child is traced, shares the table of descriptors until it has an empty one, and tells nobody
/// when it ends. The kernel writes its number into the wait frame. The bits are CLONE_PTRACE,
/// CLONE_FILES, and CLONE_PARENT_SETTID.
const FLAGS: u64 = 0x2000 | 0x400 | 0x10_0000;

/// Time for a fork. A fork copies page tables: some 20 ms for each GiB.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time for the way back after a fork that has failed, also when the time for the fork is over.
const BACK: Duration = Duration::from_secs(10);
