//! The end of a sandbox's process.

use std::time::{Duration, Instant};
use std::{fs, thread};

use criu_rs::Pid;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

/// Kills the process of a sandbox, and with it all containers inside. Waits until it has ended.
pub(super) fn end(pid: Pid) -> Result<(), Errno> {
    kill(nix::unistd::Pid::from_raw(pid.as_raw()), Signal::SIGKILL)?;
    let end = Instant::now() + END_TIME;
    while is_there(pid) && Instant::now() < end {
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Says whether a process has not ended yet. A process that only waits for its parent has ended.
fn is_there(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// Time for the end of a sandbox that is killed.
const END_TIME: Duration = Duration::from_secs(10);

/// Pause between two looks at a sandbox that ends.
const PAUSE: Duration = Duration::from_millis(5);
