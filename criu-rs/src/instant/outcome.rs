//! The outcome of an instant capture.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::InstantError;
use crate::error::Result;
use crate::operation::Dumped;
use crate::pages::Writing;
use crate::pages::merge::Course;
use crate::value::Pid;

/// An instant capture whose tasks run on, and whose memory is being read.
#[derive(Debug)]
#[non_exhaustive]
pub struct InstantCapture {
    /// The result of the dump. All images are there except the pages.
    pub dumped: Dumped,
    /// The way in which the memory of each task is saved.
    pub tasks: Vec<TaskCapture>,
    /// The reading of the memory. A restore needs the pages.
    pub reading: Reading,
}

/// The way in which the memory of a task is saved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskCapture {
    /// The task.
    pub pid: Pid,
    /// The way.
    pub way: Way,
}

/// A way in which the memory of a task is saved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Way {
    /// A holder keeps the memory, which is read while the task runs.
    Held {
        /// Pages that the holder keeps.
        pages: u64,
        /// The time in which the task was forked.
        fork: Duration,
    },
    /// CRIU reads the memory while the task stands still.
    Captured(WhyNot),
}

/// The reason why a task has no holder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyNot {
    /// The dump ends the tasks, so nothing runs on meanwhile.
    Ends,
    /// The private memory is so small that a holder gains nothing.
    Small {
        /// The private memory of the task, in bytes; 0 if it is not known.
        bytes: u64,
    },
    /// The private memory is spread over so many mappings that a holder gains nothing.
    Scattered {
        /// The private memory of the task, in bytes.
        bytes: u64,
        /// The number of mappings.
        mappings: u64,
    },
    /// The task has a context of `io_setup(2)`. The kernel may write into the task's memory after
    /// a fork, and CRIU saves later which requests are done.
    Aio,
    /// The memory may run out if the tasks write all of it.
    Memory {
        /// The bytes that the tasks may need once more.
        needed: u64,
        /// The bytes that are free.
        free: u64,
        /// The cgroup whose limit is too low, or `None` if the machine has too little memory.
        cgroup: Option<PathBuf>,
    },
    /// The task's user or cgroup may have no further process.
    Processes,
    /// The task runs in 32-bit mode.
    Compat,
    /// CRIU has not loaded the plugin.
    Absent,
    /// The plugin does not work with this CRIU, on this kernel or on this machine.
    Refused(Option<Errno>),
    /// The plugin has given up, and the task is as it was.
    GivenUp {
        /// The reason.
        why: &'static str,
        /// The system's error, if there is one.
        errno: Option<Errno>,
    },
    /// CRIU has not asked the plugin about the task.
    Unasked,
}

/// The reading of the memory from holders, in the background.
///
/// Dropped, it waits until the images are complete or the reading has failed. No holder is left
/// then.
#[derive(Debug)]
#[must_use = "without wait, nobody learns whether the images are complete"]
pub struct Reading {
    kind: Option<Kind>,
    /// Called when the reading has failed.
    or_else: Option<OrElse>,
}

/// A function that is called once.
struct OrElse(Box<dyn FnOnce() + Send>);

/// The ways in which the memory comes into the images.
#[derive(Debug)]
enum Kind {
    /// From holders.
    Held { course: Arc<Course>, thread: JoinHandle<Result<ReadOut, InstantError>> },
    /// From the memory of a capture.
    Captured { writing: Writing, begun: Instant },
    /// CRIU has written it.
    #[cfg(feature = "pod")]
    Written(ReadOut),
}

/// The end of a capture: the images are complete.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReadOut {
    /// Pages that were read from holders.
    pub held: u64,
    /// Pages that CRIU has read, while the tasks stood still.
    pub captured: u64,
    /// Pages that are left to the images of an earlier round of a series.
    pub inherited: u64,
    /// Tasks whose flags of mappings were read before the freeze: see
    /// [`InstantOptions::early_flags`](super::InstantOptions::early_flags).
    pub early_flags: u64,
    /// Mappings of these tasks whose flags had changed by then, and were corrected in the images.
    pub corrected: u64,
    /// Pages that were compared with their sources once more.
    pub verified: Option<u64>,
    /// The time from the end of the dump until the images were complete.
    pub time: Duration,
    /// The time in which the holders were ended, after that.
    pub teardown: Duration,
    /// Holders of which something is left after ten seconds, in words. Such a holder keeps nothing
    /// but its number; its task could not reap it, because another process traces the task. The
    /// next dump of the tree clears up.
    pub unreaped: Vec<String>,
}

impl Reading {
    pub(super) fn new(
        course: Arc<Course>,
        thread: JoinHandle<Result<ReadOut, InstantError>>,
    ) -> Self {
        Self { kind: Some(Kind::Held { course, thread }), or_else: None }
    }

    pub(super) fn of_capture(writing: Writing) -> Self {
        Self { kind: Some(Kind::Captured { writing, begun: Instant::now() }), or_else: None }
    }

