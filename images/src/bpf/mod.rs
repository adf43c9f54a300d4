//! Classic BPF, the language of seccomp(2) filters: disassembly, and the answers of a filter.

mod code;
mod summaries;
mod text;
mod walk;

use std::collections::BTreeSet;

use crate::arch::Architecture;
use crate::error::{Error, ErrorKind, Fault};
use code::*;
pub(crate) use summaries::Summaries;

/// The program of a seccomp filter. Displays as its disassembly, in the notation of the kernel's
/// `bpf_dbg` with remarks.
///
/// ```
/// use criu_images::{Architecture, bpf::Program};
///
/// // ld [0]; jeq #101, 0, 1; ret KILL_PROCESS; ret ALLOW
/// let bytes = [
///     [0x20, 0, 0, 0, 0, 0, 0, 0], [0x15, 0, 0, 1, 101, 0, 0, 0],
///     [0x06, 0, 0, 0, 0, 0, 0, 0x80], [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f],
/// ];
/// let program = Program::parse(bytes.as_flattened(), Architecture::X86_64)?;
/// assert_eq!(program.summary().to_string(), "allows; kills the process on ptrace");
/// println!("{program}");
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    code: Vec<Instruction>,
    arch: Architecture,
}

/// An instruction: the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the kernel's own")]
pub struct Instruction {
    /// Code of the operation.
    pub code: u16,
    /// Number of instructions that a jump skips if its condition holds.
    pub jt: u8,
    /// Number of instructions that a jump skips if its condition does not hold.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The answer of a filter to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FilterAction {
    /// `SECCOMP_RET_KILL_PROCESS`: kills the process.
    KillProcess,
    /// `SECCOMP_RET_KILL_THREAD`: kills the thread.
    KillThread,
    /// `SECCOMP_RET_TRAP`: sends SIGSYS.
    Trap,
    /// `SECCOMP_RET_ERRNO`: the call fails with this error number.
    Errno(u16),
    /// `SECCOMP_RET_USER_NOTIF`: another process decides.
    Notify,
    /// `SECCOMP_RET_TRACE`: the tracer decides.
    Trace(u16),
    /// `SECCOMP_RET_LOG`: allows the call, and logs it.
    Log,
    /// `SECCOMP_RET_ALLOW`: allows the call.
    Allow,
}

/// The answers of a program to the system calls of its architecture. Displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Answers to a system call without a name.
    pub default: Answers,
    /// Other answers, with the names of the system calls that get them.
    pub exceptions: Vec<(Answers, Vec<&'static str>)>,
    /// Answers to system calls of other architectures.
    pub foreign: Answers,
    /// False if the program is too intricate, or comes after too many intricate programs of its
    /// set. All answers are then unknown.
    pub is_complete: bool,
}

/// The answers that a program may give to one system call, depending on its arguments. Empty if the
/// answers cannot be predicted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answers(pub BTreeSet<FilterAction>);

impl Program {
    /// Reads the instructions of a filter, in the form of images and of the kernel.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] for a length that no filter has, an instruction that seccomp refuses,
    /// or a jump past the end. The offset is the instruction's.
    pub fn parse(bytes: &[u8], arch: Architecture) -> Result<Self, Error> {
        Self::read(bytes, arch).map_err(|fault| Error::new("seccomp filter", fault))
    }

    pub(crate) fn read(bytes: &[u8], arch: Architecture) -> Result<Self, Fault> {
        let code = bytes.chunks_exact(SIZE);
        if bytes.len() % SIZE != 0 || bytes.is_empty() || code.len() > MAX_LENGTH {
            let want = "1 to 4096 instructions of 8 bytes";
            return Err(ErrorKind::Value { found: bytes.len() as u64, want }.into());
        }
        let code = code.filter_map(|bytes| Some(Instruction::read(*bytes.first_chunk()?, arch)));
        let program = Self { code: code.collect(), arch };
        for (at, instruction) in program.code.iter().enumerate() {
            let ends = at + 1 == program.code.len();
            instruction.check(program.code.len() - at - 1, ends).map_err(|k| k.at(at * SIZE))?;
        }
        Ok(program)
    }

    /// Returns the architecture that the program is read for.
    pub fn architecture(&self) -> Architecture {
        self.arch
    }

