//! Freezer cgroups for the tests: a cgroup with another below it for each container.

use std::fs;
use std::path::{Path, PathBuf};

use criu_lab::{names, soon};
use criu_rs::Pid;

/// The containers.
pub const NAMES: [&str; 2] = ["a", "b"];

/// A hierarchy with a freezer.
pub struct Hierarchy {
    root: PathBuf,
    pub state: &'static str,
    frozen: &'static str,
    thawed: &'static str,
}

/// Lists the hierarchies of this machine: of version 1, version 2, or both.
pub fn hierarchies() -> Vec<Hierarchy> {
    let first = Hierarchy {
        root: "/sys/fs/cgroup/freezer".into(),
        state: "freezer.state",
        frozen: "FROZEN",
        thawed: "THAWED",
    };
    let second = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| Hierarchy {
        root: root.into(),
        state: "cgroup.freeze",
        frozen: "1",
        thawed: "0",
    });
    let is_there = |hierarchy: &Hierarchy| match hierarchy.state {
        "cgroup.freeze" => hierarchy.root.join("cgroup.controllers").exists(),
        _ => hierarchy.root.join("cgroup.procs").exists(),
    };
    let found: Vec<_> = std::iter::once(first).chain(second).filter(is_there).collect();
    assert!(!found.is_empty(), "this machine has no freezer");
    found
}

/// A cgroup of ours, with those below it.
pub struct Cgroup {
    pub path: PathBuf,
    state: &'static str,
    frozen: &'static str,
    thawed: &'static str,
    owned: bool,
}

impl Cgroup {
    pub fn make(hierarchy: &Hierarchy, pid: Pid) -> Self {
        sweep(&hierarchy.root);
        let path = hierarchy.root.join(format!("{PREFIX}{pid}"));
        fs::create_dir(&path).unwrap();
        for name in NAMES {
            fs::create_dir(path.join(name)).unwrap();
        }
        let Hierarchy { state, frozen, thawed, .. } = *hierarchy;
        Self { path, state, frozen, thawed, owned: true }
    }

    pub fn below(&self, name: &str) -> Self {
        let Self { state, frozen, thawed, .. } = *self;
        Self { path: self.path.join(name), state, frozen, thawed, owned: false }
    }

    pub fn take(&self, pid: Pid) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    pub fn freeze(&self) {
        fs::write(self.path.join(self.state), self.frozen).unwrap();
        let is_frozen = || match self.state {
            "cgroup.freeze" => {
                fs::read_to_string(self.path.join("cgroup.events")).unwrap().contains("frozen 1")
            }
            _ => fs::read_to_string(self.path.join(self.state)).unwrap().trim() == self.frozen,
        };
        assert!(soon(is_frozen));
    }

    fn all(&self) -> Vec<PathBuf> {
        let below = NAMES.map(|name| self.path.join(name)).into_iter();
        below.filter(|path| path.exists()).chain([self.path.clone()]).collect()
    }

    pub fn thaw(&self) {
        for path in self.all() {
            match fs::write(path.join(self.state), self.thawed) {
                // A restore that has failed takes cgroups away.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                result => result.unwrap(),
            }
        }
    }

    pub fn is_thawed(&self) -> bool {
        let is_thawed = |path: PathBuf| {
            fs::read_to_string(path.join(self.state)).unwrap().trim() == self.thawed
        };
        self.all().into_iter().all(is_thawed)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.owned {
            self.thaw();
            for path in self.all() {
                soon(|| fs::remove_dir(&path).is_ok());
            }
        }
    }
}

/// Removes what others have left: CRIU makes the cgroups again that were there at a dump, those of
/// other tests too.
fn sweep(root: &Path) {
    for name in names(root) {
        let Some(pid) = name.strip_prefix(PREFIX) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            for below in NAMES {
                let _ = fs::remove_dir(root.join(&name).join(below));
            }
            let _ = fs::remove_dir(root.join(&name));
        }
    }
}

/// Begins the names of our cgroups; the id of a sandbox's process follows.
const PREFIX: &str = "criu-rs-pod-";
