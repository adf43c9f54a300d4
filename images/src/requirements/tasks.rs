//! Requirements of tasks: ids, credentials, address spaces, limits, terminals.

use std::collections::{BTreeMap, BTreeSet};

use super::Requirement;
use super::options::is_master;
use crate::caps::Capabilities;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::file::File;
use crate::limits::Limit;
use crate::namespaces::NamespaceKind;
use crate::proto::{CredsEntry, MmEntry};
use crate::task::Task;

/// A process id that the tree takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Id {
    /// The id, in the tree's pid namespace.
    pub id: u32,
    /// The use of the id.
    pub used: IdUse,
    /// The tree has a pid namespace of its own, in which every id is free.
    pub own_namespace: bool,
}

/// Uses of a process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IdUse {
    /// A process.
    Process,
    /// A thread.
    Thread,
    /// A session, whose leader has ended. CRIU makes a leader for a while.
    Session,
    /// A process group, whose leader has ended. CRIU makes a leader for a while.
    Group,
    /// The session or group of the tree's root, which somebody outside the tree leads. With
    /// `--shell-job` a restore takes the session and group of criu in its place.
    Foreign,
}

/// Credentials that criu must be able to give to a task or thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rights {
    /// Id of the task.
    pub pid: u32,
    /// Id of the thread.
    pub tid: u32,
    /// Permitted capabilities.
    pub permitted: Capabilities,
    /// Inheritable capabilities.
    pub inheritable: Capabilities,
    /// Bounding set.
    pub bounding: Capabilities,
    /// Real, effective, saved and file system user.
    pub users: [u32; 4],
    /// Real, effective, saved and file system group.
    pub groups: [u32; 4],
    /// Supplementary groups.
    pub more_groups: Vec<u32>,
    /// Policy of the scheduler: a `SCHED_` number. 1 and 2 are real-time policies.
    pub policy: u32,
    /// The tree has a user namespace of its own, in which it has every capability.
    pub own_namespace: bool,
}

/// Mappings of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressSpace {
    /// Id of the task.
    pub pid: u32,
    /// Lowest address that is mapped.
    pub lowest: u64,
    /// Address after the highest that is mapped, without the kernel's own page at the end.
    pub highest: u64,
    /// Number of mappings.
    pub mappings: u64,
}

/// Huge pages of one size that the tree maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HugePages {
    /// Bytes of a huge page. `None` is the default size of the machine.
    pub size: Option<u64>,
    /// Bytes that the tree maps.
    pub bytes: u64,
}

/// A resource limit that a restore gives to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskLimit {
    /// Id of the task.
    pub pid: u32,
    /// Number of the resource: an `RLIMIT_` constant.
    pub resource: usize,
    /// The limit.
    pub limit: Limit,
}

/// A pseudoterminal or a virtual terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terminal {
    /// Number of the pseudoterminal. `None` is another terminal.
    pub index: Option<u32>,
    /// The images have the master.
    pub has_master: bool,
    /// The terminal has hung up.
    pub is_hung_up: bool,
    /// The tree has a mount namespace of its own, with pseudoterminals of its own.
    pub own_namespace: bool,
}

pub(super) fn walk(checkpoint: Checkpoint<'_>, all: &mut Vec<Requirement>) -> Result<()> {
    let own = checkpoint.root().namespaces()?;
    let own = |kind| own.iter().any(|of| of.kind == kind && !of.host);
    ids(checkpoint, own(NamespaceKind::Pid), all);
    let mut huge: BTreeMap<Option<u64>, u64> = BTreeMap::new();
    let mut shared = BTreeSet::new();
    for task in checkpoint.tasks().filter(Task::is_alive) {
        let own = own(NamespaceKind::User);
        for thread in task.threads()? {
            let core = thread.thread_core();
            let policy = core.and_then(|core| core.sched_policy).unwrap_or(0);
            if let Some(creds) = thread.creds() {
                let (pid, tid) = (task.pid(), thread.tid());
                all.push(Requirement::Rights(Rights::new(pid, tid, creds, policy, own)));
            }
        }
        let pid = task.pid();
        all.extend(
            task.limits()
                .enumerate()
                .map(|(resource, limit)| Requirement::Limit(TaskLimit { pid, resource, limit })),
        );
        if let Some(mm) = task.mm()? {
            all.extend(AddressSpace::new(task.pid(), &mm).map(Requirement::AddressSpace));
            for vma in mm.vmas.iter().filter(|vma| vma.flags & MAP_HUGETLB != 0) {
                // Tasks that share pages take them once.
                let is_shared = vma.flags & MAP_SHARED != 0;
                if is_shared && !shared.insert((vma.shmid, vma.pgoff)) {
                    continue;
                }
                let shift = vma.flags >> 26 & 0x3f;
                let size = (shift != 0).then(|| 1u64.checked_shl(shift).unwrap_or(0));
                let bytes = huge.entry(size).or_default();
                *bytes = bytes.saturating_add(vma.end.saturating_sub(vma.start));
            }
        }
    }
    all.extend(
        huge.into_iter().map(|(size, bytes)| Requirement::HugePages(HugePages { size, bytes })),
    );
    terminals(checkpoint, own(NamespaceKind::Mnt), all)
}

