//! The cgroups of a sandbox, one in every hierarchy.
//!
//! The machine's hierarchies are those mounted below `/sys/fs/cgroup`. Another program may mount a
//! hierarchy somewhere else at any moment, and take it away again. `/proc/self/cgroup` lists such a
//! hierarchy too, and CRIU saves and restores the cgroups in it. So a sandbox has a cgroup of its
//! own there as well, does not have it mounted, and keeps it from vanishing meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::place::unused;
use crate::soon;

/// The hierarchies that a sandbox sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// The hierarchies of the machine, as runc takes them: often both versions.
    Machine,
    /// Version 2 alone, as crun wants it.
    Unified,
}

/// A cgroup in each hierarchy, below where this process is.
#[derive(Debug)]
pub struct Cgroups {
    /// Each cgroup of ours, with the cgroup where this process was before.
    made: Vec<(PathBuf, PathBuf)>,
    held: Held,
    /// The mount points of hierarchies that have come since.
    late: Vec<PathBuf>,
}

impl Layout {
    /// The layout whose `Debug` text is `name`, as processes of the harness name it to each other.
    pub fn named(name: &str) -> Self {
        if name == format!("{:?}", Self::Unified) { Self::Unified } else { Self::Machine }
    }
}

impl Cgroups {
    /// Makes them. This process must have a mount namespace of its own.
    ///
    /// # Errors
    /// The step that failed.
    pub fn make() -> Result<Self, String> {
        let mut hierarchies = mount_all(take_away()?, Layout::Machine)?;
        let mut held = Held::new(&hierarchies)?;
        hierarchies.extend(held.look());
        let mut made = Vec::new();
        for Hierarchy { at, controllers, path } in hierarchies {
            let home = at.join(path.trim_start_matches('/'));
            sweep(&home);
            let ours = home.join(name());
            fs::create_dir(&ours).map_err(|e| format!("{}: {e}", ours.display()))?;
            if controllers.split(',').any(|name| name == "cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let value = fs::read(home.join(file)).unwrap_or_default();
                    fs::write(ours.join(file), value).map_err(|e| format!("{file}: {e}"))?;
                }
            }
            made.push((ours, home));
        }
        Ok(Self { made, held, late: Vec::new() })
    }

    /// Moves this process into them.
    ///
    /// # Errors
    /// The cgroup that does not take it.
    pub fn enter(&self) -> Result<(), String> {
        self.made.iter().try_for_each(|(ours, _)| join(ours))
    }

    /// Keeps hierarchies that have come since from vanishing, and moves what runs in these cgroups
    /// into one there, so that CRIU sees only that. To be called often.
    pub fn look(&mut self) {
        for Hierarchy { at, .. } in self.held.look() {
            let ours = at.join(name());
            let _ = fs::create_dir(&ours);
            if let Some((running, _)) = self.made.first() {
                // A process may start another meanwhile, but hardly twice.
                for _ in 0..2 {
                    for pid in members(running) {
                        let _ = fs::write(ours.join("cgroup.procs"), pid);
                    }
                }
            }
            self.late.push(at);
        }
    }

    /// Moves this process back.
    ///
    /// # Errors
    /// The cgroup that does not take it.
    pub fn leave(&self) -> Result<(), String> {
        self.made.iter().try_for_each(|(_, home)| join(home))
    }

    /// Thaws what is frozen in them. A process in a frozen cgroup of version 1 does not end before,
    /// not even by SIGKILL.
    pub fn thaw(&self) {
        self.made.iter().for_each(|(ours, _)| thaw_tree(ours));
    }

    /// Removes them with all that was made below. Nothing may run there any more.
    ///
    /// # Errors
    /// The cgroup that stays.
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
        for top in self.late {
            remove_tree(&top.join(name()));
            // A restore has made its container's cgroup there, at the top.
            for entry in fs::read_dir(top).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if name == "c" || name.as_encoded_bytes().starts_with(b"c-") {
                    remove_tree(&entry.path());
                }
            }
        }
        Ok(())
    }
}

/// Hierarchies that others have mounted, kept from vanishing while a sandbox runs.
///
/// CRIU mounts each hierarchy that the kernel lists. In a cgroup namespace it cannot mount a
/// hierarchy that has gone since. The mounts of this value are in the mount namespace of this
/// process, which must be its own.
#[derive(Debug)]
struct Held {
    folder: PathBuf,
    /// The controllers of the hierarchies that are mounted, those of the machine first.
    known: Vec<String>,
    /// The number of those of the machine.
    machine: usize,
}

