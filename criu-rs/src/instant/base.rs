//! The last round of a series, for another process that goes on with the series.

use std::fmt::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use criu_images::ImageSet;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::error::InstantError;
use super::held::{Held, Holders};
use super::holder::Holder;
use crate::error::Result;
use crate::sys::holders::Owner;
use crate::sys::proc_link;
use crate::value::{InvalidValue, Pid};

/// The last round of a series, as one process tells another about it.
///
/// The process that made the round keeps the holders, and must stay until the next round is
/// complete. As text, the value is some lines of numbers:
///
/// ```
/// use criu_rs::instant::SeriesBase;
///
/// assert!("something else".parse::<SeriesBase>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesBase {
    root: Pid,
    owner: Owner,
    directory: (u64, u64),
    inventory: Stamp,
    chain: Vec<(u64, u64)>,
    tasks: Vec<Task>,
}

/// The state of a file that changes when somebody replaces or writes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
    size: i64,
}

/// A task with a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Task {
    pid: Pid,
    inner: u32,
    holder: Pid,
    start: u64,
    pages: u64,
}

impl SeriesBase {
    /// Describes holders of this process.
    pub(super) fn of(
        root: Pid,
        directory: (u64, u64),
        inventory: Stamp,
        chain: &[(u64, u64)],
        tasks: &[Held],
    ) -> Option<Self> {
        let task = |held: &Held| Task {
            pid: held.pid,
            inner: held.inner,
            holder: held.holder.pid(),
            start: held.holder.start(),
            pages: held.pages,
        };
        let (owner, chain) = (Owner::this()?, chain.to_vec());
        let tasks = tasks.iter().map(task).collect();
        Some(Self { root, owner, directory, inventory, chain, tasks })
    }

    /// Returns the process whose tree the round has saved.
    pub fn root(&self) -> Pid {
        self.root
    }

    /// Directories that the images need, that of the round included.
    pub(super) fn chain(&self) -> &[(u64, u64)] {
        &self.chain
    }

    /// Opens the holders, after a look at the images of the round.
    ///
    /// # Errors
    /// The directory has other images; a holder is gone.
    pub(super) fn open(
        &self,
        directory: &OwnedFd,
        identity: (u64, u64),
        path: &Path,
    ) -> Result<Vec<Held>> {
        let refused = |why: &str| InstantError::Base { directory: path.into(), why: why.into() };
        if identity != self.directory {
            return Err(refused("it is not the directory of the last round").into());
        }
        if Stamp::of(directory) != Some(self.inventory) {
            return Err(refused("its images have changed since the round").into());
        }
        let set = ImageSet::open(proc_link(directory.as_fd())).map_err(InstantError::from)?;
        let mut all = Vec::new();
        for task in &self.tasks {
            let holder = Holder::of_other(task.pid, task.holder, task.start, self.owner)?;
            let (pid, inner) = (task.pid, task.inner);
            let (mappings, fork) = (Vec::new(), Duration::ZERO);
            let mut held = Held { pid, inner, holder, mappings, pages: 0, fork };
            held.count(&set)?;
            if held.pages != task.pages {
                return Err(refused("a holder has other pages than in the round").into());
            }
            all.push(held);
        }
        Ok(all)
    }
}

impl Stamp {
    /// Looks at the inventory in an images directory.
    pub(super) fn of(directory: &OwnedFd) -> Option<Self> {
        let stat = fstatat(directory, "inventory.img", AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some(Self {
            inode: stat.st_ino,
            seconds: stat.st_ctime,
            nanoseconds: stat.st_ctime_nsec,
            size: stat.st_size,
        })
    }
}

/// The holders of a base.
#[derive(Debug)]
pub(super) enum Kept {
    /// Holders of this process.
    Own(Holders),
    /// Holders that another process keeps, and ends.
    Others(Vec<Held>),
}

impl Kept {
    /// The tasks with holders.
    pub(super) fn tasks(&self) -> &[Held] {
        match self {
            Self::Own(holders) => holders.tasks(),
            Self::Others(tasks) => tasks,
        }
    }

