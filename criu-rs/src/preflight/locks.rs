//! Checks of file locks, which `fdinfo` of each descriptor lists.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::finding::{Finding, Severity};
use super::live::{Task, Tree};
use super::look::Look;
use super::need::Need;
use super::outside::each_descriptor;
use super::proc::{self, Fd};
use crate::diagnosis::Cause;
use crate::operation::Restore;
use crate::sys::fd::are_one;
use crate::value::Pid;

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut outside = LockedOutside::of(tree);
    let mut losses = Losses { tree, reasons: HashMap::new(), mapped: None };
    for (task, fd) in tree.fds() {
        for lock in fd.info.lines().filter_map(Lock::parse) {
            // A lock shows at each descriptor of the open file: count it once.
            if !seen.insert((task.pid, lock.line.clone())) {
                continue;
            }
            let is_set = look.opts.file_locks();
            let is_shared = outside.has(&lock.file) || outside.shares(task, fd, &lock);
            let finding = Finding::needs(Cause::FileLocks, vec![Need::FileLocks], is_set);
            let finding = finding.pid(task.pid).fd(fd.number).path(&fd.link);
            let kind = lock.kind.to_lowercase();
            let finding = if is_shared {
                finding.detail(format!("a {kind} lock on a file that is also locked from outside"))
            } else {
                finding.detail(format!("a {kind} lock")).safe()
            };
            if is_shared && is_set {
                found.push(Finding { severity: Severity::Loses, ..finding });
            } else {
                found.push(finding);
            }
            if let Some(why) = losses.of(task, fd, &lock) {
                let finding = Finding::new(Severity::Loses, "a restore loses a file lock");
                let finding = finding.pid(task.pid).fd(fd.number).path(&fd.link).detail(why);
                found.push(finding.hint(ACCEPT));
            }
        }
    }
    found
}

/// The reasons why CRIU does not give locks back. It gives back all locks except some POSIX locks.
struct Losses<'a> {
    tree: &'a Tree,
    /// The reasons found so far, by task, file and descriptor. A file can have many locks.
    reasons: HashMap<(Pid, String, i32), Option<&'static str>>,
    /// The files that the task of the last lock has mapped.
    mapped: Option<(Pid, HashSet<String>)>,
}

impl Losses<'_> {
    fn of(&mut self, task: &Task, fd: &Fd, lock: &Lock) -> Option<&'static str> {
        if lock.kind != "POSIX" {
            return None;
        }
        let key = (task.pid, lock.file.clone(), fd.number);
        if let Some(reason) = self.reasons.get(&key) {
            return *reason;
        }
        // CRIU opens a mapped file once more after it has taken the locks. The kernel drops the
        // locks of a process on a file with the first descriptor of that file that the process
        // closes.
        let reason = if self.maps(task.pid, &lock.file) {
            Some("a POSIX lock on a file that the process has mapped")
        } else {
            let why = "a POSIX lock of a child, through a descriptor that its parent has, too";
            self.is_inherited(task, fd).then_some(why)
        };
        self.reasons.insert(key, reason);
        reason
    }

    /// Returns true if a process has mapped a file, which is given as the kernel names that of a
    /// lock.
    fn maps(&mut self, pid: Pid, file: &str) -> bool {
        let of_last = self.mapped.take().filter(|(of, _)| *of == pid);
        let (_, files) = self.mapped.insert(of_last.unwrap_or_else(|| (pid, mapped(pid))));
        files.contains(file)
    }

    /// Returns true if an earlier task has the open file, too. CRIU saves the locks of an open file
    /// with the first task that has it.
    fn is_inherited(&self, task: &Task, fd: &Fd) -> bool {
        let before = self.tree.alive().take_while(|other| other.pid != task.pid);
        let mut others =
            before.flat_map(|other| other.fds.iter().flatten().map(move |of| (other, of)));
        others.any(|(other, of)| {
            (of.meta.dev, of.meta.inode) == (fd.meta.dev, fd.meta.inode)
                && are_one((other.pid.nix(), of.number), (task.pid.nix(), fd.number)) == Some(true)
        })
    }
}

