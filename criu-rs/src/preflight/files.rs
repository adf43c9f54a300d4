//! Files that tasks hold: open files, programs, mapped files and directories.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, PROC_SUPER_MAGIC, statfs};

use super::finding::{Finding, Severity};
use super::kernel;
use super::live::{Task, Tree};
use super::look::Look;
use super::need::Need;
use super::proc::{self, Fd, Kind, Meta, Mount};
use crate::diagnosis::Cause;
use crate::value::{External, Pid, Version};

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let mut files =
        Files { tree, look, mounts: tree.mounts(), seen: HashSet::new(), found: Vec::new() };
    for (task, fd) in tree.fds() {
        files.descriptor(task, fd);
    }
    for task in tree.alive() {
        files.surroundings(task);
    }
    files.found
}

struct Files<'a> {
    tree: &'a Tree,
    look: &'a Look<'a>,
    mounts: BTreeMap<u32, Mount>,
    /// Unlinked files that were checked already, by device and inode.
    seen: HashSet<(u64, u64)>,
    found: Vec<Finding>,
}

impl Files<'_> {
    fn descriptor(&mut self, task: &Task, fd: &Fd) {
        let finding = match fd.meta.kind {
            // A file in which a socket is bound, opened with O_PATH.
            Kind::Socket if fd.is_path() => Some(unsupported("the file of a socket (O_PATH)")),
            Kind::Socket => None,
            Kind::Character => self.device(task, fd),
            Kind::Block => Some(unsupported("a block device")),
            // A kernel before 6.9 gives pidfds no file system of their own.
            _ if is_pidfd(fd.name()) => self.pidfd(fd),
            _ if fd.name().starts_with("anon_inode:") => anonymous(fd, self.look),
            Kind::Other => Some(unsupported("a kernel file of an unknown kind")),
            Kind::Fifo if fd.name().starts_with("pipe:[") => None,
            Kind::Fifo => self.visible(task, fd),
            Kind::Regular | Kind::Directory | Kind::Link if !fd.is_path() => self.nameless(fd),
            Kind::Regular | Kind::Directory | Kind::Link => self.file(task, fd),
        };
        let place = |finding: Finding| finding.pid(task.pid).fd(fd.number).path(&fd.link);
        self.found.extend(finding.map(place));
    }

    fn device(&self, task: &Task, fd: &Fd) -> Option<Finding> {
        let (major, minor) = fd.meta.device();
        match (major, minor) {
            // Memory devices: null, zero, random. Terminals have a check of their own.
            (MEM, _) => self.visible(task, fd),
            (MISC, AUTOFS) => self.visible(task, fd),
            (MISC, TUN) if self.tree.saves("net") => None,
            (MISC, TUN) => Some(unsupported("a tun device outside a network namespace of its own")),
            _ if super::terminals::is_saved(major, minor) => None,
            _ if super::terminals::is_terminal(major) => {
                Some(unsupported(format!("the serial line or console {major}:{minor}")))
            }
            _ => Some(match fd.name() {
                name if name.starts_with("/dev/nvidia") => {
                    let what = "a device of an NVIDIA GPU";
                    unsupported(what).hint("CRIU needs its cuda plugin, and cuda-checkpoint")
                }
                name if name.starts_with("/dev/kfd") || name.starts_with("/dev/dri/") => {
                    unsupported("a device of a GPU").hint("CRIU needs its amdgpu plugin")
                }
                _ => unsupported(format!("the device {major}:{minor}")),
            }),
        }
    }

    /// Checks a file without a path: a namespace or a memory file.
    fn nameless(&self, fd: &Fd) -> Option<Finding> {
        if fd.name().starts_with("memfd:") {
            return None;
        }
        let kind = fd.name().split(':').next().unwrap_or_default();
        let inode = proc::bracketed(fd.name(), kind);
        let of_tree = |task: &Task| inode.is_some() && task.namespaces.get(kind) == inode;
        if self.tree.here.get(kind) == inode && inode.is_some() || self.tree.alive().any(of_tree) {
            return None;
        }
        Some(unsupported("a namespace that no process of the tree is in"))
    }

    /// Checks a pidfd: its process has to be in the tree, or to have ended.
    fn pidfd(&self, fd: &Fd) -> Option<Finding> {
        if self.look.version < Version::new(4, 1, 0) {
            return Some(unsupported("a pidfd, which needs CRIU 4.1"));
        }
        // PIDFD_THREAD.
        if fd.flags().is_some_and(|flags| flags & nix::libc::O_EXCL != 0) {
            return Some(unsupported("a pidfd of a thread"));
        }
        let pid: i32 = proc::value(&fd.info, "Pid")?.parse().ok()?;
        if pid <= 0 || self.tree.has(pid) {
            return None;
        }
        Some(Finding::blocks(Cause::PidfdOutside).detail(format!("it refers to process {pid}")))
    }

    /// Checks a file with a path.
    fn file(&mut self, task: &Task, fd: &Fd) -> Option<Finding> {
        // A memory file is on a mount that nobody sees.
        if link_starts(&fd.link, b"/memfd:") || self.is_named(fd) {
            return None;
        }
        let hidden = || self.of_kernel(task, fd).or_else(|| self.visible(task, fd));
        // Programs write a file anew and rename it all the time, also during this look.
        hidden()
            .or_else(|| self.of_proc(fd))
            .or_else(|| self.remapped(task, &fd.link, fd.meta).filter(|_| fd.is_the_same(task.pid)))
    }

    /// Checks for a file on a mount of the kernel's own, which no task can open by a name.
    fn of_kernel(&self, task: &Task, fd: &Fd) -> Option<Finding> {
        if fd.mount.is_none_or(|mount| self.mounts.contains_key(&mount)) {
            return None;
        }
        let place = proc::of(task.pid, "fd").join(fd.number.to_string());
        let detail = match statfs(&place).ok()?.filesystem_type() {
            FsType(MQUEUE) => "a POSIX message queue",
            FsType(SECRETMEM) => "secret memory (memfd_secret)",
            _ => return None,
        };
        let finding = unsupported(detail).hint("have the program close it: CRIU does not save it");
        // CRIU complains of the mount.
        Some(Finding { cause: Some(Cause::FileOutsideMounts), ..finding })
    }

    /// Checks a file in `/proc` that a restore opens again while not all is there.
    fn of_proc(&self, fd: &Fd) -> Option<Finding> {
        let mut parts = fd.link.strip_prefix("/proc").ok()?.iter();
        let pid: i32 = parts.next()?.to_str()?.parse().ok()?;
        let is_in_own = self.tree.saves("pid");
        let number = |of: &Task| if is_in_own { of.inner_pid() } else { Some(of.pid.as_raw()) };
        let is_inside = self.tree.tasks.iter().any(|of| number(of) == Some(pid));
        if is_inside {
            // CRIU makes threads after it has opened files.
            let tid =
                (parts.next()? == "task").then(|| parts.next()?.to_str()?.parse::<i32>().ok());
            let tid = tid.flatten().filter(|&tid| tid != pid)?;
            let what = "a file of a thread in /proc is open, which no restore can open again";
            let finding = Finding::new(Severity::Blocks, what).detail(format!("thread {tid}"));
            let hint = "have the program close it: CRIU opens files before it makes threads";
            let cause = Some(Cause::ProcFileMissing);
            return Some(Finding { cause, ..finding.hint(hint) });
        }
        if is_in_own || !proc::of_number(pid).exists() {
            return None;
        }
        let what = "a file in /proc of a process outside the tree is open";
        let detail = format!("a restore fails unless there is a process {pid} again");
        Some(Finding::new(Severity::Loses, what).detail(detail))
    }

    /// Returns true if the caller has named the file as external.
    fn is_named(&self, fd: &Fd) -> bool {
        let Some(mount) = fd.mount else { return false };
        self.look.is_external(&format!("file[{mount:x}:{:x}]", fd.meta.inode))
    }

    /// Checks that the mounts of the tree show the file.
    fn visible(&self, task: &Task, fd: &Fd) -> Option<Finding> {
        let mount = fd.mount?;
        if self.is_named(fd) || task.namespaces.is_empty() {
            return None;
        }
        let Some(of) = self.mounts.get(&mount) else {
            let external = External::File { mount, inode: fd.meta.inode };
            let needs = vec![Need::External(external)];
            return Some(Finding::needs(Cause::FileOutsideMounts, needs, false));
        };
        let covers = |other: &&Mount| other.parent == of.id && other.point == of.point;
        let cover = self.mounts.values().find(|other| covers(other) && other.id != of.id)?;
        let detail = format!("{} is mounted over it", cover.fs);
        Some(Finding::blocks(Cause::Overmounted).detail(detail))
    }

    /// Checks that the file can be opened again by the name under which it was opened.
    fn remapped(&mut self, task: &Task, link: &Path, meta: Meta) -> Option<Finding> {
        let of_kernel: [&[u8]; 7] = [
            b"/SYSV",
            b"/dev/zero",
            b"/[aio]",
            b"/anon_hugepage",
            b"/dev/pts/",
            b"/memfd:",
            b"/secretmem",
        ];
        if of_kernel.iter().any(|start| link_starts(link, start)) || link.starts_with("/proc") {
            return None;
        }
        if meta.links == 0 {
            let is_new = self.seen.insert((meta.dev, meta.inode));
            return is_new.then(|| self.ghost(meta)).flatten();
        }
        let here = self.tree.is_here("mnt", task);
        let path = task.outside_path(link, here)?;
        let name = link.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let may_be_silly = name.starts_with(".nfs");
        let there = std::fs::symlink_metadata(&path);
        // Most files are where they were.
        if there.as_ref().is_ok_and(|there| there.ino() == meta.inode) && !may_be_silly {
            return None;
        }
        let of_proc = statfs(&path).map(|fs| fs.filesystem_type());
        if of_proc == Ok(PROC_SUPER_MAGIC) || link.starts_with("/proc") {
            return None;
        }
        let silly = may_be_silly && of_proc == Ok(NFS_SUPER_MAGIC);
        let is_gone = matches!(&there, Err(e) if e.kind() == std::io::ErrorKind::NotFound);
        if silly || is_gone {
            let is_set = self.look.opts.link_remap();
            let finding = Finding::needs(Cause::LinkRemap, vec![Need::LinkRemap], is_set);
            let detail = "it was unlinked but still has other names";
            return Some(finding.detail(if silly { "NFS has renamed it" } else { detail }));
        }
        let other = Meta::of(&path)?;
        // Some file systems report different device numbers for one file: compare only the inode.
        if other.inode == meta.inode || !matches!(meta.kind, Kind::Regular) {
            return None;
        }
        Some(Finding::blocks(Cause::PathTaken))
    }

    /// Checks an unlinked file, whose content goes into the images, against the limit.
    fn ghost(&self, meta: Meta) -> Option<Finding> {
        let limit = self.look.opts.ghost_limit.unwrap_or(GHOST_LIMIT);
        let detail = format!("{} KiB", meta.allocated / 1024);
        if meta.allocated <= u64::from(limit) {
            let what = "an unlinked file is saved with its content";
            return Some(Finding::new(Severity::Info, what).detail(detail));
        }
        // The file may grow until the dump, so ask for a quarter more. CRIU's limit has 32 bits.
        let ample = meta.allocated.saturating_add(meta.allocated / 4);
        Some(match (u32::try_from(ample), u32::try_from(meta.allocated)) {
            (Ok(bytes), _) | (Err(_), Ok(bytes)) => {
                let needs = vec![Need::GhostLimit(bytes)];
                Finding::needs(Cause::GhostTooLarge, needs, false).detail(detail).safe()
            }
            (Err(_), Err(_)) => {
                let hint = "close the file: CRIU cannot save more than 4 GiB";
                Finding::blocks(Cause::GhostTooLarge).detail(detail).hint(hint)
            }
        })
    }

    /// Checks the program, the working and root directory, and mapped files that are unlinked.
    fn surroundings(&mut self, task: &Task) {
        for name in ["exe", "cwd", "root"] {
            let Some((link, meta)) = task.linked(name) else { continue };
            // CRIU saves a program in memory as a memory file.
            if link_starts(&link, b"/memfd:") {
                continue;
            }
            let finding = self.outside(task, name).or_else(|| match name {
                "root" => None,
                _ => self.remapped(task, &link, meta),
            });
            let place = |finding: Finding| finding.pid(task.pid).path(&link);
            self.found.extend(finding.map(place));
        }
        for (place, link) in unlinked_mappings(task.pid) {
            let Some(meta) = Meta::of(&place) else { continue };
            let finding = self.remapped(task, &link, meta);
            self.found.extend(finding.map(|finding| finding.pid(task.pid).path(&link)));
        }
    }

    /// Checks that the mounts of the tree show a directory or a program.
    fn outside(&self, task: &Task, name: &str) -> Option<Finding> {
        let path = proc::of(task.pid, name);
        let mut how = File::options();
        // O_PATH does not touch the file: the file system is not asked to open it.
        how.read(true).custom_flags(nix::libc::O_PATH | nix::libc::O_CLOEXEC);
        let file = how.open(path).ok()?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&file.as_fd());
        let info = proc::text(format!("/proc/thread-self/fdinfo/{number}")).ok()?;
        let mount: u32 = proc::value(&info, "mnt_id")?.parse().ok()?;
        if self.mounts.contains_key(&mount) || self.mounts.is_empty() {
            return None;
        }
        let detail = format!("{name} of the process");
        let hint = "start the process inside its mount namespace";
        Some(Finding::blocks(Cause::FileOutsideMounts).detail(detail).hint(hint))
    }
}

