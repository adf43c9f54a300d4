//! Registers of x86-64 threads.

use super::elf::{put32, put64};
use super::notes::put16s;
use super::{Machine, Set};
use crate::proto::{CoreEntry, UserX86FpregsEntry, UserX86RegsMode, UserX86XsaveEntry};

pub(super) const MACHINE: Machine = Machine { elf: 62, registers, sets };

/// Returns true if the thread runs 32-bit code.
pub(super) fn is_32_bit(core: &CoreEntry) -> bool {
    let regs = core.thread_info.as_ref().map(|info| &info.gpregs);
    regs.is_some_and(|regs| regs.mode() == UserX86RegsMode::Compat)
}

/// Returns `struct user_regs_struct`. CRIU's message has the same order.
fn registers(core: &CoreEntry) -> Option<Vec<u64>> {
    let regs = &core.thread_info.as_ref()?.gpregs;
    Some(vec![
        regs.r15,
        regs.r14,
        regs.r13,
        regs.r12,
        regs.bp,
        regs.bx,
        regs.r11,
        regs.r10,
        regs.r9,
        regs.r8,
        regs.ax,
        regs.cx,
        regs.dx,
        regs.si,
        regs.di,
        regs.orig_ax,
        regs.ip,
        regs.cs,
        regs.flags,
        regs.sp,
        regs.ss,
        regs.fs_base,
        regs.gs_base,
        regs.ds,
        regs.es,
        regs.fs,
        regs.gs,
    ])
}

fn sets(core: &CoreEntry) -> Vec<Set> {
    let Some(info) = &core.thread_info else { return Vec::new() };
    let legacy = fxsave(&info.fpregs);
    let mut sets = vec![("CORE", NT_PRFPREG, legacy.clone())];
    if let Some(xsave) = &info.fpregs.xsave {
        sets.push(("LINUX", NT_X86_XSTATE, extended(legacy, xsave)));
    }
    sets
}

/// Returns the 512 bytes that FXSAVE writes.
fn fxsave(regs: &UserX86FpregsEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(FXSAVE);
    put16s(&mut out, [regs.cwd, regs.swd, regs.twd, regs.fop]);
    put64(&mut out, regs.rip);
    put64(&mut out, regs.rdp);
    put32(&mut out, regs.mxcsr);
    put32(&mut out, regs.mxcsr_mask);
    for (words, count) in [(&regs.st_space, 32), (&regs.xmm_space, 64), (&regs.padding, 24)] {
        for word in words.iter().chain(std::iter::repeat(&0)).take(count) {
            put32(&mut out, *word);
        }
    }
    out
}

/// Returns the bytes that XSAVE writes, in its standard form.
fn extended(legacy: Vec<u8>, xsave: &UserX86XsaveEntry) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let longs = |longs: &[u64]| longs.iter().flat_map(|long| long.to_le_bytes()).collect();
    // Offset, size and bit of each component, and its bytes in the image.
    let components: [(usize, usize, u64, Vec<u8>); 7] = [
        (576, 256, 1 << 2, words(&xsave.ymmh_space)),
        (960, 64, 1 << 3, longs(&xsave.bndreg_state)),
        (1024, 64, 1 << 4, longs(&xsave.bndcsr_state)),
        (1088, 64, 1 << 5, longs(&xsave.opmask_reg)),
        (1152, 512, 1 << 6, longs(&xsave.zmm_upper)),
        (1664, 1024, 1 << 7, longs(&xsave.hi16_zmm)),
        (2688, 8, 1 << 9, words(&xsave.pkru)),
    ];
    let mut out = legacy;
    // x87 and SSE are always there.
    let mut has = 3;
    for (offset, size, bit, bytes) in components {
        if bytes.is_empty() {
            continue;
        }
        has |= bit;
        out.resize(out.len().max(offset + size), 0);
        let Some(place) = out.get_mut(offset..offset + size) else { continue };
        for (to, from) in place.iter_mut().zip(bytes) {
            *to = from;
        }
    }
    out.resize(out.len().max(FXSAVE + HEADER), 0);
    // The kernel puts the components of the processor here for debuggers.
    put_at(&mut out, XCR0, has);
    put_at(&mut out, FXSAVE, xsave.xstate_bv);
    out
}

fn put_at(out: &mut [u8], offset: usize, value: u64) {
    if let Some(place) = out.get_mut(offset..offset + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// Bytes of the FXSAVE area, before a header of [`HEADER`] bytes.
const FXSAVE: usize = 512;
const HEADER: usize = 64;
/// Offset of the components, in the words left to software.
const XCR0: usize = 464;
const NT_PRFPREG: u32 = 2;
const NT_X86_XSTATE: u32 = 0x202;
