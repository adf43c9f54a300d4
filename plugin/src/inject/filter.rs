//! Seccomp filters: which calls of a thread they let through.
//!
//! CRIU suspends the filters of the threads that it traces. They are in force again as soon as CRIU
//! is killed, and by then the thread may be about to make a call that nobody expected of it.

use super::trace::{FILTER_MOST, Registers, Thread};
use crate::sys::errno::Errno;

/// Results of filters for a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// The call is made.
    Pass,
    /// The caller is killed, or takes a signal.
    Die,
    /// The call returns something else, or another process decides.
    Other,
}

/// A system call, as a filter sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: libc::c_long,
    pub(super) arguments: [u64; 6],
}

/// Finds out what the filters of a stopped thread make of calls.
///
/// # Errors
/// The kernel does not show filters to a tracer without `CAP_SYS_ADMIN`, or with filters.
#[inline(never)]
pub(super) fn verdicts<const N: usize>(
    thread: Thread,
    registers: &Registers,
    calls: &[Call; N],
) -> Result<[Verdict; N], Errno> {
    let mut code = [0_u64; FILTER_MOST];
    let mut verdicts = [Verdict::Pass; N];
    let mut index = 0;
    while let Some(count) = thread.filter(index, &mut code)? {
        let code = code.get(..count).unwrap_or_default();
        let is_about_place = code.iter().any(is_place);
        for (verdict, call) in verdicts.iter_mut().zip(calls) {
            let found = match is_about_place {
                // The calls are to be made from a place that is not known yet.
                true => Verdict::Other,
                false => run(code, &call.data(registers.rip)).map_or(Verdict::Other, Verdict::of),
            };
            *verdict = match (*verdict, found) {
                (Verdict::Pass, found) => found,
                (Verdict::Die, Verdict::Pass | Verdict::Die) => Verdict::Die,
                _ => Verdict::Other,
            };
        }
        index += 1;
    }
    Ok(verdicts)
}

/// Tells an instruction that loads a part of the address from which a call is made.
fn is_place(instruction: &u64) -> bool {
    const LOAD: u64 = 0x20;
    instruction & 0xffff == LOAD && matches!(instruction >> 32, 8 | 12)
}

impl Verdict {
    fn of(action: u32) -> Self {
        match action & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG => Self::Pass,
            libc::SECCOMP_RET_KILL_PROCESS
            | libc::SECCOMP_RET_KILL_THREAD
            | libc::SECCOMP_RET_TRAP => Self::Die,
            _ => Self::Other,
        }
    }
}