/// The unlinked files that a process has mapped: a path to each file in `/proc`, and its old name.
fn unlinked_mappings(pid: Pid) -> Vec<(PathBuf, PathBuf)> {
    let Ok(maps) = proc::text(proc::of(pid, "maps")) else { return Vec::new() };
    let mut found: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut before = "";
    for line in maps.lines().filter(|line| line.ends_with(" (deleted)")) {
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let Some(start) = rest.find('/') else { continue };
        let path = rest.get(start..).unwrap_or_default();
        if path == before || found.len() == MAX_MAPPINGS {
            continue;
        }
        before = path;
        // Names in map_files have no leading zeros.
        let Some((low, high)) = range.split_once('-') else { continue };
        let short = |number: &str| match number.trim_start_matches('0') {
            "" => "0".to_owned(),
            digits => digits.to_owned(),
        };
        let name = format!("{}-{}", short(low), short(high));
        found.push((proc::of(pid, "map_files").join(name), path.into()));
    }
    found
}

fn link_starts(link: &Path, start: &[u8]) -> bool {
    link.as_os_str().as_bytes().starts_with(start)
}

fn is_pidfd(name: &str) -> bool {
    name == "anon_inode:[pidfd]" || name.starts_with("pidfd:[")
}

/// Checks an anonymous kernel file (`anon_inode`) by its purpose.
fn anonymous(fd: &Fd, look: &Look<'_>) -> Option<Finding> {
    let name = fd.name();
    let name = name.strip_prefix("anon_inode:").unwrap_or(name);
    let plain = name.trim_start_matches('[').trim_end_matches(']');
    let what = match plain {
        // CRIU knows the clocks that do not wake the machine.
        "timerfd" if matches!(proc::value(&fd.info, "clockid"), Some("8" | "9")) => {
            "a timer that wakes the machine (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)"
        }
        "eventfd" | "eventpoll" | "inotify" | "fanotify" | "signalfd" | "timerfd" => return None,
        "bpf-map" if kernel::knows_bpf(look) => return None,
        "bpf-map" => "a BPF map, with a CRIU that was built without libbpf",
        "io_uring" => "an io_uring",
        "perf_event" => "a performance counter",
        "userfaultfd" => "a userfaultfd",
        "seccomp notify" => "a seccomp listener",
        "landlock-ruleset" => "a Landlock ruleset",
        "fscontext" | "mount" => "a mount that is being made",
        name if name.starts_with("bpf") => "a BPF program or link",
        name if name.starts_with("kvm") => "a virtual machine (kvm)",
        _ => "a kernel file of an unknown kind",
    };
    let finding = unsupported(what);
    Some(match plain {
        "io_uring" => finding.hint("run the program without io_uring: CRIU does not save it"),
        _ => finding,
    })
}

fn unsupported(what: impl Into<String>) -> Finding {
    Finding::blocks(Cause::UnsupportedFile).detail(what.into())
}

/// Major number of memory devices.
const MEM: u64 = 1;
/// Major number of miscellaneous devices, and the minor numbers of two of them.
const MISC: u64 = 10;
const TUN: u64 = 200;
const AUTOFS: u64 = 235;

/// Numbers of file systems of the kernel's own.
const MQUEUE: nix::libc::__fsword_t = 0x1980_0202;
const SECRETMEM: nix::libc::__fsword_t = 0x5345_434d;

/// CRIU's default limit on the size of an unlinked file, in bytes.
const GHOST_LIMIT: u32 = 1 << 20;

/// Most unlinked mapped files of a process that are checked.
const MAX_MAPPINGS: usize = 1000;
