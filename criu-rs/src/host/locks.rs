//! File locks of live trees and in images.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;

use criu_images::ImageSet;
use criu_images::proto::FileLockEntry;
use procfs::process::Process;

use super::tree;
use crate::value::Pid;

/// The file locks that the tasks of a tree hold, live or saved.
///
/// ```no_run
/// use criu_images::ImageSet;
/// use criu_rs::{Criu, LockState, Restore};
///
/// let restored = Restore::new("/var/lib/ckpt").accept_lock_loss(true).run(&Criu::new())?;
/// let saved = LockState::of_images(&ImageSet::open("/var/lib/ckpt")?)?;
/// for lock in saved.lost(&LockState::of_tree(restored.pid)) {
///     println!("lost: {lock}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockState {
    locks: Vec<FileLock>,
}

/// A lock on a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FileLock {
    /// The id of the task, in the pid namespace of the tree's root.
    pub task: i32,
    /// The descriptor through which the task holds the lock.
    pub fd: i32,
    /// The kind.
    pub kind: LockKind,
    /// True for a lock that excludes all others.
    pub is_write: bool,
    /// The first byte that is locked.
    pub start: u64,
    /// The last byte that is locked. `None` up to the end of the file.
    pub end: Option<u64>,
}

/// A kind of file locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockKind {
    /// A lock of flock(2).
    Flock,
    /// A lock of `fcntl(F_SETLK)`, which belongs to a process.
    Posix,
    /// A lock of `fcntl(F_OFD_SETLK)`, which belongs to an open file.
    Ofd,
    /// A lease, of `fcntl(F_SETLEASE)`.
    Lease,
}

impl LockState {
    /// Reads the locks of the tree at `root`, without touching it. Tasks that end meanwhile, and
    /// tasks whose files this process may not see, count as tasks without locks.
    pub fn of_tree(root: Pid) -> Self {
        let tasks = Self::tasks(root);
        let locks = tasks.into_iter().flat_map(|(id, pid)| {
            let numbers = descriptors(pid);
            numbers.into_iter().flat_map(move |fd| Self::of_descriptor(pid, id, fd))
        });
        Self { locks: locks.collect() }
    }

    /// Reads the locks in images.
    ///
    /// # Errors
    /// The errors of `filelocks.img` and of the inventory.
    pub fn of_images(set: &ImageSet) -> Result<Self, criu_images::Error> {
        let locks = set.checkpoint()?.locks()?;
        Ok(Self { locks: locks.iter().filter_map(FileLock::saved).collect() })
    }

    /// The locks, in the order of tasks and descriptors.
    pub fn locks(&self) -> &[FileLock] {
        &self.locks
    }

    /// The locks that `found` lacks. Leases are compared by descriptor alone: one that is being
    /// broken has no fixed type.
    pub fn lost(&self, found: &Self) -> Vec<FileLock> {
        let has = |lock: &FileLock| found.locks.iter().any(|other| lock.is(other));
        self.locks.iter().filter(|lock| !has(lock)).cloned().collect()
    }

    /// Reads the locks of a live tree at the descriptors of these locks alone.
    pub(crate) fn at_descriptors(&self, root: Pid) -> Self {
        let tasks = Self::tasks(root);
        let mut places: Vec<(i32, i32)> =
            self.locks.iter().map(|lock| (lock.task, lock.fd)).collect();
        places.sort_unstable();
        places.dedup();
        let locks = places.into_iter().filter_map(|(id, fd)| Some((id, *tasks.get(&id)?, fd)));
        let locks = locks.flat_map(|(id, pid, fd)| Self::of_descriptor(pid, id, fd));
        Self { locks: locks.collect() }
    }

    /// The tasks of a tree, by their ids in the pid namespace of its root.
    fn tasks(root: Pid) -> HashMap<i32, Pid> {
        let ids = |pid: Pid| Process::new(pid.as_raw()).ok()?.status().ok()?.nspid;
        let depth = ids(root).map_or(1, |ids| ids.len());
        let all = tree::descendants(root).into_iter();
        all.filter_map(|pid| Some((*ids(pid)?.get(depth.checked_sub(1)?)?, pid))).collect()
    }

