//! `dump --instant`: the memory is read from forks, while the tasks run on.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use criu_cri::coordinator::Joined;
use criu_rs::instant::{InstantCapture, InstantOptions};
use criu_rs::{AfterDump, Criu, Dump, Hooks};
use serde_json::{Value, json};

use super::archive::Making;
use super::{Program, end_of};
use crate::config::Config;
use crate::drive::{Drive, refused};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::instant;
use crate::marks;
use crate::output::{Output, micros};

impl Program {
    pub(super) fn run_instant(
        &self,
        output: &Output,
        criu: &Criu,
        options: &InstantOptions,
        making: Option<&Making>,
    ) -> Result<ExitCode, Fault> {
        let images = making.map_or(self.images.path(), Making::images);
        let mut server = self.memory.client(criu)?;
        let drive = Drive::new()?;
        let mut config = Config::default();
        let dump = Dump::new(self.saved.tree, images).after_dump(self.dump.after());
        let memory = self.memory.without_server();
        let mut dump = self.apply(dump.cancel(drive.cancel()), &memory, &mut config)?;
        let config = config.into_file()?;
        if let Some(config) = &config {
            dump = dump.config_file(config.path());
        }

        let mut member = self.coordinated.member(drive.cancel(), self.reach.deadline())?;
        let begun = Instant::now();
        let mut capture = |hooks: &mut dyn Hooks| match (making, server.take()) {
            (Some(making), _) => {
                dump.instant_into(criu, options, making.writer(drive.cancel()), hooks)
            }
            (None, Some(server)) => dump.instant_to(criu, options, server, hooks),
            (None, None) => dump.instant(criu, options, hooks),
        };
        let captured = drive.watch(|| match &mut member {
            None => capture(&mut ()),
            Some(member) => capture(&mut Joined::new(member, &mut ())),
        })?;
        drop(member);
        let (after, facts) = (self.dump.after(), json!({}));
        let round = Round { images, making, after, begun, facts };
        self.finish(output, &drive, captured, round)?;
        Ok(Exit::Done.into())
    }

    /// Waits for the memory of a capture, and tells the outcome.
    pub(super) fn finish(
        &self,
        output: &Output,
        drive: &Drive,
        captured: criu_rs::Result<InstantCapture>,
        round: Round<'_>,
    ) -> Result<(), Fault> {
        let Round { images, making, after, begun, mut facts } = round;
        let log = self.common.log(images, "dump.log");
        let captured = captured.map_err(|error| self.common.name_log(refused(error, &log)))?;
        let InstantCapture { dumped, tasks, reading, .. } = captured;
        instant::note(output, &tasks);
        let read = instant::wait(reading, drive, output)?;
        let elapsed = begun.elapsed();
        let is_here = making.is_none() && !self.memory.has_server();
        let marked = if is_here { marks::mark(images, output) } else { 0 };
        let (pid, stats) = (self.saved.tree, dumped.stats.as_ref().ok());
        let (end, runs_on) = end_of(after);
        // The base of a round may have ended meanwhile.
        if facts.get("parent").is_some() && images.join("parent").symlink_metadata().is_err() {
            facts["parent"] = Value::Null;
        }
        facts["pid"] = json!(pid.as_raw());
        let place = making.map_or_else(|| images.display().to_string(), Making::place);
        facts["images"] = json!(place);
        facts["tasks"] = json!(end);
        facts["elapsed_us"] = json!(micros(elapsed));
        facts["marked_pages"] = json!(marked);
        facts["statistics"] = json!(stats);
        facts["instant"] = instant::facts(&tasks, &read);
        let mut memory = instant::in_words(&dumped, &read);
        if let Some(making) = making {
            let (words, archive) = making.facts();
            memory = format!("{memory}; {words}");
            facts["archive"] = archive;
        }
        output.done(format!("process {pid} is saved in {place} ({memory}); {runs_on}"), facts);
        if let (Some(true), Some(stats)) = (self.jobs.display_stats, stats) {
            output.print(stats);
        }
        Ok(())
    }
}

/// A capture whose memory is to come.
pub(super) struct Round<'a> {
    /// The directory of its images.
    pub(super) images: &'a Path,
    /// The archive that takes them.
    pub(super) making: Option<&'a Making>,
    /// The end of the tasks.
    pub(super) after: AfterDump,
    /// The time at which it began.
    pub(super) begun: Instant,
    /// More facts for JSON.
    pub(super) facts: Value,
}
