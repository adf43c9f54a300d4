//! Bringing a process tree back at once, and its memory later.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::places::Socket;
use super::restore::{Restore, Restored};
use super::session::Session;
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::lazy::{self, LazyError, LazyHandle, LazyPages};

/// A [`Restore`] whose tasks run before their memory is there. Threads of this process bring the
/// memory when the tasks touch it, and in the background.
///
/// ```no_run
/// use criu_rs::lazy::{LazyOptions, LazyPages};
/// use criu_rs::{Criu, Restore};
///
/// let pages = LazyPages::open("/ckpt", LazyOptions::default())?;
/// let restore = Restore::new("/ckpt").rst_sibling(true).lazy(&pages);
/// let (restored, memory) = restore.run(&Criu::new())?;
/// println!("process {} runs, {} pages are missing", restored.pid, memory.progress().missing);
/// memory.wait(None)?;
/// println!("{} pages have come: {:?}", memory.progress().pages, memory.statistics());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Several restores of one snapshot, one after another or at once, take the same [`LazyPages`]: its
/// source and its threads are there once.
///
/// A restore that fails leaves no process, no thread and no socket.
#[derive(Clone, Debug)]
#[must_use = "an operation does nothing until it is run"]
pub struct LazyRestore<'a> {
    restore: Restore<'a>,
    pages: LazyPages,
}

impl<'a> Restore<'a> {
    /// Lets tasks run before their memory is there, which `pages` brings later. The pages have to
    /// be those of the restored images.
    ///
    /// [`lazy_pages`](Self::lazy_pages) takes the memory from a daemon instead, `criu lazy-pages`
    /// or a [`LazyDaemon`](crate::lazy::LazyDaemon), that listens in the work directory.
    pub fn lazy(self, pages: &LazyPages) -> LazyRestore<'a> {
        LazyRestore { restore: self, pages: pages.clone() }
    }
}

impl LazyRestore<'_> {
    /// Runs the restore. Returns when the tasks run, with a handle for their memory.
    ///
    /// # Errors
    /// See [`Error`]. [`Error::Lazy`] if the memory cannot be taken over. No process is left
    /// behind.
    pub fn run(&self, criu: &Criu) -> Result<(Restored, LazyHandle)> {
        self.run_with(criu, &mut ())
    }

    /// Runs the restore, and answers CRIU's actions with `hooks`.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<(Restored, LazyHandle)> {
        self.start(criu)?.finish(hooks)
    }

    /// Starts or reaches a criu, and does not send the request yet.
    ///
    /// # Errors
    /// See [`Restore::start`]; [`Error::Lazy`] if no socket can be made for criu.
    pub fn start(&self, criu: &Criu) -> Result<Session<(Restored, LazyHandle)>> {
        let restore = self.restore.clone().lazy_pages(true);
        let mut outcome = lazy::Outcome::default();
        let shown = restore.common.opts.work.as_ref().unwrap_or(&restore.common.opts.images).path();
        let receive = |work: Option<&OwnedFd>| {
            let directory = work.ok_or(LazyError::NoDirectory).and_then(|work| {
                work.try_clone().map_err(LazyError::system("duplicate a descriptor"))
            });
            let reception = directory.and_then(|work| self.pages.receive_one(work, &shown));
            let reception = reception.map_err(|error| failed(Arc::new(error)))?;
            outcome = reception.outcome();
            Ok(reception)
        };
        let session = restore.session(criu, Socket::Own, receive, |restored, reception| {
            Ok((restored, reception.finish().map_err(failed)?))
        })?;
        // criu sees only that its tasks die if the handler has made the restore fail.
        let judge = move |error| outcome.own_error().map_or(error, failed);
        Ok(session.judged(judge))
    }
}

fn failed(error: Arc<LazyError>) -> Error {
    Error::Lazy(error)
}