    fn of_descriptor(pid: Pid, task: i32, fd: i32) -> Vec<FileLock> {
        let mut text = String::new();
        let file = File::open(format!("/proc/{pid}/fdinfo/{fd}"));
        let read = file.and_then(|file| file.take(MAX_INFO).read_to_string(&mut text));
        if read.is_err() {
            return Vec::new();
        }
        text.lines().filter_map(|line| FileLock::live(line, task, fd)).collect()
    }
}

impl FileLock {
    /// Reads `lock:  1: FLOCK  ADVISORY  WRITE 4711 08:01:42 0 EOF`, as `fdinfo` writes it.
    fn live(line: &str, task: i32, fd: i32) -> Option<Self> {
        let mut words = line.strip_prefix("lock:")?.split_whitespace().skip(1);
        let kind = match words.next()? {
            "FLOCK" => LockKind::Flock,
            "POSIX" => LockKind::Posix,
            "OFDLCK" => LockKind::Ofd,
            "LEASE" => LockKind::Lease,
            _ => return None,
        };
        let is_write = words.nth(1)? == "WRITE";
        let start = words.nth(2)?.parse().ok()?;
        let end = words.next().filter(|end| *end != "EOF");
        Some(Self { task, fd, kind, is_write, start, end: end.and_then(|end| end.parse().ok()) })
    }

    /// Reads an entry of `filelocks.img`.
    fn saved(entry: &FileLockEntry) -> Option<Self> {
        let kind = match entry.flag {
            POSIX => LockKind::Posix,
            FLOCK => LockKind::Flock,
            OFD => LockKind::Ofd,
            LEASE => LockKind::Lease,
            _ => return None,
        };
        let (start, length) = (u64::try_from(entry.start).ok()?, u64::try_from(entry.len).ok()?);
        // A length of zero reaches to the end of the file.
        let end = length.checked_sub(1).map(|rest| start.saturating_add(rest));
        let is_write = entry.r#type == u32::try_from(nix::libc::F_WRLCK).ok()?;
        Some(Self { task: entry.pid, fd: entry.fd, kind, is_write, start, end })
    }

    /// Returns true if `other` is this lock.
    fn is(&self, other: &Self) -> bool {
        let place = |lock: &Self| (lock.task, lock.fd, lock.kind);
        let rest = |lock: &Self| (lock.is_write, lock.start, lock.end);
        place(self) == place(other) && (self.kind == LockKind::Lease || rest(self) == rest(other))
    }
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flock => "flock",
            Self::Posix => "POSIX",
            Self::Ofd => "OFD",
            Self::Lease => "lease",
        })
    }
}

impl fmt::Display for FileLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, fd, kind, start, .. } = self;
        write!(f, "task {task}, descriptor {fd}: ")?;
        let access = if self.is_write { "write" } else { "read" };
        match (kind, self.end) {
            (LockKind::Lease, _) => write!(f, "{access} lease"),
            (LockKind::Flock, _) => write!(f, "{access} lock of flock"),
            (_, None) => write!(f, "{kind} {access} lock from byte {start} on"),
            (_, Some(end)) => write!(f, "{kind} {access} lock of bytes {start} to {end}"),
        }
    }
}

/// File locks that a restore would lose or has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockError {
    /// The locks, at least one.
    pub locks: Vec<FileLock>,
    /// The reason.
    pub problem: LockProblem,
}

/// The reason why a file lock is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockProblem {
    /// The images hold locks, and the restore was not told to take them again. Nothing was begun.
    NotAsked,
    /// The restored tasks lack locks. No task is left.
    NotRestored,
}

