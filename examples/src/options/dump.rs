//! Options of dump and pre-dump, and of dump alone.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use criu_rs::instant::clear_orphans;
use criu_rs::{AfterDump, Pid};

use crate::fault::Fault;
use crate::options::values::{Size, memory, whole_seconds};
use crate::options::{INSTANT, applies};
use crate::output::Output;

/// Options of dump and pre-dump: the processes to save, and the place for them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What to save")]
pub(crate) struct Saved {
    /// The process to save, with all its descendants
    #[arg(short = 't', long, value_name = "PID", help_heading = "Main options")]
    pub(crate) tree: Pid,
    #[command(flatten)]
    existing: Existing,
    /// Seconds that stopping all tasks may take, 0 for no limit; 10 unless given
    #[arg(long, value_name = "SECONDS", value_parser = whole_seconds)]
    timeout: Option<Duration>,
    /// Largest unlinked file to save, with K, M or G; 1M unless given
    #[arg(long, value_name = "SIZE")]
    ghost_limit: Option<Size>,
    /// Find the holes of unlinked files with fiemap; on unless switched off
    #[arg(long)]
    ghost_fiemap: Option<bool>,
    /// A mount point to leave out
    #[arg(long, value_name = "PATH")]
    skip_mnt: Vec<PathBuf>,
    /// Find the paths of inotify and fanotify watches by scanning
    #[arg(long)]
    force_irmap: Option<bool>,
    /// A further directory to scan for them
    #[arg(long, value_name = "PATH")]
    irmap_scan_path: Vec<PathBuf>,
    /// Stop the tasks with this freezer cgroup
    #[arg(long, value_name = "DIR", help_heading = "Cgroups")]
    freeze_cgroup: Option<PathBuf>,
    #[command(flatten)]
    orphans: Orphans,
}

applies! {
    Saved to Dump PreDump;
    one [timeout force_irmap freeze_cgroup];
    each [skip_mnt irmap_scan_path];
    with |self, operation, config| {
        operation = operation.overwrite(self.existing.is_replaced());
        if let Some(Size(bytes)) = self.ghost_limit {
            operation = operation.ghost_limit(bytes);
        }
        config.switch("ghost-fiemap", self.ghost_fiemap);
    }
}

impl Saved {
    /// Ends forks of earlier instant dumps, if that is asked for.
    pub(crate) fn clear_orphans(&self, output: &Output) -> Result<(), Fault> {
        self.orphans.clear(self.tree, output)
    }
}

/// The handling of forks that earlier instant dumps have left.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = INSTANT)]
pub(crate) struct Orphans {
    /// End forks that earlier instant dumps have left, also if the program that reads them may be
    /// out of sight, in another pid namespace. By default a dump ends them if the program is gone
    #[arg(long)]
    clear_orphans: bool,
}

impl Orphans {
    /// Ends the forks in a tree, if that is asked for.
    pub(crate) fn clear(&self, root: Pid, output: &Output) -> Result<(), Fault> {
        if !self.clear_orphans {
            return Ok(());
        }
        for orphan in clear_orphans(root)? {
            let (fork, task) = (orphan.holder, orphan.task);
            output.say(format!("process {fork}, a fork of process {task}, has been ended"));
        }
        Ok(())
    }
}

/// The handling of a checkpoint that is in the images directory already.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Main options")]
pub(crate) struct Existing {
    /// Refuse an images directory that holds a checkpoint. By default the old checkpoint is
    /// replaced, and comes back if the dump fails
    #[arg(long, overrides_with = "overwrite")]
    no_overwrite: bool,
    /// Undo --no-overwrite
    #[arg(long, hide = true, overrides_with = "no_overwrite")]
    overwrite: bool,
}

impl Existing {
    /// Tells if the checkpoint is replaced.
    pub(crate) fn is_replaced(&self) -> bool {
        !self.no_overwrite
    }
}

/// Options of dump alone.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Main options")]
pub(crate) struct DumpOnly {
    /// Let the tasks run on after the dump, instead of killing them
    #[arg(short = 'R', long, overrides_with = "leave_stopped")]
    leave_running: bool,
    /// Leave the tasks stopped after the dump
    #[arg(short = 's', long, overrides_with = "leave_running")]
    leave_stopped: bool,
    /// Write a zero byte to this descriptor when a lazy dump listens
    #[arg(long, value_name = "FD", help_heading = "Memory")]
    pub(crate) status_fd: Option<RawFd>,
    /// Stop the tasks for less time: captures their memory in this much memory of ours, with K, M
    /// or G, and writes it to disk, or with --page-server to a server, when they run on; what does
    /// not fit goes to disk at once
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = memory,
        help_heading = "Memory",
        conflicts_with_all = ["ps_socket", "relay", "lazy_pages"]
    )]
    pub(crate) capture: Option<usize>,
}

impl DumpOnly {
    /// Returns what becomes of the tasks.
    pub(crate) fn after(&self) -> AfterDump {
        match (self.leave_running, self.leave_stopped) {
            (true, _) => AfterDump::LeaveRunning,
            (_, true) => AfterDump::LeaveStopped,
            _ => AfterDump::Kill,
        }
    }
}

/// The images directory, an option of all words but check.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Main options")]
pub(crate) struct Images {
    /// The images directory; the current one unless given. dump and pre-dump make a missing one,
    /// restore does not, and takes an archive, ARCHIVE:FOLDER, HOST/NAME:TAG, oci:DIR[:TAG] and
    /// oci-archive:FILE[:TAG], too
    #[arg(short = 'D', long, value_name = "DIR")]
    images_dir: Option<PathBuf>,
}

impl Images {
    /// The images directory.
    pub(crate) fn path(&self) -> &Path {
        self.given().unwrap_or(Path::new("."))
    }

    /// The images directory, if one was named.
    pub(crate) fn given(&self) -> Option<&Path> {
        self.images_dir.as_deref()
    }
}
