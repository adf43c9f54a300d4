//! Registers of aarch64 threads.

use super::elf::{put32, put64};
use super::{Machine, Set};
use crate::proto::CoreEntry;

pub(super) const MACHINE: Machine = Machine { elf: 183, registers, sets };

/// Returns `struct user_pt_regs`.
fn registers(core: &CoreEntry) -> Option<Vec<u64>> {
    let regs = &core.ti_aarch64.as_ref()?.gpregs;
    let general = regs.regs.iter().copied().chain(std::iter::repeat(0)).take(GENERAL);
    Some(general.chain([regs.sp, regs.pc, regs.pstate]).collect())
}

fn sets(core: &CoreEntry) -> Vec<Set> {
    let Some(info) = &core.ti_aarch64 else { return Vec::new() };
    let mut vectors = Vec::new();
    for word in info.fpsimd.vregs.iter().chain(std::iter::repeat(&0)).take(VECTOR_WORDS) {
        put64(&mut vectors, *word);
    }
    put32(&mut vectors, info.fpsimd.fpsr);
    put32(&mut vectors, info.fpsimd.fpcr);
    put64(&mut vectors, 0);
    vec![("CORE", NT_PRFPREG, vectors), ("LINUX", NT_ARM_TLS, info.tls.to_le_bytes().to_vec())]
}

/// Number of the registers x0 to x30.
const GENERAL: usize = 31;
/// Words of 32 vector registers, two words each.
const VECTOR_WORDS: usize = 64;
const NT_PRFPREG: u32 = 2;
const NT_ARM_TLS: u32 = 0x401;
