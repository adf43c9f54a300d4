//! Checks of FIFOs whose other end is not in the images.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use criu_images::requirements::{FifoEnd, Requirement};

use super::Saved;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::proc;
use crate::value::Pid;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let fifos = saved.requirements.iter().filter_map(|requirement| match requirement {
        Requirement::Fifo(fifo) if !fifo.own_namespace => Some(fifo),
        _ => None,
    });
    fifos.filter_map(alone).collect()
}

/// A finding for a FIFO that nobody on this host has open at the other end.
fn alone(fifo: &FifoEnd) -> Option<Finding> {
    let path = Path::new(OsStr::from_bytes(&fifo.path));
    let meta = fs::metadata(path).ok()?;
    if is_held((meta.dev(), meta.ino()), fifo.reads) {
        return None;
    }
    let what = "nobody has the other end of a FIFO open";
    let (effect, hint) = if fifo.reads {
        ("who reads it sees the end of the input", "open the FIFO for writing first")
    } else {
        ("who writes to it gets SIGPIPE", "open the FIFO for reading first")
    };
    Some(Finding::new(Severity::Loses, what).path(path).detail(effect).hint(hint))
}

/// Returns true if a process has a file open for writing, or for reading.
fn is_held(file: (u64, u64), for_writing: bool) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let pids: HashSet<Pid> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .take(MAX_PROCESSES)
        .collect();
    pids.into_iter().any(|pid| {
        let Ok(fds) = fs::read_dir(proc::of(pid, "fd")) else { return false };
        fds.filter_map(Result::ok).take(MAX_FILES).any(|entry| {
            let same = fs::metadata(entry.path());
            let same = same.is_ok_and(|meta| (meta.dev(), meta.ino()) == file);
            same && opens(pid, &entry.file_name(), for_writing)
        })
    })
}

/// Returns true if a descriptor was opened for writing, or for reading.
fn opens(pid: Pid, fd: &OsStr, for_writing: bool) -> bool {
    let info = proc::text(proc::of(pid, "fdinfo").join(fd)).unwrap_or_default();
    let flags = proc::value(&info, "flags").and_then(|text| u32::from_str_radix(text, 8).ok());
    let wanted = if for_writing { [1, 2] } else { [0, 2] };
    flags.is_some_and(|flags| wanted.contains(&(flags & 3)))
}

/// Most processes and descriptors that are looked at.
const MAX_PROCESSES: usize = 10_000;
const MAX_FILES: usize = 50_000;