    /// The tasks whose holders this process keeps.
    pub(super) fn own(&self) -> &[Held] {
        match self {
            Self::Own(holders) => holders.tasks(),
            Self::Others(_) => &[],
        }
    }
}

impl fmt::Display for SeriesBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, owner, directory, inventory, chain, tasks } = self;
        let Stamp { inode, seconds, nanoseconds, size } = inventory;
        writeln!(f, "{HEAD} {root} {} {}", owner.pid, owner.start)?;
        writeln!(f, "images {} {}", directory.0, directory.1)?;
        writeln!(f, "inventory {inode} {seconds} {nanoseconds} {size}")?;
        for (device, inode) in chain {
            writeln!(f, "chain {device} {inode}")?;
        }
        for Task { pid, inner, holder, start, pages } in tasks {
            writeln!(f, "task {pid} {inner} {holder} {start} {pages}")?;
        }
        f.write_char('.')
    }
}

impl FromStr for SeriesBase {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| {
            let found: String = text.chars().take(SHOWN).collect();
            InvalidValue::new("the base of a series", found, "lines of numbers")
        })
    }
}

fn parse(text: &str) -> Option<SeriesBase> {
    let mut lines = text.lines();
    let [root, owner, start] = numbers(lines.next()?, HEAD)?;
    let [device, inode] = numbers(lines.next()?, "images")?;
    let [number, seconds, nanoseconds, size] = numbers(lines.next()?, "inventory")?;
    let mut base = SeriesBase {
        root: pid(root)?,
        owner: Owner { pid: pid(owner)?.as_raw(), start },
        directory: (device, inode),
        inventory: Stamp {
            inode: number,
            seconds: i64::try_from(seconds).ok()?,
            nanoseconds: i64::try_from(nanoseconds).ok()?,
            size: i64::try_from(size).ok()?,
        },
        chain: Vec::new(),
        tasks: Vec::new(),
    };
    for line in lines.by_ref() {
        if line == "." {
            break;
        }
        if let Some([device, inode]) = numbers(line, "chain") {
            base.chain.push((device, inode));
            continue;
        }
        let [task, inner, holder, start, pages] = numbers(line, "task")?;
        let (task, inner) = (pid(task)?, u32::try_from(inner).ok()?);
        base.tasks.push(Task { pid: task, inner, holder: pid(holder)?, start, pages });
    }
    // A text that was cut short has no end.
    (text.ends_with('.') && lines.next().is_none()).then_some(base)
}

/// Reads a line of one word, or several, and numbers.
fn numbers<const N: usize>(line: &str, word: &str) -> Option<[u64; N]> {
    let mut words = line.strip_prefix(word)?.strip_prefix(' ')?.split(' ');
    let mut all = [0; N];
    for number in &mut all {
        *number = words.next()?.parse().ok()?;
    }
    words.next().is_none().then_some(all)
}

fn pid(number: u64) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::new)
}

/// The first words of the text.
const HEAD: &str = "criu-rs series 1";

/// The characters of a wrong text that an error shows.
const SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> SeriesBase {
        let pid = |number| Pid::new(number).unwrap();
        let task = Task { pid: pid(7), inner: 1, holder: pid(9), start: u64::MAX, pages: 3 };
        SeriesBase {
            root: pid(7),
            owner: Owner { pid: 5, start: 77 },
            directory: (1, 2),
            inventory: Stamp { inode: 3, seconds: 4, nanoseconds: 5, size: 6 },
            chain: vec![(1, 2), (1, 1)],
            tasks: vec![task, Task { inner: 8, ..task }],
        }
    }

    #[test]
    fn a_base_is_read_as_it_was_written() {
        let text = base().to_string();
        assert_eq!(text.parse::<SeriesBase>().unwrap(), base());
        let empty = SeriesBase { chain: Vec::new(), tasks: Vec::new(), ..base() };
        assert_eq!(empty.to_string().parse::<SeriesBase>().unwrap(), empty);
    }

    #[test]
    fn a_text_that_is_no_base_is_refused() {
        let text = base().to_string();
        for end in 0..text.len() {
            assert!(text[..end].parse::<SeriesBase>().is_err(), "{end}");
        }
        for (old, new) in [
            ("series 1 7", "series 2 7"),
            ("7 5 77", "0 5 77"),
            ("7 5 77", "7 -5 77"),
            ("7 5 77", "7 4294967296 77"),
            ("7 5 77", "7 5 77 1"),
            ("images 1", "images  1"),
            ("chain 1 1", "chain 1"),
            ("task 7 1", "task 7 4294967296"),
            ("task 7 1", "tusk 7 1"),
        ] {
            assert!(text.contains(old));
            assert!(text.replace(old, new).parse::<SeriesBase>().is_err(), "{new}");
        }
        assert!(format!("{text}\n.").parse::<SeriesBase>().is_err());
    }
}
