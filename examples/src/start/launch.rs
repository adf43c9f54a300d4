//! The start of a copy's first process.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::ScopedJoinHandle;
use std::{panic, thread};

use nix::sched::{CloneFlags, unshare};

use super::wire::{self, Orders};
use crate::fault::Fault;
use crate::own;
use crate::word::NAME;

/// Starts this program again as the first process of a new pid namespace, with this standard error,
/// and tells it what to do.
/// Returns the process and the socket to it. The process ends what is in the namespace when the
/// socket is closed.
pub(super) fn launch(
    args: &[OsString],
    orders: &Orders,
    errors: Stdio,
) -> Result<(Child, OwnedFd), Fault> {
    let failed = |doing: &str| {
        let doing = doing.to_owned();
        move |source: io::Error| Fault::system(doing, source)
    };
    let (here, there) = wire::pair().map_err(failed("make a socket for a copy"))?;
    let told = wire::send(&here, orders, None);
    told.map_err(failed("tell a copy its variables and the files to replace"))?;
    let start = move || {
        // The children of this thread alone are in the namespace.
        let parted = unshare(CloneFlags::CLONE_NEWPID);
        parted.map_err(|error| Fault::system("make a pid namespace for a copy", error))?;
        let mut command = Command::new(own::PROGRAM);
        // The word is given, because the file may have any name.
        command.arg0(NAME).args(["start", "--inside"]).args(args);
        command
            .stdin(there)
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| Fault::system("start the first process of a copy", error))
    };
    let started = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, start);
        thread.map(ScopedJoinHandle::join)
    });
    let started = started.map_err(failed("start a thread for a copy"))?;
    let child = started.unwrap_or_else(|fault| panic::resume_unwind(fault))?;
    Ok((child, here))
}
