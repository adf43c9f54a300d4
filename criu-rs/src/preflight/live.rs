//! A live tree, as /proc shows it. Nothing is stopped or touched; what ends meanwhile is left out.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::{fs, io};

use super::proc::{self, Fd, Meta, Mount};
use crate::host::tree;
use crate::value::Pid;

/// A process tree.
#[derive(Debug)]
pub(super) struct Tree {
    /// The root first.
    pub(super) tasks: Vec<Task>,
    /// Some processes or descriptors were too many to look at.
    pub(super) is_cut: bool,
    /// The namespaces of this process, and so of a criu that it starts.
    pub(super) here: BTreeMap<&'static str, u64>,
}

/// A process.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) pid: Pid,
    /// The letter in /proc.
    pub(super) state: char,
    pub(super) session: i32,
    /// The device of its controlling terminal; zero for none.
    pub(super) terminal: u64,
    pub(super) is_kernel: bool,
    /// `status`.
    pub(super) status: String,
    pub(super) threads: usize,
    /// By kind.
    pub(super) namespaces: BTreeMap<&'static str, u64>,
    /// None where they may not be looked at.
    pub(super) fds: Option<Vec<Fd>>,
}

impl Tree {
    pub(super) fn look(root: Pid) -> Self {
        let mut tree = Self { tasks: Vec::new(), is_cut: false, here: namespaces(Pid::this()) };
        let mut seen = HashSet::from([root]);
        let mut waiting = VecDeque::from([root]);
        let mut budget = MAX_FDS;
        while let Some(pid) = waiting.pop_front() {
            if tree.tasks.len() == MAX_TASKS {
                tree.is_cut = true;
                break;
            }
            tree.tasks.extend(Task::look(pid, &mut budget));
            waiting.extend(tree::children(pid).into_iter().filter(|child| seen.insert(*child)));
        }
        tree.is_cut |= budget == 0;
        tree
    }

    pub(super) fn root(&self) -> Option<&Task> {
        self.tasks.first()
    }

    pub(super) fn has(&self, pid: i32) -> bool {
        self.tasks.iter().any(|task| task.pid.as_raw() == pid)
    }

    /// Tasks that have not ended.
    pub(super) fn alive(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !task.is_zombie())
    }

    /// Every open descriptor.
    pub(super) fn fds(&self) -> impl Iterator<Item = (&Task, &Fd)> {
        self.alive().flat_map(|task| task.fds.iter().flatten().map(move |fd| (task, fd)))
    }

    /// One task of each namespace of a kind, the root's first.
    pub(super) fn one_of_each(&self, kind: &str) -> Vec<&Task> {
        let mut seen = HashSet::new();
        self.alive().filter(|task| seen.insert(task.namespaces.get(kind).copied())).collect()
    }

    /// Whether a namespace is one that this process is in.
    pub(super) fn is_here(&self, kind: &str, task: &Task) -> bool {
        self.here.get(kind) == task.namespaces.get(kind)
    }

    /// Whether the dump takes a namespace of this kind into the images.
    pub(super) fn saves(&self, kind: &str) -> bool {
        self.root().is_some_and(|root| !root.namespaces.is_empty() && !self.is_here(kind, root))
    }

    /// All mounts that tasks of the tree see, by their ids.
    pub(super) fn mounts(&self) -> BTreeMap<u32, Mount> {
        let tasks = self.one_of_each("mnt");
        let all = tasks.iter().flat_map(|task| Mount::all(task.pid).unwrap_or_default());
        all.map(|mount| (mount.id, mount)).collect()
    }
}

