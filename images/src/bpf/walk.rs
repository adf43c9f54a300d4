//! Walks through a program: the answers that it gives, on all paths.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::code::*;
use super::{ARCH, Answers, DATA_SIZE, FilterAction, Instruction, NR, Program, Summary};

/// Work that may still be done. A budget is spent on several walks, so that many intricate programs
/// together cost no more than one.
#[derive(Debug)]
pub(crate) struct Budget(u64);

/// The error of a walk whose budget is spent.
struct Spent;

impl Budget {
    /// The budget of one program.
    fn of_program() -> Self {
        Self(OF_PROGRAM)
    }

    /// The budget of all programs of a set.
    pub(crate) fn of_set() -> Self {
        Self(OF_SET)
    }

    fn spend(&mut self, work: u64) -> Result<(), Spent> {
        let left = self.0.checked_sub(work);
        self.0 = left.unwrap_or(0);
        left.map(drop).ok_or(Spent)
    }
}

impl Program {
    /// Returns the answers to a system call, for all arguments. `arch` is an `AUDIT_ARCH_` number.
    pub fn answers(&self, arch: u32, number: u32) -> Answers {
        let answers = self.walk(arch, number, &mut Budget::of_program());
        answers.unwrap_or(Answers(BTreeSet::new()))
    }

    /// Returns the answers to all system calls.
    pub fn summary(&self) -> Summary {
        self.summary_within(&mut Budget::of_program())
    }

    /// Returns the answers to all system calls, or a summary that says that the budget is spent.
    pub(crate) fn summary_within(&self, budget: &mut Budget) -> Summary {
        self.answers_to_all(budget).unwrap_or_else(|Spent| {
            let unknown = Answers(BTreeSet::new());
            Summary {
                default: unknown.clone(),
                exceptions: Vec::new(),
                foreign: unknown,
                is_complete: false,
            }
        })
    }

    fn answers_to_all(&self, budget: &mut Budget) -> Result<Summary, Spent> {
        let own = self.arch.audit();
        let default = self.walk(own, NO_SYSCALL, budget)?;
        let mut exceptions: BTreeMap<Answers, Vec<&'static str>> = BTreeMap::new();
        for (number, name) in self.arch.syscalls() {
            let answers = self.walk(own, number, budget)?;
            if answers != default {
                exceptions.entry(answers).or_default().push(name);
            }
        }
        let exceptions = exceptions.into_iter().collect();
        let foreign = self.walk(0, NO_SYSCALL, budget)?;
        Ok(Summary { default, exceptions, foreign, is_complete: true })
    }

    fn walk(&self, arch: u32, number: u32, budget: &mut Budget) -> Result<Answers, Spent> {
        let start = State { at: 0, a: Some(0), x: Some(0), memory: BTreeMap::new() };
        let (mut waiting, mut seen) = (vec![start], HashSet::new());
        let mut found = BTreeSet::new();
        let (mut has_forked, mut states) = (false, Budget(MAX_STATES));
        while let Some(state) = waiting.pop() {
            if found.len() > MAX_ACTIONS {
                return Ok(Answers(BTreeSet::new()));
            }
            budget.spend(STEP)?;
            // Jumps lead forward only, so one path alone meets no state twice.
            if has_forked {
                budget.spend(REMEMBERED)?;
                if !seen.insert(state.clone()) {
                    continue;
                }
                if states.spend(1).is_err() {
                    return Ok(Answers(BTreeSet::new()));
                }
            }
            match self.code.get(state.at) {
                Some(instruction) => {
                    instruction.step(state, arch, number, &mut waiting, &mut found);
                }
                // `check` has made sure that jumps stay inside and that the last instruction
                // returns.
                None => continue,
            }
            has_forked |= waiting.len() > 1;
        }
        Ok(Answers(found))
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
        let mut ways = self.both_ways();
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
                    Some(true) => ways = [Some(self.jt.into()), None],
                    Some(false) => ways = [Some(self.jf.into()), None],
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
        let [first, second] = ways;
        if let Some(skip) = second {
            waiting.push(State { at: state.at + 1 + skip, ..state.clone() });
        }
        if let Some(skip) = first {
            waiting.push(State { at: state.at + 1 + skip, ..state });
        }
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

/// Most states that are followed for one program and one system call after its paths part. Real
/// filters take a few hundred. Programs made to take more are not worth the time.
const MAX_STATES: u64 = 1 << 13;

/// Most different answers to one system call. Real filters have up to four.
const MAX_ACTIONS: usize = 16;

/// Cost of a step, and of remembering a state, which takes some 16 times as long.
const STEP: u64 = 1;
const REMEMBERED: u64 = 16;

/// Work for one program: enough for 4096 instructions in a row, for each of 500 system calls.
const OF_PROGRAM: u64 = 1 << 21;

/// Work for all programs of a set: enough for as many instructions in a row as the kernel lets one
/// thread have, 32,768, for each of 500 system calls.
const OF_SET: u64 = 1 << 24;

/// Number of a system call that no architecture has, and that is not an x32 number.
const NO_SYSCALL: u32 = 0x3fff_fff0;
