//! `dump --instant`: the memory is read from forks, while the tasks run on.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use criu_cri::coordinator::Joined;
use criu_rs::instant::InstantOptions;
use criu_rs::{AfterDump, Criu, Dump, Hooks};
use serde_json::{Value, json};

use super::archive::Making;
use super::{Program, end_of};
use crate::config::Config;
use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::instant::Round;
use crate::output::Output;

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
        let mut round = self.round(images, self.dump.after(), begun, json!({}));
        round.archive = making.map(Making::place);
        round.finish(output, &drive, captured, |facts| match making {
            Some(making) => {
                let (words, archive) = making.facts();
                facts["archive"] = archive;
                Ok(format!("; {words}"))
            }
            None => Ok(String::new()),
        })?;
        Ok(Exit::Done.into())
    }

    /// Makes the rest of a capture, whose memory is to come.
    pub(super) fn round<'a>(
        &'a self,
        images: &'a Path,
        after: AfterDump,
        begun: Instant,
        facts: Value,
    ) -> Round<'a> {
        let (common, jobs, is_sent) = (&self.common, &self.jobs, self.memory.has_server());
        let (tree, log, end) = (self.saved.tree, "dump.log", end_of(after));
        Round { tree, images, archive: None, log, common, jobs, is_sent, end, begun, facts }
    }
}