impl Held {
    fn new(machine: &[Hierarchy]) -> Result<Self, String> {
        let folder = unused();
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let known = machine.iter().map(|hierarchy| hierarchy.controllers.clone());
        Ok(Self { folder, known: known.collect(), machine: machine.len() })
    }

    /// Mounts the hierarchies that have come since; returns them.
    fn look(&mut self) -> Vec<Hierarchy> {
        let mut new = Vec::new();
        for mut hierarchy in listed() {
            let name = &hierarchy.controllers;
            if !name.is_empty() && !self.known.contains(name) {
                hierarchy.at = self.place(self.known.len());
                let _ = fs::create_dir(&hierarchy.at);
                let (kind, options) = kind_and_options(name);
                // It may have gone by now.
                if attach(kind, &hierarchy.at, &options).is_ok() {
                    self.known.push(name.clone());
                    new.push(hierarchy);
                }
            }
        }
        new
    }

    fn place(&self, number: usize) -> PathBuf {
        self.folder.join(number.to_string())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (n, name) in self.known.iter().enumerate().skip(self.machine) {
            let place = self.place(n);
            let _ = umount2(&place, MntFlags::MNT_DETACH);
            // A hierarchy ends with its last mount, unless a cgroup is still on its way out.
            let (kind, options) = kind_and_options(name);
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(20));
                if listed().all(|hierarchy| hierarchy.controllers != *name)
                    || attach(kind, &place, &options).is_err()
                {
                    break;
                }
                let _ = umount2(&place, MntFlags::MNT_DETACH);
            }
        }
        for n in self.machine..=self.known.len() {
            let _ = fs::remove_dir(self.place(n));
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The hierarchies that `/proc/self/cgroup` lists.
fn listed() -> impl Iterator<Item = Hierarchy> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    text.lines().filter_map(Hierarchy::parse).collect::<Vec<_>>().into_iter()
}

/// Unmounts every cgroup hierarchy, in a mount namespace of this process' own; returns those of the
/// machine, for [`mount_all`].
///
/// # Errors
/// Files of `/proc` that cannot be read.
pub fn take_away() -> Result<Vec<Hierarchy>, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mounts = read("/proc/self/mountinfo")?;
    let hierarchies = of_machine(&read("/proc/self/cgroup")?, &mounts);
    for mount in mounts.lines().rev().filter_map(Mount::parse) {
        let _ = umount2(&mount.at, MntFlags::MNT_DETACH);
    }
    while umount2(ROOT, MntFlags::MNT_DETACH).is_ok() {}
    Ok(hierarchies)
}

/// The hierarchies of the machine among those that `/proc/self/cgroup` lists. If nothing is mounted
/// below `/sys/fs/cgroup`, they are all of them.
fn of_machine(listed: &str, mounts: &str) -> Vec<Hierarchy> {
    let mut mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    mounts.retain(|mount| mount.at.starts_with(ROOT));
    let hierarchies = listed.lines().filter_map(Hierarchy::parse);
    let is_ours = |hierarchy: &Hierarchy| mounts.iter().any(|mount| mount.is_of(hierarchy));
    hierarchies.filter(|hierarchy| mounts.is_empty() || is_ours(hierarchy)).collect()
}

/// Mounts hierarchies at `/sys/fs/cgroup`, where nothing is mounted: seen from a cgroup namespace,
/// nothing above its root can be reached by them. Returns where each of them is.
///
/// # Errors
/// The mount that fails.
pub fn mount_all(
    mut hierarchies: Vec<Hierarchy>,
    layout: Layout,
) -> Result<Vec<Hierarchy>, String> {
    let root = Path::new(ROOT);
    let is_pure = hierarchies.iter().all(|h| h.controllers.is_empty());
    if layout == Layout::Unified || is_pure {
        hierarchies.retain(|h| h.controllers.is_empty());
    } else {
        attach("tmpfs", root, "mode=755")?;
    }
    for hierarchy in &mut hierarchies {
        let place = match hierarchy.controllers.as_str() {
            "" if layout == Layout::Unified || is_pure => String::new(),
            "" => "unified".into(),
            name => name.replace("name=", ""),
        };
        let (kind, options) = kind_and_options(&hierarchy.controllers);
        hierarchy.at = root.join(place);
        fs::create_dir_all(&hierarchy.at).map_err(|e| e.to_string())?;
        attach(kind, &hierarchy.at, &options)?;
    }
    Ok(hierarchies)
}

