//! The way home: memory below the stack of a task that brings the task back without a tracer.
//!
//! ```text
//! stack pointer of the task
//!   red zone                      128 bytes
//!   vectors                       what XRSTOR reads, as in a frame of a signal
//!   home frame                    registers and mask of the task
//!   home chain                    pop rax; 15; syscall           rt_sigreturn(home frame)
//!   wait frame                    registers of wait4(child)
//!   wait chain                    pop rax; 15; syscall           rt_sigreturn(wait frame)
//!   end chain                     pop rax; 231; syscall          exit_group, for the child
//!   zeros                         a struct rlimit
//! base
//! ```
//!
//! A system call that was interrupted is made again, or returns EINTR, as the kernel decides when
//! no handler runs. The frame leaves the alternate signal stack as it is: the kernel ignores
//! flags that it does not know.

use super::gadget::Gadgets;
use super::trace::Registers;
use crate::sys::raw;

/// The most bytes of the memory below the stack.
pub(super) const MOST: usize = 8 << 10;

/// Addresses in the memory below the stack.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Layout {
    /// The lowest address.
    pub(super) base: u64,
    /// Number of bytes.
    pub(super) length: usize,
    /// The home frame: the stack pointer of `rt_sigreturn`.
    pub(super) home: u64,
    /// Home chain: the stack pointer of a call after which the task goes home.
    pub(super) home_chain: u64,
    /// Wait chain: the stack pointer of a call after which the task waits for its child, and then
    /// goes home.
    pub(super) wait_chain: u64,
    /// The child's number in the wait frame.
    pub(super) child: u64,
    /// End chain: the stack pointer of the child.
    pub(super) end_chain: u64,
    /// A `struct rlimit` of zeros.
    pub(super) zeros: u64,
}

/// State of a task to which the way leads.
#[derive(Debug)]
pub(super) struct Home<'a> {
    pub(super) registers: &'a Registers,
    pub(super) mask: u64,
    pub(super) gadgets: Gadgets,
}

/// Number of no process: the child's number until there is a child.
pub(super) const NOBODY: u64 = 0x7fff_ffff;

/// `__WALL`: waits for a child with any exit signal.
pub(super) const WALL: u64 = 0x4000_0000;

impl Home<'_> {
    /// Writes the memory below the stack. `vectors` is what ptrace says of the floating-point and
    /// vector registers. `None` if there is no room.
    pub(super) fn build(&self, vectors: &[u8], memory: &mut [u8; MOST]) -> Option<Layout> {
        let area = Area::of(vectors)?;
        let top = self.registers.rsp.checked_sub(RED_ZONE)?;
        let vectors_at = top.checked_sub(area.length as u64 + 4)? & !63;
        let home = vectors_at.checked_sub(FRAME)? & !15;
        let home_chain = home.checked_sub(CHAIN)?;
        let wait = home_chain.checked_sub(FRAME)? & !15;
        let wait_chain = wait.checked_sub(CHAIN)?;
        let end_chain = wait_chain.checked_sub(CHAIN)?;
        let base = end_chain.checked_sub(ZEROS)?;
        let child = wait + REGISTERS + 8 * RDI;
        let length = usize::try_from(vectors_at + area.length as u64 + 4 - base).ok()?;
        let layout =
            Layout { base, length, home, home_chain, wait_chain, child, end_chain, zeros: base };

        let mut out = Out { memory: memory.get_mut(..length)?, base };
        out.memory.fill(0);
        area.write(vectors, vectors_at, &mut out)?;
        out.frame(home, &self.interrupted(), self.mask, vectors_at)?;
        out.chain(home_chain, self.gadgets, libc::SYS_rt_sigreturn)?;
        out.frame(wait, &self.wait(home_chain), !0, vectors_at)?;
        out.chain(wait_chain, self.gadgets, libc::SYS_rt_sigreturn)?;
        out.chain(end_chain, self.gadgets, libc::SYS_exit_group)?;
        Some(layout)
    }

    /// The registers with which the kernel would deliver a signal.
    fn interrupted(&self) -> Registers {
        let mut registers = *self.registers;
        // The kernel looks at the lower half alone.
        let is_call = registers.orig_rax & 0xffff_ffff != 0xffff_ffff;
        match registers.rax.wrapping_neg() {
            ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND if is_call => {
                registers.rax = registers.orig_rax;
                registers.rip = registers.rip.wrapping_sub(2);
            }
            ERESTART_RESTARTBLOCK if is_call => registers.rax = EINTR.wrapping_neg(),
            _ => {}
        }
        registers
    }

    /// Registers of a call that waits for the child.
    fn wait(&self, then: u64) -> Registers {
        call(
            self.registers,
            self.gadgets,
            &Call { number: libc::SYS_wait4, arguments: [NOBODY, 0, WALL, 0, 0, 0], stack: then },
        )
    }
}

/// A system call, and the stack pointer with which it is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: libc::c_long,
    pub(super) arguments: [u64; 6],
    pub(super) stack: u64,
}

