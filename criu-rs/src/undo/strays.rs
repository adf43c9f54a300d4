//! The tasks that a restore leaves behind if its criu was killed.
//!
//! A criu that fails ends the tasks that it has created. A criu that is killed cannot: its tasks
//! are adopted by other processes, and tasks that wait for criu wait for ever.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use criu_images::proto::{MmEntry, PstreeEntry};
use criu_images::{Image, ImageSet, Task, kind};
use procfs::process::{Process, Stat};

use super::life::{Life, numbers};
use crate::host::{Held, held, next_id, tree};
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

/// A task as the images have it.
struct Saved {
    pid: Pid,
    session: Option<Pid>,
    name: Vec<u8>,
    program: Option<PathBuf>,
    memory: Option<MmEntry>,
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

    /// Ends the remains of a restore whose criu has been killed: the `root`, if it was held, and
    /// tasks by their ids. Then waits until all are gone.
    ///
    /// An id alone is not enough, since another process may have it by now, nor is an id with the
    /// task's program. The process must have been orphaned and must descend from this criu: it has
    /// a [file of this criu](Life::has_marked) open, or has its memory where the images say, and
    /// was started while this criu was there. `named` is a number that criu gave the root.
    pub(crate) fn end(&self, life: &Life, named: Option<Pid>, root: Option<Held>) {
        let mut saved: Option<Vec<Saved>> = None;
        let mut found: Vec<Held> = root.into_iter().collect();
        // A task may fork just before it is killed, and the new process is then orphaned.
        for _ in 0..MAX_ROUNDS {
            let suspects = self.suspects(life, named);
            if !suspects.is_empty() {
                let saved = saved.get_or_insert_with(|| self.saved());
                let is_stray = |held: &Held| {
                    life.has_marked(held) || self.is_restored(held, life, named, saved)
                };
                found.extend(suspects.into_iter().filter(is_stray));
            }
            if found.is_empty() {
                break;
            }
            let killed = tree::kill_all(std::mem::take(&mut found));
            tree::bury(&killed);
        }
        self.bury(life);
    }

    /// Orphans that were started since criu was, with the id of a task in their own pid namespace.
    fn suspects(&self, life: &Life, named: Option<Pid>) -> Vec<Held> {
        let is_suspect = |held: &Held| {
            let is_saved = || numbers(held.pid()).is_some_and(|(_, own)| self.pids.contains(&own));
            held.since() >= life.since
                && Life::is_orphan(held)
                && (named == Some(held.pid()) || is_saved())
                // A process that has ended has no program.
                && tree::is_alive(held.pid(), held.since())
        };
        tree::all().into_iter().filter_map(Held::of).filter(is_suspect).collect()
    }

    /// Says whether a process is a task that has been restored: it has the task's program and
    /// session, and its memory begins where the task's does. The kernel puts the memory of a
    /// program that somebody starts at random places.
    fn is_restored(&self, held: &Held, life: &Life, named: Option<Pid>, saved: &[Saved]) -> bool {
        let Some((depth, own)) = numbers(held.pid()) else { return false };
        // In another pid namespace there may be copies of the tree with the same ids.
        let is_here = numbers(Pid::this()).is_some_and(|(here, _)| here == depth);
        let Some(task) = saved.iter().find(|task| task.pid == own) else { return false };
        let program = Process::new(held.pid().as_raw()).and_then(|process| process.exe()).ok();
        let Some(stat) = held::stat(held.pid()) else { return false };
        // A session that begins outside the tree is replaced.
        let session = task.session.filter(|session| self.pids.contains(session));
        (is_here || named == Some(held.pid()))
            && held.since() <= life.until
            && program.is_some_and(|program| task.program.as_ref() == Some(&program))
            && session.is_none_or(|session| !is_here || session.as_raw() == stat.session)
            && task.memory.as_ref().is_some_and(|memory| has_memory(&stat, memory))
            && held.is_there()
    }

    /// Ends processes of criu that a task started, such as helpers with threads, and that outlived
    /// the task: they are in the session of a task, execute criu, and have a file of this criu
    /// open. CRIU ends its tasks after a failure, but a task that crashes leaves its helpers.
    pub(crate) fn end_helpers(&self, life: &Life) {
        let Some(criu) = &self.criu else { return };
        let here = numbers(Pid::this()).map(|(depth, _)| depth);
        let is_helper = |held: &Held| {
            let process = Process::new(held.pid().as_raw());
            let Ok((process, stat)) = process.and_then(|it| it.stat().map(|stat| (it, stat)))
            else {
                return false;
            };
            self.pids.iter().any(|pid| pid.as_raw() == stat.session)
                && held.since() >= life.since
                && process.exe().is_ok_and(|exe| exe == *criu)
                && numbers(held.pid()).map(|(depth, _)| depth) == here
                && Life::is_orphan(held)
                && life.has_marked(held)
        };
        let found: Vec<Held> =
            tree::all().into_iter().filter_map(Held::of).filter(is_helper).collect();
        if !found.is_empty() {
            tree::bury(&tree::kill_all(found));
        }
    }

    /// Waits until the tasks that CRIU has ended are gone, and reaps those that have become
    /// children of this process. Other processes with the ids of tasks are left alone.
    pub(crate) fn bury(&self, life: &Life) {
        let mut names: Option<Vec<Vec<u8>>> = None;
        let criu = self.criu.as_ref().and_then(|criu| criu.file_name());
        let criu = criu.map(|name| name.as_bytes().iter().copied().take(MAX_NAME).collect());
        let mut is_ended = |held: &Held| {
            let Some(stat) = held::stat(held.pid()) else { return false };
            let names = names.get_or_insert_with(|| {
                self.saved().into_iter().map(|task| task.name).chain(criu.clone()).collect()
            });
            held.since() >= life.since
                && !tree::lives_on(held.pid(), held.since())
                && Life::is_orphan(held)
                && names.iter().any(|name| name == stat.comm.as_bytes())
        };
        let ended = self.pids.iter().filter_map(|pid| Held::of(*pid));
        tree::bury(&ended.filter(|held| is_ended(held)).collect::<Vec<_>>());
    }

    /// The tasks of the images. Images that cannot be read give none.
    fn saved(&self) -> Vec<Saved> {
        let read = || {
            let images = self.images.as_ref()?.as_raw_fd();
            let set = ImageSet::open(format!("/proc/self/fd/{images}")).ok()?;
            let read = |task: Task<'_>| {
                let program = task.exe().ok().flatten();
                let program = program.and_then(|file| Some(OsStr::from_bytes(file.path()?).into()));
                Some(Saved {
                    pid: Pid::try_from(task.pid()).ok()?,
                    session: Pid::try_from(task.sid()).ok(),
                    name: task.core().comm.clone(),
                    program,
                    memory: task.mm().ok().flatten(),
                })
            };
            Some(set.checkpoint().ok()?.tasks().filter_map(read).collect())
        };
        read().unwrap_or_default()
    }
}

/// Says whether a process has its program, its stack and its arguments where a memory image says.
fn has_memory(stat: &Stat, memory: &MmEntry) -> bool {
    stat.startcode == memory.mm_start_code
        && stat.startstack == memory.mm_start_stack
        && stat.arg_start == Some(memory.mm_arg_start)
        && stat.start_brk == Some(memory.mm_start_brk)
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

/// Bytes of a process's name that the kernel keeps.
const MAX_NAME: usize = 15;

/// Most rounds of ending. Each round finds processes that were forked in the round before.
const MAX_ROUNDS: usize = 64;
