//! A sandbox for container runtimes: namespaces and cgroups of its own, which end with the test.
//!
//! A runtime that goes wrong kills all processes of its cgroup, which may be every process on the
//! machine. So a runtime is started in a [`Sandbox`] only. Cgroup hierarchies that other programs
//! of the machine mount somewhere are not mounted in a sandbox, and stay as long as it does.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};

use crate::cgroups::{self, Cgroups, Layout};

/// The proof that this process is in a sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox(());

impl Sandbox {
    /// Checks that this process is in a sandbox.
    ///
    /// # Errors
    /// The first part of a sandbox that this process lacks.
    pub fn check() -> Result<Self, String> {
        let outside =
            std::env::var(OUTSIDE).map_err(|_| "this process is not in a sandbox".to_owned())?;
        Self::check_against(&outside)
    }

    /// Checks that this process is in a sandbox, given the names of the namespaces outside.
    ///
    /// # Errors
    /// The errors of [`Sandbox::check`].
    pub fn check_against(outside: &str) -> Result<Self, String> {
        let outside: Vec<&str> = outside.split_whitespace().collect();
        let inside = namespaces()?;
        if outside.len() != inside.len() {
            return Err(format!("{OUTSIDE} does not name the namespaces outside"));
        }
        if let Some(shared) = inside.iter().find(|own| outside.contains(&own.as_str())) {
            return Err(format!("{shared} is the one outside"));
        }
        let own = std::process::id().to_string();
        let seen = fs::read_link("/proc/self").map_err(|e| format!("/proc/self: {e}"))?;
        if seen != Path::new(&own) {
            return Err("/proc is that of another pid namespace".into());
        }
        let identity = |path: &str| {
            let file = fs::metadata(path).map_err(|error| format!("{path}: {error}"))?;
            Ok::<_, String>((file.dev(), file.ino()))
        };
        let first = fs::read("/proc/1/cmdline").map_err(|e| format!("process 1: {e}"))?;
        let is_first = first.split(|&byte| byte == 0).nth(1) == Some(FIRST.as_bytes());
        if identity("/proc/1/exe").ok() != identity("/proc/self/exe").ok() || !is_first {
            return Err("process 1 is not ours".into());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
        for line in mounts.lines() {
            let (place, kind) = line.split_once(" - ").unwrap_or((line, ""));
            let root = place.split(' ').nth(3).unwrap_or("/..");
            if kind.starts_with("cgroup") && root.starts_with("/..") {
                return Err(format!("cgroups from outside are mounted: {line}"));
            }
        }
        let cgroups = fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
        match cgroups.lines().find(|line| line.contains(":/..")) {
            Some(line) => Err(format!("this process is in a cgroup outside: {line}")),
            None => Ok(Self(())),
        }
    }
}

/// Runs this program with `words` in a sandbox, from a process with one thread that does nothing
/// else. When it ends, or its time is up, no process that it started is left.
///
/// # Errors
/// The step that failed, or how the program ended.
pub fn run(words: &[String], layout: Layout, limit: Duration) -> Result<(), String> {
    let outside = namespaces()?.join(" ");
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("these tests need root: {e}"))?;
    make_private()?;
    let mut cgroups = Cgroups::make()?;
    let result = run_in(&mut cgroups, words, layout, limit, &outside);
    cgroups.remove()?;
    result
}

fn run_in(
    cgroups: &mut Cgroups,
    words: &[String],
    layout: Layout,
    limit: Duration,
    outside: &str,
) -> Result<(), String> {
    cgroups.enter()?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|e| format!("no pid namespace: {e}"))?;
    let child = Command::new("/proc/self/exe")
        .arg(FIRST)
        .arg(format!("{layout:?}"))
        .args(words)
        .env(OUTSIDE, outside)
        .stdin(Stdio::null())
        .spawn();
    cgroups.leave()?;
    let mut child = child.map_err(|e| format!("cannot start process 1: {e}"))?;
    let end = Instant::now() + limit;
    loop {
        cgroups.look();
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if Instant::now() > end => {
                // With process 1 goes everything, once it is thawed. Until then some process may
                // freeze others again.
                let _ = child.kill();
                while let Ok(None) = child.try_wait() {
                    cgroups.thaw();
                    std::thread::sleep(Duration::from_millis(5));
                }
                return Err(format!("not done after {} s", limit.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The task of process 1: makes the rest of the sandbox, starts this program with `words`, and
/// reaps.
pub fn first(layout: &str, words: &[String]) -> ExitCode {
    let worker = prepare(layout).and_then(|()| {
        let mut worker = Command::new("/proc/self/exe");
        worker.args(words).stdin(Stdio::null());
        worker.spawn().map_err(|error| format!("cannot start the test: {error}"))
    });
    let worker = match worker {
        Ok(child) => i32::try_from(child.id()).unwrap(),
        Err(error) => {
            eprintln!("no sandbox: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == worker => {
                break u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from);
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == worker => {
                eprintln!("the test was ended by {signal}");
                break ExitCode::FAILURE;
            }
            Ok(_) => {}
            Err(_) => break ExitCode::FAILURE,
        }
    };
    // The end of this process ends all others, and waits for them.
    cgroups::thaw_all();
    code
}

fn prepare(layout: &str) -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |errno: nix::Error| format!("{what}: {errno}")
    };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("parent's death"))?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).map_err(failed("namespaces"))?;
    make_private()?;
    let hierarchies = cgroups::take_away()?;
    let none = None::<&str>;
    while umount2("/sys", MntFlags::MNT_DETACH).is_ok() {}
    let filesystems =
        [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run"), ("mqueue", "/dev/mqueue")];
    for (kind, at) in filesystems {
        if kind == "mqueue" && fs::create_dir_all(at).is_err() {
            continue;
        }
        mount(Some(kind), at, Some(kind), MsFlags::empty(), none).map_err(failed(at))?;
    }
    for hierarchy in cgroups::mount_all(hierarchies, Layout::named(layout))? {
        if hierarchy.controllers.is_empty() {
            // A cgroup of version 2 with processes cannot give controllers to those below it.
            let leaf = hierarchy.at.join("sandbox");
            fs::create_dir(&leaf).map_err(|e| format!("{}: {e}", leaf.display()))?;
            cgroups::join(&leaf)?;
        }
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    match up {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("ip link set lo up: {other:?}")),
    }
}

fn make_private() -> Result<(), String> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| format!("cannot make mounts private: {errno}"))
}

/// The namespaces of this process that a sandbox has of its own, like `pid:[4026531836]`.
fn namespaces() -> Result<Vec<String>, String> {
    let name = |kind: &&str| {
        let link = fs::read_link(format!("/proc/self/ns/{kind}")).map_err(|e| e.to_string())?;
        Ok(link.to_string_lossy().into_owned())
    };
    ["pid", "mnt", "ipc", "uts", "net", "cgroup"].iter().map(name).collect()
}

/// Begins the words of process 1.
pub const FIRST: &str = "--first";

/// Names the namespaces outside.
const OUTSIDE: &str = "CRIU_RS_TEST_OUTSIDE";