/// The registers of a task that is about to make a call.
pub(super) fn call(registers: &Registers, gadgets: Gadgets, call: &Call) -> Registers {
    let [rdi, rsi, rdx, r10, r8, r9] = call.arguments;
    Registers {
        rdi,
        rsi,
        rdx,
        r10,
        r8,
        r9,
        rax: u64::try_from(call.number).unwrap_or(u64::MAX),
        // No call was interrupted.
        orig_rax: u64::MAX,
        rip: gadgets.syscall,
        rsp: call.stack,
        // Neither the trap flag nor the direction flag.
        eflags: registers.eflags & !0x500,
        ..*registers
    }
}

/// The part of the vectors that is in use.
#[derive(Clone, Copy, Debug)]
struct Area {
    /// Components, as in `XSTATE_BV`.
    components: u64,
    length: usize,
}

impl Area {
    /// Finds the components in use, which alone may be in a frame: the kernel refuses a frame that
    /// is larger than what the task has used, and clears the vectors then.
    fn of(vectors: &[u8]) -> Option<Self> {
        let components = word(vectors, SOFTWARE)?;
        // Protection keys are not among the components in use, because the kernel keeps them
        // elsewhere.
        let components = word(vectors, LEGACY)? | components & PROTECTION_KEYS;
        let mut length = LEGACY + HEADER;
        for component in (2..63).filter(|component| components >> component & 1 != 0) {
            let (size, offset) = raw::component(component);
            let end = usize::try_from(size.checked_add(offset)?).ok()?;
            length = length.max(end);
        }
        (length <= vectors.len()).then_some(Self { components, length })
    }

    /// Writes the vectors as they are in a frame, between the kernel's two magic numbers.
    fn write(self, vectors: &[u8], at: u64, out: &mut Out<'_>) -> Option<()> {
        let length = u32::try_from(self.length).ok()?;
        out.put(at, vectors.get(..self.length)?)?;
        out.put(at + SOFTWARE as u64, &[0; 48])?;
        let halves = u64::from(length + 4) << 32 | u64::from(FP_XSTATE_MAGIC1);
        out.word(at + SOFTWARE as u64, halves)?;
        out.word(at + SOFTWARE as u64 + 8, self.components | X87_AND_SSE)?;
        out.word(at + SOFTWARE as u64 + 16, u64::from(length))?;
        out.word(at + LEGACY as u64, self.components)?;
        out.put(at + u64::from(length), &FP_XSTATE_MAGIC2.to_le_bytes())
    }
}

/// The memory that is written, and its address.
struct Out<'a> {
    memory: &'a mut [u8],
    base: u64,
}

impl Out<'_> {
    fn put(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        self.memory.get_mut(start..start.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    }

    fn word(&mut self, address: u64, word: u64) -> Option<()> {
        self.put(address, &word.to_le_bytes())
    }

    /// Writes return addresses that lead to a system call without arguments.
    fn chain(&mut self, at: u64, gadgets: Gadgets, number: libc::c_long) -> Option<()> {
        self.word(at, gadgets.pop)?;
        self.word(at + 8, u64::try_from(number).ok()?)?;
        self.word(at + 16, gadgets.syscall)
    }

    /// Writes a `struct ucontext`, which `rt_sigreturn` takes.
    fn frame(&mut self, at: u64, r: &Registers, mask: u64, vectors: u64) -> Option<()> {
        self.word(at, UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS)?;
        self.word(at + 24, SS_UNKNOWN)?;
        let general = [
            r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx,
            r.rdx, r.rax, r.rcx, r.rsp, r.rip, r.eflags,
        ];
        let mut place = at + REGISTERS;
        for word in general {
            self.word(place, word)?;
            place += 8;
        }
        // gs and fs between the two stay as they are.
        self.word(place, r.cs & 0xffff | (r.ss & 0xffff) << 48)?;
        self.word(place + 40, vectors)?;
        self.word(at + FRAME - 8, mask)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Bytes below the stack pointer that code may use.
const RED_ZONE: u64 = 128;

/// Bytes of a `struct ucontext`.
const FRAME: u64 = 304;

/// Place of the registers in a `struct ucontext`, and of rdi among them.
const REGISTERS: u64 = 40;
const RDI: u64 = 8;

const CHAIN: u64 = 24;
const ZEROS: u64 = 16;

const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

/// Flags of an alternate signal stack that the kernel refuses.
const SS_UNKNOWN: u64 = 3;

/// Bytes of the legacy area and of the header of `XSAVE`, and the place of the software's bytes.
const LEGACY: usize = 512;
const HEADER: usize = 64;
const SOFTWARE: usize = 464;

const X87_AND_SSE: u64 = 3;
const PROTECTION_KEYS: u64 = 1 << 9;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;

const EINTR: u64 = 4;
const ERESTARTSYS: u64 = 512;
const ERESTARTNOINTR: u64 = 513;
const ERESTARTNOHAND: u64 = 514;
const ERESTART_RESTARTBLOCK: u64 = 516;
