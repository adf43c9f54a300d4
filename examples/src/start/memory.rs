//! The memory of all copies, which comes from one source.

use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use criu_images::source::Directory;
use criu_images::working_set::WorkingSet;
use criu_rs::lazy::{LazyControl, LazyError, LazyEvent, LazyOptions, LazyPages, LazyReport};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::lazy_pages::report::{self, COMPLETE, INCOMPLETE};
use crate::marks::{self, Place};
use crate::output::{Output, micros};
use crate::working_set::{WorkingSetArgs, save};

/// A handler that brings the memory of all copies from one mapping of the images.
pub(super) struct Memory {
    images: Directory,
    pages: LazyPages,
    told: (Sender<(u32, LazyEvent)>, UnixStream),
    heard: (Receiver<(u32, LazyEvent)>, UnixStream),
    threads: Vec<JoinHandle<()>>,
}

impl Memory {
    /// Opens the images. Uses the working set beside them if there is one, or records one.
    pub(super) fn open(
        images: &Path,
        options: LazyOptions,
        working_set: &WorkingSetArgs,
        output: &Output,
    ) -> Result<Self, Fault> {
        let unreadable =
            |error: criu_images::Error| Fault::Failed(report::unreadable(images, &error.into()));
        let pages = LazyPages::open(images, options).map_err(|error| match error {
            // An eager restore needs the images and these pages, too.
            LazyError::Images(_)
            | LazyError::NoPage { .. }
            | LazyError::PageSize { .. }
            | LazyError::Source(_) => Fault::Failed(report::unreadable(images, &error)),
            error => Fault::Failed(format!("{error}: --eager does without memory on demand")),
        })?;
        marks::note(images, Place::Directory, |said| output.say(said));
        let source = Directory::open(images).map_err(unreadable)?;
        let pages =
            working_set.apply(pages, &source, |said| output.say(said)).map_err(unreadable)?;
        let (told, heard) = UnixStream::pair()
            .and_then(|(told, heard)| {
                heard.set_nonblocking(true)?;
                told.set_nonblocking(true)?;
                Ok((told, heard))
            })
            .map_err(|source| Fault::system("hear about memory", source))?;
        let (sender, receiver) = channel();
        let (told, heard) = ((sender, told), (receiver, heard));
        Ok(Self { images: source, pages, told, heard, threads: Vec::new() })
    }

    /// Waits for the restore of a copy in its work directory.
    pub(super) fn serve(&mut self, copy: u32, work_dir: &Path) -> Result<LazyControl, Fault> {
        let failed = |error: LazyError| Fault::Failed(error.to_string());
        let daemon = self.pages.listen(work_dir).map_err(failed)?;
        let control = daemon.control();
        let system = |source: io::Error| Fault::system("start a thread for a copy", source);
        let (sender, wake) = &self.told;
        let (sender, wake) = (sender.clone(), wake.try_clone().map_err(system)?);
        let tell = move |event| {
            // The receiver ends with the program alone, and a full pipe is heard, too.
            let _ = sender.send((copy, event));
            let _ = (&wake).write(&[0]);
        };
        let run = move || {
            // A failure of the thread itself shows as a restore that finds nobody.
            let _ = daemon.run(NonZeroU64::new(1), tell);
        };
        let thread = thread::Builder::new().name(format!("copy {copy}")).spawn(run);
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread.map_err(system)?);
        Ok(control)
    }

    /// Returns a descriptor that can be read when there are events.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.1.as_fd()
    }

    /// Hears what has happened to the memory of the copies. Returns the copies whose memory is
    /// complete or lost. Sets `failed` if a recorded working set cannot be saved.
    pub(super) fn hear(&self, output: &Output, failed: &mut bool) -> Vec<(u32, LazyReport)> {
        let mut bytes = [0; 256];
        while matches!((&self.heard.1).read(&mut bytes), Ok(count) if count > 0) {}
        let mut ended = Vec::new();
        for (copy, event) in self.heard.0.try_iter() {
            match event {
                LazyEvent::Recorded { set, .. } => *failed |= !self.save(&set, output),
                LazyEvent::Refused(error) => output.say(format!("copy {copy}: {error}")),
                LazyEvent::Ended(report) => ended.push((copy, report)),
                _ => {}
            }
        }
        ended
    }

    /// Saves a working set. Returns false if that fails, which is told.
    fn save(&self, set: &WorkingSet, output: &Output) -> bool {
        let saved = save(set, &self.images);
        let is_saved = saved.is_ok();
        if is_saved {
            output.object("recorded", json!({ "pages": set.pages() }));
        }
        output.say(saved.unwrap_or_else(|error| error));
        is_saved
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // All copies are over, and so their restores are.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Tells that no more memory comes for a copy.
pub(super) fn tell_end(output: &Output, copy: u32, report: &LazyReport) {
    let numbers = &report.statistics;
    let facts: Value = json!({
        "copy": copy,
        "elapsed_us": micros(report.time),
        "pages": report.progress.pages,
        "faults": numbers.faults,
        "fault_p50_us": micros(numbers.latency.p50),
        "fault_p99_us": micros(numbers.latency.p99),
        "working_set_pages": numbers.working_set,
        "filled_pages": numbers.filled,
        "unused_pages": report.progress.unused,
    });
    match &report.result {
        Ok(()) if report.progress.unused > 0 => output.object(INCOMPLETE, facts),
        Ok(()) => output.object(COMPLETE, facts),
        Err(error) => {
            output.say(format!("copy {copy} has lost memory, and is ended: {error}"));
            let mut facts = facts;
            facts["error"] = json!({ "message": error.to_string() });
            output.object("memory lost", facts);
        }
    }
}
