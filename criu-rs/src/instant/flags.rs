//! Flags of mappings that are read before the freeze, and compared after it.
//!
//! CRIU reads `/proc/PID/smaps` in the freeze, and takes one line of each mapping from there:
//! `VmFlags`. For the other lines the kernel looks at all pages. So the lines that CRIU needs are
//! read while the task runs, and the plugin gives CRIU these if the task still has exactly the
//! mappings that they are about. A flag may have changed in between. The holder has the flags of
//! the moment of the fork, so the two are compared afterwards.

mod change;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use criu_plugin::journal::{Field, Journal};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::error::InstantError;
use super::held::Held;
use super::plan::{Plan, Planned};
use super::shared::{self, Shared};
use crate::host::tree;
use crate::value::Pid;
use change::{apply, changes, codes};

/// The flags of the mappings of tasks.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<Known>);

/// The flags of the mappings of a task.
#[derive(Debug)]
struct Known {
    task: Pid,
    /// Lines of `/proc/PID/maps`, each followed by the line of its flags.
    text: Vec<u8>,
    /// A file with the text, for the plugin.
    _file: File,
}

impl Flags {
    /// Reads the flags of the largest tasks that get holders, and names them to the plugin. The
    /// flags of tasks that cannot be read are left to CRIU.
    pub(super) fn read(plan: &Plan, shared: &Shared) -> Self {
        let Ok(journal) = shared.journal() else { return Self::default() };
        let mut tasks: Vec<&Planned> = plan.tasks.iter().filter(|task| task.is_held()).collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(task.bytes));
        let until = Instant::now() + LONGEST;
        let read = tasks.into_iter().take(MOST_TASKS);
        Self(read.filter_map(|task| Known::of(task, &journal, until).ok()).collect())
    }

    /// Leaves the tasks whose flags CRIU has from here.
    ///
    /// # Errors
    /// The journal is damaged.
    pub(super) fn told(mut self, shared: &Shared) -> Result<Self, InstantError> {
        let journal = shared.journal()?;
        let told = journal.records().filter(|record| record.get(Field::Told) != 0);
        let told: Vec<Option<Pid>> = told.map(|record| shared::pid(&record, Field::Task)).collect();
        let is_known = |task: &Option<Pid>| self.0.iter().any(|known| Some(known.task) == *task);
        if !told.iter().all(is_known) {
            return Err(InstantError::Journal("flags that were not read".to_owned()));
        }
        self.0.retain(|known| told.contains(&Some(known.task)));
        Ok(self)
    }

    /// Compares the flags with those of the holders, and corrects the images. Returns the number of
    /// tasks, and of mappings with another flag.
    ///
    /// # Errors
    /// [`InstantError::Flags`] for a difference that cannot be corrected, [`InstantError::Lost`] if
    /// a holder has ended. An image cannot be read or written.
    pub(super) fn correct(
        self,
        held: &[Held],
        directory: BorrowedFd<'_>,
    ) -> Result<(u64, u64), InstantError> {
        let (mut tasks, mut mappings) = (0, 0);
        for Known { task, text, .. } in self.0 {
            let Some(held) = held.iter().find(|held| held.pid == task) else {
                return Err(InstantError::Journal(format!("flags of task {task}, not held")));
            };
            let changes = changes(task, &text, &now(held)?)?;
            if !changes.is_empty() {
                apply(task, &changes, directory, &format!("mm-{}.img", held.inner))?;
            }
            tasks += 1;
            mappings += changes.len() as u64;
        }
        Ok((tasks, mappings))
    }
}

/// The flags of the mappings of a holder.
fn now(held: &Held) -> Result<Vec<u8>, InstantError> {
    let (task, holder) = (held.pid, held.holder.pid());
    let lost = |why: &str| InstantError::Lost { task, holder, why: why.to_owned() };
    let until = Instant::now() + LONGEST_HOLDER;
    let text = lines(holder, until).map_err(|error| lost(&error.to_string()))?;
    // The file was that of the holder if its number is not free by now.
    if held.holder.is_there() { Ok(text) } else { Err(lost("it has ended")) }
}

impl Known {
    fn of(planned: &Planned, journal: &Journal<'_>, until: Instant) -> io::Result<Self> {
        let (task, unfit) = (planned.pid, || io::Error::from(io::ErrorKind::InvalidData));
        let text = lines(task, until)?;
        // Locked memory is not in the holder, and no advice makes it.
        let is_locked =
            text.split(|byte| *byte == b'\n').any(|line| codes(line).any(|c| c == b"lo"));
        if is_locked || tree::started_at(task) != Some(planned.start) {
            return Err(unfit());
        }
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"flags", flags)?);
        file.write_all(&text)?;
        file.rewind()?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let record = journal.find(u64::from(task.as_raw().unsigned_abs())).ok_or_else(unfit)?;
        record.set(Field::Flags, u64::from(file.as_raw_fd().unsigned_abs()));
        Ok(Self { task, text, _file: file })
    }
}

/// Reads the lines of `/proc/PID/smaps` that tell mappings, and those that tell flags.
///
/// # Errors
/// The system's. `InvalidData` if a mapping has no flags, `TimedOut` after a point in time, and
/// `OutOfMemory` for more than [`MOST_BYTES`].
fn lines(pid: Pid, until: Instant) -> io::Result<Vec<u8>> {
    let file = File::open(format!("/proc/{pid}/smaps"))?;
    select(BufReader::with_capacity(1 << 16, file), until)
}

fn select(mut file: impl BufRead, until: Instant) -> io::Result<Vec<u8>> {
    let unknown = || io::Error::from(io::ErrorKind::InvalidData);
    let (mut text, mut line, mut is_open) = (Vec::new(), Vec::new(), false);
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            return if is_open { Err(unknown()) } else { Ok(text) };
        }
        // Other lines begin with a capital letter.
        let is_mapping = matches!(line.first(), Some(b'0'..=b'9' | b'a'..=b'f'));
        let is_flags = line.starts_with(FLAGS);
        if !is_mapping && !is_flags {
            continue;
        }
        // A mapping and its flags take turns.
        if is_mapping == is_open || line.last() != Some(&b'\n') {
            return Err(unknown());
        }
        is_open = is_mapping;
        if text.len() + line.len() > MOST_BYTES {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        text.extend_from_slice(&line);
    }
}

/// The start of a line with flags.
const FLAGS: &[u8] = b"VmFlags: ";

/// The longest time for reading flags before a freeze, together.
const LONGEST: Duration = Duration::from_secs(5);

/// The longest time for reading the flags of a holder.
const LONGEST_HOLDER: Duration = Duration::from_secs(600);

/// The most bytes of flags of a task.
const MOST_BYTES: usize = 64 << 20;

/// The most tasks whose flags are read early. Each takes a descriptor.
const MOST_TASKS: usize = 64;
