//! The saved tree, read from its images.

use std::path::Path;
use std::time::Duration;

use console::style;
use criu_images::memory::{PageSource, Totals};
use criu_images::{Checkpoint, DumpStats, ImageSet, Result, Task};
use criu_rs::Dumped;
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::counters::Snapshot;
use crate::payload;

/// The contents of the images of the demo's tree.
pub(crate) struct Saved {
    tasks: Vec<SavedTask>,
    /// Shared memory: its name, and the bytes stored.
    shared: Vec<(String, u64)>,
    /// The counters at the moment of the dump.
    pub(crate) counters: Snapshot,
    /// Bytes of all images, and their number.
    pub(crate) size: (u64, usize),
}

struct SavedTask {
    pid: u32,
    depth: usize,
    name: String,
    threads: Vec<String>,
    totals: Totals,
    page: u64,
    files: Vec<String>,
}

impl Saved {
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let set = ImageSet::open(directory)?;
        let checkpoint = set.checkpoint()?;
        let tasks: Result<_> = checkpoint.tasks().map(|task| SavedTask::read(&task)).collect();
        let mut shared = Vec::new();
        for object in checkpoint.shared_memory()? {
            let stored: u64 = object.runs().map(|run| run.pages).sum();
            let name = String::from_utf8_lossy(object.name().unwrap_or_default()).into_owned();
            shared.push((name, stored * object.page_size().bytes()));
        }
        let counters = Snapshot::of_bytes(|bytes| counters(checkpoint, bytes))?;
        Ok(Self { tasks: tasks?, shared, counters, size: size(directory) })
    }

    /// Returns a line for each task, and one for each memory that they share.
    pub(crate) fn lines(&self) -> Vec<String> {
        let row = |name: &str, threads: &str, memory: &str, files: &str| {
            format!("  {name:18} {threads:>7} {memory:>11}  {files}")
        };
        let title = row("process", "threads", "memory", "open files");
        let mut lines = vec![style(title).dim().to_string()];
        for task in &self.tasks {
            let name = format!("{:indent$}{} {}", "", task.pid, task.name, indent = task.depth * 2);
            let memory = HumanBytes(task.totals.present * task.page).to_string();
            let threads = task.threads.len().to_string();
            lines.push(row(&name, &threads, &memory, &task.files.join("; ")));
        }
        for (name, bytes) in &self.shared {
            let memory = HumanBytes(*bytes).to_string();
            lines.push(row("in all of them", "", &memory, &format!("shared memory {name}")));
        }
        lines
    }

    /// Returns the amount that was written, and the time it took.
    pub(crate) fn summary(&self, dumped: &Dumped, elapsed: Duration) -> String {
        let (bytes, images) = self.size;
        let mut text = format!("  {images} images, {}, after {elapsed:.1?}", HumanBytes(bytes));
        if let Ok(stats) = &dumped.stats {
            let DumpStats { pages_written, frozen, .. } = stats;
            text += &format!("; {pages_written} pages of memory, all stood still for {frozen:.1?}");
        }
        text
    }

    pub(crate) fn to_json(&self) -> Value {
        let task = |task: &SavedTask| {
            json!({
                "pid": task.pid,
                "name": task.name,
                "threads": task.threads,
                "memory_bytes": task.totals.present * task.page,
                "mapped_bytes": task.totals.mapped * task.page,
                "files": task.files,
            })
        };
        let shared = |(name, bytes): &(String, u64)| json!({ "name": name, "bytes": bytes });
        json!({
            "tasks": self.tasks.iter().map(task).collect::<Value>(),
            "shared_memory": self.shared.iter().map(shared).collect::<Value>(),
            "image_bytes": self.size.0,
            "images": self.size.1,
        })
    }
}

impl SavedTask {
    fn read(task: &Task<'_>) -> Result<Self> {
        let memory = task.memory()?;
        let threads = task.threads()?;
        Ok(Self {
            pid: task.pid(),
            depth: task.depth(),
            name: task.name().to_string(),
            threads: threads.iter().map(|thread| thread.name().to_string()).collect(),
            totals: memory.as_ref().map(|memory| memory.totals()).unwrap_or_default(),
            page: memory.as_ref().map_or(0, |memory| memory.page_size().bytes()),
            files: open_files(task)?,
        })
    }
}

/// Returns the open files of a task in a few words each, except /dev/null.
fn open_files(task: &Task<'_>) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for fd in task.files()? {
        let text = fd.file.to_string();
        let text = text.split(" at offset").next().unwrap_or_default();
        if !text.ends_with("dev/null") && !all.iter().any(|known| known == text) {
            all.push(text.into());
        }
    }
    Ok(all)
}

/// The demo's own counters, out of the shared memory that was saved.
fn counters(checkpoint: Checkpoint<'_>, bytes: &mut [u8]) -> Result<()> {
    let name = payload::NAME.to_bytes();
    for object in checkpoint.shared_memory()? {
        if object.name().is_some_and(|found| found.ends_with(name)) {
            return object.read_at(0, bytes);
        }
    }
    Ok(())
}

fn size(directory: &Path) -> (u64, usize) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let images = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "img"));
    let sizes: Vec<u64> = images.filter_map(|image| Some(image.metadata().ok()?.len())).collect();
    (sizes.iter().sum(), sizes.len())
}
