//! The check of images against this host.

mod files;

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use criu_images::proto::{CgroupEntry, Lsmtype, PagemapEntry};
use criu_images::view::Summary;
use criu_images::{Checkpoint, Image, ImageSet, NamespaceKind, kind};

use crate::diagnosis::Cause;
use crate::operation::{CpuInfo, Restore, Scratch};
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::look::Look;
use crate::preflight::need::Need;
use crate::preflight::{proc, rights};
use crate::rpc::CriuCgMode;
use crate::value::{CpuCap, External, Pid, Version};

/// The size of a checkpoint.
#[derive(Default)]
pub(in crate::preflight) struct Size {
    pub(in crate::preflight) tasks: usize,
    pub(in crate::preflight) threads: usize,
    pub(in crate::preflight) files: usize,
    /// Bytes of memory.
    pub(in crate::preflight) memory: u64,
}

pub(in crate::preflight) fn look(restore: &Restore<'_>, look: &Look<'_>) -> (Vec<Finding>, Size) {
    let nothing = Size::default();
    // Look::new has already reported the error.
    let Ok(Some(directory)) = restore.common.opts.images.open() else {
        return (Vec::new(), nothing);
    };
    let path = restore.common.opts.images.path();
    let inside = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    if !inside.join(kind::INVENTORY.file).exists() {
        return (vec![Finding::blocks(Cause::NotCheckpoint).path(path)], nothing);
    }
    let set = match ImageSet::open(&inside) {
        Ok(set) => set,
        Err(error) => return (vec![unreadable(&error, &path)], nothing),
    };
    match host(&set, look, &inside) {
        Ok(found) => found,
        Err(error) => (vec![unreadable(&error, &path)], nothing),
    }
}

fn unreadable(error: &criu_images::Error, path: &Path) -> Finding {
    let what = "the images are damaged or of an unknown kind";
    Finding::new(Severity::Blocks, what).path(path).detail(error.to_string())
}

fn host(
    set: &ImageSet,
    look: &Look<'_>,
    inside: &Path,
) -> criu_images::Result<(Vec<Finding>, Size)> {
    let checkpoint = set.checkpoint()?;
    let summary = Summary::new(checkpoint)?;
    let mut found = rights::of_restore(look);
    found.extend(version(set, look)?);
    found.extend(cpu(look, inside));
    found.extend(labels(&summary, look));
    let own = |wanted: NamespaceKind| -> criu_images::Result<bool> {
        let all = checkpoint.root().namespaces()?;
        Ok(all.iter().any(|namespace| namespace.kind == wanted && !namespace.host))
    };
    if !own(NamespaceKind::Pid)? {
        found.extend(ids(checkpoint));
    }
    if own(NamespaceKind::Mnt)? {
        let what = "files in a mount namespace of the images' own are not checked";
        found.push(Finding::new(Severity::Info, what));
    } else {
        found.extend(files::look(checkpoint, look)?);
    }
    if !own(NamespaceKind::Net)? {
        found.extend(files::ports(checkpoint)?);
    }
    found.extend(summary.needs.iter().filter_map(|need| option(&need.option, &need.why, look)));
    found.extend(cgroups(set, look)?);
    let memory = summary.pages.present.saturating_mul(summary.page_size);
    found.extend(room(memory));
    let files = checkpoint.files()?.len();
    Ok((found, Size { tasks: summary.tasks, threads: summary.threads, files, memory }))
}

/// Checks that this CRIU is new enough for the images.
fn version(set: &ImageSet, look: &Look<'_>) -> criu_images::Result<Option<Finding>> {
    let skew = |needs: Version| {
        let detail = format!("they need CRIU {needs}, this one is {}", look.version);
        Finding::blocks(Cause::VersionSkew).detail(detail)
    };
    if set.inventory().img_version > 2 && look.version < Version::new(4, 3, 0) {
        return Ok(Some(skew(Version::new(4, 3, 0))));
    }
    let newer = Version::new(4, 2, 0);
    for task in set.checkpoint()?.tasks() {
        let name = kind::PAGEMAP.file_name(task.pid().into());
        let Some(bytes) = set.read(&name)? else { continue };
        let mut image = Image::parse(&name, &bytes, kind::PAGEMAP)?;
        // The first entry is the head, the second is a run of pages.
        let _head = image.next_entry()?;
        if let Some(entry) = image.next_entry()? {
            let wide = entry.decode::<PagemapEntry>()?.nr_pages.is_some();
            return Ok((wide && look.version < newer).then(|| skew(newer)));
        }
    }
    Ok(None)
}

