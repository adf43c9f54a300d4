//! Saving a process tree into memory first.

use std::io;
use std::sync::mpsc;

use super::dump::{Dump, Dumped};
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::host::namespaces::in_user_namespace;
use crate::pages::{Capture, Client, Pool, Writing};

impl Dump<'_> {
    /// Runs the dump with the shortest freeze. The memory goes into a [`Pool`], and from there into
    /// the images directory while the tasks run on. Memory that does not fit into the pool goes to
    /// the directory at once.
    ///
    /// Tasks that are to be killed ([`AfterDump::Kill`](crate::AfterDump::Kill)) are killed after
    /// everything is written.
    ///
    /// ```no_run
    /// use criu_rs::pages::Pool;
    /// use criu_rs::{AfterDump, Criu, Dump, Pid};
    ///
    /// let pid: Pid = "4711".parse()?;
    /// let dump = Dump::new(pid, "/ckpt").after_dump(AfterDump::LeaveRunning);
    /// let captured = dump.capture(&Criu::new(), Pool::new(2 << 30)?, &mut ())?;
    /// println!("the tasks run on; {:?}", captured.dumped.stats?.frozen);
    /// let (pool, result) = captured.writing.wait();
    /// println!("{} are on disk", result?);
    /// # drop(pool);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`Error`](crate::Error). It is also an error if only CRIU sees the images directory, and
    /// if the memory cannot be written and the tasks were to be killed. After an error the tasks
    /// run on.
    pub fn capture(&self, criu: &Criu, pool: Pool, hooks: &mut dyn Hooks) -> Result<Captured> {
        let doing = "capture memory";
        // The pages and the images go into the same directory, even if its path comes to lead
        // elsewhere.
        let Some((directory, held)) = self.common.opts.images.hold()? else {
            let why = "the images directory is one that only CRIU sees";
            return Err(Error::system(doing, io::Error::new(io::ErrorKind::Unsupported, why)));
        };
        let capture = Capture::within(pool, held, directory.path());
        let capture = capture.map_err(|error| Error::system(doing, error))?;
        // The pages of a tree in a user namespace are as readable as its other images, for the
        // user who restores them.
        let capture = capture.others_read(in_user_namespace(self.pid()));
        let mut dump = self.clone();
        dump.common.opts.images = directory;
        dump.capture_with(criu, capture, hooks)
    }

    /// Runs the dump as [`capture`](Self::capture) does, and hands the memory on to a page server.
    /// The memory goes to no disk here: the dump fails if the memory does not fit into the pool.
    /// All other images go into the images directory.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). It is also an error if the server does not take the memory and
    /// the tasks were to be killed. After an error the tasks run on.
    pub fn capture_to(
        &self,
        criu: &Criu,
        pool: Pool,
        server: Client,
        hooks: &mut dyn Hooks,
    ) -> Result<Captured> {
        let capture = Capture::to(pool, server);
        let capture = capture.map_err(|error| Error::system("capture memory", error))?;
        self.capture_with(criu, capture, hooks)
    }

    fn capture_with(
        &self,
        criu: &Criu,
        capture: Capture,
        hooks: &mut dyn Hooks,
    ) -> Result<Captured> {
        let dump = self.clone().page_server_socket(&capture);
        let kills = !criu.configure(&self.common)?.opts.leaves_tasks();
        // Images without pages are not a checkpoint, and must not replace one.
        let (keep, kept) = mpsc::channel();
        let session = dump.begin_and(criu, true, move |watched| {
            if kills {
                watched.keep();
            } else {
                // The receiver lives on in this function.
                let _ = keep.send(watched.keep_tasks());
            }
        });
        let result = session.and_then(|session| session.finish(&mut capture.hold(hooks, kills)));
        match result {
            Ok(dumped) => {
                let images = kept.try_recv().ok().flatten();
                let writing = capture.write_and(move |written| {
                    if let Some(images) = images.filter(|_| written) {
                        images.keep();
                    }
                });
                Ok(Captured { dumped, writing })
            }
            Err(error) => {
                let (_, failed) = capture.discard();
                Err(failed.map_or(error, |first| {
                    Error::system("capture memory", io::Error::other(first.to_string()))
                }))
            }
        }
    }
}

/// A dump whose memory is still on its way to disk.
#[derive(Debug)]
#[non_exhaustive]
pub struct Captured {
    /// The result of the dump. All images are there except the pages.
    pub dumped: Dumped,
    /// The writing of the pages. A restore needs them.
    pub writing: Writing,
}
