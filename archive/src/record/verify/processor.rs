//! Checks that the processor here runs the code of a checkpoint.

use std::collections::BTreeSet;

use criu_images::{Severity, Text};

use crate::record::Record;
use crate::record::finding::{About, Finding};
use crate::record::host::Host;
use crate::record::tool::ToolKind;

pub(super) fn look(record: &Record, host: &Host) -> Vec<Finding> {
    let Some(then) = &record.host else { return Vec::new() };
    let mut findings = Vec::new();
    let [there, here] = [then, host].map(|host| Text(host.architecture.as_bytes()));
    if is_known(&then.architecture, &host.architecture) && then.architecture != host.architecture {
        let text = format!("the checkpoint is of {there}, this machine is {here}");
        let hint = "restore on a machine of the same architecture";
        findings.push(Finding::new(Severity::Error, About::Cpu, text).hint(hint));
        // Features have other names.
        return findings;
    }
    if then.page_size != 0 && host.page_size != 0 && then.page_size != host.page_size {
        let text = format!(
            "pages of memory had {} bytes, and have {} here",
            then.page_size, host.page_size
        );
        findings.push(Finding::new(Severity::Error, About::Cpu, text));
    }
    let is_used = |kind: &ToolKind| record.containers.iter().any(|one| one.tool.kind == *kind);
    findings.extend(features(then, host, is_used(&ToolKind::Runsc)));
    let is_other = then.cpu.vendor != host.cpu.vendor || then.cpu.model != host.cpu.model;
    let is_known = is_known(&then.cpu.vendor, &host.cpu.vendor);
    if is_used(&ToolKind::Firecracker) && is_known && is_other {
        let [there, here] = [then, host].map(|host| Text(host.cpu.name.as_bytes()));
        let text = format!(
            "the snapshot of Firecracker is of the processor `{there}`, this one is `{here}`; \
             without a CPU template only the same model works"
        );
        findings.push(Finding::new(Severity::Warning, About::Cpu, text));
    }
    findings
}

/// Compares the features. `is_exact` is set for a tool that wants all of them.
fn features(then: &Host, host: &Host, is_exact: bool) -> Vec<Finding> {
    if then.cpu.features.is_empty() || host.cpu.features.is_empty() {
        return Vec::new();
    }
    let here: BTreeSet<&str> = host.cpu.features.iter().map(String::as_str).collect();
    let there: BTreeSet<&str> = then.cpu.features.iter().map(String::as_str).collect();
    // On x86 the kernel lists its own switches and those of hypervisors, too.
    let is_x86 = matches!(&*then.architecture, "x86_64" | "i686" | "");
    let missing: Vec<&str> = there
        .difference(&here)
        .copied()
        .filter(|name| !is_x86 || CHOSEN.contains(name) || USED.contains(name))
        .collect();
    let is_grave = |name: &&str| is_exact || !is_x86 || CHOSEN.contains(name);
    let (grave, slight): (Vec<&str>, Vec<&str>) = missing.into_iter().partition(is_grave);
    let mut findings = Vec::new();
    if !grave.is_empty() {
        let why = if is_exact {
            "runsc restores only where all are there"
        } else {
            "programs choose code by such features when they start, and die without them"
        };
        let text = format!("the processor here lacks {}: {why}", list(&grave));
        let hint = "restore on a machine with these features, or start the programs on one \
                    without them (GLIBC_TUNABLES=glibc.cpu.hwcaps=-NAME for those of glibc)";
        let hint = if is_exact { "restore on a machine with these features" } else { hint };
        findings.push(Finding::new(Severity::Error, About::Cpu, text).hint(hint));
    }
    if !slight.is_empty() {
        let text =
            format!("the processor here lacks {}: a program that uses them dies", list(&slight));
        findings.push(Finding::new(Severity::Warning, About::Cpu, text));
    }
    findings
}

fn list(names: &[&str]) -> String {
    let shown: Vec<String> =
        names.iter().take(MOST).map(|name| Text(name.as_bytes()).to_string()).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn is_known(there: &str, here: &str) -> bool {
    !there.is_empty() && !here.is_empty()
}

/// Features by which glibc, and what it is like, choose code when a program starts.
const CHOSEN: &[&str] = &[
    "avx", "avx2", "avx512bw", "avx512dq", "avx512f", "avx512vl", "bmi1", "bmi2", "cx16", "erms",
    "fma", "fma4", "fsrm", "lahf_lm", "movbe", "abm", "pku", "pni", "popcnt", "rtm", "sse", "sse2",
    "sse4_1", "sse4_2", "ssse3", "xsave", "xsavec",
];

/// Other features that programs can use.
const USED: &[&str] = &[
    "3dnow",
    "3dnowext",
    "3dnowprefetch",
    "adx",
    "aes",
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "avx512_4fmaps",
    "avx512_4vnniw",
    "avx512_bf16",
    "avx512_bitalg",
    "avx512_fp16",
    "avx512_vbmi2",
    "avx512_vnni",
    "avx512_vp2intersect",
    "avx512_vpopcntdq",
    "avx512cd",
    "avx512er",
    "avx512ifma",
    "avx512pf",
    "avx512vbmi",
    "avx_vnni",
    "cldemote",
    "clflushopt",
    "clwb",
    "clzero",
    "enqcmd",
    "f16c",
    "fsgsbase",
    "gfni",
    "hle",
    "lwp",
    "movdir64b",
    "movdiri",
    "pclmulqdq",
    "rdpid",
    "rdpru",
    "rdrand",
    "rdseed",
    "rdtscp",
    "serialize",
    "sha_ni",
    "sse4a",
    "tbm",
    "user_shstk",
    "vaes",
    "vpclmulqdq",
    "waitpkg",
    "xgetbv1",
    "xop",
    "xsaveopt",
];

/// Most features that a finding names.
const MOST: usize = 16;
