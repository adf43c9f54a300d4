//! The flags of mappings, which were read before the freeze.
//!
//! CRIU reads `/proc/PID/smaps` while the tasks are stopped, for one line of each mapping: its
//! flags. For the other lines the kernel looks at all pages. So criu-rs reads the file before, and
//! CRIU gets these lines. A flag may have changed since then: criu-rs compares them with those of
//! the holder, and corrects the images. This is possible only if the holder has all mappings of the
//! task, and nothing of what a fork does not inherit matters.

use std::io::{self, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::journal::{Field, Head, Journal, State};
use crate::sys::call::Fd;
use crate::sys::errno::Errno;
use crate::sys::file;
use crate::sys::lines::{Line, Lines};
use crate::sys::path::Path;
use crate::sys::proc::{self, Stat};
use crate::watch::task_of;

/// Tells whether the journal names files with flags.
pub(crate) fn are_known(journal: &Journal<'_>) -> bool {
    journal.records().any(|record| record.get(Field::Flags) != 0)
}

/// Makes an open `/proc/PID/smaps` lead to the lines that were read before the freeze, if the task
/// still has these mappings, and its holder has them, too.
///
/// # Errors
/// The descriptor leads to the kernel's file as before, because the lines do not fit, or cannot be
/// read.
pub(crate) fn give(journal: &Journal<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    let unfit = || io::Error::from(io::ErrorKind::InvalidData);
    let task = task_of(fd.as_raw_fd(), "smaps").ok_or_else(unfit)?;
    let record = journal.find(u64::from(task.unsigned_abs()));
    let record = record.filter(|record| record.state() == Some(State::Held)).ok_or_else(unfit)?;
    let number = |word: u64| i32::try_from(word).ok().filter(|number| *number > 0);
    let owner = number(journal.head(Head::Owner)).ok_or_else(unfit)?;
    let holder = number(record.get(Field::Holder)).ok_or_else(unfit)?;
    let known = number(record.get(Field::Flags)).ok_or_else(unfit)?;
    let mut known = file::sealed(&Path::of(format_args!("/proc/{owner}/fd/{known}"))?)?;
    // A holder has no locked memory, so nothing would tell what of the task's is locked.
    if proc::locked(task)? != 0 {
        return Err(unfit());
    }
    let lines = Lines::of(Fd::from(OwnedFd::from(known.try_clone()?)));
    let maps = [Lines::open(task, "maps")?, Lines::open(holder, "maps")?];
    let is_holder = || Stat::of(holder).is_ok_and(|at| at.start == record.get(Field::HolderStart));
    if !fit(lines, maps)? || !is_holder() {
        return Err(unfit());
    }
    known.rewind()?;
    record.set(Field::Told, 1);
    file::replace(fd, &known)
}

/// Tells whether lines with flags are about exactly the mappings of two processes.
fn fit(mut known: Lines, mut maps: [Lines; 2]) -> Result<bool, Errno> {
    loop {
        let mapping = match known.next()? {
            Some(Line::Cut(_)) => return Ok(false),
            mapping => mapping,
        };
        for lines in &mut maps {
            if lines.next()? != mapping {
                return Ok(false);
            }
        }
        if mapping.is_none() {
            return Ok(true);
        }
        match known.next()? {
            Some(Line::Whole(flags)) if flags.starts_with(b"VmFlags: ") => {}
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn lines(text: &str) -> Lines {
        let mut file: File = file::memory(c"text").unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        Lines::of(OwnedFd::from(file).into())
    }

    fn fits(known: &str, task: &str, holder: &str) -> bool {
        fit(lines(known), [lines(task), lines(holder)]).unwrap()
    }

    const MAPS: &str = "1000-2000 rw-p 00000000 00:00 0 \n\
                        2000-3000 r--p 00000000 fe:01 7                          /a b\\012c (deleted)\n";

    fn with_flags(maps: &str) -> String {
        maps.lines().map(|line| format!("{line}\nVmFlags: rd wr mr dd \n")).collect()
    }

    #[test]
    fn lines_fit_the_same_mappings_alone() {
        let known = with_flags(MAPS);
        assert!(fits(&known, MAPS, MAPS));
        assert!(fits("", "", ""));
        let more = format!("{MAPS}4000-5000 rw-p 00000000 00:00 0 \n");
        let one = &MAPS[..MAPS.find('\n').unwrap() + 1];
        for other in ["", one, &more, &MAPS.replace("/a b", "/a  b"), &MAPS.replace("rw-p", "rw-s")]
        {
            assert!(!fits(&known, other, MAPS), "{other}");
            assert!(!fits(&known, MAPS, other), "{other}");
            assert!(!fits(&with_flags(other), MAPS, MAPS), "{other}");
        }
    }

    #[test]
    fn each_mapping_needs_its_flags() {
        let known = with_flags(MAPS);
        assert!(!fits(&known.replacen("VmFlags: rd wr mr dd \n", "", 1), MAPS, MAPS));
        assert!(!fits(&known.replacen("VmFlags", "Flags", 1), MAPS, MAPS));
        assert!(!fits(known.strip_suffix("VmFlags: rd wr mr dd \n").unwrap(), MAPS, MAPS));
    }

    #[test]
    fn a_line_that_is_too_long_to_be_compared_does_not_fit() {
        let long = format!("1000-2000 rw-p 00000000 fe:01 7 /{}\n", "x".repeat(5000));
        assert!(!fits(&with_flags(&long), &long, &long));
    }

    #[test]
    fn many_mappings_are_compared() {
        let line = |n: u64| format!("{n:x}000-{:x}000 rw-p 00000000 00:00 0 \n", n + 1);
        let maps: String = (1..60_000).map(line).collect();
        let known = with_flags(&maps);
        assert!(fits(&known, &maps, &maps));
        assert!(!fits(&known, &maps, &(maps.clone() + &line(60_000))));
    }
}
