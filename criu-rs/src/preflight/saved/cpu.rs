//! Checks that this machine runs the code of the images.

use criu_images::{Architecture, kind};

use super::Saved;
use crate::diagnosis::Cause;
use crate::operation::{CpuInfo, Scratch};
use crate::preflight::finding::{Finding, Severity};
use crate::value::CpuCap;

pub(super) fn look(saved: &Saved<'_>) -> criu_images::Result<Vec<Finding>> {
    let mut found: Vec<Finding> = architecture(saved)?.into_iter().collect();
    if found.is_empty() {
        found.extend(cpu(saved));
    }
    Ok(found)
}

/// Compares the architecture of the first thread with that of this process.
fn architecture(saved: &Saved<'_>) -> criu_images::Result<Option<Finding>> {
    let threads = saved.checkpoint.root().threads()?;
    let Some(of) = threads.first().and_then(|thread| thread.architecture()) else {
        return Ok(None);
    };
    let runs = match of {
        Architecture::X86_64 | Architecture::X86 => cfg!(target_arch = "x86_64"),
        Architecture::Aarch64 => cfg!(target_arch = "aarch64"),
        Architecture::Arm => cfg!(target_arch = "arm"),
        Architecture::Ppc64 => cfg!(target_arch = "powerpc64"),
        Architecture::S390x => cfg!(target_arch = "s390x"),
        Architecture::Riscv64 => cfg!(target_arch = "riscv64"),
        Architecture::Loongarch64 => cfg!(target_arch = "loongarch64"),
        Architecture::Mips64 => cfg!(target_arch = "mips64"),
        _ => true,
    };
    let detail = format!("they are of {of}, this machine is {}", std::env::consts::ARCH);
    Ok((!runs).then(|| {
        let what = "the images come from another architecture";
        let hint = "restore on a machine of the same architecture";
        Finding::new(Severity::Blocks, what).detail(detail).hint(hint)
    }))
}

/// Compares the CPU with the one that the images record, if they record one.
fn cpu(saved: &Saved<'_>) -> Option<Finding> {
    let (look, inside) = (saved.look, saved.images);
    inside.join(kind::CPUINFO.file).exists().then_some(())?;
    // The scratch directory keeps CRIU's log out of the images directory.
    let scratch = Scratch::new().ok()?;
    let mut check = CpuInfo::new(inside).work_dir(scratch.path());
    check = check.raw(|opts| opts.cpu_cap = look.opts.cpu_cap);
    let error = check.check(&look.criu.without_libcriu()).err()?;
    let cause = error.cause().unwrap_or(Cause::CpuMismatch);
    let said = error.failure().and_then(|failure| failure.said());
    // A restore compares only if it is asked to. Without the comparison, a program that detected
    // the features of the old CPU may die of a missing instruction.
    let asked = CpuCap::from_bits_retain(look.opts.cpu_cap.unwrap_or_default());
    let compares = asked.intersects(CpuCap::CPU | CpuCap::INS | CpuCap::FPU);
    let severity = if compares { Severity::Blocks } else { Severity::Loses };
    Some(Finding::of(severity, cause).detail(said.map_or_else(|| error.to_string(), str::to_owned)))
}