impl Call {
    /// The words of the kernel's `struct seccomp_data`.
    fn data(&self, instruction: u64) -> [u32; 16] {
        let mut data = [0; 16];
        let number = u32::try_from(self.number).unwrap_or(u32::MAX);
        let halves = |word: u64| {
            let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
            [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
        };
        let words = [[number, AUDIT_ARCH_X86_64], halves(instruction)].into_iter();
        let words = words.chain(self.arguments.into_iter().map(halves)).flatten();
        for (place, word) in data.iter_mut().zip(words) {
            *place = word;
        }
        data
    }
}

/// Runs a filter. `None` for code that the kernel would not have taken.
fn run(code: &[u64], data: &[u32; 16]) -> Option<u32> {
    let (mut a, mut x) = (0_u32, 0_u32);
    let mut memory = [0_u32; 16];
    let mut at = 0_usize;
    // Jumps go forward only, so the loop ends.
    while let Some(word) = code.get(at) {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = word.to_le_bytes();
        let op = u32::from(u16::from_le_bytes([c0, c1]));
        let k = u32::from_le_bytes([k0, k1, k2, k3]);
        let index = usize::try_from(k).ok()?;
        at += 1;
        match op & 0x07 {
            libc::BPF_LD | libc::BPF_LDX => {
                let value = match op & 0xe0 {
                    libc::BPF_ABS if k % 4 == 0 => *data.get(index / 4)?,
                    libc::BPF_IMM => k,
                    libc::BPF_MEM => *memory.get(index)?,
                    libc::BPF_LEN => 64,
                    _ => return None,
                };
                *(if op & 0x07 == libc::BPF_LD { &mut a } else { &mut x }) = value;
            }
            libc::BPF_ST => *memory.get_mut(index)? = a,
            libc::BPF_STX => *memory.get_mut(index)? = x,
            libc::BPF_ALU => a = calculate(op, a, if op & libc::BPF_X != 0 { x } else { k })?,
            libc::BPF_JMP => {
                let other = if op & libc::BPF_X != 0 { x } else { k };
                let is_true = match op & 0xf0 {
                    libc::BPF_JA => {
                        at = at.checked_add(index)?;
                        continue;
                    }
                    libc::BPF_JEQ => a == other,
                    libc::BPF_JGT => a > other,
                    libc::BPF_JGE => a >= other,
                    libc::BPF_JSET => a & other != 0,
                    _ => return None,
                };
                at += usize::from(if is_true { jt } else { jf });
            }
            libc::BPF_RET => return Some(if op & 0x18 == BPF_A { a } else { k }),
            libc::BPF_MISC if op & 0xf8 == BPF_TXA => a = x,
            libc::BPF_MISC => x = a,
            _ => return None,
        }
    }
    None
}

fn calculate(op: u32, a: u32, b: u32) -> Option<u32> {
    Some(match op & 0xf0 {
        libc::BPF_ADD => a.wrapping_add(b),
        libc::BPF_SUB => a.wrapping_sub(b),
        libc::BPF_MUL => a.wrapping_mul(b),
        // A division by zero ends the filter.
        libc::BPF_DIV => a.checked_div(b)?,
        libc::BPF_OR => a | b,
        libc::BPF_AND => a & b,
        libc::BPF_LSH => a.wrapping_shl(b),
        libc::BPF_RSH => a.wrapping_shr(b),
        libc::BPF_XOR => a ^ b,
        libc::BPF_NEG => a.wrapping_neg(),
        _ => return None,
    })
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const BPF_A: u32 = 0x10;
const BPF_TXA: u32 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    fn code(instructions: &[(u32, u8, u8, u32)]) -> Vec<u64> {
        let word = |(op, jt, jf, k): &(u32, u8, u8, u32)| {
            u64::from(*op) | u64::from(*jt) << 16 | u64::from(*jf) << 24 | u64::from(*k) << 32
        };
        instructions.iter().map(word).collect()
    }

    #[test]
    fn a_filter_like_that_of_containers_masks_the_flags_of_clone() {
        let filter = code(&[
            (0x20, 0, 0, 4),
            (0x15, 0, 6, AUDIT_ARCH_X86_64),
            (0x20, 0, 0, 0),
            (0x15, 0, 3, 56),
            (0x20, 0, 0, 16),
            (0x54, 0, 0, 0x7e02_0000),
            (0x15, 0, 1, 0),
            (0x06, 0, 0, 0x7fff_0000),
            (0x06, 0, 0, 0x0005_0001),
        ]);
        let verdict = |number, flags| {
            let call = Call { number, arguments: [flags, 0, 0, 0, 0, 0] };
            run(&filter, &call.data(0)).map(Verdict::of)
        };
        assert_eq!(verdict(56, 0x2400), Some(Verdict::Pass));
        assert_eq!(verdict(56, 0x2000_0000), Some(Verdict::Other));
        assert_eq!(verdict(57, 0), Some(Verdict::Pass));
    }

    #[test]
    fn code_that_is_no_filter_has_no_verdict() {
        let data = [0; 16];
        assert_eq!(run(&[], &data), None);
        assert_eq!(run(&code(&[(0x20, 0, 0, 64)]), &data), None);
        assert_eq!(run(&code(&[(0x05, 0, 0, u32::MAX)]), &data), None);
        assert_eq!(run(&code(&[(0x34, 0, 0, 0), (0x06, 0, 0, 0)]), &data), None);
        assert_eq!(run(&code(&[(0x06, 0, 0, 0)]), &data), Some(0));
    }

    #[test]
    fn arithmetic_and_memory_work() {
        let filter = code(&[
            (0x00, 0, 0, 40), // a = 40
            (0x02, 0, 0, 3),  // memory[3] = a
            (0x07, 0, 0, 0),  // x = a
            (0x04, 0, 0, 2),  // a += 2
            (0x1c, 0, 0, 0),  // a -= x
            (0x61, 0, 0, 3),  // x = memory[3]
            (0x2c, 0, 0, 0),  // a *= x
            (0x16, 0, 0, 0),  // return a
        ]);
        assert_eq!(run(&filter, &[0; 16]), Some(80));
    }
}
