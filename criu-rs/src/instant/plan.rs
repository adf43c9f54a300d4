//! The plan of an instant capture: which tasks get a holder.

use std::io::{BufRead, BufReader};

use procfs::process::Process;

use super::headroom;
use super::options::{Headroom, InstantOptions};
use super::outcome::WhyNot;
use crate::host::tree;
use crate::value::Pid;

/// The verdict about each task of a tree.
#[derive(Debug)]
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
    /// Its number in its own pid namespace.
    pub(super) inner: u64,
    /// Private memory that a holder would keep, in bytes: anonymous memory and swap.
    pub(super) bytes: u64,
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
    /// Looks at a running tree. Tasks that end meanwhile are left out.
    pub(super) fn of(root: Pid, options: &InstantOptions) -> Self {
        let tasks = tree::descendants(root).into_iter();
        let mut tasks: Vec<Planned> = tasks.filter_map(|pid| Planned::of(pid, options)).collect();
        let mut least_unknown = options.least;
        if options.headroom == Headroom::Check && !headroom::check(&mut tasks) {
            least_unknown = u64::MAX;
        }
        Self { tasks, least_unknown }
    }

    /// Returns true if a task gets a holder, or may get one if it begins until the freeze.
    pub(super) fn holds(&self) -> bool {
        self.tasks.iter().any(Planned::is_held)
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
        let verdict = verdict(bytes, || mappings(pid), options);
        Some(Self { pid, start, inner, bytes, verdict })
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
