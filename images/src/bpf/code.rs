//! Parts of an instruction's code, from linux/bpf_common.h.

pub(super) const CLASS: u16 = 7;
pub(super) const LD: u16 = 0;
pub(super) const LDX: u16 = 1;
pub(super) const ST: u16 = 2;
pub(super) const STX: u16 = 3;
pub(super) const ALU: u16 = 4;
pub(super) const JMP: u16 = 5;
pub(super) const RET: u16 = 6;
pub(super) const MISC: u16 = 7;
pub(super) const MODE: u16 = 0xe0;
pub(super) const IMM: u16 = 0x00;
pub(super) const ABS: u16 = 0x20;
pub(super) const MEM: u16 = 0x60;
pub(super) const LEN: u16 = 0x80;
pub(super) const OP: u16 = 0xf0;
pub(super) const ADD: u16 = 0x00;
pub(super) const SUB: u16 = 0x10;
pub(super) const MUL: u16 = 0x20;
pub(super) const DIV: u16 = 0x30;
pub(super) const OR: u16 = 0x40;
pub(super) const AND: u16 = 0x50;
pub(super) const LSH: u16 = 0x60;
pub(super) const RSH: u16 = 0x70;
pub(super) const NEG: u16 = 0x80;
pub(super) const XOR: u16 = 0xa0;
pub(super) const JA: u16 = 0x00;
pub(super) const JEQ: u16 = 0x10;
pub(super) const JGT: u16 = 0x20;
pub(super) const JGE: u16 = 0x30;
pub(super) const JSET: u16 = 0x40;
pub(super) const X: u16 = 0x08;
pub(super) const RET_A: u16 = 0x10;
pub(super) const TXA: u16 = 0x80;

/// Names of operations.
pub(super) const ALU_NAMES: [(u16, &str); 9] = [
    (ADD, "add"),
    (SUB, "sub"),
    (MUL, "mul"),
    (DIV, "div"),
    (OR, "or"),
    (AND, "and"),
    (LSH, "lsh"),
    (RSH, "rsh"),
    (XOR, "xor"),
];
/// Names of jumps that compare.
pub(super) const JUMP_NAMES: [(u16, &str); 4] =
    [(JEQ, "jeq"), (JGT, "jgt"), (JGE, "jge"), (JSET, "jset")];