/// Compares the CPU with the one that the images record, if they record one.
fn cpu(look: &Look<'_>, inside: &Path) -> Option<Finding> {
    inside.join(kind::CPUINFO.file).exists().then_some(())?;
    // The scratch directory keeps CRIU's log out of the images directory.
    let scratch = Scratch::new().ok()?;
    let mut check = CpuInfo::new(inside).work_dir(scratch.path());
    check = check.raw(|opts| opts.cpu_cap = look.opts.cpu_cap);
    let error = check.check(&look.criu.without_libcriu()).err()?;
    let cause = error.cause().unwrap_or(Cause::CpuMismatch);
    let said = error.failure().and_then(|failure| failure.said());
    // A restore compares only if it is asked to. Without the comparison, a program that detected
    // the features of the old CPU may die of a missing instruction.
    let asked = CpuCap::from_bits_retain(look.opts.cpu_cap.unwrap_or_default());
    let compares = asked.intersects(CpuCap::CPU | CpuCap::INS | CpuCap::FPU);
    let severity = if compares { Severity::Blocks } else { Severity::Loses };
    Some(Finding::of(severity, cause).detail(said.map_or_else(|| error.to_string(), str::to_owned)))
}

/// Checks that this host runs the security module of the images and of the requested profile.
fn labels(summary: &Summary, look: &Look<'_>) -> Option<Finding> {
    let host = if Path::new("/sys/kernel/security/apparmor").exists() {
        Lsmtype::Apparmor
    } else if Path::new("/sys/fs/selinux").exists() {
        Lsmtype::Selinux
    } else {
        Lsmtype::NoLsm
    };
    let name = |of: Lsmtype| match of {
        Lsmtype::NoLsm => None,
        Lsmtype::Selinux => Some("SELinux"),
        Lsmtype::Apparmor => Some("AppArmor"),
    };
    let here = name(host).unwrap_or("neither SELinux nor AppArmor");
    let differs = summary.lsm.is_some() && summary.lsm != name(host);
    let asked = look.opts.lsm_profile.as_deref().and_then(|profile| match profile {
        profile if profile.starts_with(b"selinux:") => Some(Lsmtype::Selinux),
        profile if profile.starts_with(b"apparmor:") => Some(Lsmtype::Apparmor),
        _ => None,
    });
    let detail = match asked {
        Some(asked) if asked != host => {
            format!("the requested profile is for {}, this host runs {here}", name(asked)?)
        }
        _ if differs && !summary.labels.is_empty() => {
            format!("the images come from a host with {}, this host runs {here}", summary.lsm?)
        }
        _ => return None,
    };
    Some(Finding::blocks(Cause::LsmMismatch).detail(detail))
}

/// Checks that the ids of processes, threads, sessions and groups are free.
fn ids(checkpoint: Checkpoint<'_>) -> Vec<Finding> {
    let mut wanted: Vec<u32> = Vec::new();
    for task in checkpoint.tasks() {
        wanted.push(task.pid());
        wanted.extend(task.tids());
        // CRIU recreates ended leaders for a while, so their ids count too.
        let leaders = [task.sid(), task.pgid()];
        let root = checkpoint.root();
        let outside = root.sid() != root.pid();
        wanted.extend(
            leaders.into_iter().filter(|&id| !(outside && [root.sid(), root.pgid()].contains(&id))),
        );
    }
    wanted.sort_unstable();
    wanted.dedup();
    let pids = wanted.into_iter().filter_map(|id| Pid::try_from(id).ok());
    let used = pids.filter_map(|pid| Some((pid, proc::text(proc::of(pid, "status")).ok()?)));
    let finding = |(pid, status): (Pid, String)| {
        let name = proc::value(&status, "Name").unwrap_or_default().to_owned();
        let state = proc::value(&status, "State").unwrap_or_default();
        let zombie = if state.starts_with('Z') { ", a zombie that was not reaped" } else { "" };
        let detail = format!("it is {}{zombie}", name.escape_debug());
        Finding::blocks(Cause::PidInUse).pid(pid).detail(detail)
    };
    used.map(finding).collect()
}

