//! A call that a stopped task makes for its tracer, with a way home.
//!
//! | step | what the task does if the tracer is killed behind the step |
//! | --- | --- |
//! | write the way home below the stack | goes on |
//! | registers of `rt_sigreturn` | goes home |
//! | all signals blocked | goes home, which restores the mask |
//! | go on to the entry of `rt_sigreturn` | goes home |
//! | registers of the call | makes the call, and goes home |
//! | go on to the exit of the call, and to the stop for signals | goes home |
//! | the mask restored | goes home |
//! | the registers restored | goes on |
//! | the memory below the stack restored | goes on |

use super::GiveUp;
use super::filter::{self, Verdict};
use super::frame::{self, Call, Home, Layout, MOST};
use super::gadget::{self, Gadgets};
use super::time::Moment;
use super::trace::{Registers, Stop, Thread};
use crate::journal::Reason;
use crate::sys::call::{Access, Fd};
use crate::sys::errno::Errno;
use crate::sys::proc::Status;

/// Room for what is below the stack of a task, and for what is written there. Room is not moved:
/// the stack of a caller may be small.
#[derive(Debug)]
pub(super) struct Room {
    below: [u8; MOST],
    home: [u8; MOST],
}

impl Room {
    pub(super) const fn new() -> Self {
        Self { below: [0; MOST], home: [0; MOST] }
    }
}

/// A stopped task, as it was.
#[derive(Debug)]
pub(super) struct Guest<'r> {
    pub(super) thread: Thread,
    pub(super) memory: Fd,
    pub(super) gadgets: Gadgets,
    pub(super) layout: Layout,
    /// Registers and mask of the task.
    pub(super) registers: Registers,
    mask: u64,
    /// Bytes of the task below its stack.
    below: &'r [u8],
}

impl<'r> Guest<'r> {
    /// Looks at a thread in [`Stop::Trap`], and writes its way home below its stack. `leader` is
    /// the process that the thread belongs to.
    ///
    /// # Errors
    /// The thread cannot be brought home by itself.
    pub(super) fn look(
        leader: i32,
        thread: Thread,
        registers: Registers,
        room: &'r mut Room,
    ) -> Result<Self, GiveUp> {
        let stop = GiveUp::with(Reason::Stop);
        let mask = thread.mask().map_err(stop)?;
        let memory = Fd::open(leader, "mem", Access::Both).map_err(stop)?;
        may_sigreturn(thread, &registers, &memory)?;
        let survey = gadget::survey(leader, registers.rsp).map_err(GiveUp::with(Reason::Stack))?;
        let stack = survey.stack.ok_or(GiveUp::because(Reason::Stack))?;
        let gadgets = survey.gadgets(&memory).ok_or(GiveUp::because(Reason::Gadgets))?;

        let Room { below, home } = room;
        let length = thread.vectors(below).map_err(stop)?;
        let vectors = below.get(..length).unwrap_or_default();
        let layout = Home { registers: &registers, mask, gadgets }.build(vectors, home);
        let layout = layout.filter(|layout| layout.base >= stack);
        let layout = layout.ok_or(GiveUp::because(Reason::Stack))?;
        let no_room = GiveUp::with(Reason::Stack);
        let below = below.get_mut(..layout.length).ok_or(GiveUp::because(Reason::Stack))?;
        memory.read_at(below, layout.base).map_err(no_room)?;
        let guest = Self { thread, memory, gadgets, layout, registers, mask, below };
        let home = home.get(..layout.length).unwrap_or_default();
        if let Err(errno) = guest.memory.write_at(home, layout.base) {
            let _ = guest.put_back(&guest.memory);
            return Err(no_room(errno));
        }
        Ok(guest)
    }

    /// Leads the task to the entry of a system call that would bring it home.
    ///
    /// # Errors
    /// The task has stopped in another way. [`Self::leave`] is due.
    pub(super) fn enter(&self, deadline: Moment) -> Result<(), Errno> {
        let home =
            Call { number: libc::SYS_rt_sigreturn, arguments: [0; 6], stack: self.layout.home };
        self.thread.set_registers(&frame::call(&self.registers, self.gadgets, &home))?;
        self.thread.set_mask(!0)?;
        self.to_call(deadline).map(drop)
    }

    /// Lets the task go on to the entry or the exit of a call. Returns the message of an event on
    /// the way.
    fn to_call(&self, deadline: Moment) -> Result<Option<u64>, Errno> {
        let mut message = None;
        for _ in 0..STOPS {
            self.thread.to_call()?;
            match self.thread.wait(deadline)? {
                Stop::Call => return Ok(message),
                Stop::Event(libc::PTRACE_EVENT_CLONE) => message = Some(self.thread.message()?),
                // A task that was stopped by a signal may stop for its tracer once more.
                Stop::Trap => {}
                other => return Err(self.unexpected(other, deadline)),
            }
        }
        Err(Errno(libc::EBUSY))
    }