impl LockError {
    /// The problem in one line, without advice.
    pub fn what(&self) -> String {
        let first = self.locks.first().map(ToString::to_string).unwrap_or_default();
        let more = match self.locks.len() {
            0 | 1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        match self.problem {
            LockProblem::NotAsked => {
                format!("the images hold a file lock that the restore would lose: {first}{more}")
            }
            LockProblem::NotRestored => {
                format!("CRIU has not given a file lock back: {first}{more}")
            }
        }
    }

    /// Advice, in terms of this crate.
    pub fn hint(&self) -> &'static str {
        match self.problem {
            LockProblem::NotAsked => {
                "set .file_locks(true), or .accept_lock_loss(true) to restore without it"
            }
            LockProblem::NotRestored => {
                "CRIU loses a POSIX lock on a file that its process has also mapped, and one that \
                 a child holds through a descriptor of its parent; set .accept_lock_loss(true) to \
                 restore without it"
            }
        }
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what(), self.hint())
    }
}

impl std::error::Error for LockError {}

/// The numbers of a process's open descriptors.
fn descriptors(pid: Pid) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let mut numbers: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Most bytes read of the information about a descriptor.
const MAX_INFO: u64 = 1 << 20;

/// CRIU's numbers for the kinds of locks.
const POSIX: u32 = 1;
const FLOCK: u32 = 2;
const OFD: u32 = 4;
const LEASE: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_lock_is_that_of_the_images() {
        let line = "lock:\t1: POSIX  ADVISORY  WRITE 4711 08:01:42 3 9";
        let live = FileLock::live(line, 7, 3).unwrap();
        let mut entry = FileLockEntry { flag: POSIX, r#type: 1, pid: 7, fd: 3, start: 3, len: 7 };
        let saved = FileLock::saved(&entry).unwrap();
        assert_eq!(saved, live);
        assert_eq!(live.to_string(), "task 7, descriptor 3: POSIX write lock of bytes 3 to 9");
        entry.len = 0;
        assert!(!FileLock::saved(&entry).unwrap().is(&live));
        let whole = "lock:\t1: POSIX  ADVISORY  WRITE 4711 08:01:42 3 EOF";
        assert_eq!(FileLock::saved(&entry), FileLock::live(whole, 7, 3));
        for (start, len, flag) in [(-1, 0, POSIX), (0, -1, POSIX), (0, 0, 3), (0, 0, 0)] {
            assert_eq!(FileLock::saved(&FileLockEntry { start, len, flag, ..entry }), None);
        }
        for line in ["lock:\t1: -> FLOCK ADVISORY WRITE 7 1:2:3 0 EOF", "lock:\t1:", "pos:\t0", ""]
        {
            assert_eq!(FileLock::live(line, 7, 3), None, "{line}");
        }
    }

    #[test]
    fn a_lock_is_lost_unless_it_is_found_at_its_descriptor() {
        let lock = |fd, kind| FileLock { task: 1, fd, kind, is_write: true, start: 0, end: None };
        let state = |locks: &[FileLock]| LockState { locks: locks.to_vec() };
        let (flock, posix) = (lock(3, LockKind::Flock), lock(3, LockKind::Posix));
        let wanted = state(&[flock.clone(), posix.clone(), lock(5, LockKind::Lease)]);
        assert_eq!(wanted.lost(&wanted), []);
        let breaking = FileLock { is_write: false, ..lock(5, LockKind::Lease) };
        let read = FileLock { is_write: false, ..flock.clone() };
        let found = state(&[read, FileLock { fd: 4, ..posix.clone() }, breaking]);
        assert_eq!(wanted.lost(&found), [flock, posix]);
    }

    #[test]
    fn a_lock_of_this_process_is_seen() {
        let path = std::env::temp_dir().join(format!("criu-rs-lock-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockShared).unwrap();
        let state = LockState::of_tree(Pid::this());
        let own = state.locks().iter().find(|lock| lock.kind == LockKind::Flock).unwrap();
        assert!(!own.is_write && own.task == Pid::this().as_raw() && own.end.is_none());
        assert_eq!(state.lost(&state.at_descriptors(Pid::this())), []);
        drop(lock);
        assert_eq!(state.lost(&LockState::of_tree(Pid::this())).len(), 1);
        fs::remove_file(path).unwrap();
    }
}
