//! The tasks that a restore leaves behind if its criu was killed.
//!
//! A criu that fails ends the tasks that it has created. A criu that is killed cannot: its tasks
//! are adopted by other processes, and tasks that wait for criu wait for ever.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use criu_images::proto::PstreeEntry;
use criu_images::{Image, ImageSet, Task, kind};
use procfs::process::Process;

use crate::host::{next_id, tree};
use crate::value::{Pid, read_file};

/// The marks of the tasks of a restore: their ids and the programs they execute.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// The ids of the tasks in the images, the root first.
    pids: Vec<Pid>,
    /// The ids of the other threads.
    threads: Vec<Pid>,
    images: Option<OwnedFd>,
    criu: Option<PathBuf>,
}

impl Strays {
    /// Reads the ids from the images. Images that cannot be read give no ids, since CRIU refuses
    /// them.
    pub(crate) fn of(images: Option<&OwnedFd>, criu: Option<PathBuf>) -> Self {
        let (pids, threads) = images.map(image_pids).unwrap_or_default();
        Self {
            pids,
            threads,
            images: images.and_then(|images| images.try_clone().ok()),
            criu: criu.and_then(|program| program.canonicalize().ok()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// The root's id in the images.
    pub(crate) fn root(&self) -> Option<Pid> {
        self.pids.first().copied()
    }

    /// Keeps the ids of the tasks free of the processes that are started next. A tree with a pid
    /// namespace of its own gets its ids there.
    pub(crate) fn keep_ids_free(&self) {
        if self.root().is_some_and(|root| root.as_raw() != 1) {
            next_id::pass_over(&[&self.pids[..], &self.threads].concat());
        }
    }

    /// Ends the remains of a restore whose criu was started at `since` and has been killed: the
    /// tree at `root`, if CRIU has named it, and tasks by their ids. Then waits until all are gone.
    ///
    /// An id alone is not enough, since another process may have it by now. The process must have
    /// been started at `since` or later, in this pid namespace, and must execute criu or a program
    /// of the images.
    pub(crate) fn end(&self, since: u64, root: Option<Pid>) {
        let is_new = |pid: &Pid| tree::started_at(*pid).is_some_and(|start| start >= since);
        let depth = depth(Pid::this());
        let mut programs: Option<Vec<PathBuf>> = None;
        // A task may fork just before it is killed, and the new process is then orphaned.
        for _ in 0..MAX_ROUNDS {
            let suspects: Vec<Pid> = self.pids.iter().copied().filter(is_new).collect();
            let mut found: Vec<Pid> = root.into_iter().filter(is_new).collect();
            if !suspects.is_empty() {
                let programs = programs.get_or_insert_with(|| self.programs());
                let is_stray = |pid: &Pid| {
                    // A process that has ended has no program.
                    let program = Process::new(pid.as_raw()).and_then(|process| process.exe());
                    program.is_ok_and(|program| programs.contains(&program))
                        && self::depth(*pid) == depth
                };
                found.extend(suspects.into_iter().filter(is_stray));
            }
            if found.is_empty() {
                break;
            }
            let killed = tree::kill_all(&found);
            tree::bury(&killed, since);
        }
        self.bury(since);
    }

    /// Ends processes of criu that a task started, such as helpers with threads, and that outlived
    /// the task: they are in the session of a task, execute criu, and were started at `since` or
    /// later. CRIU ends its tasks after a failure, but a task that crashes leaves its helpers.
    pub(crate) fn end_helpers(&self, since: u64) {
        let Some(criu) = &self.criu else { return };
        let depth = depth(Pid::this());
        let helper = |process: Process| {
            let pid = Pid::new(process.pid)?;
            let stat = process.stat().ok()?;
            let is_in = self.pids.iter().any(|pid| pid.as_raw() == stat.session);
            let is_criu = || process.exe().is_ok_and(|exe| exe == *criu);
            (is_in && stat.starttime >= since && is_criu() && self::depth(pid) == depth)
                .then_some(pid)
        };
        let Ok(all) = procfs::process::all_processes() else { return };
        let found: Vec<Pid> = all.filter_map(|process| helper(process.ok()?)).collect();
        if !found.is_empty() {
            tree::bury(&tree::kill_all(&found), since);
        }
    }

    /// Waits until the tasks that were started at `since` or later are gone, which CRIU has ended.
    pub(crate) fn bury(&self, since: u64) {
        tree::bury(&self.pids, since);
    }

    /// The programs that strays execute: criu, and those of the tasks in the images.
    fn programs(&self) -> Vec<PathBuf> {
        self.criu.iter().cloned().chain(self.of_images().unwrap_or_default()).collect()
    }

    fn of_images(&self) -> Option<Vec<PathBuf>> {
        let images = self.images.as_ref()?.as_raw_fd();
        let set = ImageSet::open(format!("/proc/self/fd/{images}")).ok()?;
        let program = |task: Task<'_>| {
            let path = task.exe().ok()??.path()?;
            Some(PathBuf::from(OsStr::from_bytes(path)))
        };
        Some(set.checkpoint().ok()?.tasks().filter_map(program).collect())
    }
}

/// The number of pid namespaces that a process is in, counted from the reader's.
fn depth(pid: Pid) -> usize {
    let status = Process::new(pid.as_raw()).and_then(|process| process.status());
    status.ok().and_then(|status| status.nspid).map_or(0, |ids| ids.len())
}

fn image_pids(images: &OwnedFd) -> (Vec<Pid>, Vec<Pid>) {
    let bytes = read_file(images, "pstree.img").unwrap_or_default();
    let (mut pids, mut threads) = (Vec::new(), Vec::new());
    if let Ok(mut image) = Image::parse("pstree.img", &bytes, kind::PSTREE) {
        while let Ok(Some(entry)) = image.next_entry() {
            let Ok(task) = entry.decode::<PstreeEntry>() else { continue };
            pids.extend(Pid::try_from(task.pid).ok());
            let others = task.threads.iter().filter(|thread| **thread != task.pid);
            threads.extend(others.filter_map(|thread| Pid::try_from(*thread).ok()));
        }
    }
    (pids, threads)
}

/// Most rounds of ending. Each round finds processes that were forked in the round before.
const MAX_ROUNDS: usize = 64;
