//! A comparison of the seccomp filters in live trees and in images.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, fs, io, thread};

use criu_images::bpf::Program;
use criu_images::{Architecture, ImageSet, Seccomp};

use super::tree;
use crate::sys::ptrace::Held;
use crate::value::{Pid, SystemError};

/// The seccomp(2) restrictions of each thread in a tree, live or saved.
///
/// ```no_run
/// use criu_images::ImageSet;
/// use criu_rs::{Criu, Restore, SeccompState};
///
/// let restored = Restore::new("/var/lib/ckpt").run(&Criu::new())?;
/// let saved = SeccompState::of_images(&ImageSet::open("/var/lib/ckpt")?)?;
/// for difference in saved.differences(&SeccompState::of_tree(restored.pid)?) {
///     println!("{difference}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In the hook `pre_resume`, before tasks run, CRIU traces them and nobody else can. Only the modes
/// and numbers of filters that [`glance`](Self::glance) sees can be compared then. To drop or
/// replace filters on restore, edit the images with [`criu_images::edit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SeccompState {
    threads: Vec<ThreadSeccomp>,
}

/// The seccomp(2) restriction of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ThreadSeccomp {
    /// The task's id, in the pid namespace of the tree's root.
    pub task: u32,
    /// The thread's id, in the same namespace.
    pub tid: u32,
    /// The restriction.
    pub mode: SeccompMode,
}

/// A thread's restriction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum SeccompMode {
    /// No restriction.
    Off,
    /// Only read(2), write(2), _exit(2) and sigreturn(2) are allowed.
    Strict,
    /// Filters, in the order in which they were installed.
    Filters(Vec<SeccompFilter>),
    /// Filters that were not read. Their number is not known before Linux 5.9.
    Unread(Option<u32>),
}

/// A seccomp filter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SeccompFilter {
    /// The instructions. Threads with equal programs share them. They serialize as the
    /// numbers of the kernel's `struct sock_filter`: code, jt, jf, k.
    #[cfg_attr(feature = "serde", serde(serialize_with = "program"))]
    pub program: Arc<Program>,
    /// `SECCOMP_FILTER_FLAG_LOG`: true if the filter logs what it does not allow. `None` before
    /// Linux 4.16, which does not report it.
    pub logs: Option<bool>,
}

/// A thread whose restriction is not the wanted one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("thread {tid} of task {task}: {what}")]
#[non_exhaustive]
pub struct SeccompDifference {
    /// The task's id, in the pid namespace of the tree's root.
    pub task: u32,
    /// The thread's id, in the same namespace.
    pub tid: u32,
    /// The difference.
    pub what: SeccompChange,
}

/// A difference between the wanted and the found state of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeccompChange {
    /// The thread is missing.
    Gone,
    /// The thread is new.
    New,
    /// The thread has another mode, or another number of filters.
    Mode {
        /// The wanted mode.
        wanted: SeccompMode,
        /// The mode that was found.
        found: SeccompMode,
    },
    /// A filter differs.
    Filter {
        /// The number of the filter in the order of installation, from 0.
        index: usize,
        /// The wanted filter.
        wanted: SeccompFilter,
        /// The filter that was found.
        found: SeccompFilter,
    },
}

#[cfg(feature = "serde")]
fn program<S: serde::Serializer>(program: &Program, to: S) -> Result<S::Ok, S::Error> {
    let code = program.instructions().iter().map(|one| (one.code, one.jt, one.jf, one.k));
    to.collect_seq(code)
}

impl SeccompState {
    /// Reads the state of the tree at `root`, including the filters.
    ///
    /// Each thread with filters is stopped for a moment, as a debugger does, and then goes on as
    /// before. A stopped thread stays stopped. The tree should neither grow nor shrink meanwhile.
    ///
    /// # Errors
    /// Fails without `CAP_SYS_ADMIN`, or if the caller itself has filters. Fails if a thread has a
    /// tracer or is in a frozen cgroup (version 1).
    pub fn of_tree(root: Pid) -> Result<Self, SystemError> {
        // A separate thread: the kernel ends its traces with it, whatever happens.
        let read = || {
            let mut known = HashMap::new();
            Self::look(root, &mut |pid, tid, _| filters(pid, tid, &mut known))
        };
        thread::scope(|scope| scope.spawn(read).join())
            .map_err(|_| SystemError::new("read seccomp filters", io::Error::other("a panic")))?
    }

    /// Reads the state of the tree at `root` without touching it. Filters are counted but not read.
    ///
    /// # Errors
    /// Fails if there is no process `root`.
    pub fn glance(root: Pid) -> Result<Self, SystemError> {
        Self::look(root, &mut |_, _, status| Ok(Some(SeccompMode::Unread(status.filters))))
    }

