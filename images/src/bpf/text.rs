//! Programs and their effects, in words.

use std::fmt;

use super::code::*;
use super::{ARCH, Answers, FilterAction, Instruction, NR, Program, Summary};
use crate::arch::Architecture;

impl fmt::Display for FilterAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillProcess => f.write_str("kills the process"),
            Self::KillThread => f.write_str("kills the thread"),
            Self::Trap => f.write_str("sends SIGSYS"),
            Self::Errno(0) => f.write_str("returns 0"),
            Self::Errno(number) => match errno(*number) {
                Some(name) => write!(f, "fails with {name}"),
                None => write!(f, "fails with error {number}"),
            },
            Self::Notify => f.write_str("asks a supervisor"),
            Self::Trace(_) => f.write_str("asks the tracer"),
            Self::Log => f.write_str("allows and logs"),
            Self::Allow => f.write_str("allows"),
        }
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("does something that cannot be predicted");
        }
        for (index, action) in self.0.iter().rev().enumerate() {
            let joint = if index == 0 { "" } else { " or " };
            write!(f, "{joint}{action}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_complete {
            return f.write_str("is too intricate: its answers are unknown");
        }
        self.default.fmt(f)?;
        for (answers, names) in &self.exceptions {
            write!(f, "; {answers} on {}", names.join(", "))?;
        }
        if self.foreign == self.default {
            Ok(())
        } else {
            write!(f, "; {} under other architectures", self.foreign)
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources();
        for (at, (instruction, source)) in self.code.iter().zip(&sources).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            let (text, remark) = instruction.text(at, *source, self.arch);
            if remark.is_empty() {
                write!(f, "{at:4}: {text}")?;
            } else {
                write!(f, "{at:4}: {text:32} ; {remark}")?;
            }
        }
        Ok(())
    }
}

impl Instruction {
    /// Returns the instruction in words, and a remark.
    fn text(self, at: usize, source: Option<u32>, arch: Architecture) -> (String, String) {
        let k = self.k;
        let plain = |text: String| (text, String::new());
        let by = |code: u16| if code & X != 0 { "x".to_owned() } else { format!("#{k:#x}") };
        match self.code & CLASS {
            LD | LDX => {
                let name = if self.code & CLASS == LD { "ld" } else { "ldx" };
                match self.code & MODE {
                    ABS => (format!("{name} [{k}]"), word(k, arch)),
                    MEM => plain(format!("{name} M[{k}]")),
                    LEN => plain(format!("{name} len")),
                    _ => plain(format!("{name} #{k:#x}")),
                }
            }
            ST => plain(format!("st M[{k}]")),
            STX => plain(format!("stx M[{k}]")),
            ALU if self.code == ALU | NEG => plain("neg".to_owned()),
            ALU => {
                let name = ALU_NAMES.iter().find(|(op, _)| *op == self.code & OP);
                plain(format!("{} {}", name.map_or("?", |(_, name)| name), by(self.code)))
            }
            JMP if self.code == JMP | JA => {
                let target = u64::from(k).saturating_add(at as u64 + 1);
                plain(format!("jmp {target}"))
            }
            JMP => {
                let name = JUMP_NAMES.iter().find(|(op, _)| *op == self.code & OP);
                let name = name.map_or("?", |(_, name)| name);
                let (t, f) = (at + 1 + usize::from(self.jt), at + 1 + usize::from(self.jf));
                let remark = match source {
                    Some(NR) if self.code & X == 0 => arch.syscall(k).map(str::to_owned),
                    Some(ARCH) if self.code & X == 0 => {
                        let found = Architecture::ALL.iter().find(|arch| arch.audit() == k);
                        found.map(Architecture::to_string)
                    }
                    _ => None,
                };
                (format!("{name} {}, {t}, {f}", by(self.code)), remark.unwrap_or_default())
            }
            RET if self.code & !CLASS == RET_A => plain("ret a".to_owned()),
            RET => (format!("ret #{k:#x}"), FilterAction::of(k).to_string()),
            _ if self.code & TXA != 0 => plain("txa".to_owned()),
            _ => plain("tax".to_owned()),
        }
    }
}

/// Returns the name of a word of `struct seccomp_data`.
fn word(offset: u32, arch: Architecture) -> String {
    match offset {
        NR => "system call".to_owned(),
        ARCH => "architecture".to_owned(),
        8..16 => format!("instruction pointer, {} half", half(offset, arch)),
        _ => format!("argument {}, {} half", (offset - 16) / 8, half(offset, arch)),
    }
}

fn half(offset: u32, arch: Architecture) -> &'static str {
    if (offset % 8 == 0) != arch.is_big_endian() { "low" } else { "high" }
}

/// Returns the name of an error number that filters return. MIPS has other numbers from ENOSYS on.
fn errno(number: u16) -> Option<&'static str> {
    let names = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (3, "ESRCH"),
        (5, "EIO"),
        (9, "EBADF"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (14, "EFAULT"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (19, "ENODEV"),
        (22, "EINVAL"),
        (25, "ENOTTY"),
        (38, "ENOSYS"),
        (93, "EPROTONOSUPPORT"),
        (94, "ESOCKTNOSUPPORT"),
        (95, "EOPNOTSUPP"),
        (97, "EAFNOSUPPORT"),
    ];
    names.iter().find(|(found, _)| *found == number).map(|(_, name)| *name)
}
