//! The scene of a round: the tasks, the checkpoint, the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criu_images::{ImageSet, Severity, check};
use criu_lab::process::{children, exists, send};
use criu_lab::{payload, soon, within};
use criu_rs::{Criu, Dump, Pid, Restore, Tcp};
use nix::sys::signal::Signal;

/// The tasks.
pub struct Subject {
    pub dir: PathBuf,
    pub pid: Pid,
    pub child: Pid,
    /// Absent after a restore.
    handle: Option<Child>,
}

/// How the child answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    Pipe,
    Tcp,
}

impl Subject {
    pub fn start(dir: &Path, talk: Talk) -> Self {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).unwrap();
        let null = Stdio::null;
        let talk = if talk == Talk::Tcp { "tcp" } else { "pipe" };
        let mut command = payload::command(&["root", talk], dir);
        command.stdin(null()).stdout(null()).stderr(null());
        let handle = command.spawn().unwrap();
        let pid = Pid::from(&handle);
        assert!(soon(|| count(&dir.join("root")).is_ok_and(|n| n > 1)), "the payload starts");
        let child = children(pid).pop().expect("its child");
        Self { dir: dir.into(), pid, child, handle: Some(handle) }
    }

    /// The same tasks after a restore: their ids stay.
    pub fn restored(&mut self) {
        self.handle = None;
    }

    /// Whether both count on, unharmed; otherwise why not.
    pub fn is_well(&self) -> Result<(), String> {
        for (name, pid) in [("root", self.pid), ("child", self.child)] {
            let path = self.dir.join(name);
            let before = count(&path)?;
            let goes_on = within(Duration::from_secs(3), || count(&path).is_ok_and(|n| n > before));
            // What it says itself tells more.
            count(&path)?;
            if !goes_on {
                return Err(format!("{name} ({pid}) does not count on: {}", state(pid)));
            }
        }
        for pid in [self.pid, self.child] {
            let state = state(pid);
            if !state.starts_with(['R', 'S', 'D']) || !state.ends_with("tracer 0") {
                return Err(format!("process {pid} is {state}"));
            }
        }
        Ok(())
    }

    /// Whether none of it is there.
    pub fn is_gone(&mut self) -> bool {
        if let Some(mut handle) = self.handle.take() {
            match handle.try_wait() {
                Ok(Some(_)) => {}
                _ => self.handle = Some(handle),
            }
        }
        [self.pid, self.child].iter().all(|&pid| !exists(pid))
    }

    pub fn end(&mut self) {
        for pid in [self.pid, self.child] {
            send(pid, Signal::SIGKILL);
        }
        assert!(soon(|| self.is_gone()), "SIGKILL ends it");
    }
}

fn count(path: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().map_err(|_| format!("{}: {}", path.display(), text.trim()))
}

/// Its letter and name, and who traces it.
fn state(pid: Pid) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or(" gone").trim().to_owned()
    };
    format!("{}, tracer {}", field("State:"), field("TracerPid:"))
}

/// Whether a directory holds a checkpoint that passes the check; otherwise why not.
pub fn is_complete(images: &Path) -> Result<(), String> {
    let set = ImageSet::open(images).map_err(|error| error.to_string())?;
    let findings = check(&set);
    match findings.iter().find(|finding| finding.severity == Severity::Error) {
        Some(finding) => Err(format!("{finding}")),
        None => Ok(()),
    }
}

/// Saves without a fault, and ends the tasks.
pub fn save(criu: &Criu, subject: &mut Subject, images: &Path) {
    let _ = fs::remove_dir_all(images);
    fs::create_dir_all(images).unwrap();
    let dump = Dump::new(subject.pid, images).tcp(Tcp::Established);
    dump.run(criu).expect("a dump without a fault");
    assert!(soon(|| subject.is_gone()), "a dump ends the tasks");
}

/// Restores without a fault.
pub fn bring_back(criu: &Criu, subject: &mut Subject, images: &Path) -> Result<(), String> {
    let restore = Restore::new(images).tcp(Tcp::Established);
    restore.run(criu).map_err(|error| error.to_string())?;
    subject.restored();
    subject.is_well()
}

/// What of the machine an operation must leave as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    mounts: Vec<String>,
    temporary: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
    rules: String,
}

impl Machine {
    pub fn look() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut mounts: Vec<String> =
            mounts.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
        mounts.sort();
        let names = |dir: &Path| -> BTreeSet<PathBuf> {
            fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        let mut cgroups = BTreeSet::new();
        let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(dir) = waiting.pop() {
            let inside = fs::read_dir(&dir).into_iter().flatten().flatten();
            let inside = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(inside.map(|entry| entry.path()));
            cgroups.insert(dir);
        }
        let rules = Command::new("iptables-save").output();
        let rules = rules.map_or(String::new(), |said| {
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            text.lines().filter(|line| line.starts_with("-A")).collect::<Vec<_>>().join("\n")
        });
        Self { mounts, temporary: names(&std::env::temp_dir()), cgroups, rules }
    }

    /// What has come since.
    pub fn since(&self, before: &Self) -> Option<String> {
        let new = |what: &str, now: &BTreeSet<PathBuf>, then: &BTreeSet<PathBuf>| {
            let found: Vec<_> =
                now.difference(then).map(|path| path.display().to_string()).collect();
            (!found.is_empty()).then(|| format!("{what} {}", found.join(", ")))
        };
        let mounts: Vec<&String> =
            self.mounts.iter().filter(|line| !before.mounts.contains(line)).collect();
        let mounts = (!mounts.is_empty()).then(|| format!("mounts {mounts:?}"));
        mounts
            .or_else(|| new("files", &self.temporary, &before.temporary))
            .or_else(|| new("cgroups", &self.cgroups, &before.cgroups))
            .or_else(|| (self.rules != before.rules).then(|| format!("rules {}", self.rules)))
    }
}

/// Every process but the first, this one, its caller's and those that are known, once they have had
/// time to end.
pub fn strangers(known: &[Pid]) -> Vec<(Pid, String)> {
    let own = Pid::this();
    let look = || -> Vec<(Pid, String)> {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<Pid>().ok());
        let strange = pids.filter(|pid| pid.as_raw() != 1 && *pid != own && !known.contains(pid));
        strange
            .filter_map(|pid| {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                Some((pid, format!("{} {}", name.trim(), state(pid))))
            })
            .collect()
    };
    within(Duration::from_secs(4), || look().is_empty());
    look()
}
