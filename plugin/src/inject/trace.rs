//! Threads that the calling thread traces, and their stops.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::time::{Moment, Patience};
use crate::sys::call;
use crate::sys::errno::Errno;
use crate::sys::raw::{self, number};

/// General registers.
pub(super) type Registers = libc::user_regs_struct;

/// A traced thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Thread(pub(super) i32);

/// The kinds of a stop. A system call is told from a signal by `PTRACE_O_TRACESYSGOOD`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// `PTRACE_EVENT_STOP`: the thread would look for signals next.
    Trap,
    /// Another event of ptrace.
    Event(i32),
    /// The entry of a system call, or its exit.
    Call,
    /// The thread is about to take a signal.
    Signal(i32),
    /// The thread has ended, and its status is taken.
    Gone,
}

impl Stop {
    fn of(status: libc::c_int) -> Self {
        if !libc::WIFSTOPPED(status) {
            return Self::Gone;
        }
        match (status >> 16, libc::WSTOPSIG(status)) {
            (libc::PTRACE_EVENT_STOP, _) => Self::Trap,
            (0, signal) if signal == libc::SIGTRAP | 0x80 => Self::Call,
            (0, signal) => Self::Signal(signal),
            (event, _) => Self::Event(event),
        }
    }
}

impl Thread {
    /// Attaches to a thread, which runs on.
    pub(super) fn seize(self) -> Result<(), Errno> {
        self.request(libc::PTRACE_SEIZE, 0, number(libc::PTRACE_O_TRACESYSGOOD)).map(drop)
    }

    /// Has a running thread stop in [`Stop::Trap`], or a stopped one do so when it goes on.
    pub(super) fn interrupt(self) -> Result<(), Errno> {
        self.request(libc::PTRACE_INTERRUPT, 0, number(0)).map(drop)
    }

    /// Lets the thread go on with a signal, or with 0.
    pub(super) fn go_on(self, signal: i32) -> Result<(), Errno> {
        self.request(libc::PTRACE_CONT, 0, number(signal)).map(drop)
    }

    /// Lets the thread go on to the entry or the exit of a system call.
    pub(super) fn to_call(self) -> Result<(), Errno> {
        self.request(libc::PTRACE_SYSCALL, 0, number(0)).map(drop)
    }

    /// Lets the thread go on, and traces it no more.
    pub(super) fn detach(self) -> Result<(), Errno> {
        self.request(libc::PTRACE_DETACH, 0, number(0)).map(drop)
    }

    /// Waits until the thread stops or ends.
    pub(super) fn wait(self, deadline: Moment) -> Result<Stop, Errno> {
        let patience = Patience::until(deadline);
        loop {
            if let Some(stop) = self.look()? {
                return Ok(stop);
            }
            patience.wait()?;
        }
    }

    /// Takes the news of the thread, if there is any.
    pub(super) fn look(self) -> Result<Option<Stop>, Errno> {
        Ok(call::status(self.0)?.map(Stop::of))
    }

    /// The number that belongs to an event: for a clone the process id of the child.
    pub(super) fn message(self) -> Result<u64, Errno> {
        let mut message = 0_u64;
        self.request(libc::PTRACE_GETEVENTMSG, 0, (&raw mut message).expose_provenance())?;
        Ok(message)
    }

    pub(super) fn registers(self) -> Result<Registers, Errno> {
        let mut registers = MaybeUninit::<Registers>::zeroed();
        self.request(libc::PTRACE_GETREGS, 0, registers.as_mut_ptr().expose_provenance())?;
        // SAFETY: all zeroes are registers, and so is what the kernel has written over them.
        Ok(unsafe { registers.assume_init() })
    }

    pub(super) fn set_registers(self, registers: &Registers) -> Result<(), Errno> {
        let place = (&raw const *registers).expose_provenance();
        self.request(libc::PTRACE_SETREGS, 0, place).map(drop)
    }

    /// The mask of blocked signals: the one that a call with its own mask will put back.
    pub(super) fn mask(self) -> Result<u64, Errno> {
        let mut mask = 0_u64;
        self.request(
            libc::PTRACE_GETSIGMASK,
            size_of::<u64>(),
            (&raw mut mask).expose_provenance(),
        )?;
        Ok(mask)
    }

    pub(super) fn set_mask(self, mask: u64) -> Result<(), Errno> {
        let place = (&raw const mask).expose_provenance();
        self.request(libc::PTRACE_SETSIGMASK, size_of::<u64>(), place).map(drop)
    }

    /// Reads the floating-point and vector registers, in the layout of `XSAVE`. Returns the
    /// number of bytes.
    pub(super) fn vectors(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let place = buffer.as_mut_ptr().cast();
        let mut vector = libc::iovec { iov_base: place, iov_len: buffer.len() };
        let request = libc::PTRACE_GETREGSET;
        self.request(request, NT_X86_XSTATE, (&raw mut vector).expose_provenance())?;
        Ok(vector.iov_len)
    }

    /// Tells a thread whose returns the kernel protects by a shadow stack.
    pub(super) fn has_shadow_stack(self) -> bool {
        let mut pointer = 0_u64;
        let place = (&raw mut pointer).cast();
        let mut vector = libc::iovec { iov_base: place, iov_len: size_of::<u64>() };
        self.request(libc::PTRACE_GETREGSET, NT_X86_SHSTK, (&raw mut vector).expose_provenance())
            .is_ok()
    }

    /// Address of the structure for restartable sequences that the thread has registered; 0
    /// without.
    pub(super) fn rseq(self) -> u64 {
        let mut configuration = [0_u64; 3];
        let size = size_of_val(&configuration);
        let place = configuration.as_mut_ptr().expose_provenance();
        match self.request(libc::PTRACE_GET_RSEQ_CONFIGURATION, size, place) {
            Ok(_) => configuration[0],
            // The kernel has no restartable sequences.
            Err(_) => 0,
        }
    }

    /// Tells a thread whose system calls go to a handler of its own
    /// (`PR_SET_SYSCALL_USER_DISPATCH`).
    pub(super) fn dispatches_calls(self) -> bool {
        let mut configuration = [0_u64; 4];
        let size = size_of_val(&configuration);
        let place = configuration.as_mut_ptr().expose_provenance();
        self.request(GET_SYSCALL_USER_DISPATCH_CONFIG, size, place).is_ok() && configuration[0] != 0
    }

    /// Reads the instructions of a seccomp filter. Returns their number; `None` past the last
    /// filter.
    pub(super) fn filter(
        self,
        index: usize,
        code: &mut [u64; FILTER_MOST],
    ) -> Result<Option<usize>, Errno> {
        let place = code.as_mut_ptr().expose_provenance();
        // The kernel writes the whole filter, and makes no filter that is longer than the buffer.
        match self.request(SECCOMP_GET_FILTER, index, place) {
            Ok(count) => Ok(Some(count)),
            Err(Errno(libc::ENOENT)) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn request(self, request: libc::c_uint, address: usize, data: usize) -> Result<usize, Errno> {
        let arguments = [request as usize, number(self.0), address, data, 0, 0];
        // SAFETY: requests that take memory get the place of a variable or a buffer of the size
        // that the kernel knows or is told.
        unsafe { raw::call(libc::SYS_ptrace, arguments) }
    }
}

/// Most instructions of a filter: `BPF_MAXINSNS`.
pub(super) const FILTER_MOST: usize = 4096;

const NT_X86_XSTATE: usize = 0x202;
const NT_X86_SHSTK: usize = 0x204;
const SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const GET_SYSCALL_USER_DISPATCH_CONFIG: libc::c_uint = 0x4211;