    /// Reads the state of every thread, using `read` for threads with filters.
    fn look(root: Pid, read: &mut ReadMode<'_>) -> Result<Self, SystemError> {
        let gone = |source| SystemError::new(format!("look at process {root}"), source);
        let depth = Status::read(root, root).map_err(gone)?.ids.len();
        let mut threads = Vec::new();
        for pid in tree::descendants(root) {
            let Some(task) = Status::of(pid, pid) else { continue };
            for tid in tree::threads(pid) {
                let Some(status) = Status::of(pid, tid) else { continue };
                let id = |status: &Status| status.ids.get(depth.saturating_sub(1)).copied();
                let (Some(task), Some(id)) = (id(&task), id(&status)) else { continue };
                let mode = match status.mode {
                    0 => SeccompMode::Off,
                    1 => SeccompMode::Strict,
                    _ => match read(pid, tid, &status)? {
                        Some(mode) => mode,
                        None => continue,
                    },
                };
                threads.push(ThreadSeccomp { task, tid: id, mode });
            }
        }
        Ok(Self::sorted(threads))
    }

    /// Reads the saved state from images.
    ///
    /// # Errors
    /// Fails if the images cannot be read.
    pub fn of_images(set: &ImageSet) -> Result<Self, criu_images::Error> {
        let mut known = HashMap::new();
        let mut threads = Vec::new();
        let checkpoint = set.checkpoint()?;
        for task in checkpoint.tasks().filter(|task| task.is_alive()) {
            for thread in task.threads()? {
                let mode = match thread.seccomp()? {
                    Seccomp::Off => SeccompMode::Off,
                    Seccomp::Strict => SeccompMode::Strict,
                    Seccomp::Filters(filters) => {
                        let mut read = Vec::new();
                        for filter in filters {
                            let program = shared(&mut known, filter.program()?);
                            let logs = Some(filter.flags().any(|name| name == "LOG"));
                            read.push(SeccompFilter { program, logs });
                        }
                        SeccompMode::Filters(read)
                    }
                    // A mode of a later version of the images.
                    _ => SeccompMode::Unread(None),
                };
                threads.push(ThreadSeccomp { task: task.pid(), tid: thread.tid(), mode });
            }
        }
        Ok(Self::sorted(threads))
    }

    fn sorted(mut threads: Vec<ThreadSeccomp>) -> Self {
        threads.sort_by_key(|thread| (thread.task, thread.tid));
        Self { threads }
    }

    /// The threads, in the order of task and thread ids.
    pub fn threads(&self) -> &[ThreadSeccomp] {
        &self.threads
    }

    /// Returns true if any thread is restricted.
    pub fn is_restricted(&self) -> bool {
        self.threads.iter().any(|thread| thread.mode != SeccompMode::Off)
    }

    /// The differences of `found` from this, the wanted state. Filters that were not read are
    /// compared by their number.
    pub fn differences(&self, found: &Self) -> Vec<SeccompDifference> {
        let mut differences = Vec::new();
        let mut note = |thread: &ThreadSeccomp, what| {
            differences.push(SeccompDifference { task: thread.task, tid: thread.tid, what });
        };
        let (mut wanted, mut found) =
            (self.threads.iter().peekable(), found.threads.iter().peekable());
        let key = |thread: &&ThreadSeccomp| (thread.task, thread.tid);
        loop {
            match (wanted.peek().map(key), found.peek().map(key)) {
                (None, None) => return differences,
                (Some(w), Some(f)) if w == f => {
                    if let (Some(w), Some(f)) = (wanted.next(), found.next()) {
                        w.mode.compare(&f.mode).into_iter().for_each(|what| note(w, what));
                    }
                }
                (Some(w), f) if f.is_none_or(|f| w < f) => {
                    wanted.next().into_iter().for_each(|w| note(w, SeccompChange::Gone));
                }
                _ => found.next().into_iter().for_each(|f| note(f, SeccompChange::New)),
            }
        }
    }
}

impl SeccompMode {
    /// The number of filters, if it is known.
    pub fn filters(&self) -> Option<usize> {
        match self {
            Self::Off | Self::Strict => Some(0),
            Self::Filters(filters) => Some(filters.len()),
            Self::Unread(count) => count.and_then(|count| usize::try_from(count).ok()),
        }
    }

    fn has_filters(&self) -> bool {
        matches!(self, Self::Filters(_) | Self::Unread(_))
    }

