//! `pod checkpoint`: saves containers that run at one moment, and writes the record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use criu_archive::record::{Record, State};
use criu_cri::engine::{
    After, Control, Phase, Running, Sandbox, Saved, SavedInstantly, Subject, describe,
};
use serde_json::{Map, Value, json};

use super::engine::{EngineArgs, Kind, fault};
use super::told::Told;
use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::instant;
use crate::options::{Coordinated, INSTANT, InstantOnly, Orphans};
use crate::output::{Output, micros};
use crate::places::{keep_files_private, make_directories};
use crate::progress::Progress;
use crate::state::{self, Found};
use crate::tool::Fallible;

/// Options of `pod checkpoint`.
#[derive(Args)]
pub(super) struct Checkpoint {
    /// A new or empty directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A container, by its name in the checkpoint and the id that its runtime knows; may be
    /// repeated
    #[arg(long = "container", value_name = "NAME=ID", required = true, value_parser = named)]
    containers: Vec<(String, String)>,
    /// The sandbox that the containers share, by the id that its runtime knows
    #[arg(long, value_name = "ID")]
    sandbox: Option<String>,
    /// The runtime of the containers, which is asked for their state
    #[arg(long, value_name = "PROGRAM", default_value = "runc")]
    runtime: PathBuf,
    /// The cgroup that holds all containers and nothing else, from the root of its hierarchy. By
    /// default they are frozen one after another
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// End the containers afterwards. By default they run on
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    coordinated: Coordinated,
    /// Stop the containers for the shortest time: fork their processes, let them run on, and read
    /// their memory from the forks. While that lasts, each page that a process writes takes memory
    /// once more
    #[arg(long, help_heading = INSTANT)]
    instant: bool,
    #[command(flatten)]
    how: InstantOnly,
    #[command(flatten)]
    orphans: Orphans,
}

impl Checkpoint {
    pub(super) fn run(self, name: &str) -> Fallible<ExitCode> {
        let output = Output::new(name, "pod", self.engine.json);
        let engine = self.engine.engine(self.how.options())?;
        let asked = self.instant.then_some("instant");
        let options = self.engine.options(&*engine, Phase::Checkpoint, asked)?;
        let subject = self.subject()?;
        for running in &subject.containers {
            self.orphans.clear(running.pid, &output)?;
        }
        keep_files_private();
        make_directories(&self.directory, 0o700)?;
        refuse_filled(&self.directory)?;
        let drive = Drive::new()?;
        let member = self.coordinated.member(drive.cancel(), self.engine.limit())?;
        let moments = Told::new(&output, member).with_line(Progress::of_time("saving"));
        let after = if self.stop { After::Stop } else { After::Resume };
        let control = Control { after, ..self.engine.control(&drive, &moments) };
        let begun = Instant::now();
        let saved = drive
            .watch(|| engine.checkpoint(&subject, &self.directory, &options, &control))?
            .map_err(|error| fault(error, &drive))?;
        drop(moments);
        let made_by = concat!("criu-rs ", env!("CARGO_PKG_VERSION"));
        let described = describe(made_by, &*engine, &subject, &saved, &self.directory);
        let written = described.map_err(|error| fault(error, &drive)).and_then(|mut record| {
            let failed = |why: String| Fault::Failed(why);
            record.state.advance(State::Complete).map_err(|error| failed(error.to_string()))?;
            record.write(&self.directory).map_err(|error| failed(error.to_string()))?;
            Ok(record)
        });
        let record = written.map_err(|fault| self.undo(&saved, fault))?;
        self.tell(&output, &saved, &record, begun.elapsed());
        Ok(Exit::Done.into())
    }

    /// Tells the outcome.
    fn tell(&self, output: &Output, saved: &[Saved], record: &Record, elapsed: Duration) {
        let frozen = saved.iter().map(|one| one.frozen).max().unwrap_or_default();
        let names: Vec<&str> = saved.iter().map(|one| one.name.as_str()).collect();
        let ended = if self.stop { "they have been ended" } else { "they run on" };
        let directory = self.directory.display().to_string();
        let instantly: Vec<_> = saved
            .iter()
            .filter_map(|one| one.instant.as_ref().map(|instant| (one.name.as_str(), instant)))
            .collect();
        let mut how = format!(", frozen for {} ms", frozen.as_millis());
        if !instantly.is_empty() {
            let tasks: Vec<_> =
                instantly.iter().flat_map(|(_, instant)| &instant.tasks).cloned().collect();
            instant::note(output, &tasks);
            let read = || instantly.iter().map(|(_, instant)| &instant.read);
            read().for_each(|read| instant::note_unreaped(output, read));
            how = format!(" ({})", instant::all_in_words(frozen, read()));
        }
        let facts = |(name, one): &(&str, &SavedInstantly)| {
            ((*name).to_owned(), instant::facts(&one.tasks, &one.read))
        };
        let facts = instantly.iter().map(facts).collect::<Map<String, Value>>();
        output.done(
            format!("{} are saved in {directory}{how}; {ended}", names.join(", ")),
            json!({
                "directory": directory, "containers": names, "frozen_us": micros(frozen),
                "elapsed_us": micros(elapsed),
                "bytes": record.all_files().filter_map(|file| file.size).sum::<u64>(),
                "tool": record.containers.first().map(|one| &one.tool),
                "instant": (!facts.is_empty()).then_some(facts),
            }),
        );
    }

    /// Removes a checkpoint without a record, unless it is all that is left of the containers.
    fn undo(&self, saved: &[Saved], fault: Fault) -> Fault {
        if self.stop {
            let place = self.directory.display();
            return Fault::Failed(format!(
                "{fault}; the containers have been ended, and their checkpoint is in {place} \
                 without a record"
            ));
        }
        for one in saved {
            let _ = fs::remove_dir_all(self.directory.join(&one.folder));
        }
        fault
    }

    /// Asks the runtime for the containers.
    fn subject(&self) -> Result<Subject, Fault> {
        let ask = |id: &str| match self.engine.kind() {
            Kind::Criu => state::ask(&self.runtime, self.engine.root.as_deref(), &[], id),
            Kind::Runsc => {
                let root = self.engine.root.as_deref();
                state::ask(self.engine.runsc(), root, self.engine.flags(), id)
            }
        };
        let mut containers = Vec::new();
        for (name, id) in &self.containers {
            let Found { pid, bundle } = ask(id)?;
            containers.push(Running { name: name.clone(), id: id.clone(), bundle, pid });
        }
        let sandbox = self.sandbox.as_ref().map(|id| -> Result<Sandbox, Fault> {
            let Found { pid, bundle } = ask(id)?;
            Ok(Sandbox { id: id.clone(), bundle: Some(bundle), pid: Some(pid) })
        });
        let sandbox = sandbox.transpose()?;
        Ok(Subject { sandbox, cgroup: self.cgroup.clone(), containers })
    }
}

/// Refuses a directory that holds something.
fn refuse_filled(directory: &Path) -> Result<(), Fault> {
    let read = fs::read_dir(directory).and_then(|mut all| all.next().transpose());
    let place = directory.display();
    match read {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Fault::usage(format!("{place} is not empty, wanted a new directory"))),
        Err(error) => Err(Fault::system(format!("look into {place}"), error)),
    }
}

fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, id)) if !name.is_empty() && !id.is_empty() => Ok((name.into(), id.into())),
        _ => Err("wanted NAME=ID".into()),
    }
}
