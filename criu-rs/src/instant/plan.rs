//! The plan of an instant capture: which tasks get a holder.

use std::io::{BufRead, BufReader};

use procfs::process::Process;

use super::headroom;
use super::options::{Headroom, InstantOptions};
use super::outcome::WhyNot;
use crate::host::tree;
use crate::value::Pid;

/// The verdict about each task of a tree.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) tasks: Vec<Planned>,
    /// The private memory from which on a task that begins after the look gets a holder.
    pub(super) least_unknown: u64,
}

/// A task, and the verdict about it.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) pid: Pid,
    /// The time of its start, in the kernel's ticks.
    pub(super) start: u64,
    /// Number in the pid namespace of the task.
    pub(super) inner: u64,
    /// Private memory that a holder would keep, in bytes: anonymous memory and swap.
    pub(super) bytes: u64,
    /// Shared memory, in bytes. CRIU reads it in any case.
    pub(super) shared: u64,
    pub(super) verdict: Verdict,
}

/// A verdict.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The task gets a holder.
    Hold,
    /// CRIU reads the memory of the task.
    Capture(WhyNot),
}

impl Plan {
    /// Looks at running trees that are dumped at one time, and returns a plan for each. Tasks that
    /// end meanwhile are left out, and so are holders that are kept of an earlier round: CRIU does
    /// not see them.
    pub(super) fn of(roots: &[Pid], options: &InstantOptions, kept: &[(Pid, u64)]) -> Vec<Self> {
        let is_kept = |pid: &Pid| kept.iter().any(|(holder, _)| holder == pid);
        let mut tasks: Vec<Planned> = Vec::new();
        let mut starts = Vec::new();
        for root in roots {
            starts.push(tasks.len());
            let found = tree::descendants(*root).into_iter().filter(|pid| !is_kept(pid));
            tasks.extend(found.filter_map(|pid| Planned::of(pid, options)));
        }
        let is_room = options.headroom == Headroom::Accept || headroom::check(&mut tasks);
        let least_unknown = if is_room { options.least } else { u64::MAX };
        let split = |start| Self { tasks: tasks.split_off(start), least_unknown };
        let mut plans: Vec<Self> = starts.into_iter().rev().map(split).collect();
        plans.reverse();
        plans
    }

    /// Returns the size of a pool for the pages that CRIU reads itself, in bytes.
    pub(super) fn pool(&self) -> usize {
        usize::try_from(headroom::pool(&self.tasks)).unwrap_or(usize::MAX)
    }
}

impl Planned {
    fn of(pid: Pid, options: &InstantOptions) -> Option<Self> {
        let process = Process::new(pid.as_raw()).ok()?;
        let start = process.stat().ok()?.starttime;
        let status = process.status().ok()?;
        let inner = status.nspid.as_ref().and_then(|ids| ids.last().copied());
        let inner = inner.and_then(|id| u64::try_from(id).ok()).unwrap_or(0);
        let kib = |number: Option<u64>| number.unwrap_or(0);
        let bytes = kib(status.rssanon).saturating_add(kib(status.vmswap)).saturating_mul(1024);
        let shared = kib(status.rssshmem).saturating_mul(1024);
        let verdict = verdict(bytes, || mappings(pid), options);
        Some(Self { pid, start, inner, bytes, shared, verdict })
    }

    pub(super) fn all(&self) -> u64 {
        self.bytes.saturating_add(self.shared)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.verdict, Verdict::Hold)
    }
}

fn verdict(bytes: u64, mappings: impl FnOnce() -> u64, options: &InstantOptions) -> Verdict {
    if bytes < options.least {
        return Verdict::Capture(WhyNot::Small { bytes });
    }
    let mappings = mappings();
    if bytes / mappings.max(1) < options.least_per_mapping {
        return Verdict::Capture(WhyNot::Scattered { bytes, mappings });
    }
    Verdict::Hold
}

/// The number of mappings of a task; 0 if they cannot be read.
fn mappings(pid: Pid) -> u64 {
    let Ok(file) = std::fs::File::open(format!("/proc/{pid}/maps")) else { return 0 };
    let (mut reader, mut count) = (BufReader::with_capacity(1 << 16, file), 0u64);
    while let Ok(bytes) = reader.fill_buf() {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        count += bytes.iter().fold(0, |sum, byte| sum + u64::from(*byte == b'\n'));
        reader.consume(length);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_scattered_tasks_get_no_holder() {
        let options = InstantOptions::new().least(1 << 20).least_per_mapping(1 << 16);
        let with = |bytes, mappings| verdict(bytes, || mappings, &options);
        assert!(matches!(with(1 << 20, 16), Verdict::Hold));
        assert!(matches!(with(1 << 20, 0), Verdict::Hold));
        let small = with((1 << 20) - 1, 1);
        assert!(matches!(small, Verdict::Capture(WhyNot::Small { .. })), "{small:?}");
        let scattered = with(1 << 20, 17);
        assert!(
            matches!(scattered, Verdict::Capture(WhyNot::Scattered { mappings: 17, .. })),
            "{scattered:?}"
        );
    }

    #[test]
    fn this_process_is_looked_at() {
        let own = Planned::of(Pid::this(), &InstantOptions::new().least(1)).unwrap();
        assert_eq!(Some(own.start), tree::started_at(Pid::this()));
        assert!(own.bytes > 0 && own.inner > 0, "{own:?}");
        let lines = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        assert!(mappings(Pid::this()).abs_diff(lines as u64) < 20);
    }
}
