//! The end of a holder. Nobody tells the task of the death of such a child, and so the task has to
//! be made to wait for its child.

use std::time::Duration;

use super::GiveUp;
use super::filter;
use super::frame::Call;
use super::guest::{Guest, Room, pass};
use super::park;
use super::time::{Moment, Patience};
use super::trace::{Registers, Stop, Thread};
use crate::journal::Reason;
use crate::sys::call;
use crate::sys::errno::Errno;
use crate::sys::proc::{Stat, Status};

/// Kills a holder, if it is a child of the task.
pub(super) fn kill(task: i32, holder: i32) -> Result<(), Errno> {
    let none = Errno(libc::ECHILD);
    let stat = Stat::of(holder).map_err(|_| none)?;
    if stat.parent != task || stat.exit_signal != 0 {
        // A task that has died has left its holder to another process, which reaps all children.
        if park::signature(holder).is_some() {
            call::kill(holder)?;
        }
        return Err(none);
    }
    call::kill(holder)
}

/// Kills a holder, and reaps it through its stopped task.
pub(super) fn end(task: i32, holder: i32) -> Result<(), Errno> {
    let depth = Status::of(task)?.depth;
    let inner = Status::of(holder).ok().and_then(|status| status.at_depth(depth));
    let inner = inner.ok_or(Errno(libc::ECHILD))?;
    kill(task, holder)?;
    let patience = Patience::until(Moment::now() + DEATH);
    loop {
        let is_dead = match Stat::of(holder) {
            Ok(stat) => stat.state == b'Z',
            Err(_) => return Ok(()),
        };
        // A holder that is traced tells its tracer first. It may stop at its exit.
        if Thread(holder).look().is_ok_and(|stop| stop.is_some_and(|stop| stop != Stop::Gone)) {
            let _ = Thread(holder).go_on(0);
        }
        if is_dead {
            break;
        }
        patience.wait()?;
    }
    let thread = Thread(task);
    for _ in 0..TRIES {
        match wait_through(task, thread, inner) {
            // A signal has stopped the task.
            Err(Errno(libc::EPROTO | libc::EBUSY)) => {}
            result => return result,
        }
    }
    Err(Errno(libc::EPROTO))
}

/// Reaps a dead holder through a running thread of its task.
pub(super) fn reap(tid: i32, holder: i32, time: Duration) -> Result<(), Errno> {
    let deadline = Moment::now() + time;
    // A thread that cannot be stopped, such as one that waits for its vfork, would stay traced.
    if Stat::of(tid)?.state == b'D' {
        return Err(Errno(libc::ETIMEDOUT));
    }
    let leader = leader(tid)?;
    let thread = Thread(tid);
    thread.seize()?;
    thread.interrupt()?;
    let result = stop(thread, deadline).and_then(|()| wait_through(leader, thread, holder));
    let detached = thread.detach();
    result.and(detached)
}

/// Waits until a thread has stopped. Signals that come before are passed on.
fn stop(thread: Thread, deadline: Moment) -> Result<(), Errno> {
    loop {
        match thread.wait(deadline)? {
            Stop::Trap => return Ok(()),
            Stop::Signal(signal) => thread.go_on(signal)?,
            Stop::Call | Stop::Event(_) => thread.go_on(0)?,
            Stop::Gone => return Err(Errno(libc::ESRCH)),
        }
    }
}

/// The process of a thread.
fn leader(tid: i32) -> Result<i32, Errno> {
    Status::of(tid).map(|status| status.leader)
}

/// Has a stopped thread wait for a dead child of its process, whose number it sees as `holder`.
pub(super) fn wait_through(leader: i32, thread: Thread, holder: i32) -> Result<(), Errno> {
    let registers = thread.registers()?;
    let holder = u64::try_from(holder).map_err(|_| Errno(libc::ECHILD))?;
    let options = libc::__WALL | libc::WNOHANG;
    let arguments = [holder, 0, u64::from(options.unsigned_abs()), 0, 0, 0];
    look(thread, &registers, arguments)?;
    wait(leader, thread, registers, arguments)
}

/// Makes the call.
#[inline(never)]
fn wait(
    leader: i32,
    thread: Thread,
    registers: Registers,
    arguments: [u64; 6],
) -> Result<(), Errno> {
    let deadline = Moment::now() + CALL;
    let mut room = Room::new();
    let guest = Guest::look(leader, thread, registers, &mut room)?;
    let stack = guest.layout.home_chain;
    let call = Call { number: libc::SYS_wait4, arguments, stack };
    let made = guest.enter(deadline).and_then(|()| guest.call(&call, deadline));
    guest.leave(deadline)?;
    match made?.result {
        0 => Err(Errno(libc::EAGAIN)),
        result if u64::try_from(result) == Ok(arguments[0]) => Ok(()),
        result => {
            let errno = result.checked_neg().and_then(|errno| i32::try_from(errno).ok());
            Err(Errno(errno.unwrap_or(libc::EPROTO)))
        }
    }
}

/// Makes sure that no filter stands in the way.
#[inline(never)]
fn look(thread: Thread, registers: &Registers, arguments: [u64; 6]) -> Result<(), GiveUp> {
    let needed = [
        filter::Call { number: libc::SYS_wait4, arguments },
        filter::Call { number: libc::SYS_rt_sigreturn, arguments: [0; 6] },
    ];
    pass(thread, registers, &needed, &[]).map(drop)
}

impl From<GiveUp> for Errno {
    fn from(why: GiveUp) -> Self {
        Self(match (why.errno, why.reason) {
            (0, Reason::Filter) => libc::EACCES,
            (0, _) => libc::EOPNOTSUPP,
            (errno, _) => errno,
        })
    }
}

/// Time for a holder to die. It gives back its memory: up to 160 ms for each GiB.
const DEATH: Duration = Duration::from_secs(60);

/// Most tries to reap a holder through a stopped task.
const TRIES: usize = 16;

/// Time for a call that does not wait.
const CALL: Duration = Duration::from_secs(10);
