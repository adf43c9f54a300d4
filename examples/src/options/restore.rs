//! Options of restore alone.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use criu_rs::{External, InheritFd, JoinNs, MountContext};

use crate::fault::Fault;
use crate::options::applies;
use crate::options::values::veth_pair;

/// Options of restore alone.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Main options")]
pub(crate) struct RestoreOnly {
    /// End once the tasks run, instead of staying their parent
    #[arg(short = 'd', long)]
    pub(crate) restore_detached: Option<bool>,
    /// Leave the tasks stopped
    #[arg(short = 's', long, overrides_with = "leave_running")]
    leave_stopped: bool,
    /// Undo --leave-stopped, as for criu
    #[arg(short = 'R', long, hide = true, overrides_with = "leave_stopped")]
    pub(crate) leave_running: bool,
    /// Write the root's process id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Become the command after `--` once the tasks run: it is then their parent
    #[arg(long)]
    pub(crate) exec_cmd: bool,
    /// The command of --exec-cmd
    #[arg(value_name = "COMMAND", hide = true)]
    pub(crate) command: Vec<OsString>,
    /// Make the tasks children of this program's parent; this program becomes `criu` itself
    #[arg(short = 'S', long)]
    pub(crate) restore_sibling: Option<bool>,
    /// Older name of --restore-detached
    #[arg(long, hide = true)]
    pub(crate) daemon: Option<bool>,

    #[command(flatten)]
    around: Around,
}

/// Options of restore and start: what the tasks find around them.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Around {
    /// A descriptor of this process in place of a saved one
    #[arg(long, value_name = "fd[N]:RESOURCE", help_heading = FILES)]
    inherit_fd: Vec<InheritFd<'static>>,
    /// The new root directory of the tasks' mounts
    #[arg(short = 'r', long, value_name = "DIR", help_heading = FILES)]
    root: Option<PathBuf>,
    /// Restore mounts the older way
    #[arg(long, help_heading = FILES)]
    mntns_compat_mode: Option<bool>,
    /// Do not compare the permissions of files
    #[arg(long, help_heading = FILES)]
    skip_file_rwx_check: Option<bool>,

    /// Let tasks come back without file locks that the images hold
    #[arg(long, help_heading = FILES)]
    accept_lock_loss: bool,

    /// An existing namespace to enter, such as net:/run/netns/blue
    #[arg(short = 'J', long, value_name = "NS:PID|PATH", help_heading = "Namespaces")]
    join_ns: Vec<JoinNs>,
    /// Go on if a saved sysctl does not exist
    #[arg(long, help_heading = "Namespaces")]
    weak_sysctls: Option<bool>,
    /// Older spelling of --external veth[INNER]:OUTER
    #[arg(
        long, value_name = "INNER=OUTER", value_parser = veth_pair(), help_heading = "Namespaces"
    )]
    veth_pair: Vec<External>,
    /// The SELinux context of mounts that were saved with one
    #[arg(long, value_name = "CONTEXT", help_heading = "Security")]
    lsm_mount_context: Option<MountContext>,
    /// Threads that decompress pages, 0 to let CRIU choose
    #[arg(
        long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1024),
        help_heading = "Memory"
    )]
    decompress_threads: Option<u32>,
}

const FILES: &str = "Files and mounts";

applies! {
    RestoreOnly to Restore;
    one [];
    each [];
    with |self, operation, config| {
        operation = crate::options::Apply::apply(&self.around, operation, config)?;
        if self.leave_stopped {
            operation = operation.leave_stopped(true);
        }
    }
}

applies! {
    Around to Restore;
    one [
        root mntns_compat_mode skip_file_rwx_check weak_sysctls lsm_mount_context
        decompress_threads
    ];
    each [inherit_fd join_ns];
    with |self, operation, _config| {
        if self.accept_lock_loss {
            operation = operation.accept_lock_loss(true);
        }
        for pair in &self.veth_pair {
            operation = operation.external(pair.clone());
        }
    }
}

impl RestoreOnly {
    /// Refuses options that make no sense together.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let wrong = match (self.exec_cmd, self.detaches(), self.restore_sibling) {
            (true, true, _) => "--exec-cmd and --restore-detached exclude each other",
            (true, false, _) if self.command.is_empty() => "--exec-cmd needs a command after --",
            (_, false, Some(true)) => "--restore-sibling needs --restore-detached",
            _ => return Ok(()),
        };
        Err(Fault::usage(wrong))
    }

    /// Tells if the program ends once the tasks run.
    pub(crate) fn detaches(&self) -> bool {
        self.restore_detached.or(self.daemon) == Some(true)
    }
}
