//! Running an instant capture.

use super::options::InstantOptions;
use super::outcome::{InstantCapture, Reading, TaskCapture, Way, WhyNot};
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::host::tree;
use crate::operation::{Captured, Dump};
use crate::pages::{Client, Pool};

impl Dump<'_> {
    /// Runs the dump with a freeze that hardly depends on the memory of the tasks. The memory is
    /// read from forks of the tasks into the images directory, while the tasks run on: see
    /// [`instant`](crate::instant).
    ///
    /// If the dump ends the tasks ([`AfterDump::Kill`](crate::AfterDump::Kill)), it runs as
    /// [`capture`](Self::capture) does.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). After an error the tasks run on, and no holder is left.
    /// [`Error::NotOverSocket`](crate::Error::NotOverSocket) if criu is not started by this
    /// process.
    pub fn instant(
        &self,
        criu: &Criu,
        options: &InstantOptions,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        let captured = self.capture(criu, pool(options)?, hooks)?;
        Ok(ends(self, captured))
    }

    /// Runs the dump as [`instant`](Self::instant) does, and sends the memory to a page server. All
    /// other images go into the images directory.
    ///
    /// # Errors
    /// As [`instant`](Self::instant).
    pub fn instant_to(
        &self,
        criu: &Criu,
        options: &InstantOptions,
        server: Client,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        let captured = self.capture_to(criu, pool(options)?, server, hooks)?;
        Ok(ends(self, captured))
    }
}

fn pool(options: &InstantOptions) -> Result<Pool> {
    Pool::new(options.pool).map_err(|source| Error::system("allocate a pool", source))
}

/// Returns the outcome of a capture of tasks that end with it.
fn ends(dump: &Dump<'_>, captured: Captured) -> InstantCapture {
    let task = |pid| TaskCapture { pid, way: Way::Captured(WhyNot::Ends) };
    let tasks = tree::descendants(dump.pid()).into_iter().map(task).collect();
    let Captured { dumped, writing, .. } = captured;
    InstantCapture { dumped, tasks, reading: Reading::of_capture(writing) }
}
