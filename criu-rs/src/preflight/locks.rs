//! Checks of file locks, which `fdinfo` of each descriptor lists.

use std::collections::HashSet;

use super::finding::{Finding, Severity};
use super::live::Tree;
use super::look::Look;
use super::need::Need;
use super::proc;
use crate::diagnosis::Cause;

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let outside = LockedOutside::of(tree);
    for (task, fd) in tree.fds() {
        for lock in fd.info.lines().filter_map(Lock::parse) {
            // A lock shows at each descriptor of the open file: count it once.
            if !seen.insert((task.pid, lock.line.clone())) {
                continue;
            }
            let is_set = look.opts.file_locks();
            let is_shared = outside.has(&lock.file);
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
        }
    }
    found
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
struct LockedOutside(HashSet<String>);

impl LockedOutside {
    fn of(tree: &Tree) -> Self {
        let text = proc::text("/proc/locks").unwrap_or_default();
        let outside = |line: &&str| {
            let holder = line.split_whitespace().nth(4).and_then(|word| word.parse().ok());
            // The holder of an open file's lock is -1, or a process that may have ended.
            holder.is_some_and(|pid: i32| {
                pid > 0 && !tree.has(pid) && std::path::Path::new(&format!("/proc/{pid}")).exists()
            })
        };
        let files = text.lines().filter(outside).filter_map(Lock::words).map(|lock| lock.file);
        Self(files.collect())
    }

    fn has(&self, file: &str) -> bool {
        self.0.contains(file)
    }
}

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
