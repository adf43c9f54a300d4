//! Checks of memory, and of mappings.

use std::path::Path;

use criu_images::requirements::{AddressSpace, HugePages, Requirement};

use super::Saved;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::proc;
use crate::value::Pid;

pub(super) fn look(saved: &Saved<'_>, memory: u64) -> Vec<Finding> {
    let mut found: Vec<Finding> = room(memory).into_iter().collect();
    let mappings = number("/proc/sys/vm/max_map_count");
    for requirement in &saved.requirements {
        found.extend(match requirement {
            Requirement::AddressSpace(space) => map_count(space, mappings),
            Requirement::HugePages(pages) => huge(pages),
            _ => None,
        });
    }
    found
}

pub(super) fn number(path: impl AsRef<Path>) -> Option<u64> {
    proc::text(path).ok()?.trim().parse().ok()
}

fn map_count(space: &AddressSpace, most: Option<u64>) -> Option<Finding> {
    let most = most?;
    (space.mappings > most).then(|| {
        let what = "a task has more mappings than this kernel allows";
        let detail = format!("it has {}, vm.max_map_count is {most}", space.mappings);
        let finding = Finding::new(Severity::Blocks, what).detail(detail);
        of(finding, space.pid).hint("raise the sysctl vm.max_map_count")
    })
}

fn huge(pages: &HugePages) -> Option<Finding> {
    let info = proc::text("/proc/meminfo").ok()?;
    let default = proc::numbers::<u64>(&info, "Hugepagesize").first()?.checked_mul(1024)?;
    let size = pages.size.unwrap_or(default);
    let folder = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", size >> 10);
    let free = number(Path::new(&folder).join("free_hugepages"));
    let more = number(Path::new(&folder).join("nr_overcommit_hugepages")).unwrap_or(0);
    let wanted = pages.bytes.div_ceil(size.max(1));
    let what = "this machine lacks free huge pages that the tree maps";
    let detail = match free {
        None => format!("it has no pages of {} KiB", size >> 10),
        Some(free) if free.saturating_add(more) < wanted => {
            format!("of pages of {} KiB, {wanted} wanted and {free} free", size >> 10)
        }
        Some(_) => return None,
    };
    let hint = "raise nr_hugepages in /sys/kernel/mm/hugepages";
    Some(Finding::new(Severity::Blocks, what).detail(detail).hint(hint))
}

/// Names the task, unless its id is not a valid one.
pub(super) fn of(finding: Finding, pid: u32) -> Finding {
    match Pid::try_from(pid) {
        Ok(pid) => finding.pid(pid),
        Err(_) => finding,
    }
}

/// Checks that this machine has enough free memory.
fn room(memory: u64) -> Option<Finding> {
    let info = proc::text("/proc/meminfo").ok()?;
    let kib: u64 = *proc::numbers(&info, "MemAvailable").first()?;
    let what = "this machine has less memory free than the images hold";
    let detail = format!("{} MiB are free, {} MiB are saved", kib >> 10, memory >> 20);
    (kib.saturating_mul(1024) < memory).then(|| Finding::new(Severity::Loses, what).detail(detail))
}
