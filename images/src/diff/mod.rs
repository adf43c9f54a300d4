//! Differences between two checkpoints.

mod pages;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::memory::Memory;
use crate::task::Task;
use crate::text::count;
use crate::view::{Room, Socket, Sockets};
pub use pages::{DirtyMapping, PageRange};

/// The differences between two checkpoints of the same tree. Tasks are matched by pid, mappings by
/// address, descriptors by number. Displays as lines that begin with "+", "-" and "~". With the
/// `serde` feature it can be serialized.
///
/// ```no_run
/// use criu_images::{Diff, ImageSet};
///
/// let (before, after) = (ImageSet::open("/ckpt/1")?, ImageSet::open("/ckpt/2")?);
/// let diff = Diff::new(before.checkpoint()?, after.checkpoint()?)?;
/// let dirty: u64 = diff.changed.iter().flat_map(|task| &task.dirty).map(|vma| vma.dirty).sum();
/// println!("{diff}\n{dirty} pages differ");
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
#[must_use]
pub struct Diff {
    /// Tasks that only one checkpoint has.
    pub tasks: Changes<String>,
    /// Tasks of both checkpoints that differ.
    pub changed: Vec<TaskDiff>,
    /// Sockets that only one checkpoint has, and sockets whose state or number of waiting bytes
    /// differs.
    pub sockets: Changes<String>,
}

/// Differences in one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskDiff {
    /// Id of the task.
    pub pid: u32,
    /// Name of the task in the newer checkpoint.
    pub name: String,
    /// Facts about the whole task: name, state, parent, group, session, directories and program.
    pub task: Changes<String>,
    /// Ids of its threads.
    pub threads: Changes<u32>,
    /// Descriptors of the task.
    pub fds: Changes<String>,
    /// Mappings of the task.
    pub mappings: Changes<String>,
    /// Mappings with pages that differ or cannot be compared.
    pub dirty: Vec<DirtyMapping>,
}

/// Items removed, added and changed between two checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Changes<T> {
    /// Items of the newer checkpoint only.
    pub added: Vec<T>,
    /// Items of the older checkpoint only.
    pub removed: Vec<T>,
    /// Items of both that differ: the old and the new one.
    pub changed: Vec<(T, T)>,
}

impl<T> Changes<T> {
    /// Returns true if nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Compares items with the same key.
    fn between<K: Ord>(
        old: impl IntoIterator<Item = (K, T)>,
        new: impl IntoIterator<Item = (K, T)>,
    ) -> Self
    where
        T: PartialEq,
    {
        let mut old: BTreeMap<K, T> = old.into_iter().collect();
        let new: BTreeMap<K, T> = new.into_iter().collect();
        let mut changes = Self::default();
        for (key, new) in new {
            match old.remove(&key) {
                None => changes.added.push(new),
                Some(old) if old != new => changes.changed.push((old, new)),
                Some(_) => {}
            }
        }
        changes.removed.extend(old.into_values());
        changes
    }
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { added: Vec::new(), removed: Vec::new(), changed: Vec::new() }
    }
}

impl Diff {
    /// Compares two checkpoints, the older first.
    ///
    /// # Errors
    /// The errors of reading the images of both that describe tasks, files, sockets and memory, and
    /// of reading pages; [`ErrorKind::TooMany`](crate::ErrorKind::TooMany) if descriptors and
    /// mappings are above [`VIEW`](crate::bounds::VIEW).
    pub fn new(old: Checkpoint<'_>, new: Checkpoint<'_>) -> Result<Self> {
        let named = |checkpoint: Checkpoint<'_>| -> Vec<_> {
            checkpoint.tasks().map(|task| (task.pid(), task.to_string())).collect()
        };
        let mut tasks = Changes::between(named(old), named(new));
        tasks.changed.clear();
        let (mut changed, room) = (Vec::new(), RefCell::new(Room::new()));
        for task in new.tasks() {
            if let Some(before) = old.task(task.pid()) {
                let diff = TaskDiff::new(&before, &task, &room)?;
                changed.extend(Some(diff).filter(|diff| !diff.is_empty()));
            }
        }
        Ok(Self { tasks, changed, sockets: sockets(old, new)? })
    }

    /// Returns true if nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.changed.is_empty() && self.sockets.is_empty()
    }
}

