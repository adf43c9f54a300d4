//! A live payload, as the test sees it that dumps it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::process::{ProcessId, has_ended, kill_tree, reap, send, stack_pointers, state};
use crate::{payload, soon};

/// A live payload, which counts into a file. It is killed with its descendants when dropped.
#[derive(Debug)]
pub struct Target<P: ProcessId> {
    /// The process id.
    pub pid: P,
    /// Absent after a restore.
    child: Option<Child>,
    file: PathBuf,
}

impl<P: ProcessId> Target<P> {
    /// Starts the payload that `words` name, with changes to the command, and waits until it counts
    /// into `file`. Its three standard streams are `/dev/null`.
    ///
    /// A payload with a stack pointer at the start of a page is ended, and started again: CRIU
    /// marks no page of such a process for a lazy restore.
    #[track_caller]
    pub fn start(
        words: &[&str],
        file: &Path,
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let mut command = payload::command(words, file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let command = change(&mut command);
        let mut target = Self::started(command.spawn().unwrap(), file.into());
        for _ in 0..RANDOM_STARTS {
            assert!(soon(|| target.count() > 1), "the payload {words:?} does not start");
            if !target.has_stack_at_page() {
                return target;
            }
            target.start_again(command);
        }
        panic!("{words:?} has a stack pointer at the start of a page in {RANDOM_STARTS} starts");
    }

    /// Starts a payload so that the stack pointer of its first thread is at the start of a page
    /// whenever it sleeps: CRIU marks no page of the payload for a lazy restore. Its addresses are
    /// not random.
    ///
    /// The payload needs a second thread: only then glibc sleeps with a stack pointer that is a
    /// multiple of 16.
    #[track_caller]
    pub fn start_at_page(words: &[&str], file: &Path) -> Self {
        let payload = payload::command(words, file);
        let mut command = Command::new("setarch");
        command.arg("-R").arg(payload.get_program()).args(payload.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The environment lies above the stack.
        let mut space = 0;
        let mut target = Self::started(command.env(SPACE, "").spawn().unwrap(), file.into());
        for _ in 0..STARTS {
            assert!(soon(|| target.count() > 1), "the payload {words:?} does not start");
            let mut found = None;
            assert!(soon(|| {
                let first = target.pid.raw();
                let mut pointers = stack_pointers(target.pid).into_iter();
                found = pointers.find(|(thread, _)| *thread == first);
                found.is_some()
            }));
            let (_, pointer) = found.unwrap();
            if pointer % PAGE == 0 {
                return target;
            }
            space += usize::try_from(pointer % PAGE).unwrap();
            target.start_again(command.env(SPACE, "x".repeat(space)));
        }
        panic!("the stack pointer of {words:?} is not at the start of a page");
    }

    /// Ends the payload, and starts another one in its place.
    fn start_again(&mut self, command: &mut Command) {
        // Other children are left to the test.
        let tree = kill_tree(self.pid);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
        assert!(soon(|| tree.iter().all(|&pid| has_ended(pid))), "process {} stays", self.pid);
        // Else the count of the old payload would be taken for that of the new one.
        let _ = fs::remove_file(&self.file);
        let child = command.spawn().unwrap();
        self.pid = P::of(i32::try_from(child.id()).unwrap());
        self.child = Some(child);
    }

    /// Returns true if a sleeping thread of the payload or of a descendant has its stack pointer at
    /// the start of a page. One thread of 256 has, if its stack pointer is a multiple of 16.
    fn has_stack_at_page(&self) -> bool {
        // A thread that runs at one look sleeps at another.
        (0..LOOKS).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            stack_pointers(self.pid).iter().any(|(_, pointer)| pointer % PAGE == 0)
        })
    }

    /// A payload that somebody else has started, and which counts into `file`.
    pub fn at(pid: P, file: PathBuf) -> Self {
        Self { pid, child: None, file }
    }

    /// A child, which counts into `file`.
    pub fn started(child: Child, file: PathBuf) -> Self {
        Self { pid: P::of(i32::try_from(child.id()).unwrap()), child: Some(child), file }
    }

    /// The file that it counts into.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Takes over the same payload after a restore.
    pub fn restored_as(&mut self, pid: P) {
        self.pid = pid;
    }

    /// The process id as an argument of a program.
    pub fn pid(&self) -> String {
        self.pid.to_string()
    }

    /// The state letter in `/proc`, while the process is there.
    pub fn state(&self) -> Option<char> {
        state(self.pid)
    }

    /// The last number that it has written.
    pub fn count(&self) -> u64 {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Waits until it has counted on; returns how far.
    #[track_caller]
    pub fn goes_on(&self) -> u64 {
        let before = self.count();
        let counted = || self.count() > before.max(1);
        assert!(soon(counted), "process {} does not count on from {before}", self.pid);
        self.count()
    }

    /// The signals that it has noted beside its file, one a line.
    pub fn signals(&self) -> String {
        fs::read_to_string(self.file.with_extension("signals")).unwrap_or_default()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(send(self.pid, signal), "there is no process {}", self.pid);
    }

    /// Waits until it has ended, and reaps it with all others that have ended.
    #[track_caller]
    pub fn is_gone(&mut self) {
        assert!(soon(|| has_ended(self.pid)), "process {} is alive", self.pid);
        self.child = None;
        reap();
    }

    /// Waits until it has ended, and reaps it alone.
    #[track_caller]
    pub fn is_gone_alone(&mut self) {
        assert!(soon(|| has_ended(self.pid)), "process {} is alive", self.pid);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Kills it and all its descendants, and leaves it to others to reap them.
    pub fn kill(&self) {
        kill_tree(self.pid);
    }

    /// Kills it and all its descendants, and reaps them.
    pub fn end(&mut self) {
        let tree = kill_tree(self.pid);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        soon(|| {
            reap();
            tree.iter().all(|&pid| has_ended(pid))
        });
        reap();
    }
}

impl<P: ProcessId> Drop for Target<P> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks at the stack pointers of a payload that starts.
const LOOKS: u32 = 5;
/// Starts of a payload until no stack pointer is at the start of a page. With a hundred threads
/// every third start has one.
const RANDOM_STARTS: u32 = 30;
/// Starts of a payload until its stack pointer is at the start of a page. Two are enough, unless a
/// look finds it in another call.
const STARTS: u32 = 5;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// A variable of the environment that moves the stack.
const SPACE: &str = "CRIU_RS_TEST_SPACE";
