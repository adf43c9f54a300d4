//! Summary of a checkpoint, on one screen.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::error::{ErrorKind, Result};
use crate::kind;
use crate::memory::Totals;
use crate::proto::Lsmtype;
use crate::requirements::{RestoreOption, options};
use crate::seccomp::Seccomp;
use crate::stats::DumpStats;
use crate::task::State;
use crate::text::{Text, count};
use crate::view::{Namespaces, kib};

/// The main facts about a checkpoint, and the options that a restore needs. Displays as one screen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Summary {
    /// The root task's id.
    pub root: u32,
    /// The root task's name.
    pub name: String,
    /// The root task's command line; empty when its memory cannot be read.
    pub command: Vec<String>,
    /// The root task's architecture; `None` if it is unknown.
    pub architecture: Option<String>,
    /// Layout of the images: 1, 2, or 3 when pages may be compressed.
    pub image_version: u32,
    /// Security module whose labels were saved.
    pub lsm: Option<&'static str>,
    /// Number of tasks.
    pub tasks: usize,
    /// Number of threads of all tasks.
    pub threads: usize,
    /// Number of tasks that have ended and that nobody has waited for.
    pub zombies: usize,
    /// Number of stopped tasks.
    pub stopped: usize,
    /// Number of regular files in the set.
    pub images: usize,
    /// Bytes of all these files.
    pub image_bytes: u64,
    /// A parent set holds some of the pages.
    pub parent: bool,
    /// Bytes of a page.
    pub page_size: u64,
    /// Pages of all tasks. Shared pages count for each task.
    pub pages: Totals,
    /// Number of tasks whose pages are not in the set, and not among `pages`. A page server has
    /// them.
    pub pages_elsewhere: usize,
    /// Numbers of open files, by kind.
    pub files: Vec<Count>,
    /// Microseconds for which the tasks were stopped. `None` if CRIU's record is not beside the
    /// images.
    pub frozen_us: Option<u64>,
    /// Kinds of namespaces that belong to the tree.
    pub own_namespaces: Vec<String>,
    /// Labels of threads.
    pub labels: Vec<String>,
    /// Number of threads that seccomp restricts.
    pub seccomp: usize,
    /// Options that a restore needs.
    pub needs: Vec<Need>,
}

/// Number of things of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Count {
    /// Kind, in one word.
    pub what: &'static str,
    /// Number of them.
    pub count: usize,
}

/// An option that `criu restore` needs for this checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Need {
    /// The option as in criu(8). Parts that the caller chooses are in capitals.
    pub option: String,
    /// Reason for the option.
    pub why: String,
}

impl Summary {
    /// Looks through a checkpoint.
    ///
    /// # Errors
    /// The errors of reading the images that describe tasks, files, memory and namespaces.
    pub fn new(checkpoint: Checkpoint<'_>) -> Result<Self> {
        Self::read(checkpoint, true)
    }

    /// Looks through a checkpoint without reading pages: the command line stays empty. Pages may be
    /// far away, as in a compressed archive.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new).
    pub fn without_pages(checkpoint: Checkpoint<'_>) -> Result<Self> {
        Self::read(checkpoint, false)
    }

    fn read(checkpoint: Checkpoint<'_>, pages: bool) -> Result<Self> {
        let (store, inventory) = (checkpoint.store(), checkpoint.inventory());
        let root = checkpoint.root();
        let namespaces = Namespaces::new(checkpoint)?;
        let names = store.names()?;
        let (mut images, mut image_bytes) = (0, 0u64);
        for name in &names {
            match store.level().size(name) {
                Ok(size) => {
                    images += 1;
                    image_bytes = image_bytes.saturating_add(size.unwrap_or(0));
                }
                // The link to the parent set, or the socket of `criu lazy-pages`.
                Err(error) if matches!(error.kind(), ErrorKind::NotAFile) => {}
                Err(error) => return Err(error),
            }
        }
        let mut summary = Self {
            root: root.pid(),
            name: root.name().to_string(),
            command: Vec::new(),
            architecture: None,
            image_version: inventory.img_version,
            lsm: match inventory.lsmtype() {
                Lsmtype::NoLsm => None,
                Lsmtype::Selinux => Some("SELinux"),
                Lsmtype::Apparmor => Some("AppArmor"),
            },
            tasks: 0,
            threads: 0,
            zombies: 0,
            stopped: 0,
            images,
            image_bytes,
            parent: store.level().source().parent()?.is_some(),
            page_size: 0,
            pages: Totals::default(),
            pages_elsewhere: 0,
            files: Vec::new(),
            frozen_us: frozen(checkpoint),
            own_namespaces: Vec::new(),
            labels: Vec::new(),
            seccomp: 0,
            needs: Vec::new(),
        };
        summary.count_tasks(checkpoint, pages)?;
        let needs = options(checkpoint, Some(summary.pages.lazy))?;
        summary.needs = needs.iter().map(Need::new).collect();
        let mut seen = HashSet::new();
        summary.needs.retain(|need| seen.insert(need.clone()));
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for file in checkpoint.files()? {
            *kinds.entry(file.file().word()).or_default() += 1;
        }
        summary.files = kinds.into_iter().map(|(what, count)| Count { what, count }).collect();
        let own = namespaces.namespaces.iter().filter(|row| !row.host);
        summary.own_namespaces = own.map(|row| row.kind.clone()).collect();
        summary.own_namespaces.dedup();
        Ok(summary)
    }