/// A finding for an option that the images need on restore.
fn option(option: &str, why: &str, look: &Look<'_>) -> Option<Finding> {
    let opts = &look.opts;
    let key = |start: &str, end: &str| {
        let (_, rest) = option.split_once(start)?;
        Some(rest.rsplit_once(end)?.0.to_owned())
    };
    let (need, is_set, is_choice) = match option.split(' ').next().unwrap_or_default() {
        "--tcp-established" => (Need::TcpEstablished, opts.tcp_established(), true),
        "--tcp-close" => (Need::TcpClose, opts.tcp_close(), false),
        "--ext-unix-sk" => (Need::ExtUnixSk, opts.ext_unix_sk(), false),
        "--file-locks" => (Need::FileLocks, opts.file_locks(), false),
        "--shell-job" => (Need::ShellJob, opts.shell_job(), true),
        "--lazy-pages" => (Need::LazyPages, opts.lazy_pages(), true),
        "--root" => (Need::Root, opts.root.is_some(), true),
        "--inherit-fd" => {
            let key = key("fd[FD]:", "'")?;
            let given = opts.inherit_fd.iter().any(|fd| fd.key == key.as_bytes());
            (Need::InheritFd(key), given, true)
        }
        "--external" => {
            let name = key("'mnt[", "]:PATH'")?;
            // With mnt[] CRIU finds the mount again by itself.
            let given = look.is_external(&format!("mnt[{name}]")) || look.finds_mounts();
            (Need::External(External::mount(name, "PATH")), given, true)
        }
        _ => (Need::Line(option.to_owned()), false, true),
    };
    let severity = match need {
        // CRIU goes on without these.
        Need::FileLocks | Need::Root if !is_set => Severity::Loses,
        // A configuration file may set it, which this crate cannot see.
        Need::Line(_) => Severity::Loses,
        _ if is_set => Severity::Info,
        _ => Severity::Needs,
    };
    let cause = matches!(need, Need::External(_)).then_some(Cause::ExternalMount);
    let finding = Finding::new(severity, "the images need an option on restore");
    let finding = finding.detail(format!("{option}: {why}"));
    Some(Finding { needs: vec![need], is_choice, cause, ..finding })
}

/// Checks that the cgroup controllers of the images are available here.
fn cgroups(set: &ImageSet, look: &Look<'_>) -> criu_images::Result<Vec<Finding>> {
    let ignored = look.opts.manage_cgroups_mode == Some(CriuCgMode::Ignore.into());
    let Some(bytes) = set.read(kind::CGROUP.file)?.filter(|_| !ignored) else {
        return Ok(Vec::new());
    };
    let mut image = Image::parse(kind::CGROUP.file, &bytes, kind::CGROUP)?;
    let Some(entry) = image.next_entry()? else { return Ok(Vec::new()) };
    let entry: CgroupEntry = entry.decode()?;
    let mine = proc::text("/proc/self/cgroup").unwrap_or_default();
    let here: Vec<&str> = mine.lines().filter_map(|line| line.split(':').nth(1)).collect();
    let missing = |names: &Vec<Vec<u8>>| {
        let name = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
        let is_here =
            |name: &String| here.iter().any(|line| line.split(',').any(|one| one == name));
        // CRIU creates a named hierarchy without controllers itself.
        names.iter().map(name).find(|name| !name.starts_with("name=") && !is_here(name))
    };
    let names = entry.controllers.iter().filter_map(|controller| missing(&controller.cnames));
    let finding = |name: String| {
        let shown = if name.is_empty() { "version 2".to_owned() } else { name };
        let finding = Finding::needs(Cause::CgroupMissing, vec![Need::IgnoreCgroups], false);
        finding.detail(shown.escape_debug().to_string())
    };
    Ok(names.map(finding).collect())
}

/// Checks that this machine has enough free memory.
fn room(memory: u64) -> Option<Finding> {
    let info = proc::text("/proc/meminfo").ok()?;
    let kib: u64 = *proc::numbers(&info, "MemAvailable").first()?;
    let what = "this machine has less memory free than the images hold";
    let detail = format!("{} MiB are free, {} MiB are saved", kib >> 10, memory >> 20);
    (kib.saturating_mul(1024) < memory).then(|| Finding::new(Severity::Loses, what).detail(detail))
}
