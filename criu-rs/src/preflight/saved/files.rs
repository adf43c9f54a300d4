//! Checks of files that a restore opens by path.

use std::ffi::OsStr;
use std::fs::File as HostFile;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use criu_images::proto::RegFileEntry;
use criu_images::requirements::{Holder, PlaceInTask, Requirement, SavedPath};
use nix::sys::statvfs::FsFlags;

use super::Saved;
use super::places::{Place, Places};
use crate::diagnosis::Cause;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::look::Look;
use crate::preflight::need::Need;
use crate::value::Pid;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let places = Places::new(saved);
    let mut found = Vec::new();
    for requirement in &saved.requirements {
        match requirement {
            Requirement::Path(file) => found.extend(path(saved, &places, file)),
            Requirement::MountPoint(point) => {
                let path = Path::new(OsStr::from_bytes(&point.target));
                let mount = i32::try_from(point.mount).unwrap_or(-1);
                let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
                let place = places.find(path, mount).and_then(Result::err);
                if place.is_some_and(is_missing) {
                    found.push(Finding::blocks(Cause::MountPointMissing).path(path));
                }
            }
            Requirement::Watch(watch) if !watch.own_namespace => {
                let Some(path) = &watch.path else { continue };
                let path = Path::new(OsStr::from_bytes(path));
                if path.symlink_metadata().is_err() {
                    let finding = Finding::blocks(Cause::FileMissing).path(path);
                    found.push(finding.detail("a task watches it"));
                }
            }
            _ => {}
        }
    }
    found
}

fn path(saved: &Saved<'_>, places: &Places, file: &SavedPath) -> Option<Finding> {
    let reg = &file.entry;
    let path = Path::new(OsStr::from_bytes(&reg.name));
    let key = reg.name.strip_prefix(b"/").unwrap_or(&reg.name);
    // Terminals are looked up by number; a file that the caller gives is not looked up.
    if file.is_terminal || !path.is_absolute() || saved.is_given(key) {
        return None;
    }
    let finding = match of_proc(saved, path) {
        Some(Process::Ours) => return None,
        Some(Process::OwnThread) => return thread(path, file.holder),
        Some(Process::Other(pid)) if file.own_namespace => Some(other(pid)),
        Some(Process::Other(pid)) if path.symlink_metadata().is_err() => Some(other(pid)),
        // Another process may have the number by now.
        Some(Process::Other(pid)) => {
            let what = "a task has a file of a process outside the tree open";
            let detail = format!("process {pid} of this host may be another one");
            Some(Finding::new(Severity::Loses, what).detail(detail))
        }
        None => match places.find(path, reg.mnt_id())? {
            Ok(place) => compare(reg, &place, saved.look),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let of_kernel = path.starts_with("/proc") || path.starts_with("/sys");
                let is_link = reg.name.rsplit(|&byte| byte == b'/').next();
                let is_link = is_link.is_some_and(|name| name.starts_with(b"link_remap."));
                let cause = match (of_kernel, is_link) {
                    (true, _) => Cause::ProcFileMissing,
                    (false, true) => Cause::LinkRemapMissing,
                    (false, false) => Cause::FileMissing,
                };
                Some(Finding::blocks(cause))
            }
            Err(error) => {
                let what = "a file that a process has open cannot be checked";
                Some(Finding::new(Severity::Loses, what).detail(error.to_string()))
            }
        },
    };
    finding.map(|finding| held(finding.path(path), file.holder))
}

/// Names the task that uses the file.
fn held(mut finding: Finding, holder: Option<Holder>) -> Finding {
    let Some(holder) = holder else { return finding };
    finding.subject.pid = Pid::try_from(holder.pid).ok();
    let place = match holder.place {
        PlaceInTask::Descriptor(fd) => {
            finding.subject.fd = i32::try_from(fd).ok();
            return finding;
        }
        PlaceInTask::Program => "its program",
        PlaceInTask::WorkingDirectory => "its working directory",
        PlaceInTask::RootDirectory => "its root directory",
        PlaceInTask::Mapping => "it maps the file",
        _ => return finding,
    };
    let joint = if finding.detail.is_empty() { "" } else { "; " };
    finding.detail = format!("{place}{joint}{}", finding.detail);
    finding
}

/// The process that a file of `/proc` belongs to.
enum Process {
    /// A process of the tree.
    Ours,
    /// A thread of the tree that is not the first of its process.
    OwnThread,
    /// A process outside the tree.
    Other(u32),
}

/// Finds the process that a path in `/proc` names.
fn of_proc(saved: &Saved<'_>, path: &Path) -> Option<Process> {
    let below = path.strip_prefix("/proc").ok()?.to_str()?;
    let mut parts = below.split('/');
    let pid: u32 = parts.next()?.parse().ok()?;
    let Some(task) = saved.checkpoint.task(pid) else {
        let is_thread = saved.checkpoint.tasks().any(|task| task.tids().contains(&pid));
        return Some(if is_thread { Process::OwnThread } else { Process::Other(pid) });
    };
    let thread = match (parts.next(), parts.next()) {
        (Some("task"), Some(thread)) => thread.parse().ok(),
        _ => None,
    };
    let is_late = thread.is_some_and(|thread: u32| thread != task.pid());
    Some(if is_late { Process::OwnThread } else { Process::Ours })
}