/// Moves this process into a cgroup.
///
/// # Errors
/// The file that cannot be written.
pub fn join(cgroup: &Path) -> Result<(), String> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, "0").map_err(|error| format!("{}: {error}", file.display()))
}

/// Thaws what is frozen in the hierarchies of a sandbox that this process is in.
pub fn thaw_all() {
    thaw_tree(Path::new(ROOT));
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

/// A cgroup hierarchy's line in `/proc/self/mountinfo`.
struct Mount {
    at: PathBuf,
    is_unified: bool,
    /// The options, such as `rw`, `cpu`, `cpuacct`, `name=systemd`.
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let at = place.split(' ').nth(4)?.replace("\\040", " ").into();
        let words: Vec<&str> = kind.split(' ').collect();
        let is_unified = match *words.first()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = words.last()?.split(',').map(str::to_owned).collect();
        Some(Self { at, is_unified, options })
    }

    fn is_of(&self, hierarchy: &Hierarchy) -> bool {
        let mut wanted = hierarchy.controllers.split(',');
        if self.is_unified {
            hierarchy.controllers.is_empty()
        } else {
            wanted.all(|name| self.options.iter().any(|option| option == name))
        }
    }
}

/// The cgroups below `folder` that tests have made.
fn left(folder: &Path) -> Vec<PathBuf> {
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

/// The name of the cgroups of this process.
fn name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

/// The ids of the processes in a cgroup and those below it.
fn members(cgroup: &Path) -> Vec<String> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(members(&entry.path()));
        }
    }
    found
}

/// Thaws a cgroup of version 1 and those below it. In version 2 frozen processes end by SIGKILL.
fn thaw_tree(cgroup: &Path) {
    let state = cgroup.join("freezer.state");
    if state.exists() {
        let _ = fs::write(state, "THAWED");
    }
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            thaw_tree(&entry.path());
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

/// The type of a hierarchy's file system, and the options that it is mounted with.
fn kind_and_options(controllers: &str) -> (&'static str, String) {
    match controllers {
        "" => ("cgroup2", String::new()),
        name if name.starts_with("name=") => ("cgroup", format!("none,{name}")),
        names => ("cgroup", names.into()),
    }
}

fn attach(kind: &str, at: &Path, options: &str) -> Result<(), String> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), at, Some(kind), flags, Some(options))
        .map_err(|errno| format!("cannot mount {kind} ({options}) at {}: {errno}", at.display()))
}

/// The folder below which a machine has its hierarchies.
const ROOT: &str = "/sys/fs/cgroup";

/// Begins their names; the id of the process that made them follows.
const PREFIX: &str = "criu-rs-bed-";

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str =
        "7:name=other:/\n6:perf_event:/\n5:name=systemd:/\n4:cpu,cpuacct:/x\n0::/\n";

    const MOUNTS: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        50 23 0:50 / /tmp/an\\040x rw - cgroup none rw,name=other\n\
        51 23 0:51 / /tmp/y rw - cgroup none rw,perf_event\n";

    fn names(hierarchies: &[Hierarchy]) -> Vec<&str> {
        hierarchies.iter().map(|hierarchy| hierarchy.controllers.as_str()).collect()
    }

    #[test]
    fn hierarchies_that_others_mount_elsewhere_are_not_of_the_machine() {
        assert_eq!(names(&of_machine(LISTED, MOUNTS)), ["name=systemd", "cpu,cpuacct", ""]);
    }

    #[test]
    fn a_machine_that_mounts_nothing_has_all_hierarchies() {
        assert_eq!(of_machine(LISTED, "").len(), 5);
    }

    #[test]
    fn mounts_with_blanks_in_their_paths_are_found() {
        let mounts: Vec<_> = MOUNTS.lines().filter_map(Mount::parse).collect();
        assert!(mounts.iter().any(|mount| mount.at == Path::new("/tmp/an x")));
        assert_eq!(mounts.len(), 5);
    }
}
