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

/// The result of [`thaw_all`].
#[derive(Debug, Default)]
pub(super) struct Thawed {
    /// Set if a cgroup was found frozen.
    pub(super) were_frozen: bool,
    /// Processes of CRIU that were killed.
    pub(super) killed: Vec<Pid>,
}

/// Thaws cgroups for good, once no criu of a killed program holds their tasks any more.
///
/// Such a criu ends by itself when it finds its caller gone, and freezes again what it found
/// frozen. A criu that has not ended after `patience` is killed.
///
/// # Errors
/// If a criu still holds tasks, or something freezes them again and again.
pub(super) fn thaw_all(cgroups: &[PathBuf], patience: Duration) -> io::Result<Thawed> {
    for cgroup in cgroups {
        check(cgroup)?;
    }
    let mut thawed = Thawed::default();
    if cgroups.is_empty() {
        return Ok(thawed);
    }
    let end = Instant::now() + patience;
    let mut quiet_since = None;
    loop {
        // criu cannot go on with frozen tasks.
        let are_frozen = cgroups.iter().any(|cgroup| is_frozen(cgroup));
        if are_frozen {
            thawed.were_frozen = true;
            cgroups.iter().try_for_each(|cgroup| thaw(cgroup))?;
        }
        let tracers = tracers(cgroups);
        let now = Instant::now();
        // A criu that has seen them frozen may not trace the first task yet.
        if are_frozen || !tracers.is_empty() {
            quiet_since = None;
        } else if now.duration_since(*quiet_since.get_or_insert(now)) >= QUIET {
            return Ok(thawed);
        }
        if now > end {
            let mut is_criu_left = false;
            for tracer in tracers.into_iter().filter(|tracer| is_criu(*tracer)) {
                is_criu_left = true;
                if !thawed.killed.contains(&tracer) {
                    let _ = kill(nix::unistd::Pid::from_raw(tracer.as_raw()), Signal::SIGKILL);
                    thawed.killed.push(tracer);
                }
            }
            if now > end + AFTER_KILL {
                // A debugger of somebody's may stay.
                if !is_criu_left && !are_frozen {
                    return Ok(thawed);
                }
                let why = "a criu still holds the tasks, or they are frozen again and again";
                return Err(io::Error::other(why));
            }
        }
        thread::sleep(PAUSE);
    }
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

/// Says whether a cgroup is frozen itself, or will be soon.
fn is_frozen(cgroup: &Path) -> bool {
    ["freezer.self_freezing", "cgroup.freeze"]
        .iter()
        .any(|file| fs::read_to_string(cgroup.join(file)).is_ok_and(|state| state.trim() == "1"))
}

/// The processes that trace a task in the cgroups, or in those below.
fn tracers(cgroups: &[PathBuf]) -> BTreeSet<Pid> {
    let mut tracers = BTreeSet::new();
    let mut open: Vec<PathBuf> = cgroups.to_vec();
    while let Some(cgroup) = open.pop() {
        let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        let tasks = text.lines().filter_map(|line| line.trim().parse().ok());
        tracers.extend(tasks.filter_map(tracer));
        let below = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(below.map(|entry| entry.path()));
    }
    tracers
}

fn tracer(task: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    // 0 for none.
    line.trim().parse().ok()
}

/// Says whether a process is a criu, and not a debugger of somebody's. A program of any name gets
/// the word by which criu is started here.
fn is_criu(process: Pid) -> bool {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let is_started_so = words.split(|byte| *byte == 0).any(|word| word == b"swrk");
    let name = fs::read_to_string(format!("/proc/{process}/comm"));
    is_started_so || name.is_ok_and(|name| name.trim() == "criu")
}

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Time that a killed criu takes to end.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// Time without a tracer after which none is expected any more.
const QUIET: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroups_are_thawed() {
        for path in ["/tmp", "relative", "/sys/fs/cgroup/../../tmp", "/proc/self/status"] {
            assert!(thaw_all(&[path.into()], Duration::ZERO).is_err(), "{path}");
        }
        let gone = thaw_all(&["/sys/fs/cgroup/gone-criu-cri-test".into()], Duration::ZERO);
        let gone = gone.expect("no error");
        assert!(!gone.were_frozen && gone.killed.is_empty(), "{gone:?}");
    }

    #[test]
    fn tracers_of_tasks_in_cgroups_below_are_found() {
        use nix::sys::wait::waitpid;
        use std::process::Command;

        let dir = criu_lab::scratch("pod-frozen");
        fs::create_dir_all(dir.join("x/y")).expect("folders");
        let mut child = Command::new("sleep").arg("60").spawn().expect("a child");
        let raw = i32::try_from(child.id()).expect("a pid");
        fs::write(dir.join("x/y/cgroup.procs"), format!("{raw}\n")).expect("a file");
        let cgroups = [dir.clone()];
        assert_eq!(tracers(&cgroups), BTreeSet::new());
        let task = nix::unistd::Pid::from_raw(raw);
        nix::sys::ptrace::attach(task).expect("a child may be traced");
        waitpid(task, None).expect("it stops");
        // The number is that of the thread.
        let own = Pid::new(nix::unistd::gettid().as_raw()).expect("a number");
        assert_eq!(tracers(&cgroups), BTreeSet::from([own]));
        nix::sys::ptrace::detach(task, None).expect("detached");
        child.kill().expect("killed");
        child.wait().expect("ended");
        fs::remove_dir_all(dir).expect("a folder");
    }

    #[test]
    fn a_criu_of_another_name_is_one() {
        use std::os::unix::process::CommandExt;
        use std::process::Command;

        assert!(!is_criu(Pid::this()));
        let mut child = Command::new("sh")
            .arg0("criu-4.3")
            .args(["-c", "sleep 60; true", "x", "swrk", "3"])
            .spawn()
            .expect("a child");
        assert!(criu_lab::soon(|| is_criu(Pid::from(&child))));
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}
