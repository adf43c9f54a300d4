//! Room for the worst case: the tasks write all their memory while the holders live.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use procfs::{Current, Meminfo};

use super::outcome::WhyNot;
use super::plan::{Planned, Verdict};
use crate::host::MountInfo;
use crate::value::Pid;

/// Takes the holder from each task for whose worst case there is no room. Returns `false` if that
/// happened to a task.
pub(super) fn check(tasks: &mut [Planned]) -> bool {
    let mut is_room = check_cgroups(tasks, &Hierarchies::of_machine());
    let needed = worst(tasks.iter().map(held_bytes)).saturating_add(pool(tasks));
    if let Some(free) = free_of_machine().filter(|free| *free < needed) {
        let why = WhyNot::Memory { needed, free, cgroup: None };
        is_room &= !take(tasks, |_| true, &why);
    }
    is_room
}

fn check_cgroups(tasks: &mut [Planned], hierarchies: &Hierarchies) -> bool {
    let mut is_room = true;
    let mut members: BTreeMap<PathBuf, Vec<Pid>> = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.is_held()) {
        for cgroup in hierarchies.above(task.pid) {
            members.entry(cgroup).or_default().push(task.pid);
        }
    }
    for (cgroup, pids) in members {
        let is_member = |task: &Planned| pids.contains(&task.pid);
        let held = || tasks.iter().filter(|task| is_member(task) && task.is_held());
        let needed = worst(held().map(held_bytes));
        let count = u64::try_from(held().count()).unwrap_or(u64::MAX);
        if let Some(free) = free_memory(&cgroup).filter(|free| *free < needed) {
            let why = WhyNot::Memory { needed, free, cgroup: Some(cgroup.clone()) };
            is_room &= !take(tasks, is_member, &why);
        }
        if free_processes(&cgroup).is_some_and(|free| free < count) {
            is_room &= !take(tasks, is_member, &WhyNot::Processes);
        }
    }
    is_room
}

/// Takes the holder from tasks. Returns `true` if one had a holder.
fn take(tasks: &mut [Planned], which: impl Fn(&Planned) -> bool, why: &WhyNot) -> bool {
    let mut some = false;
    for task in tasks.iter_mut().filter(|task| task.is_held() && which(task)) {
        task.verdict = Verdict::Capture(why.clone());
        some = true;
    }
    some
}

fn held_bytes(task: &Planned) -> u64 {
    if task.is_held() { task.bytes } else { 0 }
}

/// The bytes of the pool for what CRIU reads itself.
pub(super) fn pool(tasks: &[Planned]) -> u64 {
    let bytes = tasks.iter().map(|task| if task.is_held() { task.shared } else { task.all() });
    let most = free_of_machine().map_or(u64::MAX, |free| free / 4);
    bytes.fold(SPARE, u64::saturating_add).min(most)
}

/// The bytes that holders may take: the memory once more, and the page tables.
fn worst(bytes: impl Iterator<Item = u64>) -> u64 {
    let bytes = bytes.fold(0, u64::saturating_add);
    bytes.saturating_add(bytes / TABLES)
}

/// The memory that programs can take without swapping, in bytes.
pub(super) fn free_of_machine() -> Option<u64> {
    Meminfo::current().ok()?.mem_available
}

/// The memory that is left for processes.
#[derive(Debug)]
pub(super) struct Free {
    /// The cgroups of the processes, and all cgroups above them.
    cgroups: BTreeSet<PathBuf>,
}

impl Free {
    /// Finds the cgroups of processes.
    pub(super) fn of(pids: &[Pid]) -> Self {
        let hierarchies = Hierarchies::of_machine();
        Self { cgroups: pids.iter().flat_map(|pid| hierarchies.above(*pid)).collect() }
    }

