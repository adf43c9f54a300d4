//! Checks of resource limits. CRIU says nothing of a limit that it cannot set.

use std::collections::HashSet;

use caps::{CapSet, Capability};
use criu_images::requirements::{Descriptor, Requirement, TaskLimit};

use super::Saved;
use super::memory::{number, of};
use crate::diagnosis::Cause;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::proc;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    if !saved.is_ours() {
        return Vec::new();
    }
    let most_files = number("/proc/sys/fs/nr_open");
    let may_raise = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE);
    let mine = if may_raise.unwrap_or(false) { None } else { proc::text("/proc/self/limits").ok() };
    let most_own = match &mine {
        Some(mine) => own(mine, NOFILE).flatten(),
        None => most_files,
    };
    let mut told = HashSet::new();
    let mut found = Vec::new();
    for requirement in &saved.requirements {
        let limit = match requirement {
            Requirement::Limit(limit) => limit,
            Requirement::Descriptor(fd) => {
                found.extend(descriptor(fd, most_own));
                continue;
            }
            _ => continue,
        };
        if !told.insert((limit.resource, limit.limit.hard)) {
            continue;
        }
        found.extend(files(limit, most_files).or_else(|| raised(limit, mine.as_deref()?)));
    }
    found
}

fn lost(limit: &TaskLimit, detail: String) -> Finding {
    let what = "a task does not get back a resource limit";
    of(Finding::new(Severity::Loses, what).detail(detail), limit.pid)
}

/// Compares the limit of open files with the kernel's.
fn files(limit: &TaskLimit, most: Option<u64>) -> Option<Finding> {
    let (most, hard) = (most?, limit.limit.hard.unwrap_or(u64::MAX));
    (limit.limit.name == "nofile" && hard > most).then(|| {
        let detail = format!("nofile is {hard}, the sysctl fs.nr_open is {most}");
        lost(limit, detail).hint("raise the sysctl fs.nr_open to the limit")
    })
}

/// Compares a hard limit with that of this process, which criu inherits and may not raise.
fn raised(limit: &TaskLimit, mine: &str) -> Option<Finding> {
    let own = own(mine, limit.resource)?;
    let is_more = match (limit.limit.hard, own) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(saved), Some(own)) => saved > own,
    };
    is_more.then(|| {
        let name = limit.limit.name;
        let saved = limit.limit.hard.map_or("unlimited".to_owned(), |hard| hard.to_string());
        let own = own.map_or("unlimited".to_owned(), |own| own.to_string());
        let detail = format!("{name} is {saved}, criu has {own} and lacks CAP_SYS_RESOURCE");
        lost(limit, detail)
    })
}

/// Checks that criu may open the descriptors of a task, and some of its own above them.
fn descriptor(fd: &Descriptor, most: Option<u64>) -> Option<Finding> {
    let most = most?;
    (u64::from(fd.number).saturating_add(CRIU_S_OWN) > most).then(|| {
        let detail = format!("descriptor {} is open, criu may have {most}", fd.number);
        of(Finding::blocks(Cause::TooFewDescriptors).detail(detail), fd.pid)
    })
}

/// The hard limit of a resource in `/proc/PID/limits`. An inner `None` is unlimited.
fn own(limits: &str, resource: usize) -> Option<Option<u64>> {
    // A head, then a line a resource, in the order of their numbers: name, soft, hard, unit.
    let line = limits.lines().nth(resource.checked_add(1)?)?;
    let is_limit = |word: &&str| *word == "unlimited" || word.parse::<u64>().is_ok();
    let hard = line.split_whitespace().rev().take(3).find(is_limit)?;
    Some(hard.parse().ok())
}

/// Number of `RLIMIT_NOFILE`.
const NOFILE: usize = 7;

/// The least number of descriptors that CRIU keeps for itself above those of a task.
const CRIU_S_OWN: u64 = 16;
