//! The handler of a test, its source and its tasks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use criu_lab::lazy::{PAGE, pidfd};
use criu_lab::process;
use criu_lab::raw::receive_fd;
use criu_rs::lazy::{
    Fill, Handler, LazyError, LazyOptions, Pages, Reader, Restoration, Supply, Urgency, Wanted,
};

use crate::task::{WORDS, word};

/// A restore, its handler, and the tasks of a test.
pub struct Stage {
    // Ends before the tasks are killed, so that a test sees what the handler does to them.
    pub handler: Option<Arc<Handler>>,
    pub restoration: Restoration,
    pub supply: Arc<Pattern>,
    /// The number of the last task in the images.
    pub last: u32,
    pub has_pidfd: bool,
    /// Offsets of pages that come first.
    pub first: Vec<u64>,
    pub tasks: Vec<(Child, UnixStream)>,
}

impl Stage {
    pub fn new(options: LazyOptions) -> Self {
        let supply = Arc::new(Pattern::default());
        let handler = Handler::new(Arc::clone(&supply) as Arc<dyn Supply>, options).unwrap();
        Self::on(&Arc::new(handler), &supply, 0)
    }

    pub fn on(handler: &Arc<Handler>, supply: &Arc<Pattern>, last: u32) -> Self {
        let restoration = handler.restoration();
        let (handler, supply) = (Some(Arc::clone(handler)), Arc::clone(supply));
        let (first, tasks) = (Vec::new(), Vec::new());
        Self { handler, restoration, supply, last, has_pidfd: true, first, tasks }
    }

    /// Starts a task, whose pages the restore takes.
    pub fn start(&mut self, name: &str, pages: usize) {
        self.try_start(name, pages).unwrap();
    }

    pub fn try_start(&mut self, name: &str, pages: usize) -> Result<(), LazyError> {
        let (near, far) = UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--task", name, &pages.to_string()]);
        let child = command.stdin(Stdio::from(OwnedFd::from(far))).spawn().unwrap();
        let uffd = receive_fd(&near);
        let mut start = [0; 8];
        (&near).read_exact(&mut start).unwrap();
        let start = u64::from_ne_bytes(start);
        self.last += 1;
        let pid = self.last;
        self.supply.bases.lock().unwrap().insert(pid, start);
        let first = self.first.iter().map(|&at| Wanted { pid, address: start + at, pages: 1 });
        self.restoration.prefetch(first);
        let process = self.has_pidfd.then(|| pidfd(child.id()));
        let missing = start..start + (pages * PAGE) as u64;
        let added = self.restoration.add(pid, uffd, std::slice::from_ref(&missing), process);
        // A task that is killed does not listen.
        let _ = (&near).write_all(b"g");
        self.tasks.push((child, near));
        added
    }

    /// Hears a number from the first task.
    pub fn hear_number(&self) -> i32 {
        let mut number = [0; 4];
        (&self.tasks[0].1).read_exact(&mut number).unwrap();
        i32::from_ne_bytes(number)
    }

    /// Waits for the tasks, which must find all pages right, and for the end of the restore.
    pub fn finish(&mut self) {
        for (mut child, _) in self.tasks.drain(..) {
            let status = child.wait().unwrap();
            assert!(status.success(), "{status}");
        }
        assert!(self.restoration.wait(Some(Duration::from_secs(10))).unwrap());
    }

    /// Kills the tasks and their children.
    pub fn end(&mut self) {
        for (mut child, _) in self.tasks.drain(..) {
            process::kill_tree(i32::try_from(child.id()).unwrap());
            child.wait().unwrap();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn without_fill(around: u64) -> LazyOptions {
    let mut options = LazyOptions::default();
    (options.fill, options.around) = (Fill::Nothing, around);
    options
}

/// A source whose pages tell their addresses.
#[derive(Debug, Default)]
pub struct Pattern {
    /// The first address of each task.
    bases: Mutex<HashMap<u32, u64>>,
    pub fails: AtomicBool,
}

impl Pattern {
    pub fn base(&self, pid: u32) -> u64 {
        self.bases.lock().unwrap()[&pid]
    }
}

impl Supply for Pattern {
    fn is_near(&self) -> bool {
        true
    }

    fn reader(&self, _: Urgency) -> Result<Box<dyn Reader + '_>, LazyError> {
        Ok(Box::new(PatternReader { pattern: self, bytes: Vec::new() }))
    }
}

struct PatternReader<'p> {
    pattern: &'p Pattern,
    bytes: Vec<u8>,
}

impl Reader for PatternReader<'_> {
    fn read(&mut self, wanted: Wanted) -> Result<Pages<'_>, LazyError> {
        let Wanted { pid, address, .. } = wanted;
        if self.pattern.fails.load(Ordering::SeqCst) {
            let why = "the test says so".to_owned();
            return Err(LazyError::NoPage { pid, address, why });
        }
        let first = (address - self.pattern.base(pid)) / PAGE as u64;
        self.bytes.clear();
        self.bytes.resize(usize::try_from(wanted.pages).unwrap() * PAGE, 0);
        for (page, bytes) in (first..).zip(self.bytes.chunks_exact_mut(PAGE)) {
            for n in WORDS {
                bytes[n * 8..n * 8 + 8].copy_from_slice(&word(page, n as u64).to_ne_bytes());
            }
        }
        Ok(Pages::new(&self.bytes))
    }
}