    /// Returns the instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.code
    }

    /// Returns the instructions in the form of images, which [`parse`](Self::parse) reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.code.iter().flat_map(|instruction| instruction.bytes(self.arch)).collect()
    }

    /// Returns the word of `seccomp_data` that the accumulator holds before each instruction, if it
    /// is the same on all paths.
    fn sources(&self) -> Vec<Option<u32>> {
        let mut sources: Vec<Flow> = vec![Flow::Unreached; self.code.len()];
        if let Some(first) = sources.first_mut() {
            *first = Flow::Other;
        }
        for (at, instruction) in self.code.iter().enumerate() {
            let mut flow = sources.get(at).copied().unwrap_or(Flow::Other);
            match instruction.code & CLASS {
                _ if flow == Flow::Unreached => continue,
                LD if instruction.code & MODE == ABS => flow = Flow::Word(instruction.k),
                LD | ALU => flow = Flow::Other,
                MISC if instruction.code & TXA != 0 => flow = Flow::Other,
                _ => {}
            }
            for skip in instruction.ways() {
                if let Some(next) = sources.get_mut(at + 1 + skip) {
                    *next = match *next {
                        Flow::Unreached => flow,
                        same if same == flow => flow,
                        _ => Flow::Other,
                    };
                }
            }
        }
        let word = |flow| match flow {
            Flow::Word(word) => Some(word),
            _ => None,
        };
        sources.into_iter().map(word).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Unreached,
    Word(u32),
    Other,
}

impl Instruction {
    fn read(bytes: [u8; 8], arch: Architecture) -> Self {
        let [a, b, jt, jf, k @ ..] = bytes;
        if arch.is_big_endian() {
            Self { code: u16::from_be_bytes([a, b]), jt, jf, k: u32::from_be_bytes(k) }
        } else {
            Self { code: u16::from_le_bytes([a, b]), jt, jf, k: u32::from_le_bytes(k) }
        }
    }

    fn bytes(self, arch: Architecture) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = if arch.is_big_endian() {
            (self.code.to_be_bytes(), self.k.to_be_bytes())
        } else {
            (self.code.to_le_bytes(), self.k.to_le_bytes())
        };
        [a, b, self.jt, self.jf, c, d, e, f]
    }

    /// Checks that seccomp takes the instruction, with `after` instructions behind it.
    fn check(&self, after: usize, is_last: bool) -> Result<(), ErrorKind> {
        let wrong = |found: u64, want| Err(ErrorKind::Value { found, want });
        let code = self.code.into();
        let known = match self.code & CLASS {
            LD => match self.code & !CLASS {
                ABS if self.k >= DATA_SIZE || self.k % 4 != 0 => {
                    return wrong(self.k.into(), "the offset of a word of seccomp_data");
                }
                MEM if self.k >= MEMORY => return wrong(self.k.into(), "a memory word below 16"),
                ABS | IMM | MEM | LEN => true,
                _ => false,
            },
            LDX => match self.code & !CLASS {
                MEM if self.k >= MEMORY => return wrong(self.k.into(), "a memory word below 16"),
                IMM | MEM | LEN => true,
                _ => false,
            },
            ST | STX if self.k >= MEMORY => {
                return wrong(self.k.into(), "a memory word below 16");
            }
            ST | STX => self.code & !CLASS == 0,
            ALU => match self.code & !CLASS & !X {
                DIV if self.code & X == 0 && self.k == 0 => return wrong(0, "a divisor above 0"),
                op => ALU_NAMES.iter().any(|(known, _)| *known == op) || self.code == ALU | NEG,
            },
            JMP => {
                let known = self.code == JMP | JA
                    || JUMP_NAMES.iter().any(|(op, _)| *op == self.code & !CLASS & !X);
                let furthest = self.ways().max().unwrap_or(0);
                if known && furthest >= after {
                    return wrong(furthest as u64, "a jump inside the program");
                }
                known
            }
            RET => matches!(self.code & !CLASS, 0 | RET_A),
            _ => matches!(self.code & !CLASS, 0 | TXA),
        };
        if !known {
            return wrong(code, "an instruction that seccomp takes");
        }
        if is_last && self.code & CLASS != RET {
            return wrong(code, "a return at the end");
        }
        Ok(())
    }

    /// Returns the numbers of instructions that may be skipped.
    fn ways(&self) -> impl Iterator<Item = usize> {
        self.both_ways().into_iter().flatten()
    }

    fn both_ways(&self) -> [Option<usize>; 2] {
        match self.code & CLASS {
            RET => [None, None],
            JMP if self.code == JMP | JA => [usize::try_from(self.k).ok(), None],
            JMP => [Some(self.jt.into()), Some(self.jf.into())],
            _ => [Some(0), None],
        }
    }
}

impl FilterAction {
    /// Returns the action for a value that a filter returns.
    pub fn of(value: u32) -> Self {
        let data = (value & 0xffff).try_into().unwrap_or(u16::MAX);
        match value & 0xffff_0000 {
            0x8000_0000 => Self::KillProcess,
            0 => Self::KillThread,
            0x0003_0000 => Self::Trap,
            0x0005_0000 => Self::Errno(data),
            0x7fc0_0000 => Self::Notify,
            0x7ff0_0000 => Self::Trace(data),
            0x7ffc_0000 => Self::Log,
            0x7fff_0000 => Self::Allow,
            // The kernel treats an unknown action like this one.
            _ => Self::KillProcess,
        }
    }
}

