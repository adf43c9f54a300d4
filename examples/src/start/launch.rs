//! The start of a copy's first process.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::wire::{self, Orders};
use crate::word::NAME;

/// Starts this program again as the first process of a new pid namespace, with this standard error,
/// and tells it what to do.
/// Returns the process and the socket to it. The process ends what is in the namespace when the
/// socket is closed.
pub(super) fn launch(
    args: &[OsString],
    orders: &Orders,
    errors: Stdio,
) -> io::Result<(Child, OwnedFd)> {
    let (here, there) = wire::pair()?;
    wire::send(&here, orders, None)?;
    let program = std::env::current_exe()?;
    let start = move || {
        // The children of this thread alone are in the namespace.
        unshare(CloneFlags::CLONE_NEWPID)?;
        let mut command = Command::new(program);
        // The word is given, because the file may have any name.
        command.arg0(NAME).args(["start", "--inside"]).args(args);
        command.stdin(there).stdout(Stdio::null()).stderr(errors).process_group(0).spawn()
    };
    let started = thread::scope(|scope| scope.spawn(start).join());
    let child = started.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
    Ok((child, here))
}