impl Task {
    fn look(pid: Pid, budget: &mut usize) -> Option<Self> {
        let stat = proc::text(proc::of(pid, "stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let number = |n: usize| words.get(n).and_then(|word| word.parse::<i64>().ok());
        let status = proc::text(proc::of(pid, "status")).ok()?;
        let state = words.first().and_then(|word| word.chars().next())?;
        let zombie = state == 'Z' || state == 'X';
        let fds = if zombie { None } else { open(pid, budget) };
        Some(Self {
            pid,
            state,
            session: i32::try_from(number(3)?).ok()?,
            // Signed in the file, a device number by its bits.
            terminal: u64::try_from(number(4)? & 0xffff_ffff).ok()?,
            is_kernel: number(6)? & PF_KTHREAD != 0,
            threads: proc::numbers(&status, "Threads").first().copied().unwrap_or(1),
            status,
            namespaces: namespaces(pid),
            fds,
        })
    }

    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Its id in its own pid namespace.
    pub(super) fn inner_pid(&self) -> Option<i32> {
        proc::numbers(&self.status, "NSpid").last().copied()
    }

    /// Its session's id in its own pid namespace; zero when that is led from outside of it.
    pub(super) fn inner_session(&self) -> Option<i32> {
        proc::numbers(&self.status, "NSsid").last().copied()
    }

    /// The ids of its user, or with `Gid` of its group: real, effective, saved, of file systems.
    pub(super) fn ids(&self, key: &str) -> Vec<u32> {
        proc::numbers(&self.status, key)
    }

    /// A set of capabilities: `CapPrm` and the like.
    pub(super) fn capabilities(&self, key: &str) -> u64 {
        let digits = proc::value(&self.status, key).unwrap_or_default();
        u64::from_str_radix(digits, 16).unwrap_or(0)
    }

    /// Who traces it or one of its threads.
    pub(super) fn tracer(&self) -> Option<i32> {
        let of = |status: &str| proc::numbers(status, "TracerPid").first().copied();
        let own = of(&self.status).filter(|&pid| pid != 0);
        let threads = || {
            let threads = fs::read_dir(proc::of(self.pid, "task")).ok()?;
            let mut threads = threads.flatten().take(MAX_THREADS);
            threads.find_map(|thread| {
                of(&proc::text(thread.path().join("status")).ok()?).filter(|&pid| pid != 0)
            })
        };
        if self.threads > 1 { own.or_else(threads) } else { own }
    }

    /// Its controlling terminal as (major, minor).
    pub(super) fn terminal(&self) -> Option<(u64, u64)> {
        let dev = self.terminal;
        (dev != 0).then_some(((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xf_ff00)))
    }

    /// A path of its mount namespace as this process reaches it; none where it has a root directory
    /// of its own.
    pub(super) fn outside_path(&self, path: &std::path::Path, is_here: bool) -> Option<PathBuf> {
        let root = fs::read_link(proc::of(self.pid, "root")).ok()?;
        match (is_here, root.as_os_str() == "/") {
            // The link is from the root of this process.
            (true, _) => Some(path.to_owned()),
            (false, true) => Some(proc::of(self.pid, "root").join(path.strip_prefix("/").ok()?)),
            (false, false) => None,
        }
    }

    /// What one of its links leads to: `exe`, `cwd` or `root`.
    pub(super) fn linked(&self, name: &str) -> Option<(PathBuf, Meta)> {
        let place = proc::of(self.pid, name);
        Some((fs::read_link(&place).ok()?, Meta::of(&place)?))
    }
}

fn namespaces(pid: Pid) -> BTreeMap<&'static str, u64> {
    let inode = |kind: &&'static str| Some((*kind, proc::namespace(pid, kind)?));
    KINDS.iter().filter_map(inode).collect()
}

/// The open descriptors of a process, the lowest first; none where they may not be looked at.
fn open(pid: Pid, budget: &mut usize) -> Option<Vec<Fd>> {
    let entries = match fs::read_dir(proc::of(pid, "fd")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
        // It has ended.
        Err(_) => return Some(Vec::new()),
    };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = numbers.take(*budget).collect();
    numbers.sort_unstable();
    *budget = budget.saturating_sub(numbers.len());
    Some(numbers.into_iter().filter_map(|number| Fd::look(pid, number)).collect())
}

/// Kinds of namespaces, as /proc calls them.
pub(super) const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Processes of a tree that are looked at.
const MAX_TASKS: usize = 10_000;

/// Descriptors of a tree that are looked at: some 20 microseconds each.
const MAX_FDS: usize = 50_000;

/// Threads of a process that are asked for a tracer.
const MAX_THREADS: usize = 1000;

/// A thread of the kernel.
const PF_KTHREAD: i64 = 0x20_0000;