    #[cfg(feature = "pod")]
    pub(super) fn written(read: ReadOut) -> Self {
        Self { kind: Some(Kind::Written(read)), or_else: None }
    }

    /// Returns the bytes of pages written so far, and of all pages.
    pub fn progress(&self) -> (u64, u64) {
        match &self.kind {
            Some(Kind::Held { course, .. }) => course.progress(),
            Some(Kind::Captured { writing, .. }) => writing.progress(),
            #[cfg(feature = "pod")]
            Some(Kind::Written(_)) => (0, 0),
            None => (0, 0),
        }
    }

    /// Ends the reading soon, as the dump's [`Cancel`](crate::Cancel) does. A reading whose images
    /// are complete by then succeeds, and so does one from no holder.
    pub fn cancel(&self) {
        if let Some(Kind::Held { course, .. }) = &self.kind {
            course.cancel();
        }
    }

    /// Returns `true` when the images are complete and no holder is left, or the reading has
    /// failed.
    pub fn is_finished(&self) -> bool {
        match &self.kind {
            Some(Kind::Held { thread, .. }) => thread.is_finished(),
            Some(Kind::Captured { writing, .. }) => writing.is_finished(),
            #[cfg(feature = "pod")]
            Some(Kind::Written(_)) => true,
            None => true,
        }
    }

    /// Waits until the images are complete and no holder is left.
    ///
    /// # Errors
    /// [`Error::Instant`](crate::Error::Instant) if the memory cannot be read or written, or the
    /// dump's [`Cancel`](crate::Cancel) or the reading was cancelled. No image of the dump is left
    /// then, and a checkpoint that it was to replace is back. The tasks run on.
    pub fn wait(mut self) -> Result<ReadOut> {
        Ok(self.join()?)
    }

    /// Calls a function when the reading has failed, at the latest when this value is dropped.
    #[cfg(feature = "oci")]
    pub(crate) fn or_else(mut self, call: impl FnOnce() + Send + 'static) -> Self {
        self.or_else = Some(OrElse(Box::new(call)));
        self
    }

    fn join(&mut self) -> Result<ReadOut, InstantError> {
        let outcome = self.outcome();
        match self.or_else.take() {
            Some(OrElse(call)) if outcome.is_err() => call(),
            _ => {}
        }
        outcome
    }

    fn outcome(&mut self) -> Result<ReadOut, InstantError> {
        match self.kind.take() {
            Some(Kind::Held { thread, .. }) => thread.join().unwrap_or(Err(InstantError::Panicked)),
            Some(Kind::Captured { writing, begun }) => {
                let received = writing.wait().1?;
                let time = begun.elapsed();
                Ok(ReadOut { captured: received.pages, time, ..ReadOut::default() })
            }
            #[cfg(feature = "pod")]
            Some(Kind::Written(read)) => Ok(read),
            None => Err(InstantError::Panicked),
        }
    }
}

impl fmt::Debug for OrElse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrElse")
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { pages, fork } => write!(f, "held, {pages} pages, forked in {fork:.1?}"),
            Self::Captured(why) => write!(f, "captured while it stood still: {why}"),
        }
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ends => f.write_str("the dump ends the tasks"),
            Self::Small { bytes: 0 } => f.write_str("its memory is small"),
            Self::Small { bytes } => write!(f, "its memory is small, {} KiB", bytes >> 10),
            Self::Scattered { bytes, mappings } => {
                write!(f, "its {} KiB of memory are spread over {mappings} mappings", bytes >> 10)
            }
            Self::Aio => f.write_str("the kernel may still write what it has asked for (io_setup)"),
            Self::Memory { needed, free, cgroup } => {
                let (needed, free) = (needed >> 20, free >> 20);
                write!(f, "the tasks may need {needed} MiB once more, and {free} MiB are free")?;
                match cgroup {
                    Some(cgroup) => write!(f, " in the cgroup {}", cgroup.display()),
                    None => f.write_str(" on the machine"),
                }
            }
            Self::Processes => f.write_str("its user or cgroup may have no further process"),
            Self::Compat => f.write_str("it runs in 32-bit mode"),
            Self::Absent => f.write_str("criu has not loaded the plugin"),
            Self::Refused(Some(Errno::EOPNOTSUPP)) => {
                f.write_str("the plugin needs an x86-64 machine")
            }
            Self::Refused(Some(Errno::ENOTTY)) => {
                f.write_str("the plugin needs the call PAGEMAP_SCAN of Linux 6.7")
            }
            Self::Refused(Some(Errno::ENOEXEC)) => {
                f.write_str("the plugin does not find the calls of this criu that it has to answer")
            }
            Self::Refused(errno) => {
                f.write_str("the plugin does not work with this criu or machine")?;
                errno.map_or(Ok(()), |errno| write!(f, ": {}", errno.desc()))
            }
            Self::GivenUp { why, errno } => {
                f.write_str(why)?;
                errno.map_or(Ok(()), |errno| write!(f, ": {}", errno.desc()))
            }
            Self::Unasked => f.write_str("criu has not asked the plugin about it"),
        }
    }
}
