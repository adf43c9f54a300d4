//! Walks through a program: the answers that it gives, on all paths.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::code::*;
use super::{ARCH, Answers, DATA_SIZE, FilterAction, Instruction, NR, Program, Summary};

impl Program {
    /// Returns the answers to a system call, for all arguments. `arch` is an `AUDIT_ARCH_` number.
    pub fn answers(&self, arch: u32, number: u32) -> Answers {
        let start = State { at: 0, a: Some(0), x: Some(0), memory: BTreeMap::new() };
        let (mut waiting, mut seen) = (vec![start], HashSet::new());
        let mut found = BTreeSet::new();
        while let Some(state) = waiting.pop() {
            if seen.len() >= MAX_STATES {
                return Answers(BTreeSet::new());
            }
            if !seen.insert(state.clone()) {
                continue;
            }
            match self.code.get(state.at) {
                Some(instruction) => {
                    instruction.step(state, arch, number, &mut waiting, &mut found);
                }
                // `check` has made sure that jumps stay inside and that the last instruction
                // returns.
                None => continue,
            }
        }
        Answers(found)
    }

    /// Returns the answers to all system calls.
    pub fn summary(&self) -> Summary {
        let own = self.arch.audit();
        let default = self.answers(own, NO_SYSCALL);
        let mut exceptions: BTreeMap<Answers, Vec<&'static str>> = BTreeMap::new();
        for (number, name) in self.arch.syscalls() {
            let answers = self.answers(own, number);
            if answers != default {
                exceptions.entry(answers).or_default().push(name);
            }
        }
        let exceptions = exceptions.into_iter().collect();
        Summary { default, exceptions, foreign: self.answers(0, NO_SYSCALL) }
    }
}

/// Values known before an instruction. Values that depend on arguments are unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    at: usize,
    a: Option<u32>,
    x: Option<u32>,
    memory: BTreeMap<u32, Option<u32>>,
}

impl Instruction {
    /// Adds the states after the instruction, or the action that it returns.
    fn step(
        &self,
        mut state: State,
        arch: u32,
        number: u32,
        waiting: &mut Vec<State>,
        found: &mut BTreeSet<FilterAction>,
    ) {
        let operand = if self.code & X != 0 { state.x } else { Some(self.k) };
        let mut ways: Vec<usize> = self.ways().collect();
        match self.code & CLASS {
            LD | LDX => {
                let value = match self.code & MODE {
                    ABS => match self.k {
                        NR => Some(number),
                        ARCH => Some(arch),
                        _ => None,
                    },
                    MEM => state.memory.get(&self.k).copied().unwrap_or(Some(0)),
                    LEN => Some(DATA_SIZE),
                    _ => Some(self.k),
                };
                match self.code & CLASS {
                    LD => state.a = value,
                    _ => state.x = value,
                }
            }
            ST => _ = state.memory.insert(self.k, state.a),
            STX => _ = state.memory.insert(self.k, state.x),
            ALU if self.code == ALU | NEG => state.a = state.a.map(u32::wrapping_neg),
            ALU => {
                // A division by an X of 0 ends the program and kills the thread.
                if self.code & OP == DIV && operand.is_none_or(|by| by == 0) {
                    found.insert(FilterAction::KillThread);
                    if operand == Some(0) {
                        return;
                    }
                }
                state.a = state.a.zip(operand).and_then(|(a, by)| compute(self.code & OP, a, by));
            }
            JMP if self.code == JMP | JA => {}
            JMP => {
                let holds = state.a.zip(operand).map(|(a, by)| match self.code & OP {
                    JEQ => a == by,
                    JGT => a > by,
                    JGE => a >= by,
                    _ => a & by != 0,
                });
                match holds {
                    Some(true) => ways = vec![self.jt.into()],
                    Some(false) => ways = vec![self.jf.into()],
                    None => {}
                }
            }
            RET => {
                let value = if self.code & !CLASS == RET_A { state.a } else { Some(self.k) };
                // Nobody writes filters whose action depends on an argument.
                found.extend(value.map(FilterAction::of));
            }
            _ => match self.code & TXA {
                0 => state.x = state.a,
                _ => state.a = state.x,
            },
        }
        waiting.extend(ways.iter().map(|skip| State { at: state.at + 1 + skip, ..state.clone() }));
    }
}

fn compute(op: u16, a: u32, by: u32) -> Option<u32> {
    Some(match op {
        ADD => a.wrapping_add(by),
        SUB => a.wrapping_sub(by),
        MUL => a.wrapping_mul(by),
        DIV => a.checked_div(by)?,
        OR => a | by,
        AND => a & by,
        LSH => a.wrapping_shl(by),
        RSH => a.wrapping_shr(by),
        _ => a ^ by,
    })
}

/// Most states that are followed for one program and one system call. Real filters take a few
/// hundred. Programs made to take more are not worth the time.
const MAX_STATES: usize = 1 << 13;

/// Number of a system call that no architecture has, and that is not an x32 number.
const NO_SYSCALL: u32 = 0x3fff_fff0;
