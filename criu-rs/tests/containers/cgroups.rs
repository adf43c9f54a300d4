//! The cgroups of a sandbox, one in every hierarchy of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::bed::soon;

/// The hierarchies that a sandbox sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// The hierarchies of the machine, as runc takes them: often both versions.
    Machine,
    /// Version 2 alone, as crun wants it.
    Unified,
}

impl Layout {
    /// The layout whose debugging text is `name`, as processes of the harness name it to each
    /// other.
    pub fn named(name: &str) -> Self {
        if name == format!("{:?}", Self::Unified) { Self::Unified } else { Self::Machine }
    }
}

/// A cgroup in each hierarchy, below where this process is.
#[derive(Debug)]
pub struct Cgroups {
    /// Each cgroup of ours, with the cgroup where this process was before.
    made: Vec<(PathBuf, PathBuf)>,
}

impl Cgroups {
    /// Makes them. This process must have a mount namespace of its own.
    pub fn make() -> Result<Self, String> {
        let hierarchies = mount_all(Layout::Machine)?;
        let name = format!("{PREFIX}{}", std::process::id());
        let mut made = Vec::new();
        for Hierarchy { at, controllers, path } in hierarchies {
            let home = at.join(path.trim_start_matches('/'));
            sweep(&home);
            let ours = home.join(&name);
            fs::create_dir(&ours).map_err(|e| format!("{}: {e}", ours.display()))?;
            if controllers.split(',').any(|name| name == "cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = fs::read(home.join(file)).unwrap_or_default();
                    fs::write(ours.join(file), value).map_err(|e| format!("{file}: {e}"))?;
                }
            }
            made.push((ours, home));
        }
        Ok(Self { made })
    }

    /// Moves this process into them.
    pub fn enter(&self) -> Result<(), String> {
        self.made.iter().try_for_each(|(ours, _)| join(ours))
    }

    /// Moves this process back.
    pub fn leave(&self) -> Result<(), String> {
        self.made.iter().try_for_each(|(_, home)| join(home))
    }

    /// Removes them with all that was made below. Nothing may run there any more.
    pub fn remove(self) -> Result<(), String> {
        for (ours, _) in self.made {
            let gone = || {
                remove_tree(&ours);
                !ours.exists()
            };
            if !soon(gone) {
                return Err(format!("the cgroup {} stays", ours.display()));
            }
        }
        Ok(())
    }
}

/// Mounts a tree of hierarchies at `/sys/fs/cgroup`, in place of what is there: seen from a cgroup
/// namespace, nothing above its root can be reached by it.
pub fn mount_all(layout: Layout) -> Result<Vec<Hierarchy>, String> {
    let root = Path::new("/sys/fs/cgroup");
    while umount2(root, MntFlags::MNT_DETACH).is_ok() {}
    let listed = fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
    let mut hierarchies: Vec<Hierarchy> = listed.lines().filter_map(Hierarchy::parse).collect();
    let is_pure = hierarchies.iter().all(|h| h.controllers.is_empty());
    if layout == Layout::Unified || is_pure {
        hierarchies.retain(|h| h.controllers.is_empty());
    } else {
        attach("tmpfs", root, "mode=755")?;
    }
    for hierarchy in &mut hierarchies {
        let (kind, options, place) = match hierarchy.controllers.as_str() {
            "" if layout == Layout::Unified || is_pure => ("cgroup2", String::new(), String::new()),
            "" => ("cgroup2", String::new(), "unified".into()),
            name if name.starts_with("name=") => {
                ("cgroup", format!("none,{name}"), name.replace("name=", ""))
            }
            name => ("cgroup", name.into(), name.into()),
        };
        hierarchy.at = root.join(place);
        fs::create_dir_all(&hierarchy.at).map_err(|e| e.to_string())?;
        attach(kind, &hierarchy.at, &options)?;
    }
    Ok(hierarchies)
}

/// Moves this process into a cgroup.
pub fn join(cgroup: &Path) -> Result<(), String> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, "0").map_err(|error| format!("{}: {error}", file.display()))
}

/// A line of `/proc/self/cgroup`.
#[derive(Debug)]
pub struct Hierarchy {
    /// The mount point.
    pub at: PathBuf,
    /// Empty for version 2.
    pub controllers: String,
    /// The path of this process in the hierarchy.
    pub path: String,
}

impl Hierarchy {
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some(Self { at: PathBuf::new(), controllers: controllers.into(), path: path.into() })
    }
}

/// The cgroups below `folder` that tests have made.
pub fn left(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    ours.map(|entry| entry.path()).collect()
}

/// Removes cgroups that killed runs have left.
fn sweep(home: &Path) {
    for cgroup in left(home) {
        let name = cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pid = name.trim_start_matches(PREFIX);
        if !Path::new("/proc").join(pid).exists() {
            remove_tree(&cgroup);
        }
    }
}

/// Removes a cgroup and those below it, as far as nothing runs there.
fn remove_tree(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

fn attach(kind: &str, at: &Path, options: &str) -> Result<(), String> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), at, Some(kind), flags, Some(options))
        .map_err(|errno| format!("cannot mount {kind} ({options}) at {}: {errno}", at.display()))
}

/// Begins their names; the id of the process that made them follows.
const PREFIX: &str = "criu-rs-bed-";