    fn count_tasks(&mut self, checkpoint: Checkpoint<'_>, pages: bool) -> Result<()> {
        for task in checkpoint.tasks() {
            self.tasks += 1;
            self.threads += task.tids().len();
            match task.state() {
                State::Dead => self.zombies += 1,
                State::Stopped => self.stopped += 1,
                _ => {}
            }
            let memory = task.memory_here()?;
            self.pages_elsewhere += usize::from(task.is_alive() && memory.is_none());
            if let Some(memory) = memory {
                self.page_size = memory.page_bytes();
                self.pages.add(&memory.totals());
                if pages && task.pid() == self.root {
                    let words = memory.cmdline().unwrap_or_default();
                    self.command = words.iter().map(|word| Text(word).to_string()).collect();
                }
            }
            let is_root = task.pid() == self.root;
            let threads = if is_root { task.threads() } else { task.threads_in_brief() };
            for thread in threads? {
                if thread.tid() == self.root {
                    self.architecture = thread.architecture().map(|arch| arch.to_string());
                }
                self.seccomp += usize::from(!matches!(thread.seccomp()?, Seccomp::Off));
                let label = thread.creds().and_then(|creds| creds.label());
                if let Some(label) = label.map(|label| label.to_string()) {
                    if !self.labels.contains(&label) {
                        self.labels.push(label);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Need {
    fn new(option: &RestoreOption) -> Self {
        Self { option: option.option(), why: option.why() }
    }
}

/// Returns the microseconds for which tasks were stopped. CRIU's record is optional, so faults in
/// it are ignored.
fn frozen(checkpoint: Checkpoint<'_>) -> Option<u64> {
    let bytes = checkpoint.store().read(kind::STATS_DUMP.file).ok()??;
    let stats = DumpStats::parse(&bytes).ok()?;
    u64::try_from(stats.frozen.as_micros()).ok()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command =
            if self.command.is_empty() { self.name.clone() } else { self.command.join(" ") };
        let arch = self.architecture.as_deref().unwrap_or("unknown architecture");
        write!(f, "root        {} {command} ({arch})", self.root)?;
        write!(f, "\ntasks       {}", self.tasks)?;
        let states = [(self.zombies, "zombie"), (self.stopped, "stopped")];
        for (number, state) in states.iter().filter(|(number, _)| *number > 0) {
            write!(f, ", {number} {state}")?;
        }
        write!(f, ", {}", count(self.threads, "thread"))?;
        if let Some(us) = self.frozen_us {
            write!(f, "; stopped for {}.{:03} ms", us / 1000, us % 1000)?;
        }
        write!(f, "\nimages      {}, {} KiB", count(self.images, "file"), self.image_bytes / 1024)?;
        write!(f, ", version {}", self.image_version)?;
        f.write_str(if self.parent { ", on top of a parent set" } else { "" })?;
        let kib = |pages| kib(pages, self.page_size);
        write!(f, "\nmemory      {} KiB mapped", kib(self.pages.mapped))?;
        let parts = [
            (self.pages.present, "stored"),
            (self.pages.parent, "in the parent set"),
            (self.pages.lazy, "kept back"),
            (self.pages.shared, "shared"),
        ];
        for (pages, what) in parts.iter().filter(|(pages, _)| *pages > 0) {
            write!(f, ", {} {what}", kib(*pages))?;
        }
        if self.pages_elsewhere > 0 {
            let tasks = count(self.pages_elsewhere, "task");
            write!(f, "; pages of {tasks} are elsewhere, as with a page server")?;
        }
        let files: Vec<_> =
            self.files.iter().map(|Count { what, count }| format!("{count} {what}")).collect();
        write!(f, "\nfiles       {}", files.join(", "))?;
        if self.own_namespaces.is_empty() {
            f.write_str("\nnamespaces  the host's")?;
        } else {
            write!(f, "\nnamespaces  own {}", self.own_namespaces.join(", "))?;
        }
        write!(f, "\nsecurity    {}", self.lsm.unwrap_or("no labels"))?;
        for label in &self.labels {
            write!(f, ", {label}")?;
        }
        match self.seccomp {
            0 => f.write_str("; no seccomp")?,
            threads => write!(f, "; seccomp restricts {}", count(threads, "thread"))?,
        }
        if self.needs.is_empty() {
            return f.write_str("\na restore needs no options");
        }
        f.write_str("\na restore needs")?;
        let width = self.needs.iter().map(|need| need.option.chars().count()).max().unwrap_or(0);
        for Need { option, why } in &self.needs {
            write!(f, "\n  {option:width$}  {why}")?;
        }
        Ok(())
    }
}