/// A finding for a file of a thread. CRIU opens files first and makes threads last.
fn thread(path: &Path, holder: Option<Holder>) -> Option<Finding> {
    let detail = "it belongs to a thread, and CRIU makes threads after it opens files";
    Some(held(Finding::blocks(Cause::ProcFileMissing).path(path).detail(detail), holder))
}

fn other(pid: u32) -> Finding {
    Finding::blocks(Cause::ProcFileMissing).detail(format!("there is no process {pid}"))
}

/// Compares a saved file with the file on this host.
fn compare(reg: &RegFileEntry, place: &Place, look: &Look<'_>) -> Option<Finding> {
    let meta = place.metadata().ok()?;
    let writes = reg.flags & O_ACCMODE != 0;
    if meta.is_dir() && writes {
        return Some(Finding::blocks(Cause::FileRefused).detail("it is a directory now"));
    }
    let changed = |detail: String| Finding::blocks(Cause::FileChanged).detail(detail);
    if let Some(size) = reg.size.filter(|&size| size != meta.size()) {
        return Some(changed(format!(
            "its size in bytes is {}, and was {size} at the dump",
            meta.size()
        )));
    }
    if let Some(mode) = reg.mode.filter(|&mode| mode != meta.mode()) {
        let detail = format!("it has mode {:o}, and had {mode:o} at the dump", meta.mode());
        if mode & !0o777 != meta.mode() & !0o777 {
            return Some(changed(detail));
        }
        let is_set = look.opts.skip_file_rwx_check();
        let needs = vec![Need::SkipFileRwxCheck];
        return Some(Finding::needs(Cause::FileChanged, needs, is_set).detail(detail));
    }
    if let Some(finding) = read_only(reg, place).filter(|_| meta.is_file()) {
        return Some(finding);
    }
    if reg.build_id.is_empty() || !meta.is_file() {
        return None;
    }
    let saved: Vec<u8> = reg.build_id.iter().flat_map(|word| word.to_le_bytes()).collect();
    let id = build_id(&place.path())?;
    // The image pads the id to whole words.
    let same = saved.get(..id.len()) == Some(&id[..]) && saved.len() - id.len() < 4;
    (!same).then(|| changed("it is another build of the same size".to_owned()))
}

/// Checks that a file that was open for writing is not on a file system that is read-only here.
fn read_only(reg: &RegFileEntry, place: &Place) -> Option<Finding> {
    let writes = reg.flags & O_ACCMODE != 0;
    let facts = place.file_system().filter(|_| writes)?;
    facts.flags().contains(FsFlags::ST_RDONLY).then(|| {
        let detail = "it was open for writing, and its file system is read-only";
        Finding::blocks(Cause::FileRefused).detail(detail)
    })
}

/// The build id of a 64-bit ELF program.
fn build_id(path: &Path) -> Option<Vec<u8>> {
    let mut how = HostFile::options();
    how.read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC);
    let file = how.open(path).ok()?;
    let read = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    };
    let head = read(0, 64)?;
    head.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let short =
        |bytes: &[u8], at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let word =
        |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long =
        |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (table, each, count) = (long(&head, 32)?, short(&head, 54)?, short(&head, 56)?);
    for n in 0..u64::from(count.min(MAX_SEGMENTS)) {
        let at = table.checked_add(n.checked_mul(each.into())?)?;
        let segment = read(at, 56)?;
        if word(&segment, 0)? != PT_NOTE {
            continue;
        }
        let size = usize::try_from(long(&segment, 32)?).ok()?.min(MAX_NOTES);
        let notes = read(long(&segment, 8)?, size)?;
        let mut rest = &notes[..];
        while let (Some(name), Some(length), Some(kind)) =
            (word(rest, 0), word(rest, 4), word(rest, 8))
        {
            let padded = |n: u32| usize::try_from(n).ok()?.checked_next_multiple_of(4);
            let start = 12usize.checked_add(padded(name)?)?;
            let value = rest.get(start..start.checked_add(usize::try_from(length).ok()?)?)?;
            if kind == NT_GNU_BUILD_ID && rest.get(12..16) == Some(b"GNU\0") {
                return Some(value.to_vec());
            }
            rest = rest.get(start.checked_add(padded(length)?)?..)?;
        }
    }
    None
}

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// The bits of `O_` flags that tell reading from writing.
const O_ACCMODE: u32 = 3;

/// Most program headers that are read, and most bytes of notes in a segment.
const MAX_SEGMENTS: u16 = 1000;
const MAX_NOTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_a_build_id_and_text_has_none() {
        let own = build_id(Path::new("/proc/self/exe"));
        assert!(own.is_none_or(|id| id.len() == 20 || id.len() == 16));
        assert!(build_id(Path::new("/etc/passwd")).is_none());
        assert!(build_id(Path::new("/bin/sh")).is_some());
    }
}
