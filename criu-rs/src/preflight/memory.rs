//! Memory: mappings that cannot be saved, the size of a dump, and the time it takes.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::fstatvfs;
use nix::unistd::{SysconfVar, sysconf};

use super::finding::{Finding, Severity};
use super::live::{Task, Tree};
use super::look::Look;
use super::need::Need;
use super::proc;
use super::report::{Freeze, Report};
use crate::diagnosis::Cause;
use crate::host::tree;
use crate::operation::Dump;
use crate::value::Version;

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut budget = MAX_PAGES;
    let knows_guards = look.version >= Version::new(4, 2, 0);
    for task in tree.alive() {
        let maps = proc::text(proc::of(task.pid, "maps")).unwrap_or_default();
        for (cause, path) in maps.lines().filter_map(|line| mapping(line, tree, task)) {
            let finding = Finding::blocks(cause).pid(task.pid).path(path);
            if found.last() != Some(&finding) {
                found.push(finding);
            }
        }
        if !knows_guards && has_guard(task, &maps, &mut budget) {
            let detail =
                "this CRIU does not know guard regions (MADV_GUARD_INSTALL), CRIU 4.2 does";
            found.push(Finding::blocks(Cause::CriuTooOld).pid(task.pid).detail(detail));
        }
        found.extend(architecture(task));
    }
    found
}

/// The cause and path of a mapping that cannot be saved, from a line of `maps`.
fn mapping<'a>(line: &'a str, tree: &Tree, task: &Task) -> Option<(Cause, &'a str)> {
    let path = line.splitn(6, ' ').nth(5)?.trim_start();
    let is_device = path.starts_with("/dev/")
        && !["/dev/shm/", "/dev/zero", "/dev/hugepages/"].iter().any(|ok| path.starts_with(ok));
    match path {
        _ if path.starts_with("/SYSV") && !tree.saves("ipc") && tree.is_here("ipc", task) => {
            Some((Cause::SysvShm, path))
        }
        _ if path.starts_with("/secretmem") || path.starts_with("anon_inode:") => {
            Some((Cause::UnsupportedMapping, path))
        }
        // A file below /dev can be a regular file.
        _ if is_device && !is_regular(task, line) => Some((Cause::UnsupportedMapping, path)),
        _ => None,
    }
}

/// Returns true if private memory of a task has a guard region. At most `budget` pages are looked
/// at.
fn has_guard(task: &Task, maps: &str, budget: &mut usize) -> bool {
    let Ok(pagemap) = File::open(proc::of(task.pid, "pagemap")) else { return false };
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| size.try_into().ok());
    let Some(page) = page.filter(|&page: &u64| page > 0) else { return false };
    let anonymous = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let is_writable =
            rest.as_bytes().get(1) == Some(&b'w') && rest.as_bytes().get(3) == Some(&b'p');
        let (start, end) = range.split_once('-').filter(|_| is_writable)?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    });
    for (start, end) in anonymous {
        let pages = usize::try_from(end.saturating_sub(start) / page).unwrap_or(usize::MAX);
        let pages = pages.min(*budget);
        *budget -= pages;
        let mut bytes = vec![0; pages.saturating_mul(8)];
        if pagemap.read_exact_at(&mut bytes, start / page * 8).is_err() {
            continue;
        }
        let entries = bytes.chunks_exact(8).filter_map(|entry| entry.first_chunk());
        if entries.copied().map(u64::from_ne_bytes).any(|entry| entry & GUARD != 0) {
            return true;
        }
    }
    false
}

fn is_regular(task: &Task, line: &str) -> bool {
    let range = line.split(' ').next().unwrap_or_default();
    let meta = proc::Meta::of(proc::of(task.pid, "map_files").join(range));
    meta.is_some_and(|meta| meta.kind == proc::Kind::Regular)
}

/// Checks for a 32-bit program, which only some builds of CRIU save.
fn architecture(task: &Task) -> Option<Finding> {
    use std::io::Read;
    let mut head = [0; 20];
    std::fs::File::open(proc::of(task.pid, "exe")).ok()?.read_exact(&mut head).ok()?;
    let is_elf = head.starts_with(b"\x7fELF");
    let is_short = head.get(4) == Some(&1);
    (is_elf && is_short && cfg!(target_pointer_width = "64")).then(|| {
        let what =
            "a 32-bit program, which CRIU must be built for (criu check --feature compat_cr)";
        Finding::new(Severity::Loses, what).pid(task.pid)
    })
}

