//! The lists of children that CRIU reads, without the holders that are kept of an earlier dump.
//!
//! A holder is a child of its task. CRIU finds the tasks of a tree in the files `children` of
//! `/proc`, and would save the holder as one of them.

use std::io::{self, Seek, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use crate::journal::{Field, Journal, Record, State};
use crate::sys::call::Fd;
use crate::sys::errno::Errno;
use crate::sys::file;
use crate::sys::path::Path;
use crate::sys::proc::{Stat, decimal, each};

/// Tells whether the journal names holders that are kept.
pub(crate) fn are_kept(journal: &Journal<'_>) -> bool {
    journal.records().any(|record| record.state() == Some(State::Kept))
}

/// Takes the kept holders out of an open list of children. The descriptor leads to a list without
/// them then. `parent` is the directory of the parent in a file system of `/proc`: in one of
/// another pid namespace, processes have other numbers.
///
/// # Errors
/// The list cannot be read, or the new one not be made.
pub(crate) fn hide(
    journal: &Journal<'_>,
    parent: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
) -> io::Result<()> {
    let list = Fd::from(fd.try_clone_to_owned()?);
    // The list is read once: while tasks come and go, the kernel may leave out one the first time.
    let mut others = file::memory(c"children")?;
    each(&list, |pid| match is_kept(journal, parent, pid) {
        true => Ok(()),
        false => write!(others, "{pid} "),
    })?;
    others.rewind()?;
    file::replace(fd, &others)
}

/// Tells whether a task has a child that has ended and is not reaped.
///
/// # Errors
/// The task is gone, or a list cannot be read.
pub(crate) fn have_ended(task: i32) -> io::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{task}/task"))? {
        let thread = decimal(thread?.file_name().as_bytes());
        let thread = thread.and_then(|thread| i32::try_from(thread).ok()).unwrap_or(0);
        let mut have = false;
        let listed = Fd::children(task, thread).and_then(|list| {
            each(&list, |pid| {
                // A child that is gone has been reaped.
                let stat = i32::try_from(pid).ok().and_then(|pid| Stat::of(pid).ok());
                have |= stat.is_some_and(|stat| stat.has_ended());
                Ok(())
            })
        });
        match listed {
            _ if have => return Ok(true),
            // The children of a thread that is gone are those of another thread.
            Ok(()) | Err(Errno(libc::ENOENT | libc::ESRCH)) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

/// Tells whether a process is a holder that is kept. Its start time tells it from others, and the
/// signal of its end: the end of a holder has none.
fn is_kept(journal: &Journal<'_>, parent: BorrowedFd<'_>, pid: u64) -> bool {
    let path = Path::of(format_args!("../{pid}/stat"));
    let stat = path.and_then(|path| Stat::read(&Fd::open_from(parent, &path)?));
    // A process that is gone is none that CRIU could save.
    let Ok(stat) = stat else { return false };
    let is_named = |record: &Record<'_>| {
        record.state() == Some(State::Kept) && record.get(Field::HolderStart) == stat.start
    };
    stat.exit_signal == 0 && journal.records().any(|record| is_named(&record))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::sys::task::Quiet;

    fn list(text: &str) -> File {
        let mut file = crate::sys::file::memory(c"list").unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    }

    fn text(mut file: &File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_kept_holder_is_hidden_and_no_process_that_is_like_one() {
        let words: Vec<AtomicU64> =
            (0..Journal::bytes(3) / 8).map(|_| AtomicU64::default()).collect();
        let journal = Journal::make(&words);
        let (holder, other, own) = (Quiet::new(), Quiet::new(), std::process::id());
        let started = |pid: i32| Stat::of(pid).unwrap().start;
        // The process itself was started at that time, too, and its end has a signal.
        for start in [started(holder.0), started(i32::try_from(own).unwrap())] {
            let record = journal.add(0).unwrap();
            record.set(Field::HolderStart, start);
            record.pass(State::Kept);
        }
        assert!(are_kept(&journal));
        let parent = File::open("/proc/self").unwrap();
        let hidden = |words: &str| {
            let file = list(words);
            hide(&journal, parent.as_fd(), file.as_fd()).unwrap();
            text(&file)
        };
        let (pid, none) = (holder.0, i32::MAX);
        assert_eq!(hidden(&format!("{own} {pid} {none} ")), format!("{own} {none} "));
        assert_eq!(hidden(&format!("{own}")), format!("{own} "), "a list without a holder");
        if started(other.0) != started(pid) {
            assert_eq!(hidden(&format!("{}", other.0)), format!("{} ", other.0));
        }
        for record in journal.records() {
            record.pass(State::Held);
        }
        assert!(!are_kept(&journal));
        assert_eq!(hidden(&format!("{pid}")), format!("{pid} "));
    }

    #[test]
    fn a_child_that_has_ended_is_seen_until_it_is_reaped() {
        // In a thread of its own, whose children these are.
        let look = || {
            let own = i32::try_from(std::process::id()).unwrap();
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let number = i32::try_from(child.id()).unwrap();
            assert!(!Stat::of(number).unwrap().has_ended());
            child.kill().unwrap();
            let has_ended = || Stat::of(number).unwrap().has_ended();
            let soon = std::time::Instant::now() + std::time::Duration::from_secs(15);
            while !has_ended() && std::time::Instant::now() < soon {
                std::thread::yield_now();
            }
            assert!(has_ended() && have_ended(own).unwrap());
            child.wait().unwrap();
            assert!(Stat::of(number).is_err());
        };
        std::thread::spawn(look).join().unwrap();
    }
}