    /// Returns the bytes that are left on the machine, or in the cgroup that has least. `None` if
    /// nobody says.
    pub(super) fn bytes(&self) -> Option<u64> {
        let cgroups = self.cgroups.iter().filter_map(|cgroup| free_memory(cgroup));
        cgroups.chain(free_of_machine()).min()
    }
}

/// The bytes that a memory cgroup has left: to its limit, with the files in its page cache that can
/// be dropped. `None` without a limit.
fn free_memory(cgroup: &Path) -> Option<u64> {
    let (limit, used, inactive) = MEMORY.iter().find_map(|[limit, used, inactive]| {
        let used = number(cgroup, used)?;
        // Version 2 writes "no limit" as `max`.
        Some((number(cgroup, limit).unwrap_or(NO_LIMIT), used, *inactive))
    })?;
    let stat = fs::read_to_string(cgroup.join("memory.stat")).unwrap_or_default();
    let row = stat.lines().find_map(|line| line.strip_prefix(inactive)?.strip_prefix(' '));
    let cached = row.and_then(|text| text.parse().ok()).unwrap_or(0);
    // Above `memory.high` the tasks are slowed down.
    let limit = number(cgroup, "memory.high").map_or(limit, |high| high.min(limit));
    // Version 1 writes "no limit" as a number close to 2^63.
    (limit < NO_LIMIT).then(|| limit.saturating_sub(used).saturating_add(cached))
}

/// The number of processes that a cgroup may have more. `None` without a limit.
fn free_processes(cgroup: &Path) -> Option<u64> {
    let limit = number(cgroup, "pids.max")?;
    Some(limit.saturating_sub(number(cgroup, "pids.current")?))
}

/// Reads a number; `None` for `max`, and for a file that is not there.
fn number(cgroup: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(cgroup.join(name)).ok()?.trim().parse().ok()
}

/// The mounted hierarchies of cgroups that limit memory or processes.
#[derive(Debug, Default)]
struct Hierarchies(Vec<Hierarchy>);

#[derive(Debug)]
struct Hierarchy {
    /// The controllers as `/proc/PID/cgroup` names them; empty for version 2.
    controllers: Vec<u8>,
    /// The mount point.
    point: PathBuf,
    /// The cgroup that is mounted there.
    root: PathBuf,
}

impl Hierarchies {
    /// Finds those that this process sees.
    fn of_machine() -> Self {
        let mounts = MountInfo::all("self").unwrap_or_default();
        Self(mounts.into_iter().filter_map(Hierarchy::of).collect())
    }

    /// Returns the cgroup of a process in each hierarchy, with all cgroups above it.
    fn above(&self, pid: Pid) -> Vec<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let rows = text.lines().filter_map(|line| {
            let mut words = line.splitn(3, ':').skip(1);
            Some((words.next()?, Path::new(words.next()?)))
        });
        let mut found = Vec::new();
        for (controllers, path) in rows {
            let is_it = |hierarchy: &&Hierarchy| hierarchy.controllers == controllers.as_bytes();
            // A hierarchy may be mounted several times, at some places without this cgroup.
            let mut mounts = self.0.iter().filter(is_it);
            let place = mounts.find_map(|it| Some((&it.point, path.strip_prefix(&it.root).ok()?)));
            let Some((point, below)) = place else { continue };
            found.extend(below.ancestors().map(|below| point.join(below)));
        }
        found
    }
}

impl Hierarchy {
    fn of(mount: MountInfo) -> Option<Self> {
        let controllers = match &mount.kind[..] {
            b"cgroup2" => Vec::new(),
            b"cgroup" => {
                let options = mount.options.split(|byte| *byte == b',');
                let limits = |option: &&[u8]| *option == b"memory" || *option == b"pids";
                let limiting: Vec<&[u8]> = options.filter(limits).collect();
                (!limiting.is_empty()).then(|| limiting.join(&b','))?
            }
            _ => return None,
        };
        Some(Self { controllers, point: mount.point, root: mount.root })
    }
}