    fn compare(&self, found: &Self) -> Vec<SeccompChange> {
        let other = || SeccompChange::Mode { wanted: self.clone(), found: found.clone() };
        match (self, found) {
            (Self::Filters(here), Self::Filters(there)) if here.len() == there.len() => {
                let pairs = here.iter().zip(there).enumerate();
                let different = pairs.filter(|(_, (wanted, found))| !wanted.is(found));
                different
                    .map(|(index, (wanted, found))| SeccompChange::Filter {
                        index,
                        wanted: wanted.clone(),
                        found: found.clone(),
                    })
                    .collect()
            }
            (Self::Filters(_), Self::Filters(_)) => vec![other()],
            _ if self.has_filters() && found.has_filters() => {
                match (self.filters(), found.filters()) {
                    (Some(here), Some(there)) if here != there => vec![other()],
                    _ => Vec::new(),
                }
            }
            _ if self == found => Vec::new(),
            _ => vec![other()],
        }
    }
}

impl SeccompFilter {
    /// Returns true if the filters do the same. The architecture that a program was read for does
    /// not matter.
    fn is(&self, other: &Self) -> bool {
        let logs = match (self.logs, other.logs) {
            (Some(here), Some(there)) => here == there,
            _ => true,
        };
        logs && self.program.instructions() == other.program.instructions()
    }
}

impl fmt::Display for SeccompMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.filters()) {
            (Self::Off, _) => f.write_str("not restricted"),
            (Self::Strict, _) => f.write_str("in strict mode"),
            (_, Some(1)) => f.write_str("restricted by 1 filter"),
            (_, Some(count)) => write!(f, "restricted by {count} filters"),
            (_, None) => f.write_str("restricted by filters"),
        }
    }
}

impl fmt::Display for SeccompFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.program.instructions().len();
        let logs = if self.logs == Some(true) { " and logs" } else { "" };
        write!(f, "{length} instructions: {}{logs}", self.program.summary())
    }
}

impl fmt::Display for SeccompChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("is missing"),
            Self::New => f.write_str("is new"),
            Self::Mode { wanted, found } => write!(f, "is {found}; wanted: {wanted}"),
            Self::Filter { index, wanted, found } => {
                write!(f, "filter {index} has {found}; wanted: {wanted}")
            }
        }
    }
}

/// Reads the filters of a thread. `None` if it has ended.
fn filters(pid: Pid, tid: Pid, known: &mut Programs) -> Result<Option<SeccompMode>, SystemError> {
    let end = Instant::now() + MAX_EXIT;
    loop {
        let error = match read_filters(tid, known) {
            Ok(filters) => return Ok(Some(SeccompMode::Filters(filters))),
            Err(error) => error,
        };
        // A thread that is about to end cannot be traced, and its state does not show that yet.
        let is_ending =
            matches!(error.raw_os_error(), Some(libc::EPERM | libc::ESRCH | libc::ECHILD));
        match Status::of(pid, tid) {
            None => return Ok(None),
            Some(_) if is_ending && Instant::now() < end => thread::sleep(Duration::from_millis(1)),
            Some(_) => return Err(refusal(tid, &error)),
        }
    }
}

fn refusal(tid: Pid, error: &io::Error) -> SystemError {
    let why = match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::TimedOut, _) => "it does not stop; its cgroup may be frozen".into(),
        (_, Some(libc::EPERM)) => {
            format!("{error}: this needs CAP_SYS_ADMIN, and nobody else may trace it")
        }
        (_, Some(libc::EACCES)) => {
            format!("{error}: this needs CAP_SYS_ADMIN, and a caller without filters")
        }
        _ => error.to_string(),
    };
    let what = format!("read the seccomp filters of thread {tid}");
    SystemError::new(what, io::Error::new(error.kind(), why))
}

fn read_filters(tid: Pid, known: &mut Programs) -> io::Result<Vec<SeccompFilter>> {
    let mut held = Held::seize(tid.nix())?;
    held.stop(Instant::now() + MAX_STOP)?;
    let mut filters = Vec::new();
    for index in 0..MAX_FILTERS {
        let Some(code) = held.seccomp_filter(index)? else { return Ok(filters) };
        let program = Program::parse(&code, ARCHITECTURE).map_err(io::Error::other)?;
        let logs = held.seccomp_flags(index).map(|flags| flags & FLAG_LOG != 0);
        filters.push(SeccompFilter { program: shared(known, program), logs });
    }
    Err(io::Error::other(format!("it has more than {MAX_FILTERS} filters")))
}

/// A function that reads the mode of a thread with filters. `None` if the thread has ended.
type ReadMode<'r> = dyn FnMut(Pid, Pid, &Status) -> Result<Option<SeccompMode>, SystemError> + 'r;

/// Programs by their bytes, so that threads with equal programs share one copy.
type Programs = HashMap<Vec<u8>, Arc<Program>>;

fn shared(known: &mut Programs, program: Program) -> Arc<Program> {
    known.entry(program.to_bytes()).or_insert_with(|| Arc::new(program)).clone()
}