fn ids(checkpoint: Checkpoint<'_>, own_namespace: bool, all: &mut Vec<Requirement>) {
    let root = checkpoint.root();
    let outside = root.sid() != root.pid();
    let foreign = [root.sid(), root.pgid()];
    let mut found: BTreeMap<u32, IdUse> = BTreeMap::new();
    let mut add = |id, used| {
        let known = found.entry(id).or_insert(used);
        *known = (*known).min(used);
    };
    for task in checkpoint.tasks() {
        add(task.pid(), IdUse::Process);
        for &tid in task.tids() {
            add(tid, IdUse::Thread);
        }
        for (id, used) in [(task.sid(), IdUse::Session), (task.pgid(), IdUse::Group)] {
            let is_foreign = outside && foreign.contains(&id);
            add(id, if is_foreign { IdUse::Foreign } else { used });
        }
    }
    // A process in the session 0 has its leader in another pid namespace.
    let found = found.into_iter().filter(|(id, _)| *id != 0);
    all.extend(found.map(|(id, used)| Requirement::Id(Id { id, used, own_namespace })));
}

impl Rights {
    fn new(pid: u32, tid: u32, creds: &CredsEntry, policy: u32, own_namespace: bool) -> Self {
        Self {
            pid,
            tid,
            permitted: Capabilities::from_words(&creds.cap_prm),
            inheritable: Capabilities::from_words(&creds.cap_inh),
            bounding: Capabilities::from_words(&creds.cap_bnd),
            users: [creds.uid, creds.euid, creds.suid, creds.fsuid],
            groups: [creds.gid, creds.egid, creds.sgid, creds.fsgid],
            more_groups: creds.groups.clone(),
            policy,
            own_namespace,
        }
    }
}

impl AddressSpace {
    fn new(pid: u32, mm: &MmEntry) -> Option<Self> {
        // The page of old system calls lies above all that a task can map.
        let vmas = || mm.vmas.iter().filter(|vma| vma.start < KERNEL);
        let lowest = vmas().map(|vma| vma.start).min()?;
        let highest = vmas().map(|vma| vma.end).max()?;
        Some(Self { pid, lowest, highest, mappings: vmas().count() as u64 })
    }
}

fn terminals(
    checkpoint: Checkpoint<'_>,
    own_namespace: bool,
    all: &mut Vec<Requirement>,
) -> Result<()> {
    let mut masters = BTreeSet::new();
    let mut found: BTreeMap<Option<u32>, bool> = BTreeMap::new();
    for file in checkpoint.files()? {
        let File::Tty(_) = file.file() else { continue };
        let Some(info) = file.terminal() else { continue };
        let index = info.pty.as_ref().map(|pty| pty.index);
        if let (Some(index), true) = (index, is_master(info.rdev)) {
            masters.insert(index);
        }
        let is_hung_up = found.entry(index).or_insert(true);
        *is_hung_up &= info.termios.is_none();
    }
    for (index, is_hung_up) in found {
        let has_master = index.is_some_and(|index| masters.contains(&index));
        let terminal = Terminal { index, has_master, is_hung_up, own_namespace };
        all.push(Requirement::Terminal(terminal));
    }
    Ok(())
}

const MAP_SHARED: u32 = 1;
const MAP_HUGETLB: u32 = 0x40000;

/// The lowest address of the upper half, which belongs to the kernel.
const KERNEL: u64 = 1 << 63;