/// Memory for the pages that CRIU reads of each task, and for tasks that are not known, in bytes.
const SPARE: u64 = 16 << 20;

/// Pages that a page of a page table describes.
const TABLES: u64 = 512;

/// Numbers from here on are no limits.
const NO_LIMIT: u64 = 1 << 62;

/// The files with the limit and the use of a memory cgroup, and the row of `memory.stat` with the
/// cache that can be dropped: of version 2, then of version 1.
const MEMORY: &[[&str; 3]] = &[
    ["memory.max", "memory.current", "inactive_file"],
    ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"],
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy in a directory: `a` has room for 3 MiB and 5 processes, `a/b` has no limit.
    fn cgroups(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("criu-rs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("a/b")).unwrap();
        let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
        write("a/memory.max", "8388608\n");
        write("a/memory.current", "7340032\n");
        write("a/memory.stat", "anon 5\ninactive_file 2097152\nactive_file 7\n");
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "1\n");
        write("a/pids.max", "9\n");
        write("a/pids.current", "4\n");
        root
    }

    #[test]
    fn a_limit_counts_what_is_used_and_what_can_be_dropped() {
        let root = cgroups("free");
        assert_eq!(free_memory(&root.join("a")), Some(3 << 20));
        assert_eq!(free_memory(&root.join("a/b")), None);
        assert_eq!(free_memory(&root), None);
        assert_eq!(free_processes(&root.join("a")), Some(5));
        let old = root.join("old");
        fs::create_dir(&old).unwrap();
        for (name, text) in [
            ("memory.limit_in_bytes", "100"),
            ("memory.usage_in_bytes", "90"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 5\n"),
        ] {
            fs::write(old.join(name), text).unwrap();
        }
        assert_eq!(free_memory(&old), Some(15));
        fs::write(old.join("memory.limit_in_bytes"), "9223372036854771712").unwrap();
        assert_eq!(free_memory(&old), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn tasks_in_a_cgroup_without_room_are_captured() {
        let root = cgroups("room");
        let text = fs::read_to_string("/proc/self/cgroup").unwrap();
        let row = text.lines().next().unwrap();
        let mut words = row.splitn(3, ':').skip(1);
        let (controllers, path) = (words.next().unwrap(), words.next().unwrap());
        // The hierarchy of this process, as if it were mounted there with `a` as its cgroup.
        let hierarchy =
            Hierarchy { controllers: controllers.into(), point: root.join("a"), root: path.into() };
        let hierarchies = Hierarchies(vec![hierarchy]);
        let task = |bytes| Planned {
            pid: Pid::this(),
            start: 0,
            inner: 1,
            bytes,
            shared: 0,
            verdict: Verdict::Hold,
        };
        let mut fits = [task(1 << 20), task(1 << 20)];
        assert!(check_cgroups(&mut fits, &hierarchies) && fits.iter().all(Planned::is_held));
        let mut over = [task(2 << 20), task(1 << 20)];
        assert!(!check_cgroups(&mut over, &hierarchies));
        for task in over {
            let Verdict::Capture(WhyNot::Memory { needed, free, cgroup }) = task.verdict else {
                panic!("{task:?}");
            };
            assert_eq!((needed, free), ((3 << 20) + (6 << 10), 3 << 20));
            assert_eq!(cgroup, Some(root.join("a")));
        }
        let mut many: Vec<Planned> = (0..6).map(|_| task(1)).collect();
        assert!(!check_cgroups(&mut many, &hierarchies));
        assert!(matches!(many[5].verdict, Verdict::Capture(WhyNot::Processes)), "{:?}", many[5]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn this_machine_has_free_memory_and_cgroups() {
        assert!(free_of_machine().unwrap() > 1 << 20);
        let above = Hierarchies::of_machine().above(Pid::this());
        assert!(above.iter().all(|cgroup| cgroup.is_absolute()), "{above:?}");
    }
}
