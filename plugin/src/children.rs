//! The lists of children that CRIU reads, without the holders that are kept of an earlier dump.
//!
//! A holder is a child of its task. CRIU finds the tasks of a tree in the files `children` of
//! `/proc`, and would save the holder as one of them.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};

use crate::journal::{Field, Journal, State};
use crate::proc::{self, Text};

/// Tells whether the journal names holders that are kept.
pub(crate) fn are_kept(journal: &Journal<'_>) -> bool {
    journal.records().any(|record| record.state() == Some(State::Kept))
}

/// Takes the kept holders out of an open list of children. The descriptor leads to a list without
/// them then.
///
/// # Errors
/// The list cannot be read, or the new one not be made.
pub(crate) fn hide(journal: &Journal<'_>, fd: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and is not closed here.
    let mut list = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    // The list is read once: while tasks come and go, the kernel may leave out one the first time.
    let mut others = memory()?;
    each(&mut list, |pid| match is_kept(journal, pid) {
        true => Ok(()),
        false => write!(others, "{pid} "),
    })?;
    others.rewind()?;
    // SAFETY: the call takes numbers.
    match unsafe { libc::dup3(others.as_raw_fd(), fd, libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Tells whether a task has a child that has ended and is not reaped.
///
/// # Errors
/// The task is gone, or a list cannot be read.
pub(crate) fn have_ended(task: i32) -> io::Result<bool> {
    let threads = std::fs::read_dir(Text::of(format_args!("/proc/{task}/task"))?.as_str())?;
    for thread in threads {
        let mut list = File::open(thread?.path().join("children"))?;
        let mut have = false;
        each(&mut list, |pid| {
            // A child that is gone has been reaped.
            have |= i32::try_from(pid).is_ok_and(|pid| proc::has_ended(pid).unwrap_or(false));
            Ok(())
        })?;
        if have {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells whether a process is a holder that is kept. Its start time tells it from a process that
/// has got its number since.
fn is_kept(journal: &Journal<'_>, pid: u64) -> bool {
    let is_named = |start: Option<u64>| {
        journal.records().any(|record| {
            record.state() == Some(State::Kept)
                && record.get(Field::Holder) == pid
                && start.is_none_or(|start| record.get(Field::HolderStart) == start)
        })
    };
    let start = || proc::started(i32::try_from(pid).ok()?).ok();
    is_named(None) && start().is_some_and(|start| is_named(Some(start)))
}

/// Calls a function with each number of a list.
fn each(list: &mut File, mut found: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut number: Option<u64> = None;
    loop {
        let count = list.read(&mut buffer)?;
        for byte in buffer.get(..count).unwrap_or_default() {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let more = number.unwrap_or(0).checked_mul(10);
                    let more = more.and_then(|more| more.checked_add(digit));
                    number = Some(more.ok_or(io::ErrorKind::InvalidData)?);
                }
                _ => number.take().map_or(Ok(()), &mut found)?,
            }
        }
        if count == 0 {
            return number.map_or(Ok(()), found);
        }
    }
}

/// Makes an empty file in memory.
fn memory() -> io::Result<File> {
    // SAFETY: the name ends with a NUL.
    let fd = unsafe { libc::memfd_create(c"children".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor has just been made, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn list(text: &str) -> File {
        let mut file = memory().unwrap();
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
    fn a_kept_holder_is_hidden_and_no_process_with_its_number() {
        let words: Vec<AtomicU64> =
            (0..Journal::bytes(3) / 8).map(|_| AtomicU64::default()).collect();
        let journal = Journal::make(&words);
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        for (pid, late) in [(own, 0), (parent, 1)] {
            let record = journal.add(0).unwrap();
            record.set(Field::Holder, pid.into());
            let start = proc::started(i32::try_from(pid).unwrap()).unwrap();
            record.set(Field::HolderStart, start + late);
            record.pass(State::Kept);
        }
        assert!(are_kept(&journal));
        let file = list(&format!("1 {own} {parent} 77 "));
        hide(&journal, file.as_raw_fd()).unwrap();
        assert_eq!(text(&file), format!("1 {parent} 77 "));
        let file = list(&format!("1 {parent}"));
        hide(&journal, file.as_raw_fd()).unwrap();
        assert_eq!(text(&file), format!("1 {parent} "), "a list without a holder");
        for record in journal.records() {
            record.pass(State::Held);
        }
        assert!(!are_kept(&journal));
        let file = list(&format!("{own}"));
        hide(&journal, file.as_raw_fd()).unwrap();
        assert_eq!(text(&file), format!("{own} "));
    }

    #[test]
    fn a_child_that_has_ended_is_seen_until_it_is_reaped() {
        // In a thread of its own, whose children these are.
        let look = || {
            let own = i32::try_from(std::process::id()).unwrap();
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let number = i32::try_from(child.id()).unwrap();
            assert!(!proc::has_ended(number).unwrap());
            child.kill().unwrap();
            let has_ended = || proc::has_ended(number).unwrap();
            let soon = std::time::Instant::now() + std::time::Duration::from_secs(15);
            while !has_ended() && std::time::Instant::now() < soon {
                std::thread::yield_now();
            }
            assert!(has_ended() && have_ended(own).unwrap());
            child.wait().unwrap();
            assert!(proc::has_ended(number).is_err());
        };
        std::thread::spawn(look).join().unwrap();
    }

    #[test]
    fn numbers_go_over_the_pieces_of_a_list() {
        let numbers: Vec<u64> = (0..3000).map(|n| n * 37).collect();
        let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let mut found = Vec::new();
        let note = |pid| {
            found.push(pid);
            Ok(())
        };
        each(&mut list(&words.join(" ")), note).unwrap();
        assert_eq!(found, numbers);
        let error = each(&mut list("99999999999999999999"), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
