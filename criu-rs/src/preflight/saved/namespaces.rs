//! Checks of namespaces, file systems, and programs that CRIU calls.

use std::collections::BTreeSet;
use std::path::Path;

use criu_images::NamespaceKind;
use criu_images::proto::UidGidExtent;
use criu_images::requirements::{FileSystem, NewNamespace, Program, Requirement};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::kernel::in_path;
use crate::preflight::proc;
use crate::value::Pid;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let known = proc::text("/proc/filesystems").unwrap_or_default();
    let known: BTreeSet<&str> =
        known.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let mut found = Vec::new();
    for requirement in &saved.requirements {
        match requirement {
            Requirement::Namespace(namespace) => found.extend(made(namespace)),
            Requirement::FileSystem(of) if !known.is_empty() => {
                found.extend(mounted(of, &known));
            }
            Requirement::Program(program) if saved.is_ours() => {
                found.extend(called(saved, *program));
            }
            _ => {}
        }
    }
    found
}

/// Checks that the kernel makes such a namespace.
fn made(namespace: &NewNamespace) -> Option<Finding> {
    let kind = namespace.kind;
    if let Some(pid) = namespace.nested {
        let finding = Finding::blocks(Cause::NestedNamespace);
        let finding = finding.detail(format!("a {kind} namespace of its own"));
        return Some(match Pid::try_from(pid) {
            Ok(pid) => finding.pid(pid),
            Err(_) => finding,
        });
    }
    let blocks = |what: &'static str, detail: String| {
        Some(Finding::new(Severity::Blocks, what).detail(detail))
    };
    if !Path::new("/proc/self/ns").join(kind.to_string()).exists() {
        let what = "this kernel lacks a kind of namespace that the tree has";
        return blocks(what, format!("{kind} namespaces"));
    }
    let most = proc::text(format!("/proc/sys/user/max_{kind}_namespaces")).unwrap_or_default();
    if most.trim() == "0" {
        let detail = format!("user.max_{kind}_namespaces is 0");
        return Some(Finding::blocks(Cause::NamespaceLimit).detail(detail));
    }
    let users = namespace.users.as_ref().filter(|_| kind == NamespaceKind::User)?;
    let unmapped = unmapped("uid_map", &users.uid_map).or(unmapped("gid_map", &users.gid_map))?;
    let what = "ids of the tree's user namespace do not exist in the namespace of the restore";
    blocks(what, unmapped)
}

/// Returns a range of ids that this process's user namespace does not have.
fn unmapped(map: &str, wanted: &[UidGidExtent]) -> Option<String> {
    let text = proc::text(format!("/proc/self/{map}")).ok()?;
    let ranges: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(str::parse::<u64>);
            let (first, _, count) = (words.next()?.ok()?, words.next()?, words.next()?.ok()?);
            Some((first, first.saturating_add(count)))
        })
        .collect();
    let is_here = |range: &&UidGidExtent| {
        let first = u64::from(range.lower_first);
        let end = first + u64::from(range.count);
        ranges.iter().any(|(start, stop)| *start <= first && end <= *stop)
    };
    let range = wanted.iter().find(|range| !is_here(range))?;
    Some(format!("{} ids from {} ({map})", range.count, range.lower_first))
}

/// Checks that the kernel knows a file system, and that its device is there.
fn mounted(of: &FileSystem, known: &BTreeSet<&str>) -> Option<Finding> {
    let kind = of.kind.as_str();
    // A kind that CRIU did not know has its name of the dump's kernel.
    (!known.contains(kind) && KNOWN_TO_CRIU.contains(&kind)).then(|| {
        let what = "this kernel lacks a file system that the tree has mounted";
        let detail = format!("{kind} at {}", of.target);
        let hint = "load the module of the file system";
        Finding::new(Severity::Loses, what).detail(detail).hint(hint)
    })
}

/// Checks that criu finds a program that it calls.
fn called(saved: &Saved<'_>, program: Program) -> Option<Finding> {
    (!in_path(saved.look.criu, program.name())).then(|| {
        let detail = format!("{}, for {}", program.name(), program.purpose());
        Finding::blocks(Cause::MissingProgram).detail(detail)
    })
}

/// File systems that CRIU mounts by their kind alone.
const KNOWN_TO_CRIU: &[&str] = &[
    "proc",
    "sysfs",
    "devtmpfs",
    "binfmt_misc",
    "tmpfs",
    "devpts",
    "pstore",
    "securityfs",
    "fusectl",
    "debugfs",
    "mqueue",
    "autofs",
    "tracefs",
    "cgroup",
    "cgroup2",
    "overlay",
];
