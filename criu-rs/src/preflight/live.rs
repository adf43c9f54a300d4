//! A live tree as `/proc` shows it. Nothing is stopped; processes that end meanwhile are left out.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::{fs, io};

use super::proc::{self, Fd, Meta, Mount};
use crate::host::{Namespaces, tree};
use crate::value::Pid;

/// A process tree.
#[derive(Debug)]
pub(super) struct Tree {
    /// The processes, the root first.
    pub(super) tasks: Vec<Task>,
    /// True if there were more processes or descriptors than the limits allow.
    pub(super) is_cut: bool,
    /// The namespaces of this process, which a criu that it starts inherits, by kind.
    pub(super) here: Namespaces,
}

/// A process.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) pid: Pid,
    /// The state letter in `/proc/PID/stat`.
    pub(super) state: char,
    pub(super) session: i32,
    /// The device number of the controlling terminal, or zero without a terminal.
    pub(super) terminal: u64,
    pub(super) is_kernel: bool,
    /// The text of `/proc/PID/status`.
    pub(super) status: String,
    pub(super) threads: usize,
    /// The inodes of the namespaces, by kind.
    pub(super) namespaces: Namespaces,
    /// True if its root directory is not that of its mount namespace. `None` if this cannot be
    /// read.
    has_own_root: Option<bool>,
    /// The open descriptors. `None` if this process may not read them.
    pub(super) fds: Option<Vec<Fd>>,
}

impl Tree {
    pub(super) fn look(root: Pid) -> Self {
        let mut tree = Self { tasks: Vec::new(), is_cut: false, here: Namespaces::of(Pid::this()) };
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

    /// The tasks that are not zombies.
    pub(super) fn alive(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !task.is_zombie())
    }

    /// All open descriptors with their tasks.
    pub(super) fn fds(&self) -> impl Iterator<Item = (&Task, &Fd)> {
        self.alive().flat_map(|task| task.fds.iter().flatten().map(move |fd| (task, fd)))
    }

    /// The tasks that represent the namespaces of a kind, one for each, the root first.
    pub(super) fn one_of_each(&self, kind: &str) -> Vec<&Task> {
        let mut seen = HashSet::new();
        self.alive().filter(|task| seen.insert(task.namespaces.get(kind))).collect()
    }

    /// Returns true if a task shares this kind of namespace with this process.
    pub(super) fn is_here(&self, kind: &str, task: &Task) -> bool {
        self.here.get(kind) == task.namespaces.get(kind)
    }

    /// Returns true if the dump saves a namespace of this kind.
    pub(super) fn saves(&self, kind: &str) -> bool {
        self.root().is_some_and(|root| !root.namespaces.is_empty() && !self.is_here(kind, root))
    }

    /// All mounts in the mount namespaces of the tree, by their ids.
    pub(super) fn mounts(&self) -> BTreeMap<u32, Mount> {
        let tasks = self.one_of_each("mnt");
        let all = tasks.iter().flat_map(|task| {
            // A task with a root directory of its own shows only the mounts below that.
            let shows = if self.is_here("mnt", task) { Pid::this() } else { task.pid };
            Mount::all(shows).unwrap_or_default()
        });
        all.map(|mount| (mount.id, mount)).collect()
    }
}

impl Task {
    fn look(pid: Pid, budget: &mut usize) -> Option<Self> {
        let stat = proc::text(proc::of(pid, "stat")).ok()?;
        // The program's name is in parentheses and may contain any character.
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
            // The file prints the 32 bits of a device number as a signed number.
            terminal: u64::try_from(number(4)? & 0xffff_ffff).ok()?,
            is_kernel: number(6)? & PF_KTHREAD != 0,
            threads: proc::numbers(&status, "Threads").first().copied().unwrap_or(1),
            status,
            namespaces: Namespaces::of(pid),
            has_own_root: fs::read_link(proc::of(pid, "root"))
                .ok()
                .map(|root| root.as_os_str() != "/"),
            fds,
        })
    }

    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// The task's id in its own pid namespace.
    pub(super) fn inner_pid(&self) -> Option<i32> {
        proc::numbers(&self.status, "NSpid").last().copied()
    }

    /// The session's id in the task's own pid namespace. Zero if the leader is outside the
    /// namespace.
    pub(super) fn inner_session(&self) -> Option<i32> {
        proc::numbers(&self.status, "NSsid").last().copied()
    }

    /// The user ids (`Uid`) or group ids (`Gid`): real, effective, saved, file system.
    pub(super) fn ids(&self, key: &str) -> Vec<u32> {
        proc::numbers(&self.status, key)
    }

    /// A set of capabilities as bits, by its key in `status`, such as `CapPrm`.
    pub(super) fn capabilities(&self, key: &str) -> u64 {
        let digits = proc::value(&self.status, key).unwrap_or_default();
        u64::from_str_radix(digits, 16).unwrap_or(0)
    }

    /// The process that traces the task or one of its threads.
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

    /// The device numbers (major, minor) of the controlling terminal.
    pub(super) fn terminal(&self) -> Option<(u64, u64)> {
        let dev = self.terminal;
        (dev != 0).then_some(((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xf_ff00)))
    }

    /// Translates a path of the task's mount namespace into a path for this process. `None` if the
    /// task has another root directory inside its namespace.
    pub(super) fn outside_path(&self, path: &std::path::Path, is_here: bool) -> Option<PathBuf> {
        match (is_here, self.has_own_root?) {
            // In the same mount namespace a link is a path from this process's root.
            (true, _) => Some(path.to_owned()),
            (false, false) => Some(proc::of(self.pid, "root").join(path.strip_prefix("/").ok()?)),
            (false, true) => None,
        }
    }

    /// The target of one of the links `exe`, `cwd` and `root`.
    pub(super) fn linked(&self, name: &str) -> Option<(PathBuf, Meta)> {
        let place = proc::of(self.pid, name);
        Some((fs::read_link(&place).ok()?, Meta::of(&place)?))
    }
}

/// The open descriptors of a process, in ascending order. `None` if this process may not read them.
fn open(pid: Pid, budget: &mut usize) -> Option<Vec<Fd>> {
    let entries = match fs::read_dir(proc::of(pid, "fd")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
        // The process has ended.
        Err(_) => return Some(Vec::new()),
    };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = numbers.take(*budget).collect();
    numbers.sort_unstable();
    *budget = budget.saturating_sub(numbers.len());
    Some(numbers.into_iter().filter_map(|number| Fd::look(pid, number)).collect())
}

/// Most processes of a tree that are checked.
const MAX_TASKS: usize = 10_000;

/// Most descriptors of a tree that are checked. Each takes about 20 microseconds.
const MAX_FDS: usize = 50_000;

/// Most threads of a process that are checked for a tracer.
const MAX_THREADS: usize = 1000;

/// `PF_KTHREAD`: the flag of kernel threads in `/proc/PID/stat`.
const PF_KTHREAD: i64 = 0x20_0000;
