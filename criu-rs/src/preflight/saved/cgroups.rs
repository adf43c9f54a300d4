//! Checks of cgroups.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use criu_images::proto::CgMemberEntry;

use super::Saved;
use crate::diagnosis::Cause;
use crate::host::MountInfo;
use crate::preflight::finding::Finding;
use crate::preflight::need::Need;
use crate::preflight::proc;
use crate::rpc::CriuCgMode;

pub(super) fn look(saved: &Saved<'_>) -> criu_images::Result<Vec<Finding>> {
    let mode = saved.look.opts.manage_cgroups_mode;
    if mode == Some(CriuCgMode::Ignore.into()) || !saved.is_ours() {
        return Ok(Vec::new());
    }
    let mine = proc::text("/proc/self/cgroup").unwrap_or_default();
    let mut here: Vec<&str> = mine.lines().filter_map(|line| line.split(':').nth(1)).collect();
    let kernel = proc::text("/proc/cgroups").unwrap_or_default();
    here.extend(kernel.lines().filter_map(free));
    let mut found = Vec::new();
    for controller in &saved.checkpoint.cgroups()?.controllers {
        found.extend(missing(&controller.cnames, &here));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let sets_values = [CriuCgMode::Full, CriuCgMode::Strict].map(i32::from);
    let sets_values = mode.is_some_and(|mode| sets_values.contains(&mode));
    let makes_none = [CriuCgMode::CgNone, CriuCgMode::Props].map(i32::from);
    let makes_none = mode.is_some_and(|mode| makes_none.contains(&mode));
    let mounts = MountInfo::all("self").unwrap_or_default();
    let mut members = BTreeMap::new();
    for task in saved.checkpoint.tasks() {
        for member in task.cgroups()?.unwrap_or_default() {
            let key = (&member.name[..], &member.path[..]);
            members.entry(key).or_insert((member, 0u64)).1 += task.tids().len().max(1) as u64;
        }
    }
    for (member, tasks) in members.into_values() {
        let Some(place) = place(member, &mounts) else { continue };
        if !place.is_dir() {
            if makes_none {
                found.push(Finding::blocks(Cause::CgroupDirMissing).path(place));
            }
            continue;
        }
        if !sets_values {
            found.extend(cpuset(&place).map(|finding| finding.path(&place)));
        }
        found.extend(pids(&place, tasks).map(|finding| finding.path(&place)));
        found.extend(inner(&place).map(|finding| finding.path(&place)));
    }
    Ok(found)
}

/// Checks that the controllers of a hierarchy are available here.
fn missing(names: &[Vec<u8>], here: &[&str]) -> Option<Finding> {
    let names = names.iter().map(|name| String::from_utf8_lossy(name).into_owned());
    let is_here = |name: &String| here.iter().any(|line| line.split(',').any(|one| one == name));
    // CRIU creates a named hierarchy without controllers itself.
    let name = names.into_iter().find(|name| !name.starts_with("name=") && !is_here(name))?;
    let shown = if name.is_empty() { "version 2".to_owned() } else { name };
    let finding = Finding::needs(Cause::CgroupMissing, vec![Need::IgnoreCgroups], false);
    Some(finding.detail(shown.escape_debug().to_string()))
}

/// Reads a line of `/proc/cgroups`: name, hierarchy, number of cgroups, enabled. Returns the name
/// of a controller that no hierarchy has. CRIU mounts it.
fn free(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, "0", _, "1"] = words[..] else { return None };
    let given = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|root| {
        let text = proc::text(Path::new(root).join("cgroup.subtree_control")).unwrap_or_default();
        text.split_whitespace().any(|one| one == name)
    });
    (!given).then_some(name)
}

/// Finds the directory of a cgroup, if this process sees its hierarchy.
fn place(member: &CgMemberEntry, mounts: &[MountInfo]) -> Option<PathBuf> {
    let name = String::from_utf8_lossy(&member.name).into_owned();
    let is_its = |mount: &&MountInfo| {
        let options = String::from_utf8_lossy(&mount.options);
        match &mount.kind[..] {
            b"cgroup" => !name.is_empty() && options.split(',').any(|option| option == name),
            b"cgroup2" => name.is_empty(),
            _ => false,
        }
    };
    let mount = mounts.iter().find(is_its)?;
    let path = Path::new(OsStr::from_bytes(&member.path));
    let below = path.strip_prefix(&mount.root).ok()?;
    let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| mount.point.join(below))
}

/// Checks that a cpuset that exists already has processors and memory nodes.
fn cpuset(place: &Path) -> Option<Finding> {
    let is_empty = |file: &str| {
        let text = proc::text(place.join(file)).ok()?;
        text.trim().is_empty().then(|| file.to_owned())
    };
    // Version 2 takes the values of the parent for empty ones.
    place.join("cgroup.clone_children").exists().then_some(())?;
    let empty = is_empty("cpuset.cpus").or_else(|| is_empty("cpuset.mems"))?;
    Some(Finding::blocks(Cause::EmptyCpuset).detail(format!("{empty} is empty")))
}

/// Checks that a cgroup that exists already allows so many more tasks. A single one moves in, which
/// no limit forbids; the others are made inside.
fn pids(place: &Path, tasks: u64) -> Option<Finding> {
    let number = |file: &str| proc::text(place.join(file)).ok()?.trim().parse::<u64>().ok();
    let (most, now) = (number("pids.max")?, number("pids.current")?);
    (tasks > 1 && now.saturating_add(tasks) > most).then(|| {
        let detail = format!("it has {now} and allows {most}, the images have {tasks}");
        Finding::blocks(Cause::TooManyProcesses).detail(detail)
    })
}

/// Checks that a cgroup of version 2 that exists already may hold processes.
fn inner(place: &Path) -> Option<Finding> {
    let text = |file: &str| proc::text(place.join(file)).ok();
    // The root of the hierarchy may hold processes in any case.
    let kind = text("cgroup.type")?;
    let gives = text("cgroup.subtree_control").unwrap_or_default();
    let is_domain = kind.trim() == "domain";
    let detail = match kind.trim() {
        "domain invalid" => "its type is \"domain invalid\"".to_owned(),
        _ if is_domain && !gives.trim().is_empty() => {
            format!("it gives the controllers {} to cgroups below it", gives.trim())
        }
        _ => return None,
    };
    Some(Finding::blocks(Cause::CgroupRefused).detail(detail))
}