/// Returns the files that a process has mapped, as the kernel names those of locks.
fn mapped(pid: Pid) -> HashSet<String> {
    let maps = proc::text(proc::of(pid, "maps")).unwrap_or_default();
    let file = |line: &str| {
        let mut words = line.split_whitespace().skip(3);
        Some(format!("{}:{}", words.next()?, words.next()?))
    };
    maps.lines().filter_map(file).collect()
}

/// Weighs the findings of a restore: saved locks that it is not told to take again make it refuse,
/// unless it accepts their loss.
pub(super) fn of_restore(restore: &Restore<'_>, findings: &mut [Finding]) {
    let of_locks = |finding: &&mut Finding| finding.needs.contains(&Need::FileLocks);
    for finding in findings.iter_mut().filter(of_locks) {
        if finding.severity == Severity::Loses && !restore.accepts_lock_loss() {
            finding.severity = Severity::Needs;
        }
    }
}

/// A lock, as a line of `fdinfo` or `/proc/locks` describes it.
struct Lock {
    /// `FLOCK`, `POSIX`, `OFDLCK`, `LEASE` or `DELEG`.
    kind: String,
    /// Device and inode, as the kernel writes them.
    file: String,
    line: String,
}

impl Lock {
    /// Reads `lock:  1: FLOCK  ADVISORY  WRITE 4711 08:01:42 0 EOF`.
    fn parse(line: &str) -> Option<Self> {
        Self::words(line.strip_prefix("lock:")?)
    }

    /// Reads a line of `/proc/locks`, which has no key. `None` for a lock that only waits.
    fn words(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let _number = words.next()?;
        let kind = words.next().filter(|word| *word != "->")?.to_owned();
        let file = words.nth(3)?.to_owned();
        Some(Self { kind, file, line: line.trim().to_owned() })
    }
}

/// The files that processes outside the tree hold locks on.
struct LockedOutside<'a> {
    tree: &'a Tree,
    files: HashSet<String>,
    /// The descriptors of those processes that lead to paths, by path. Read when they are needed.
    open: Option<HashMap<PathBuf, Vec<(Pid, i32)>>>,
}

impl<'a> LockedOutside<'a> {
    fn of(tree: &'a Tree) -> Self {
        let text = proc::text("/proc/locks").unwrap_or_default();
        let outside = |line: &&str| {
            let holder = line.split_whitespace().nth(4).and_then(|word| word.parse().ok());
            // The holder of an open file's lock is -1, or a process that may have ended.
            holder.is_some_and(|pid: i32| {
                pid > 0 && !tree.has(pid) && std::path::Path::new(&format!("/proc/{pid}")).exists()
            })
        };
        let files = text.lines().filter(outside).filter_map(Lock::words).map(|lock| lock.file);
        Self { tree, files: files.collect(), open: None }
    }

    fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    /// Returns true if a process outside has the open file of a lock, and so the lock itself: a
    /// shell with `exec 9> FILE; flock 9`, for example, whose child the tree is.
    fn shares(&mut self, task: &Task, fd: &Fd, lock: &Lock) -> bool {
        if lock.kind == "POSIX" {
            return false;
        }
        let tree = self.tree;
        let open = self.open.get_or_insert_with(|| {
            let mut open: HashMap<PathBuf, Vec<(Pid, i32)>> = HashMap::new();
            each_descriptor(tree, |pid, number, link| {
                if link.is_absolute() && !link.starts_with("/dev") {
                    open.entry(link.to_owned()).or_default().push((pid, number));
                }
            });
            open
        });
        open.get(&fd.link).into_iter().flatten().any(|(pid, number)| {
            are_one((pid.nix(), *number), (task.pid.nix(), fd.number)) == Some(true)
        })
    }
}

/// Advice for a lock that CRIU does not give back.
const ACCEPT: &str = "\
have the program release the lock first; otherwise the restore has to accept the loss of the lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_and_a_waiting_one_is_skipped() {
        let lock = Lock::parse("lock:\t1: FLOCK  ADVISORY  WRITE 4711 08:01:42 0 EOF").unwrap();
        assert_eq!((lock.kind.as_str(), lock.file.as_str()), ("FLOCK", "08:01:42"));
        assert!(Lock::words("1: -> POSIX ADVISORY WRITE 7 08:01:42 0 EOF").is_none());
        assert!(Lock::parse("lock:\t1:").is_none());
        assert!(Lock::parse("pos:\t0").is_none());
    }
}
