//! Cgroups that a killed program has left frozen.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use criu_rs::Pid;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use super::state_dir::is_clean;

/// Thaws cgroups for good, once no criu of a killed program holds their tasks any more.
///
/// Such a criu ends by itself when it finds its caller gone, and freezes again what it found
/// frozen. A criu that has not ended after `patience` is killed. Returns the numbers of those that
/// were killed.
pub(super) fn thaw_all(cgroups: &[PathBuf], patience: Duration) -> io::Result<Vec<Pid>> {
    for cgroup in cgroups {
        check(cgroup)?;
    }
    let mut killed = Vec::new();
    let end = Instant::now() + patience;
    // criu cannot go on with frozen tasks.
    cgroups.iter().try_for_each(|cgroup| thaw(cgroup))?;
    loop {
        let tracers = tracers(cgroups);
        if tracers.is_empty() {
            break;
        }
        if Instant::now() > end {
            for tracer in tracers {
                if !killed.contains(&tracer) && is_criu(tracer) {
                    let _ = kill(nix::unistd::Pid::from_raw(tracer.as_raw()), Signal::SIGKILL);
                    killed.push(tracer);
                }
            }
            if Instant::now() > end + AFTER_KILL {
                break;
            }
        }
        thread::sleep(PAUSE);
    }
    cgroups.iter().try_for_each(|cgroup| thaw(cgroup))?;
    Ok(killed)
}

/// Refuses a path that is no cgroup. A cgroup that is gone is no error.
fn check(cgroup: &Path) -> io::Result<()> {
    let refused = |why: &str| {
        let why = format!("{}: {why}", cgroup.display().to_string().escape_debug());
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    if !is_clean(cgroup) {
        return Err(refused("wanted an absolute path without `..`"));
    }
    match fs::symlink_metadata(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.is_dir() => return Err(refused("is no directory")),
        Ok(_) => {}
    }
    let kind = statfs(cgroup)?.filesystem_type();
    if kind != CGROUP_SUPER_MAGIC && kind != CGROUP2_SUPER_MAGIC {
        return Err(refused("is no cgroup"));
    }
    Ok(())
}

/// Thaws a cgroup. One that is gone is no error.
fn thaw(cgroup: &Path) -> io::Result<()> {
    for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OFlag::O_NOFOLLOW.bits());
        match options.open(cgroup.join(file)) {
            Ok(mut file) => file.write_all(thawed.as_bytes())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The processes that trace a task in the cgroups.
fn tracers(cgroups: &[PathBuf]) -> BTreeSet<Pid> {
    let tasks = cgroups.iter().flat_map(|cgroup| {
        let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect::<Vec<Pid>>()
    });
    tasks.filter_map(tracer).collect()
}

fn tracer(task: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    // 0 for none.
    line.trim().parse().ok()
}

/// Says whether a process is a criu, and not a debugger of somebody's.
fn is_criu(process: Pid) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "criu")
}

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Time that a killed criu takes to end.
const AFTER_KILL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroups_are_thawed() {
        for path in ["/tmp", "relative", "/sys/fs/cgroup/../../tmp", "/proc/self/status"] {
            assert!(thaw_all(&[path.into()], Duration::ZERO).is_err(), "{path}");
        }
        let gone = thaw_all(&["/sys/fs/cgroup/gone-criu-cri-test".into()], Duration::ZERO);
        assert_eq!(gone.expect("no error"), []);
    }
}
