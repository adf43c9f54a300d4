//! `dump --instant --prev-images-dir`: the dump after rounds of `pre-dump --instant`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use criu_rs::instant::{InstantOptions, SeriesOptions};
use criu_rs::{AfterDump, Criu, Dump};
use serde_json::json;

use super::Program;
use crate::config::Config;
use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::keeper::{Earlier, Stopped};
use crate::output::Output;

impl Program {
    pub(super) fn run_last(
        &self,
        output: &Output,
        criu: &Criu,
        options: InstantOptions,
        previous: &Path,
    ) -> Result<ExitCode, Fault> {
        if self.memory.has_server() || self.coordinated.is_given() {
            let why = "--prev-images-dir with --instant excludes --page-server and --coordinator";
            return Err(Fault::usage(why));
        }
        let (images, after) = (self.images.path(), self.dump.after());
        let kills = after == AfterDump::Kill;
        let earlier = Earlier::find(images.join(previous))?;
        let drive = Drive::new()?;
        let mut config = Config::default();
        let dump = Dump::new(self.saved.tree, images).after_dump(AfterDump::LeaveRunning);
        let memory = self.memory.without_previous();
        let mut dump = self.apply(dump.cancel(drive.cancel()), &memory, &mut config)?;
        let config = config.into_file()?;
        if let Some(config) = &config {
            dump = dump.config_file(config.path());
        }
        let mut series = dump.instant_series(criu, &SeriesOptions::new().instant(options))?;
        earlier.adopt(&mut series)?;

        let facts = json!({ "parent": earlier.directory().to_string_lossy() });
        let begun = Instant::now();
        // The processes end when nothing can fail any more.
        let left = if kills { AfterDump::LeaveStopped } else { after };
        let captured = drive.watch(|| series.last(images, left, &mut ()))?;
        let stopped = (kills && captured.is_ok()).then(|| Stopped::new(self.saved.tree));
        let failed = |source| Fault::system("end the processes, which are saved", source);
        let stopped = stopped.transpose().map_err(failed)?;
        self.round(images, after, begun, facts).finish(output, &drive, captured, |_| {
            let words = earlier.complete();
            stopped.map(Stopped::end).transpose().map_err(failed)?;
            Ok(words.unwrap_or_default())
        })?;
        Ok(Exit::Done.into())
    }
}
