//! The errors of lazy restores.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::handover::HandoverError;
use crate::pages::PagesError;
use crate::value::{PlaceError, SystemError};

/// The error of a lazy restore.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LazyError {
    /// A system call fails.
    #[error("{what}: {source}")]
    System {
        /// The attempt that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The images cannot be read.
    #[error(transparent)]
    Images(#[from] criu_images::Error),
    /// The pages of the images have another size than those of this machine.
    #[error("the images have pages of {images} bytes, and this machine has pages of {machine}")]
    PageSize {
        /// The page size of the images.
        images: u64,
        /// The page size of this machine.
        machine: u64,
    },
    /// Pages of this machine have a size that a handler does not serve.
    #[error("this machine has pages of {machine} bytes, and only those of {served} are served")]
    MachinePages {
        /// The page size of this machine.
        machine: u64,
        /// The page size that a handler serves.
        served: u64,
    },
    /// The images list more missing pages than a handler keeps account of: 4 TiB in all.
    #[error("the images leave out {pages} pages, and at most 4 TiB can come later")]
    TooLarge {
        /// The number of missing pages.
        pages: u64,
    },
    /// The source of the pages fails.
    #[error("the source of the pages fails: {0}")]
    Source(#[from] PagesError),
    /// The source does not have a page that a task needs.
    #[error("the source has no page {address:#x} of task {pid}: {why}")]
    NoPage {
        /// The task, by its pid in the images.
        pid: u32,
        /// The address of the page.
        address: u64,
        /// The reason.
        why: String,
    },
    /// The addresses of missing pages are no ascending ranges of whole pages.
    #[error("missing pages at {start:#x}..{end:#x}: wanted are ascending ranges of whole pages")]
    Ranges {
        /// The first address of the range.
        start: u64,
        /// The end of the range.
        end: u64,
    },
    /// A task has more missing pages than a handler takes.
    #[error("a task has {pages} missing pages or more, and at most {most} are served")]
    TooMuch {
        /// The number of pages up to the range that is too much.
        pages: u64,
        /// The most pages.
        most: u64,
    },
    /// A restore fails before its tasks run, or breaks the protocol of `lazy-pages.socket`. The
    /// tasks that it has handed over are killed.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// A restore that hands over its tasks says nothing for too long. Its tasks are killed.
    #[error("the restore has said nothing for {patience:?}, and is not complete")]
    Stalled {
        /// The time that was waited.
        patience: Duration,
    },
    /// A connection has said nothing before all restores that the handler serves had begun.
    #[error("the connection has said nothing, and all restores to serve have begun")]
    Full,
    /// Another user than this one and root connects to `lazy-pages.socket`.
    #[error("user {user} connects, and only user {own} and root may")]
    Stranger {
        /// The user who connects.
        user: u32,
        /// The user of this process.
        own: u32,
    },
    /// The name `lazy-pages.socket` is taken by something that is no socket of this user.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A directory or an event cannot be used.
    #[error(transparent)]
    Call(#[from] SystemError),
    /// The directory for `lazy-pages.socket` is one that CRIU opens itself.
    #[error("lazy-pages.socket needs a directory that this process opens")]
    NoDirectory,
    /// A peer hands over no memory of a virtual machine as Firecracker does. Holds the fault.
    #[error("the message of Firecracker: {0}")]
    Guest(String),
    /// The kernel does not start the process that guards the tasks against the loss of this one.
    #[error("cannot start a guard of missing pages: {0}")]
    Guard(io::Error),
    /// The restore was given up.
    #[error("the restore is given up: {0}")]
    GivenUp(Arc<LazyError>),
    /// The handler ends before the restore is complete.
    #[error("the handler of missing pages ends before all pages have come")]
    Stopped,
}

impl LazyError {
    /// Makes the error of a system call.
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
