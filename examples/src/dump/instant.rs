//! `dump --instant`: the memory is read from forks, while the tasks run on.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use criu_cri::coordinator::Joined;
use criu_rs::instant::{InstantOptions, ReadOut, TaskCapture};
use criu_rs::{Criu, Dump, Dumped, Hooks};
use serde_json::json;

use super::Program;
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
    ) -> Result<ExitCode, Fault> {
        let images = self.images.path();
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

        let log = self.common.log(images, "dump.log");
        let mut member = self.coordinated.member(drive.cancel(), self.reach.deadline())?;
        let begun = Instant::now();
        let mut capture = |hooks: &mut dyn Hooks| match server.take() {
            Some(server) => dump.instant_to(criu, options, server, hooks),
            None => dump.instant(criu, options, hooks),
        };
        let captured = drive.watch(|| match &mut member {
            None => capture(&mut ()),
            Some(member) => capture(&mut Joined::new(member, &mut ())),
        })?;
        drop(member);
        let captured = captured.map_err(|error| self.common.name_log(refused(error, &log)))?;
        instant::note(output, &captured.tasks);
        let read = instant::wait(captured.reading, &drive, output)?;
        let elapsed = begun.elapsed();
        let marked = if self.memory.has_server() { 0 } else { marks::mark(images, output) };
        self.tell_instant(output, &captured.dumped, &captured.tasks, &read, marked, elapsed);
        Ok(Exit::Done.into())
    }

    fn tell_instant(
        &self,
        output: &Output,
        dumped: &Dumped,
        tasks: &[TaskCapture],
        read: &ReadOut,
        marked: u64,
        elapsed: Duration,
    ) {
        let (pid, images) = (self.saved.tree, self.images.path());
        let stats = dumped.stats.as_ref().ok();
        let (after, runs_on) = self.end();
        let memory = instant::in_words(dumped, read);
        output.done(
            format!("process {pid} is saved in {} ({memory}); {runs_on}", images.display()),
            json!({
                "pid": pid.as_raw(),
                "images": images.to_string_lossy(),
                "tasks": after,
                "elapsed_us": micros(elapsed),
                "marked_pages": marked,
                "statistics": stats,
                "instant": instant::facts(tasks, read),
            }),
        );
        if let (Some(true), Some(stats)) = (self.jobs.display_stats, stats) {
            output.print(stats);
        }
    }
}
