//! The child of a task: made harmless, and put to sleep for good.

use super::frame::{self, Call, NOBODY};
use super::guest::Guest;
use super::time::{Moment, Patience};
use super::trace::{Stop, Thread};
use super::{GiveUp, MAGIC, Owner};
use crate::journal::Reason;
use crate::sys::call::{self, Access, Fd};
use crate::sys::errno::Errno;
use crate::sys::proc::{Stat, decimal, hexadecimal, words};

/// A child that stands where its parent made it. Behind each of its calls is one that ends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twin {
    pub(super) thread: Thread,
    /// Process id as the task sees it.
    pub(super) inner: i32,
}

impl Twin {
    /// Empties the table of descriptors, puts the child to sleep, and puts the memory below its
    /// stack back. Returns the child's start time.
    ///
    /// # Errors
    /// The child is not asleep, and has to be killed.
    pub(super) fn park(
        self,
        guest: &Guest<'_>,
        owner: Owner,
        is_detached: bool,
        deadline: Moment,
    ) -> Result<u64, GiveUp> {
        let asleep = self.sleep(guest, owner, is_detached, deadline);
        asleep.map_err(GiveUp::with(Reason::Park))
    }

    fn sleep(
        self,
        guest: &Guest<'_>,
        owner: Owner,
        is_detached: bool,
        deadline: Moment,
    ) -> Result<u64, Errno> {
        let layout = &guest.layout;
        let memory = self.begin(guest, deadline)?;
        // An empty table, without a copy that would have to be closed.
        let unshare = u64::from(libc::CLOSE_RANGE_UNSHARE);
        self.call(
            guest,
            libc::SYS_close_range,
            [0, u64::from(u32::MAX), unshare, 0, 0, 0],
            deadline,
        )?;
        let core = [0, u64::from(libc::RLIMIT_CORE), layout.zeros, 0, 0, 0];
        self.call(guest, libc::SYS_prlimit64, core, deadline)?;
        Fd::open(self.thread.0, "oom_score_adj", Access::Write)?.write_at(b"1000", 0)?;
        let stat = Stat::of(self.thread.0)?;

        // From here on the child does not end by itself, so the task must not wait for it.
        guest.memory.write_at(&NOBODY.to_le_bytes(), layout.child)?;
        let arguments = [0, 0, 0, 0, owner.signature(), owner.start];
        self.enter(guest, libc::SYS_ppoll, arguments, deadline)?;
        guest.put_back(&memory)?;
        if is_detached {
            self.thread.detach()?;
            return Ok(stat.start);
        }
        self.thread.go_on(0)?;
        // Behind the filter, which is suspended only as long as the child has a tracer.
        let patience = Patience::until(deadline);
        while signature(self.thread.0).is_none() {
            patience.wait()?;
        }
        Ok(stat.start)
    }

    /// Waits until the child stands, and makes sure that it is what it is meant to be.
    fn begin(self, guest: &Guest<'_>, deadline: Moment) -> Result<Fd, Errno> {
        let wrong = Errno(libc::EPROTO);
        match self.thread.wait(deadline)? {
            Stop::Trap => {}
            _ => return Err(wrong),
        }
        let memory = Fd::open(self.thread.0, "mem", Access::Both)?;
        let layout = &guest.layout;
        let has_chain = memory.word_at(layout.end_chain)? == guest.gadgets.pop
            && memory.word_at(layout.end_chain + 16)? == guest.gadgets.syscall
            && memory.word_at(layout.zeros)? == 0;
        let registers = self.thread.registers()?;
        let is_there = registers.rip == guest.gadgets.syscall + 2
            && registers.rsp == layout.end_chain
            && self.thread.mask()? == BLOCKED;
        if has_chain && is_there { Ok(memory) } else { Err(wrong) }
    }

    /// Has the child make a call.
    fn call(
        self,
        guest: &Guest<'_>,
        number: libc::c_long,
        arguments: [u64; 6],
        deadline: Moment,
    ) -> Result<(), Errno> {
        self.enter(guest, number, arguments, deadline)?;
        self.thread.to_call()?;
        if self.thread.wait(deadline)? != Stop::Call {
            return Err(Errno(libc::EPROTO));
        }
        match self.thread.registers()?.rax {
            0 => Ok(()),
            result => Err(Errno(i32::try_from(result.wrapping_neg()).unwrap_or(libc::EPROTO))),
        }
    }

    /// Leads the child to the entry of a call.
    fn enter(
        self,
        guest: &Guest<'_>,
        number: libc::c_long,
        arguments: [u64; 6],
        deadline: Moment,
    ) -> Result<(), Errno> {
        let call = Call { number, arguments, stack: guest.layout.end_chain };
        self.thread.set_registers(&frame::call(&guest.registers, guest.gadgets, &call))?;
        self.thread.to_call()?;
        match self.thread.wait(deadline)? {
            Stop::Call => Ok(()),
            _ => Err(Errno(libc::EPROTO)),
        }
    }

    /// Kills the child, and takes its status.
    pub(super) fn kill(self, deadline: Moment) {
        if call::kill(self.thread.0).is_err() {
            return;
        }
        loop {
            match self.thread.wait(deadline) {
                Ok(Stop::Gone) | Err(_) => return,
                // It stands at its exit, or stood already when it was killed.
                Ok(_) => {
                    let _ = self.thread.go_on(0);
                }
            }
        }
    }
}

impl Owner {
    /// Fifth argument of the holder's `ppoll`.
    fn signature(self) -> u64 {
        u64::from(MAGIC) << 32 | u64::from(self.pid.unsigned_abs())
    }
}

/// Reads the signature of a holder.
pub(super) fn parked(pid: i32) -> Option<Owner> {
    let owner = signature(pid)?;
    (Stat::of(pid).ok()?.exit_signal == 0).then_some(owner)
}

/// Reads the signature of a holder that may have lost its task.
pub(super) fn signature(pid: i32) -> Option<Owner> {
    let file = Fd::open(pid, "syscall", Access::Read).ok()?;
    let mut text = [0; 256];
    let length = file.read(&mut text).ok()?;
    parse(text.get(..length)?)
}

/// Parses `number arguments stack-pointer instruction-pointer`.
fn parse(text: &[u8]) -> Option<Owner> {
    let mut words = words(text);
    let number = decimal(words.next()?)?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = hexadecimal(words.next()?)?;
    }
    let [0, 0, 0, 0, signature, start] = arguments else { return None };
    let is_ours =
        i64::try_from(number) == Ok(libc::SYS_ppoll) && signature >> 32 == u64::from(MAGIC);
    let pid = i32::try_from(signature & 0xffff_ffff).ok()?;
    is_ours.then_some(Owner { pid, start })
}

/// The mask with all signals that can be blocked: not SIGKILL, not SIGSTOP.
const BLOCKED: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_told_from_other_calls() {
        let owner = Owner { pid: 300, start: 0x1234 };
        let text = b"271 0x0 0x0 0x0 0x0 0x637269680000012c 0x1234 0x7ffc 0x7f00\n";
        assert_eq!(owner.signature(), 0x6372_6968_0000_012c);
        assert_eq!(parse(text), Some(owner));
        assert_eq!(parse(b"271 0x0 0x0 0x0 0x0 0x8 0x1234 0x7ffc 0x7f00\n"), None);
        assert_eq!(parse(b"270 0x0 0x0 0x0 0x0 0x637269680000012c 0x1234 0x7ffc 0x7f00"), None);
        assert_eq!(parse(b"running\n"), None);
        assert_eq!(parse(b"-1 0x7ffc 0x7f00\n"), None);
    }
}
