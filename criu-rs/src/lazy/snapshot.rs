//! The tasks of a snapshot, and the pages that a lazy restore leaves out.

use std::ops::Range;
use std::path::PathBuf;

use criu_images::kind;
use criu_images::memory::{Memory, PageFlags, PageSource, Vma};
use criu_images::proto::PagemapEntry;
use criu_images::source::Source;
use criu_images::{Image, ImageSet};

use super::error::LazyError;
use crate::pages::{Layout, page_size};

/// The tasks of a snapshot, and the pages that `criu restore --lazy-pages` leaves out.
///
/// CRIU leaves out every run whose pagemap entry has the flag `PE_LAZY`. A dump sets this flag for
/// pages of private memory without a file, except locked memory and huge pages. All other pages are
/// in memory before the tasks run, and so are pages that the set leaves to its parent sets: these
/// have the flag `PE_PARENT` alone. CRIU marks no page of some tasks:
/// [`unmarked`](criu_images::edit::unmarked) finds them.
///
/// ```no_run
/// use criu_rs::lazy::Snapshot;
///
/// let snapshot = Snapshot::open("/ckpt")?;
/// for task in snapshot.tasks() {
///     println!("task {}: {} runs come later", task.pid(), task.missing().len());
/// }
/// # Ok::<(), criu_rs::lazy::LazyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The tasks with memory, by rising pid.
    tasks: Vec<LazyTask>,
    /// The pids of zombies, rising.
    zombies: Vec<u32>,
    /// The layout of the page server's protocol in the CRIU that wrote the images.
    layout: Layout,
}

/// A task of a [`Snapshot`] that has memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LazyTask {
    pid: u32,
    missing: Vec<Range<u64>>,
}

impl Snapshot {
    /// Reads the images in a directory. Their pages files are not opened.
    ///
    /// # Errors
    /// [`LazyError::Images`] if an image cannot be read; [`LazyError::PageSize`] if the pages of
    /// the images are not those of this machine; [`LazyError::TooLarge`] if the tasks have more
    /// than 4 TiB of missing pages.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, LazyError> {
        Self::of(&ImageSet::open(directory)?)
    }

    /// Reads the images of a source, such as an archive.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn of_source(source: impl Source + 'static) -> Result<Self, LazyError> {
        Self::of(&ImageSet::new(source)?)
    }

    fn of(set: &ImageSet) -> Result<Self, LazyError> {
        let (mut tasks, mut zombies, mut layout) = (Vec::new(), Vec::new(), None);
        for task in set.checkpoint()?.tasks() {
            match task.memory()? {
                Some(memory) => tasks.push(LazyTask::new(task.pid(), &memory)?),
                None => zombies.push(task.pid()),
            }
            if layout.is_none() {
                layout = layout_of(set, task.pid())?;
            }
        }
        let pages = tasks.iter().fold(0, |all: u64, task| all.saturating_add(task.pages()));
        if pages > MOST / page_size().bytes() {
            return Err(LazyError::TooLarge { pages });
        }
        tasks.sort_unstable_by_key(|task| task.pid);
        zombies.sort_unstable();
        Ok(Self { tasks, zombies, layout: layout.unwrap_or(Layout::Wide) })
    }

    /// Returns the layout of the page server's protocol that the CRIU speaks which wrote the
    /// images.
    ///
    /// Images and protocol changed together: CRIU 4.2 and later count pages with 64 bits. A pagemap
    /// that this crate wrote has the older form, and looks like one of CRIU 4.1.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the tasks with memory, by rising pid. Each hands over a userfaultfd.
    pub fn tasks(&self) -> &[LazyTask] {
        &self.tasks
    }

    /// Returns the pids of zombies, rising. A zombie hands over its pid alone.
    pub fn zombies(&self) -> &[u32] {
        &self.zombies
    }

    /// Finds a task with memory by its pid in the images.
    pub fn task(&self, pid: u32) -> Option<&LazyTask> {
        self.index(pid).and_then(|index| self.tasks.get(index))
    }

    /// Returns the number of pages that a restore of all tasks leaves out.
    pub fn pages(&self) -> u64 {
        self.tasks.iter().map(LazyTask::pages).sum()
    }

    /// Returns the number of a task among the tasks with memory.
    pub(super) fn index(&self, pid: u32) -> Option<usize> {
        self.tasks.binary_search_by_key(&pid, |task| task.pid).ok()
    }
}

impl LazyTask {
    fn new(pid: u32, memory: &Memory<'_>) -> Result<Self, LazyError> {
        let (images, machine) = (memory.page_size().bytes(), page_size().bytes());
        if images != machine {
            return Err(LazyError::PageSize { images, machine });
        }
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut vmas = memory.vmas().filter(Vma::can_be_lazy).peekable();
        for run in memory.runs().filter(|run| run.flags.contains(PageFlags::LAZY)) {
            let end = run.start.saturating_add(run.pages.saturating_mul(images));
            // Mappings and runs ascend, and a run may reach over several mappings.
            while let Some(vma) = vmas.peek() {
                let start = run.start.max(vma.start());
                if start < end.min(vma.end()) {
                    // CRIU begins a new run where a pipe of its dump was full.
                    match missing.last_mut() {
                        Some(last) if last.end == start && start > vma.start() => {
                            last.end = end.min(vma.end());
                        }
                        _ => missing.push(start..end.min(vma.end())),
                    }
                }
                if vma.end() > end {
                    break;
                }
                vmas.next();
            }
        }
        Ok(Self { pid, missing })
    }

    /// Returns the pid of the task in the images.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the addresses of the pages that a restore leaves out, ascending. Each range lies in
    /// one mapping.
    pub fn missing(&self) -> &[Range<u64>] {
        &self.missing
    }

    /// Returns the number of pages that a restore leaves out.
    pub fn pages(&self) -> u64 {
        let sizes = self.missing.iter().map(|range| range.end - range.start);
        sizes.fold(0, u64::saturating_add) / page_size().bytes()
    }

    /// Returns the end of the range that has an address.
    pub(super) fn end_of(&self, address: u64) -> Option<u64> {
        let after = self.missing.partition_point(|range| range.start <= address);
        let range = self.missing.get(after.checked_sub(1)?)?;
        range.contains(&address).then_some(range.end)
    }
}

/// Returns the layout that goes with the pagemap of a task. `None` if the pagemap has no run.
fn layout_of(set: &ImageSet, pid: u32) -> Result<Option<Layout>, LazyError> {
    let name = kind::PAGEMAP.file_name(pid.into());
    let Some(bytes) = set.read(&name)? else {
        return Ok(None);
    };
    let mut image = Image::parse(&name, &bytes, kind::PAGEMAP)?;
    image.next_entry()?;
    let Some(run) = image.next_entry()? else {
        return Ok(None);
    };
    let is_wide = run.decode::<PagemapEntry>()?.nr_pages.is_some();
    Ok(Some(if is_wide { Layout::Wide } else { Layout::Narrow }))
}

/// The most bytes that a restore leaves out. A handler keeps a bit for each page.
const MOST: u64 = 4 << 40;
