//! A line that shows how far an operation is, on a terminal only.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use console::Term;
use criu_rs::Pid;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use procfs::process::Process;

use crate::shown::one_line;

/// The progress of an operation. Dropping it clears the line.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Hidden until it is first shown.
    bar: ProgressBar,
    is_wanted: bool,
    /// A directory that fills, and how many bytes it held at the beginning.
    fills: Option<(PathBuf, u64)>,
}

impl Progress {
    /// Shows a dump: bytes written, and bytes that the tree has in memory.
    pub(crate) fn of_dump(root: Pid, images: &Path) -> Self {
        let mut progress = Self::new(dump_line(Term::stderr().size().1));
        if progress.is_wanted {
            progress.bar.set_length(resident(root));
            progress.fills = Some((images.to_owned(), bytes_in(images)));
        }
        progress
    }

    /// Shows the time that an operation takes. Names in `what` may be those that strangers chose.
    pub(crate) fn of_time(what: &str) -> Self {
        let progress = Self::new(OF_TIME);
        progress.bar.set_message(one_line(what));
        progress
    }

    /// Shows work on a number of bytes; 0 for a number that is not known yet.
    pub(crate) fn of_bytes(total: u64) -> Self {
        let progress = Self::new("{spinner} {bytes} of {total_bytes} {elapsed}");
        progress.bar.set_length(total);
        progress
    }

    /// Shows the line with so many bytes that are done.
    pub(crate) fn show_bytes(&self, done: u64) {
        self.bar.set_position(done);
        self.show();
    }

    /// Shows the line with so many bytes that are done, of all. A short operation shows nothing.
    pub(crate) fn show_part(&self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
        if self.is_wanted && self.bar.elapsed() > PAUSE {
            self.show();
        }
    }

    /// Shows the line with so many pages that have come, and that are missing.
    pub(crate) fn show_pages(&self, pages: u64, missing: u64) {
        let page = procfs::page_size();
        self.bar.set_length(pages.saturating_add(missing).saturating_mul(page));
        self.bar.set_position(pages.saturating_mul(page));
        self.show();
    }

    /// Returns a listener to the number of bytes that are done.
    pub(crate) fn listener(&self) -> impl Fn(u64) + Send + Sync + 'static {
        let (bar, is_wanted) = (self.bar.clone(), self.is_wanted);
        let begun = Instant::now();
        move |bytes| {
            bar.set_position(bytes);
            if is_wanted && bar.is_hidden() && begun.elapsed() > PAUSE {
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
        }
    }

    fn new(style: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self { bar, is_wanted: io::stderr().is_terminal(), fills: None }
    }

    /// Returns the time to wait before showing the progress; `None` waits for ever.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.is_wanted.then_some(PAUSE)
    }

    /// Shows the line.
    pub(crate) fn show(&self) {
        if let Some((directory, before)) = &self.fills {
            let written = bytes_in(directory).saturating_sub(*before);
            let length = self.bar.length().unwrap_or(0).max(written);
            self.bar.set_length(length);
            self.bar.set_position(written);
        }
        if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Returns the line of a dump that fits on a terminal of this width. A longer line would be broken
/// into several, of which only the last would be replaced by the next.
fn dump_line(columns: u16) -> &'static str {
    match columns {
        85.. => "{spinner} {bytes} written, {total_bytes} in memory {bar:30} {elapsed}",
        70.. => "{spinner} {bytes} written, {total_bytes} in memory {bar:15} {elapsed}",
        60.. => "{spinner} {bytes} written of {total_bytes} {bar:10} {elapsed}",
        40.. => "{spinner} {bytes} of {total_bytes} {elapsed}",
        _ => "{spinner} {elapsed}",
    }
}

/// Returns the bytes that a tree has in memory. Shared ones count for each process.
fn resident(root: Pid) -> u64 {
    let mut waiting = vec![root.as_raw()];
    let mut pages = 0;
    while let Some(pid) = waiting.pop() {
        let Ok(process) = Process::new(pid) else { continue };
        pages += process.statm().map_or(0, |memory| memory.resident);
        let threads = process.tasks().into_iter().flatten().flatten();
        let children = threads.filter_map(|thread| thread.children().ok()).flatten();
        waiting.extend(children.filter_map(|child| i32::try_from(child).ok()));
    }
    pages * procfs::page_size()
}

/// Returns the bytes in a directory. A dump into a directory that others can write fills a private
/// directory in it first.
fn bytes_in(directory: &Path) -> u64 {
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if !meta.is_dir() => meta.len(),
        _ => 0,
    };
    let is_private =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".criu-rs-new-");
    let private = entries(directory).filter(is_private).flat_map(|entry| entries(&entry.path()));
    entries(directory).chain(private).map(bytes).sum()
}

/// The line of an operation that reports nothing itself.
const OF_TIME: &str = "{spinner} {msg} {elapsed}";
/// The time before the line is shown: a short operation shows nothing.
const PAUSE: Duration = Duration::from_millis(150);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_line_is_shown_as_it_is() {
        let progress = Progress::of_time("saving {msg}\n\x1b[2J{bar:9");
        assert_eq!(progress.bar.message(), "saving {msg}\\n\\u{1b}[2J{bar:9");
    }

    #[test]
    fn the_line_fits_on_narrow_terminals() {
        let longest = [
            ("{spinner}", "|"),
            ("{bytes}", "1023.99 GiB"),
            ("{total_bytes}", "1023.99 GiB"),
            ("{bar:30}", "##############################"),
            ("{bar:15}", "###############"),
            ("{bar:10}", "##########"),
            ("{elapsed}", "59m"),
        ];
        for columns in 8..200 {
            let line = dump_line(columns).to_owned();
            let line = longest.iter().fold(line, |line, (name, text)| line.replace(name, text));
            assert!(!line.contains('{') && line.len() < usize::from(columns), "{columns}: {line}");
        }
    }
}
