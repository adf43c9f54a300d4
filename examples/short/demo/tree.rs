//! The demo's processes, alive.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criu_cli::{Fault, Pause};
use criu_rs::Pid;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use procfs::process::Process;

use crate::counters::Snapshot;
use crate::payload;

/// A live tree. Dropping it ends it.
pub(crate) struct Tree {
    pub(crate) root: Pid,
    /// All processes of the tree, once it counts.
    pids: Vec<i32>,
}

impl Tree {
    /// Starts the processes, and waits until all of them count.
    pub(crate) fn start(pause: &Pause) -> Result<Self, Fault> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("demo").args([payload::WORD, payload::ROOT]).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| Fault::system("start the demo's processes", e))?;
        let mut tree = Self { root: Pid::from(&child), pids: Vec::new() };
        tree.pids = vec![tree.root.as_raw()];
        let nothing = Snapshot::zero();
        let limit = Instant::now() + PATIENCE;
        while !tree.counters().is_ok_and(|now| now.is_beyond(&nothing)) {
            if Instant::now() > limit {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                return Err(Fault::system("start the demo's processes", late));
            }
            pause.sleep(Duration::from_millis(10))?;
        }
        tree.pids = descendants(tree.root);
        Ok(tree)
    }

    /// Returns the tree after a restore.
    pub(crate) fn restored(root: Pid) -> Self {
        Self { root, pids: descendants(root) }
    }

    /// Returns the number of its processes.
    pub(crate) fn size(&self) -> usize {
        self.pids.len()
    }

    /// Returns the counters, read out of the shared memory.
    pub(crate) fn counters(&self) -> Result<Snapshot, Fault> {
        self.read_counters().map_err(|source| Fault::system("read the counters", source))
    }

    fn read_counters(&self) -> io::Result<Snapshot> {
        let name = payload::NAME.to_string_lossy();
        let links = fs::read_dir(format!("/proc/{}/fd", self.root))?;
        let is_it = |link: &Path| {
            let target = fs::read_link(link).unwrap_or_default();
            target.to_string_lossy().starts_with(&format!("/memfd:{name}"))
        };
        let found = links.flatten().map(|entry| entry.path()).find(|link| is_it(link));
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Snapshot::of_file(&File::open(found)?)
    }

    /// Waits for the end of processes that somebody else ends, so that their ids are free again.
    pub(crate) fn bury(mut self) {
        bury(&std::mem::take(&mut self.pids));
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.pids.is_empty() {
            return;
        }
        // A tree that never counted may have more processes than are known.
        self.pids.extend(descendants(self.root));
        for &pid in &self.pids {
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
        bury(&self.pids);
    }
}

/// Reaps processes: this program is the parent of orphans.
fn bury(pids: &[i32]) {
    let limit = Instant::now() + PATIENCE;
    while pids.iter().any(|&pid| Process::new(pid).is_ok()) && Instant::now() < limit {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::ECHILD) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

fn descendants(root: Pid) -> Vec<i32> {
    let mut found = vec![root.as_raw()];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let threads = Process::new(pid).and_then(|process| process.tasks());
        let threads = threads.into_iter().flatten().flatten();
        let children = threads.filter_map(|thread| thread.children().ok()).flatten();
        found.extend(children.filter_map(|child| i32::try_from(child).ok()));
    }
    found
}

/// The longest wait for a start or an end, which take some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