/// Measures what a dump has to save, and estimates how long the tasks will stand still.
pub(super) fn measure(tree: &Tree, report: &mut Report) {
    report.tasks = tree.tasks.len();
    report.threads = tree.tasks.iter().map(|task| task.threads).sum();
    report.descriptors = tree.fds().count();
    report.unreadable = tree.alive().filter(|task| task.fds.is_none()).count();
    report.memory = tree.root().map_or(0, |root| tree::memory(root.pid));
    let lines =
        |task: &Task| proc::text(proc::of(task.pid, "maps")).map_or(0, |maps| maps.lines().count());
    let mappings: usize = tree.alive().map(lines).sum();
    let each = |count: usize, micros: f64| {
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) * micros / 1e6
    };
    let fixed = 0.005
        + each(report.tasks, TASK)
        + each(report.threads.saturating_sub(report.tasks), THREAD)
        + each(report.descriptors, DESCRIPTOR)
        + each(mappings, MAPPING);
    let (memory, files) = (gibibytes(report.memory), gibibytes(report.files));
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    // What is not read is not estimated either.
    report.freeze = (report.unreadable == 0).then(|| Freeze {
        shortest: time(fixed * 0.25 + memory * FAST + files * ARCHIVE_FAST),
        longest: time(fixed * 5.0 + memory * SLOW + files * ARCHIVE_SLOW),
    });
}

/// Converts to GiB for an estimate. The loss of precision does not matter there.
#[allow(clippy::cast_precision_loss)]
fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Checks that the images directory holds no checkpoint and has room for the images.
pub(super) fn room(dump: &Dump<'_>, report: &mut Report) {
    let images = &dump.common.opts.images;
    let Ok(Some(directory)) = images.open() else { return };
    let path = images.path();
    let exists = nix::sys::stat::fstatat(
        directory.as_fd(),
        Path::new("inventory.img"),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    );
    if exists.is_ok() && !dump.overwrites() {
        let what = "the images directory holds a checkpoint already";
        let finding = Finding::new(Severity::Needs, what).path(&path);
        let finding = finding.hint("use another directory, or overwrite it");
        report.findings.push(Finding { needs: vec![Need::Overwrite], ..finding });
    }
    let message = dump.common.opts.message();
    let elsewhere =
        message.ps.is_some() || message.stream() || dump.common.opts.page_server_socket.is_some();
    let Ok(stat) = fstatvfs(&directory) else { return };
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    // Parent images and compression make the images smaller.
    let shrinks = message.parent_img.is_some() || message.compress.is_some();
    let needed = report.memory.saturating_add(report.files).saturating_add(OTHER_IMAGES);
    if !elsewhere && free < needed {
        let detail = format!(
            "{} MiB are free, about {} MiB are needed",
            free >> 20,
            needed.div_ceil(1 << 20)
        );
        let severity =
            if shrinks || free >= report.memory { Severity::Loses } else { Severity::Blocks };
        report.findings.push(Finding::of(severity, Cause::NoSpace).path(path).detail(detail));
    }
}

/// `PM_GUARD_REGION`, since Linux 6.15.
const GUARD: u64 = 1 << 58;

/// Most pages of a tree that are looked at: 16 GiB of memory.
const MAX_PAGES: usize = 4 << 20;

/// Microseconds of standing still for each item, measured with CRIU 4.3 on a machine of 2 cores.
const TASK: f64 = 2200.0;
const THREAD: f64 = 250.0;
const DESCRIPTOR: f64 = 35.0;
const MAPPING: f64 = 11.0;

/// Seconds for a GiB of memory. The fast value is for a file system in memory, the slow value for a
/// disk or a file system that allocates slowly.
const FAST: f64 = 0.12;
const SLOW: f64 = 4.0;

/// Seconds for a GiB of file systems in memory, which CRIU saves with tar.
const ARCHIVE_FAST: f64 = 0.5;
const ARCHIVE_SLOW: f64 = 15.0;

/// Approximate bytes of all images except memory pages.
const OTHER_IMAGES: u64 = 256 << 10;