/// Bytes of an instruction.
pub(crate) const SIZE: usize = 8;

/// Most instructions of a filter: the kernel's limit.
const MAX_LENGTH: usize = 4096;

// Words of `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const DATA_SIZE: u32 = 64;
const MEMORY: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn program(code: &[(u16, u8, u8, u32)]) -> Result<Program, Error> {
        let arch = Architecture::X86_64;
        let code = code.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k });
        let bytes: Vec<u8> = code.flat_map(|instruction| instruction.bytes(arch)).collect();
        let program = Program::parse(&bytes, arch)?;
        assert_eq!(program.to_bytes(), bytes);
        Ok(program)
    }

    #[test]
    fn a_list_of_forbidden_calls_reads_as_one() {
        let program = program(&[
            (LD | ABS, 0, 0, ARCH),
            (JMP | JEQ, 1, 0, 0xc000_003e),
            (RET, 0, 0, 0x8000_0000),
            (LD | ABS, 0, 0, NR),
            (JMP | JEQ, 3, 0, 101),
            (JMP | JEQ, 2, 0, 165),
            (JMP | JEQ, 2, 0, 56),
            (RET, 0, 0, 0x7fff_0000),
            (RET, 0, 0, 0x0005_0001),
            // clone is forbidden only with CLONE_NEWUSER.
            (LD | ABS, 0, 0, 16),
            (JMP | JSET, 0, 1, 0x1000_0000),
            (RET, 0, 0, 0x0005_0026),
            (RET, 0, 0, 0x7fff_0000),
        ]);
        let program = program.unwrap();
        assert_eq!(
            program.summary().to_string(),
            "allows; fails with EPERM on ptrace, mount; allows or fails with ENOSYS on clone; \
             kills the process under other architectures"
        );
        let text = program.to_string();
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines[1], "1: jeq #0xc000003e, 3, 2 ; x86-64");
        assert_eq!(lines[4], "4: jeq #0x65, 8, 5 ; ptrace");
        assert_eq!(lines[9], "9: ld [16] ; argument 0, low half");
        assert_eq!(lines[12], "12: ret #0x7fff0000 ; allows");
    }

    #[test]
    fn arithmetic_and_memory_are_followed() {
        let program = program(&[
            (LD | ABS, 0, 0, NR),
            (ST, 0, 0, 3),
            (LDX | MEM, 0, 0, 3),
            (MISC | TXA, 0, 0, 0),
            (ALU | SUB, 0, 0, 59),
            (JMP | JEQ, 0, 1, 0),
            (RET, 0, 0, 0x0003_0000),
            (LD | IMM, 0, 0, 0x7fff_0000),
            (RET | RET_A, 0, 0, 0),
        ]);
        assert_eq!(program.unwrap().summary().to_string(), "allows; sends SIGSYS on execve");
    }

    #[test]
    fn what_seccomp_refuses_is_refused_with_its_place() {
        let ret = (RET, 0, 0, 0x7fff_0000);
        let cases = [
            (vec![(LD | ABS, 0, 0, 2), ret], "byte 0: is 0x2, wanted the offset of a word"),
            (vec![(LD | ABS, 0, 0, 64), ret], "byte 0: is 0x40, wanted the offset of a word"),
            (vec![ret, (0x40, 0, 0, 0), ret], "byte 8: is 0x40, wanted an instruction"),
            (vec![(JMP | JEQ, 1, 0, 0), ret], "byte 0: is 0x1, wanted a jump inside"),
            (vec![(JMP | JA, 0, 0, u32::MAX), ret], "wanted a jump inside"),
            (vec![(LD | IMM, 0, 0, 0)], "byte 0: is 0x0, wanted a return at the end"),
            (vec![(ST, 0, 0, 16), ret], "wanted a memory word"),
            (vec![(ALU | DIV, 0, 0, 0), ret], "wanted a divisor"),
            (vec![], "is 0x0, wanted 1 to 4096 instructions"),
            (vec![ret; 4097], "is 0x8008, wanted 1 to 4096 instructions"),
        ];
        for (code, want) in cases {
            let error = program(&code).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_program_made_to_be_intricate_ends() {
        // Each bit of the argument doubles the number of paths, which must be bounded.
        let mut code = Vec::new();
        for bit in 0..30 {
            code.push((LD | ABS, 0, 0, 16));
            code.push((JMP | JSET, 0, 3, 1 << bit));
            code.push((LD | MEM, 0, 0, 0));
            code.push((ALU | ADD, 0, 0, 1 << bit));
            code.push((ST, 0, 0, 0));
        }
        code.push((RET, 0, 0, 0));
        let program = program(&code).unwrap();
        let answers = program.answers(0, 0);
        assert_eq!(answers.to_string(), "does something that cannot be predicted");
    }
}