/// The content of `/proc/PID/task/TID/status`.
struct Status {
    /// The thread's ids in its pid namespaces, from this process's namespace inwards.
    ids: Vec<u32>,
    mode: u32,
    filters: Option<u32>,
    has_ended: bool,
}

impl Status {
    /// Reads the status of a thread. `None` if it has ended.
    fn of(pid: Pid, tid: Pid) -> Option<Self> {
        Self::read(pid, tid).ok().filter(|status| !status.has_ended)
    }

    fn read(pid: Pid, tid: Pid) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{pid}/task/{tid}/status"))?;
        let text = String::from_utf8_lossy(&text);
        let value = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let number = |name| value(name).and_then(|text: &str| text.trim().parse().ok());
        let ids = value("NSpid:").unwrap_or_default();
        Ok(Self {
            ids: ids.split_whitespace().filter_map(|id| id.parse().ok()).collect(),
            mode: number("Seccomp:").unwrap_or_default(),
            filters: number("Seccomp_filters:"),
            has_ended: value("State:").is_some_and(|state| state.trim().starts_with(['Z', 'X'])),
        })
    }
}

/// Longest wait for a thread to stop. A running thread stops at once; a thread that waits for a
/// disk may take a while.
const MAX_STOP: Duration = Duration::from_secs(2);

/// Longest wait until the state of an ending thread shows that it ends.
const MAX_EXIT: Duration = Duration::from_millis(50);

/// The kernel's own limit: 32768 instructions in all, and a filter counts as at least five.
const MAX_FILTERS: u64 = 32_768 / 5 + 1;

/// `SECCOMP_FILTER_FLAG_LOG`.
const FLAG_LOG: u64 = 2;

/// The architecture of this machine, for which its filters are read.
const ARCHITECTURE: Architecture = if cfg!(target_arch = "aarch64") {
    Architecture::Aarch64
} else if cfg!(target_arch = "s390x") {
    Architecture::S390x
} else {
    Architecture::X86_64
};

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(value: u32) -> SeccompFilter {
        let [a, b, c, d] = value.to_le_bytes();
        let program = Program::parse(&[6, 0, 0, 0, a, b, c, d], Architecture::X86_64).unwrap();
        SeccompFilter { program: Arc::new(program), logs: Some(false) }
    }

    fn state(threads: &[(u32, u32, SeccompMode)]) -> SeccompState {
        let thread = |(task, tid, mode): &(u32, u32, SeccompMode)| ThreadSeccomp {
            task: *task,
            tid: *tid,
            mode: mode.clone(),
        };
        SeccompState::sorted(threads.iter().map(thread).collect())
    }

    #[test]
    fn each_difference_is_named() {
        let (allow, kill) = (filter(0x7fff_0000), filter(0x8000_0000));
        let wanted = state(&[
            (1, 1, SeccompMode::Filters(vec![allow.clone(), kill.clone()])),
            (1, 2, SeccompMode::Filters(vec![allow.clone()])),
            (1, 3, SeccompMode::Off),
            (5, 5, SeccompMode::Strict),
        ]);
        assert_eq!(wanted.differences(&wanted), []);
        let found = state(&[
            (1, 1, SeccompMode::Filters(vec![allow.clone(), allow.clone()])),
            (1, 2, SeccompMode::Off),
            (1, 4, SeccompMode::Off),
            (5, 5, SeccompMode::Strict),
        ]);
        let said: Vec<String> =
            wanted.differences(&found).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "thread 1 of task 1: filter 1 has 1 instructions: allows; wanted: 1 instructions: \
                 kills the process",
                "thread 2 of task 1: is not restricted; wanted: restricted by 1 filter",
                "thread 3 of task 1: is missing",
                "thread 4 of task 1: is new",
            ]
        );
    }

    #[test]
    fn filters_that_were_not_read_are_counted() {
        let filters = vec![filter(0), filter(1)];
        let wanted = state(&[(1, 1, SeccompMode::Filters(filters))]);
        let glance = |count| state(&[(1, 1, SeccompMode::Unread(count))]);
        assert_eq!(wanted.differences(&glance(Some(2))), []);
        assert_eq!(wanted.differences(&glance(None)), []);
        let said = wanted.differences(&glance(Some(1)))[0].to_string();
        assert_eq!(
            said,
            "thread 1 of task 1: is restricted by 1 filter; wanted: restricted by 2 filters"
        );
        assert_eq!(wanted.differences(&state(&[(1, 1, SeccompMode::Off)])).len(), 1);
    }

    #[test]
    fn this_process_is_not_restricted() {
        let glance = SeccompState::glance(Pid::this()).unwrap();
        assert!(!glance.is_restricted());
        assert!(glance.threads().iter().any(|thread| thread.task == std::process::id()));
        assert!(!SeccompState::of_tree(Pid::this()).unwrap().is_restricted());
    }
}
