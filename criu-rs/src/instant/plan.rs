//! The plan of an instant capture: which tasks get a holder.

use std::fs::File;
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
        let verdict = verdict(bytes, || Mappings::of(pid), options);
        Some(Self { pid, start, inner, bytes, shared, verdict })
    }

    pub(super) fn all(&self) -> u64 {
        self.bytes.saturating_add(self.shared)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.verdict, Verdict::Hold)
    }
}

fn verdict(bytes: u64, mappings: impl FnOnce() -> Mappings, options: &InstantOptions) -> Verdict {
    if bytes < options.least {
        return Verdict::Capture(WhyNot::Small { bytes });
    }
    let Mappings { count: mappings, has_aio } = mappings();
    if bytes / mappings.max(1) < options.least_per_mapping {
        return Verdict::Capture(WhyNot::Scattered { bytes, mappings });
    }
    if has_aio {
        return Verdict::Capture(WhyNot::Aio);
    }
    Verdict::Hold
}

/// The mappings of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mappings {
    count: u64,
    /// A context of `io_setup(2)` is among them.
    has_aio: bool,
}

impl Mappings {
    /// Reads them. There are none if they cannot be read.
    fn of(pid: Pid) -> Self {
        let file = File::open(format!("/proc/{pid}/maps"));
        file.map_or(Self::default(), |file| Self::read(BufReader::with_capacity(1 << 16, file)))
    }

    fn read(mut reader: impl BufRead) -> Self {
        let (mut found, mut line) = (Self::default(), Vec::new());
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            found.count += 1;
            // Only shared mappings can be contexts, and most mappings are private.
            let is_shared =
                line.split(|byte| *byte == b' ').nth(1).is_some_and(|mode| mode.ends_with(b"s"));
            found.has_aio |= is_shared && line.windows(AIO.len()).any(|part| part == AIO);
            line.clear();
        }
        found
    }
}

/// The start of the name of a context in `/proc/PID/maps`.
const AIO: &[u8] = b" /[aio]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_scattered_tasks_get_no_holder() {
        let options = InstantOptions::new().least(1 << 20).least_per_mapping(1 << 16);
        let with = |bytes, count| verdict(bytes, || Mappings { count, has_aio: false }, &options);
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
    fn tasks_with_asynchronous_io_get_no_holder() {
        let private = "7f6ae8a00000-7f6ae8a21000 rw-p 00000000 00:10 1057 /[aio] of a name\n";
        let context = "7f6ae8b00000-7f6ae8b21000 rw-s 00000000 00:10 1058 /[aio] (deleted)\n";
        let shared = "7f6ae8c00000-7f6ae8c21000 rw-s 00000000 00:01 1059 /dev/zero (deleted)\n";
        let look = |lines: &[&str]| Mappings::read(lines.concat().as_bytes());
        assert_eq!(look(&[private, shared]), Mappings { count: 2, has_aio: false });
        let found = look(&[private, context, shared]);
        assert_eq!(found, Mappings { count: 3, has_aio: true });
        let verdict = verdict(64 << 20, || found, &InstantOptions::new());
        assert!(matches!(verdict, Verdict::Capture(WhyNot::Aio)), "{verdict:?}");
    }

    #[test]
    fn this_process_is_looked_at() {
        let own = Planned::of(Pid::this(), &InstantOptions::new().least(1)).unwrap();
        assert_eq!(Some(own.start), tree::started_at(Pid::this()));
        assert!(own.bytes > 0 && own.inner > 0, "{own:?}");
        let lines = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        assert!(Mappings::of(Pid::this()).count.abs_diff(lines as u64) < 20);
    }
}