fn sockets(old: Checkpoint<'_>, new: Checkpoint<'_>) -> Result<Changes<String>> {
    let list = |checkpoint: Checkpoint<'_>| -> Result<Vec<_>> {
        let line = |socket: Socket| {
            let Socket { protocol, state, local, peer, received, sent, .. } = socket;
            let waiting = match (received, sent) {
                (0, 0) => String::new(),
                (received, 0) => format!(", {} to read", count(received, "byte")),
                (0, sent) => format!(", {} sent", count(sent, "byte")),
                _ => format!(", {} to read, {sent} sent", count(received, "byte")),
            };
            let line = format!("{protocol} {state} {local} {peer}{waiting}");
            ((protocol, local, peer), line)
        };
        Ok(Sockets::new(checkpoint)?.sockets.into_iter().map(line).collect())
    };
    // Several sockets may have the same key, such as unbound ones. Each counts by its number.
    let numbered = |sockets: Vec<((String, String, String), String)>| {
        let mut seen: BTreeMap<(String, String, String), usize> = BTreeMap::new();
        let number = sockets.into_iter().map(move |(key, line)| {
            let count = seen.entry(key.clone()).or_default();
            *count += 1;
            ((key, *count), line)
        });
        number.collect::<Vec<_>>()
    };
    Ok(Changes::between(numbered(list(old)?), numbered(list(new)?)))
}

impl TaskDiff {
    fn new(old: &Task<'_>, new: &Task<'_>, room: &RefCell<Room>) -> Result<Self> {
        let threads =
            |task: &Task<'_>| task.tids().iter().map(|tid| (*tid, *tid)).collect::<Vec<_>>();
        let fds = |task: &Task<'_>| -> Result<Vec<_>> {
            let cloexec = |on| if on { " (cloexec)" } else { "" };
            let mut lines = Vec::new();
            for fd in task.files()? {
                let line = format!("{fd}{}", cloexec(fd.cloexec));
                room.borrow_mut().take(line.len())?;
                lines.push((fd.number, line));
            }
            Ok(lines)
        };
        let (old_memory, new_memory) = (old.memory()?, new.memory()?);
        let maps = |memory: &Option<Memory<'_>>| -> Result<Vec<_>> {
            let mut lines = Vec::new();
            for vma in memory.iter().flat_map(Memory::vmas) {
                let line = vma.to_string();
                room.borrow_mut().take(line.len())?;
                lines.push((vma.start(), line));
            }
            Ok(lines)
        };
        let dirty = match (&old_memory, &new_memory) {
            (Some(old), Some(new)) => pages::dirty(old, new)?,
            _ => Vec::new(),
        };
        Ok(Self {
            pid: new.pid(),
            name: new.name().to_string(),
            task: Changes::between(facts(old)?, facts(new)?),
            threads: Changes::between(threads(old), threads(new)),
            fds: Changes::between(fds(old)?, fds(new)?),
            mappings: Changes::between(maps(&old_memory)?, maps(&new_memory)?),
            dirty,
        })
    }

    /// Returns true if nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.task.is_empty()
            && self.threads.is_empty()
            && self.fds.is_empty()
            && self.mappings.is_empty()
            && self.dirty.is_empty()
    }
}

/// Returns facts about the whole task, in words.
fn facts(task: &Task<'_>) -> Result<Vec<(u32, String)>> {
    let mut facts = vec![
        format!("name {}", task.name()),
        format!("state {}", task.state()),
        format!("parent {}", task.ppid()),
        format!("process group {}", task.pgid()),
        format!("session {}", task.sid()),
    ];
    let places = [("cwd", task.cwd()?), ("root", task.root_dir()?), ("exe", task.exe()?)];
    for (what, file) in places {
        facts.push(file.map_or_else(String::new, |file| format!("{what} {file}")));
    }
    Ok((0..).zip(facts).collect())
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing has changed");
        }
        let mut lines = Vec::new();
        self.tasks.lines("", "task ", &mut lines);
        for task in &self.changed {
            lines.push(format!("~ task {} {}", task.pid, task.name));
            task.task.lines("  ", "", &mut lines);
            task.threads.lines("  ", "thread ", &mut lines);
            task.fds.lines("  ", "fd ", &mut lines);
            task.mappings.lines("  ", "mapping ", &mut lines);
            lines.extend(task.dirty.iter().map(|dirty| format!("  ~ {dirty}")));
        }
        self.sockets.lines("", "socket ", &mut lines);
        f.write_str(&lines.join("\n"))
    }
}

impl<T: fmt::Display> Changes<T> {
    fn lines(&self, indent: &str, what: &str, lines: &mut Vec<String>) {
        lines.extend(self.removed.iter().map(|old| format!("{indent}- {what}{old}")));
        lines.extend(self.added.iter().map(|new| format!("{indent}+ {what}{new}")));
        let changed = self.changed.iter();
        lines.extend(changed.map(|(old, new)| format!("{indent}~ {what}{old} -> {new}")));
    }
}
