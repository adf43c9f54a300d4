//! A session of its own for a command, under a helper.
//!
//! CRIU dumps all that a process has: also a descriptor that the caller's shell left open, and a
//! terminal of a session outside the tree. Tests get neither. The helper has two more tasks. Ctrl-C
//! does not reach the tests, so the helper ends them when its standard input closes, whose other
//! end we hold. And the helper reaps orphans, which process 1 of many containers does not do: a pid
//! that a zombie keeps cannot be restored.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::{fs, thread};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, close, getpid, setsid};

use crate::{Result, process, workspace};

/// The word that makes `xtask` the helper.
pub(crate) const WORD: &str = "--in-session";

/// Wraps a command so that the helper runs it. Keep its standard input until it has ended.
pub(crate) fn isolated(command: &Command) -> Command {
    // Not by name: a build may replace our file.
    let mut helper = process::wrap(Command::new(workspace::ourselves()).arg(WORD), command);
    helper.stdin(Stdio::piped());
    helper
}

/// Runs the helper.
pub(crate) fn main(command: &[OsString]) -> Result<ExitCode> {
    close_strays()?;
    setsid()?;
    set_child_subreaper(true)?;
    let (program, args) = command.split_first().ok_or("no command")?;
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", program.to_string_lossy()))?;
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = killpg(getpid(), Signal::SIGTERM);
    });
    loop {
        match wait()? {
            WaitStatus::Exited(pid, code) if is(pid, &child) => {
                return Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from));
            }
            WaitStatus::Signaled(pid, signal, _) if is(pid, &child) => {
                return Err(format!("{}: {signal}", program.to_string_lossy()).into());
            }
            _ => {}
        }
    }
}

fn is(pid: Pid, child: &Child) -> bool {
    u32::try_from(pid.as_raw()) == Ok(child.id())
}

/// Closes the inherited descriptors above standard error. None of our own is open yet.
pub(crate) fn close_strays() -> Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The list has the descriptor that read the folder, which is closed already.
        let _ = close(fd);
    }
    Ok(())
}