    /// Makes a call at the entry of the system call that would bring the task home. Returns its
    /// result, and the message of an event on the way.
    ///
    /// # Errors
    /// The task has stopped in another way. [`Self::leave`] is due.
    pub(super) fn call(&self, call: &Call, deadline: Moment) -> Result<Made, Errno> {
        let mut registers = frame::call(&self.registers, self.gadgets, call);
        registers.orig_rax = registers.rax;
        // The kernel sets rax at the entry, and the instruction pointer is behind the instruction.
        registers.rax = libc::ENOSYS.unsigned_abs().into();
        registers.rax = registers.rax.wrapping_neg();
        registers.rip += 2;
        self.thread.set_registers(&registers)?;
        let message = self.to_call(deadline)?;
        let result = self.thread.registers()?.rax;
        Ok(Made { result: i64::from_ne_bytes(result.to_ne_bytes()), message })
    }

    /// Brings the task into [`Stop::Trap`], from which it goes home.
    pub(super) fn settle(&self, deadline: Moment) -> Result<(), Errno> {
        self.thread.interrupt()?;
        let mut signal = 0;
        for _ in 0..STOPS {
            self.thread.go_on(signal)?;
            signal = match self.thread.wait(deadline)? {
                Stop::Trap => return Ok(()),
                Stop::Gone => return Err(Errno(libc::ESRCH)),
                Stop::Signal(signal) => signal,
                Stop::Call | Stop::Event(_) => 0,
            };
        }
        Err(Errno(libc::EBUSY))
    }

    /// Restores a task in [`Stop::Trap`]: mask, registers, and memory.
    pub(super) fn restore(&self) -> Result<(), Errno> {
        self.thread.set_mask(self.mask)?;
        self.thread.set_registers(&self.registers)?;
        self.put_back(&self.memory)
    }

    /// Restores a task in any stop.
    pub(super) fn leave(&self, deadline: Moment) -> Result<(), Errno> {
        self.settle(deadline)?;
        self.restore()
    }

    /// Restores the bytes below the stack: in the memory of the task, or in that of its child.
    pub(super) fn put_back(&self, memory: &Fd) -> Result<(), Errno> {
        memory.write_at(self.below, self.layout.base)
    }

    /// Handles a stop that nobody expected. A signal is passed on, and the task is left in another
    /// stop.
    fn unexpected(&self, stop: Stop, deadline: Moment) -> Errno {
        if let Stop::Signal(signal) = stop {
            let passed = self.thread.interrupt().and_then(|()| self.thread.go_on(signal));
            let _ = passed.and_then(|()| self.thread.wait(deadline));
        }
        Errno(if stop == Stop::Gone { libc::ESRCH } else { libc::EPROTO })
    }
}

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) result: i64,
    pub(super) message: Option<u64>,
}

/// Makes sure that `rt_sigreturn` may bring a thread home.
fn may_sigreturn(thread: Thread, registers: &Registers, memory: &Fd) -> Result<(), GiveUp> {
    if registers.cs & 0xffff != CODE_64 {
        return Err(GiveUp::because(Reason::Compat));
    }
    if thread.has_shadow_stack() {
        return Err(GiveUp::because(Reason::ShadowStack));
    }
    if thread.dispatches_calls() {
        return Err(GiveUp::because(Reason::Filter));
    }
    if is_in_sequence(thread, registers, memory).map_err(GiveUp::with(Reason::Rseq))? {
        return Err(GiveUp::because(Reason::Rseq));
    }
    Ok(())
}

/// Tells a thread inside a restartable sequence, which the kernel would have to abort.
fn is_in_sequence(thread: Thread, registers: &Registers, memory: &Fd) -> Result<bool, Errno> {
    let place = thread.rseq();
    if place == 0 {
        return Ok(false);
    }
    let sequence = memory.word_at(place.wrapping_add(8))?;
    if sequence == 0 {
        return Ok(false);
    }
    let start = memory.word_at(sequence.wrapping_add(8))?;
    let length = memory.word_at(sequence.wrapping_add(16))?;
    Ok(registers.rip.wrapping_sub(start) < length)
}

/// Makes sure that no filter stands in the way of calls, should the tracer be killed. `others` are
/// calls that may fail; the function returns what filters make of them.
pub(super) fn pass<const N: usize, const M: usize>(
    thread: Thread,
    registers: &Registers,
    needed: &[filter::Call; N],
    others: &[filter::Call; M],
) -> Result<[Verdict; M], GiveUp> {
    let status = Status::of(thread.0).map_err(GiveUp::with(Reason::Filter))?;
    match status.seccomp {
        0 => return Ok([Verdict::Pass; M]),
        2 => {}
        _ => return Err(GiveUp::because(Reason::Filter)),
    }
    let failed = GiveUp::with(Reason::Filter);
    let verdicts = filter::verdicts(thread, registers, needed).map_err(failed)?;
    if verdicts != [Verdict::Pass; N] {
        return Err(GiveUp::because(Reason::Filter));
    }
    filter::verdicts(thread, registers, others).map_err(failed)
}

/// Code segment of programs with 64 bits.
const CODE_64: u64 = 0x33;

/// Most stops of a task on its way to a call, or into [`Stop::Trap`].
const STOPS: usize = 64;
