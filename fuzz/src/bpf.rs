//! Seccomp filters.

use criu_images::Architecture;
use criu_images::bpf::Program;

/// Parses a filter, shows it, asks it for its answers, and writes it again.
pub fn run(data: &[u8]) {
    let Some((&first, code)) = data.split_first() else { return };
    let architectures = ARCHITECTURES;
    let arch = architectures[usize::from(first) % architectures.len()];
    let Ok(program) = Program::parse(code, arch) else { return };
    assert_eq!(program.to_bytes(), code, "a program is written as it was read");
    assert_eq!(Program::parse(&program.to_bytes(), arch).ok().as_ref(), Some(&program));
    let shown = program.to_string();
    assert!(shown.lines().count() >= program.instructions().len(), "{shown}");
    // A look at every system call is dear; one in eight gets it.
    if first & 0xe0 == 0 {
        let summary = program.summary();
        assert!(!summary.to_string().is_empty());
        assert!(summary.is_complete || summary.exceptions.is_empty(), "half an answer");
    }
    _ = program.answers(arch.audit(), u32::from(first));
}

const ARCHITECTURES: [Architecture; 9] = [
    Architecture::X86_64,
    Architecture::X86,
    Architecture::Arm,
    Architecture::Mips64,
    Architecture::Aarch64,
    Architecture::S390x,
    Architecture::Ppc64,
    Architecture::Riscv64,
    Architecture::Loongarch64,
];
