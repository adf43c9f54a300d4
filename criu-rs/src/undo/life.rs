//! The life of a criu, and the evidence that a process descends from it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use procfs::process::Process;

use crate::host::{Held, held, tree};
use crate::value::Pid;

/// The life of a criu that restored, as far as it shows which processes descend from it.
///
/// The kernel forgets who made a process once the maker has ended. Criu's processes are known by a
/// file that they have open: criu's log, the pipe that takes its output, or the socket of its
/// request. They keep one of them until they have the memory of their task. The log counts for a
/// process that can write to it.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// The time of criu's start, in the kernel's ticks.
    pub(crate) since: u64,
    /// The time when criu's end was seen, in the kernel's ticks.
    pub(crate) until: u64,
    /// The names of its pipe and its socket in `/proc/PID/fd`.
    pub(crate) marks: Vec<OsString>,
    /// The name of its log, with the log's device and inode.
    pub(crate) log: Option<(OsString, u64, u64)>,
}

impl Life {
    /// Says whether a process has a file of this criu open.
    pub(crate) fn has_marked(&self, process: &Held) -> bool {
        let Ok(all) = fs::read_dir(format!("/proc/{}/fd", process.pid())) else { return false };
        let is_mark = |fd: &Path| {
            let Ok(target) = fs::read_link(fd) else { return false };
            let is_log = |(name, device, inode): &(OsString, u64, u64)| {
                // Any other file may be on a file system that does not answer.
                target.file_name() == Some(name)
                    && is_for_writing(process.pid(), fd)
                    && fs::metadata(fd)
                        .is_ok_and(|meta| (meta.dev(), meta.ino()) == (*device, *inode))
            };
            // This process reads from the pipe, and so does a child that it has just forked.
            let is_marked = self.marks.iter().any(|mark| mark == target.as_os_str())
                && is_for_writing(process.pid(), fd);
            is_marked || self.log.as_ref().is_some_and(is_log)
        };
        all.flatten().any(|fd| is_mark(&fd.path())) && process.is_there()
    }

    /// Says whether nobody living is a process's parent but those who adopt criu's tasks: this
    /// process, the ones above it, and the first process.
    ///
    /// A task that is dying is the parent of its children for a moment longer.
    pub(crate) fn is_orphan(process: &Held) -> bool {
        let adopters = adopters();
        let mut parent = process.parent();
        while !adopters.contains(&parent) {
            let Some(dying) = Pid::new(parent).and_then(Held::of) else {
                // It has gone meanwhile, or may not be seen.
                let now = held::stat(process.pid()).map(|stat| stat.ppid);
                return now.is_some_and(|now| adopters.contains(&now));
            };
            if tree::lives_on(dying.pid(), dying.since()) {
                return false;
            }
            parent = dying.parent();
        }
        true
    }
}

/// The numbers of the processes that adopt criu's tasks.
fn adopters() -> Vec<i32> {
    let mut all = vec![1, 0, Pid::this().as_raw()];
    let mut above = Pid::this();
    while let Some(next) = held::stat(above).and_then(|stat| Pid::new(stat.ppid)) {
        all.push(next.as_raw());
        above = next;
    }
    all
}

/// Says whether a process can write by a descriptor, given by its path in `/proc/PID/fd`. Anybody
/// may read the log: a program that follows it does not descend from criu.
fn is_for_writing(pid: Pid, fd: &Path) -> bool {
    let Some(number) = fd.file_name() else { return false };
    let path = Path::new("/proc").join(pid.to_string()).join("fdinfo").join(number);
    let Ok(text) = fs::read_to_string(path) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// The number of pid namespaces that a process is in, counted from the reader's, and its number in
/// the last one.
pub(crate) fn numbers(pid: Pid) -> Option<(usize, Pid)> {
    let ids = Process::new(pid.as_raw()).and_then(|process| process.status()).ok()?.nspid?;
    Some((ids.len(), Pid::new(*ids.last()?)?))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn a_process_whose_parent_is_dying_is_an_orphan() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & wait"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let parent = Pid::from(&shell);
        let mut found = Vec::new();
        assert!(criu_lab::soon(|| {
            found = tree::children(parent);
            !found.is_empty()
        }));
        // The child is looked at before the end of its parent.
        let child = Held::child(found[0], parent).unwrap();
        assert!(!Life::is_orphan(&child));
        shell.kill().unwrap();
        assert!(criu_lab::soon(|| criu_lab::process::has_ended(parent)));
        assert!(Life::is_orphan(&child), "the parent is a zombie");
        shell.wait().unwrap();
        assert!(Life::is_orphan(&child), "the parent is gone");
        child.signal(Signal::SIGKILL);
    }
}
