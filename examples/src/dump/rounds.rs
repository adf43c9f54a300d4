//! `dump --instant --rounds`: checkpoints that each hold what has changed since the one before.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use criu_rs::instant::{InstantCapture, InstantOptions, SeriesOptions};
use criu_rs::{AfterDump, Criu, Dump};
use serde_json::json;

use super::Program;
use crate::config::Config;
use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::numbers::first_free;
use crate::options::Rounds;
use crate::output::Output;
use crate::places::make_directory;

impl Program {
    pub(super) fn run_rounds(
        &self,
        output: &Output,
        criu: &Criu,
        options: InstantOptions,
        rounds: Rounds,
        mode: u32,
    ) -> Result<ExitCode, Fault> {
        let after = self.dump.after();
        if after == AfterDump::Kill {
            let why = "--rounds needs --leave-running, or --leave-stopped for the last of them";
            return Err(Fault::usage(why));
        }
        if after == AfterDump::LeaveStopped && rounds.are_unlimited() {
            let why = "--leave-stopped stops the tasks after the last round, and --rounds unlimited \
                       has no last one";
            return Err(Fault::usage(why));
        }
        let images = self.images.path();
        let drive = Drive::new()?;
        let mut config = Config::default();
        let dump = Dump::new(self.saved.tree, images).after_dump(AfterDump::LeaveRunning);
        let mut dump = self.apply(dump.cancel(drive.cancel()), &self.memory, &mut config)?;
        let config = config.into_file()?;
        if let Some(config) = &config {
            dump = dump.config_file(config.path());
        }
        let options = SeriesOptions::new().instant(options).budget(rounds.budget);
        let mut series = dump.instant_series(criu, &options)?;

        let run = |round: u64, after, base: Option<PathBuf>, capture: Capture<'_>| {
            let directory = images.join(round.to_string());
            make_directory("--images-dir", &directory, mode)?;
            let begun = Instant::now();
            let captured = drive.watch(|| capture(directory.clone()))?;
            let parent = base.map(|base| base.to_string_lossy().into_owned());
            let facts = json!({ "round": round, "parent": parent });
            let round = self.round(&directory, after, begun, facts);
            round.finish(output, &drive, captured, |_| Ok(String::new()))?;
            Ok::<_, Fault>(begun)
        };
        let number = |error| Fault::system(format!("number rounds in {}", images.display()), error);
        let first = first_free(images).map_err(number)?;
        let mut round = first;
        while !rounds.is_last(round - first) {
            if let Some(ended) = series.ended() {
                output.say(format!("the next checkpoint is whole: {ended}"));
            }
            let base = series.base();
            let next = Box::new(|directory| series.next(directory, &mut ()));
            let begun = match run(round, AfterDump::LeaveRunning, base, next) {
                // The rounds before this one are whole.
                Err(_) if rounds.are_unlimited() && drive.is_stopped() => {
                    return Ok(Exit::Done.into());
                }
                begun => begun?,
            };
            if let Some(received) = drive.pause(rounds.every.saturating_sub(begun.elapsed())) {
                return match rounds.are_unlimited() {
                    true => Ok(Exit::Done.into()),
                    false => Err(Fault::Interrupted(received.signal.as_str())),
                };
            }
            round += 1;
        }
        let base = series.base();
        let last = Box::new(move |directory| series.last(directory, after, &mut ()));
        run(round, after, base, last)?;
        Ok(Exit::Done.into())
    }
}

/// Makes a round in a directory.
type Capture<'a> = Box<dyn FnOnce(PathBuf) -> criu_rs::Result<InstantCapture> + 'a>;
