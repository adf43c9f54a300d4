//! Checks of how tasks are scheduled: CRIU does not give back a deadline, an affinity or a
//! personality.

use std::collections::BTreeSet;
use std::path::Path;

use super::finding::{Finding, Severity};
use super::live::{Task, Tree};
use super::proc;
use crate::diagnosis::Cause;
use crate::host::MountInfo;
use crate::host::tree::threads;
use crate::value::Pid;

pub(super) fn look(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    // A restored task has what criu has, and criu what this process has.
    let own = proc::text("/proc/thread-self/status").unwrap_or_default();
    let own_processors = processors(&own);
    let own_personality = personality(Pid::this());
    let mut mounts: Option<Vec<MountInfo>> = None;
    for task in tree.alive() {
        found.extend(deadline(task));
        let has = processors(&task.status);
        let mut cpuset = || {
            let read = || MountInfo::all("self").unwrap_or_default();
            of_cpuset(task, mounts.get_or_insert_with(read))
        };
        if has != own_processors && cpuset().is_some_and(|all| all != has) {
            let what = "the processors that a process may run on are not restored";
            let list = proc::value(&task.status, "Cpus_allowed_list").unwrap_or_default();
            let finding = Finding::new(Severity::Loses, what).pid(task.pid);
            let hint = "set them again after the restore (taskset)";
            found.push(finding.detail(format!("processors {list}")).hint(hint));
        }
        let has = personality(task.pid);
        if has != own_personality && has.is_some() {
            let what = "the personality of a process is not restored";
            let finding = Finding::new(Severity::Loses, what).pid(task.pid);
            found.push(finding.detail(has.unwrap_or_default()));
        }
    }
    found
}

/// Checks for a thread with a deadline. CRIU saves such a thread and does not restore it.
fn deadline(task: &Task) -> Option<Finding> {
    let all: Vec<Pid> = if task.threads > 1 {
        threads(task.pid).into_iter().take(MAX_THREADS).collect()
    } else {
        vec![task.pid]
    };
    let has = |tid: &Pid| {
        let stat = proc::text(proc::of(task.pid, "task").join(format!("{tid}/stat")));
        let policy = stat.ok().and_then(|stat| {
            let (_, rest) = stat.rsplit_once(')')?;
            rest.split_whitespace().nth(POLICY)?.parse::<u32>().ok()
        });
        policy == Some(SCHED_DEADLINE)
    };
    let tid = all.into_iter().find(has)?;
    let finding = Finding::blocks(Cause::DeadlineScheduling).pid(task.pid);
    Some(finding.detail(format!("thread {tid}")))
}

/// The processors in a list such as `0-3,8`, of a `status`.
fn processors(status: &str) -> BTreeSet<u32> {
    listed(proc::value(status, "Cpus_allowed_list").unwrap_or_default())
}

fn listed(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some(first..=u32::min(last, MAX_PROCESSORS))
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The processors of a task's cpuset. `None` if they are not known.
fn of_cpuset(task: &Task, mounts: &[MountInfo]) -> Option<BTreeSet<u32>> {
    let cgroups = proc::text(proc::of(task.pid, "cgroup")).ok()?;
    let path = |controller: &str| {
        cgroups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        })
    };
    let read = |mount: &MountInfo, path: &str, name: &str| {
        let inner = Path::new(path).strip_prefix(&mount.root).ok()?;
        let folder = mount.point.join(inner);
        // A cgroup without the controller has the processors of the next one above.
        let text = folder.ancestors().take_while(|folder| folder.starts_with(&mount.point));
        let text = text.filter_map(|folder| proc::text(folder.join(name)).ok()).next()?;
        Some(listed(text.trim()))
    };
    let is_cpuset = |mount: &&MountInfo| {
        let mut options = mount.options.split(|&byte| byte == b',');
        mount.kind == b"cgroup" && options.any(|option| option == b"cpuset")
    };
    if let Some(mount) = mounts.iter().find(is_cpuset) {
        return read(mount, path("cpuset")?, "cpuset.effective_cpus");
    }
    let mount = mounts.iter().find(|mount| mount.kind == b"cgroup2")?;
    read(mount, path("")?, "cpuset.cpus.effective")
}

fn personality(pid: Pid) -> Option<String> {
    Some(proc::text(proc::of(pid, "personality")).ok()?.trim().to_owned())
}

/// The place of the scheduling policy in `stat`, after the program's name.
const POLICY: usize = 38;
const SCHED_DEADLINE: u32 = 6;

/// Most threads of a process that are checked.
const MAX_THREADS: usize = 1000;

/// Largest number of a processor. The kernel's own limit is 8,192.
const MAX_PROCESSORS: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        let is = |list: &str, all: &[u32]| assert_eq!(listed(list), all.iter().copied().collect());
        is("0-2,5", &[0, 1, 2, 5]);
        is("7", &[7]);
        is("", &[]);
        is("x-3,,-1,4-", &[]);
        assert!(listed("0-4294967295").len() > 60_000);
    }
}
