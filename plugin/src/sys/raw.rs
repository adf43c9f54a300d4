//! System calls as instructions.
//!
//! The process that reaps holders may be a fork that has unmapped its heap, the variables of the C
//! library, and those of its threads. So nothing here calls the C library, which writes the number
//! of an error to a variable of the thread.

#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

use super::errno::Errno;

/// Makes a system call.
///
/// # Safety
/// The arguments are those that the call wants, and addresses are of memory that the call may read
/// or write, and whose provenance is exposed.
pub(crate) unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the kernel changes rax, rcx, and r11, and memory as the caller has allowed.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match usize::try_from(result) {
        Ok(result) => Ok(result),
        Err(_) => Err(Errno(i32::try_from(result.unsigned_abs()).unwrap_or(libc::EPROTO))),
    }
}

/// A process or a descriptor as the argument of a call: the kernel looks at the lower half.
pub(crate) fn number(value: i32) -> usize {
    // The machine has 64 bits.
    value.unsigned_abs() as usize
}

/// The size and the offset of a component in what XSAVE writes.
pub(crate) fn component(number: u32) -> (u32, u32) {
    #[allow(unused_unsafe, reason = "newer compilers know that it is safe")]
    // SAFETY: a processor with XSAVE has this leaf. A task without has no components.
    let leaf = unsafe { __cpuid_count(XSAVE_LEAF, number) };
    (leaf.eax, leaf.ebx)
}

/// The leaf of CPUID about XSAVE.
const XSAVE_LEAF: u32 = 0xd;
