//! `pre-dump`: saves the memory of a process tree ahead of its dump.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use criu_images::DumpStats;
use criu_rs::instant::SeriesOptions;
use criu_rs::{AfterDump, Dump, PreDump};
use indicatif::HumanBytes;
use serde_json::json;

use crate::config::Config;
use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::foreign::without_effect;
use crate::instant::Round;
use crate::keeper::{self, Earlier, Foreground, keep};
use crate::options::{
    Apply, Common, Files, Images, InstantPreDump, Jobs, Memory, Network, NetworkSaved, PreDumpOnly,
    Reach, Saved, Way,
};
use crate::output::{Output, micros};
use crate::places::{keep_images_private, make_directory, note_writers, read_file};
use crate::program::{self, Given};
use crate::progress::Progress;
use crate::signals::{STOP, Signals};

/// Options of `pre-dump`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Program {
    #[command(flatten)]
    saved: Saved,
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    network_saved: NetworkSaved,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    pre_dump: PreDumpOnly,
    #[command(flatten)]
    instant: InstantPreDump,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    reach: Reach,
}

impl program::Program for Program {
    const WORD: &'static str = "pre-dump";
    const ABOUT: &'static str = "Saves the memory of a process tree ahead of its dump.";
    const MORE: &'static str = "\
The tasks are frozen for a moment and run on. The dump that follows saves only what has changed
since; its images need those of the pre-dumps beside them. The kernel has to track changed memory
(soft-dirty): `check` tells whether it does. With --instant it need not: forks of the tasks tell
what has changed. This program keeps the forks in the background until the next command is done.

Examples:
  criu-rs pre-dump -t 4711 -D 0
  criu-rs pre-dump -t 4711 -D 1 --prev-images-dir ../0
  criu-rs dump     -t 4711 -D 2 --prev-images-dir ../1 --track-mem
  criu-rs pre-dump -t 4711 -D 0 --instant          on any kernel
  criu-rs pre-dump -t 4711 -D 1 --prev-images-dir ../0 --instant
  criu-rs dump     -t 4711 -D 2 --prev-images-dir ../1 --instant
";

    fn json(&self) -> bool {
        self.reach.json
    }

    fn run(&self, output: &Output, given: &Given) -> Result<ExitCode, Fault> {
        if let Some(options) = self.instant.given() {
            return match self.instant.is_keeper() {
                true => self.run_instant(output, &options),
                false => keeper::begin("pre-dump", &given.all),
            };
        }
        let mode = keep_images_private(self.saved.tree);
        self.common.prepare()?;
        let unused = self.memory.unused(false);
        if let Some(note) = without_effect("a pre-dump without --page-server", &unused) {
            output.say(note);
        }
        let images = self.images.path();
        make_directory("--images-dir", images, mode)?;
        note_writers(output, "--images-dir", images);
        self.common.note_work_dir(output);
        let criu = self.reach.criu()?;
        self.saved.clear_orphans(output)?;
        let way = self.memory.way()?;
        let drive = Drive::new()?;

        let mut config = Config::default();
        let mut dump = PreDump::new(self.saved.tree, images).cancel(drive.cancel());
        if let Some(way) = &way {
            dump = dump.page_server_socket(way);
        }
        dump = self.reach.apply(dump, &mut config)?;
        dump = self.common.apply(dump, &mut config)?;
        dump = self.saved.apply(dump, &mut config)?;
        dump = self.files.apply(dump, &mut config)?;
        dump = self.network.apply(dump, &mut config)?;
        dump = self.network_saved.apply(dump, &mut config)?;
        dump = self.memory.apply(dump, &mut config)?;
        dump = self.pre_dump.apply(dump, &mut config)?;
        dump = self.jobs.apply(dump, &mut config)?;
        let config = config.into_file()?;
        if let Some(config) = &config {
            dump = dump.config_file(config.path());
        }

        let log = self.common.log(images, "pre-dump.log");
        let progress = Progress::of_dump(self.saved.tree, images);
        let begun = Instant::now();
        let done = drive.run(dump.start(&criu), &mut (), &progress, &log);
        done.map_err(|fault| self.common.name_log(fault))?;
        drop(dump);
        way.map_or(Ok(()), Way::finish)?;
        drop(progress);
        self.tell(output, begun.elapsed());
        Ok(Exit::Done.into())
    }
}

impl Program {
    /// Makes a round of a series, and keeps its forks.
    fn run_instant(&self, output: &Output, options: &SeriesOptions) -> Result<ExitCode, Fault> {
        let foreground = Foreground::new()?;
        let mode = keep_images_private(self.saved.tree);
        self.common.prepare()?;
        let images = self.images.path();
        make_directory("--images-dir", images, mode)?;
        let earlier = self.memory.previous().map(|previous| images.join(previous));
        let earlier = earlier.map(Earlier::find).transpose()?;
        note_writers(output, "--images-dir", images);
        self.common.note_work_dir(output);
        let criu = self.reach.criu()?;
        self.saved.clear_orphans(output)?;
        // They stay held when the round is complete.
        let signals = Signals::hold(STOP)?;
        let drive = Drive::new()?;

        let mut config = Config::default();
        let mut dump = self.whole(&mut config)?.cancel(drive.cancel());
        let config = config.into_file()?;
        if let Some(config) = &config {
            dump = dump.config_file(config.path());
        }

        let mut series = dump.instant_series(&criu, options)?;
        if let Some(earlier) = &earlier {
            earlier.adopt(&mut series)?;
        }
        let parent = earlier.as_ref().map(|earlier| earlier.directory().to_string_lossy());
        let facts = json!({ "parent": parent });
        let begun = Instant::now();
        let captured = drive.watch(|| series.next(images, &mut ()))?;
        let round = Round {
            archive: None,
            tree: self.saved.tree,
            images,
            log: "pre-dump.log",
            common: &self.common,
            jobs: &self.jobs,
            is_sent: false,
            end: ("running", "it runs on"),
            begun,
            facts,
        };
        let mut keeper = None;
        round.finish(output, &drive, captured, |facts| {
            let (kept, words) = keep(series, earlier, images, self.instant.keep(), facts)?;
            keeper = kept;
            Ok(words)
        })?;
        self.common.end_log();
        if let Some(keeper) = keeper {
            keeper.stay(foreground, &signals)?;
        }
        Ok(Exit::Done.into())
    }

    /// Makes the dump of a round.
    fn whole(&self, config: &mut Config) -> Result<Dump<'_>, Fault> {
        let dump = Dump::new(self.saved.tree, self.images.path());
        let mut dump = dump.after_dump(AfterDump::LeaveRunning).log_file("pre-dump.log");
        dump = self.reach.apply(dump, config)?;
        dump = self.common.apply(dump, config)?;
        dump = self.saved.apply(dump, config)?;
        dump = self.files.apply(dump, config)?;
        dump = self.network.apply(dump, config)?;
        dump = self.network_saved.apply(dump, config)?;
        dump = self.memory.without_previous().apply(dump, config)?;
        self.jobs.apply(dump, config)
    }

    fn tell(&self, output: &Output, elapsed: std::time::Duration) {
        let (pid, images) = (self.saved.tree, self.images.path());
        let stats = stats(self.common.work_dir(images));
        let size = stats.as_ref().map_or(String::new(), |stats| {
            let memory = HumanBytes(stats.pages_written.saturating_mul(procfs::page_size()));
            format!(" ({memory}, frozen for {:.1?})", stats.frozen)
        });
        output.done(
            format!("memory of process {pid} is saved in {}{size}; it runs on", images.display()),
            json!({
                "pid": pid.as_raw(),
                "images": images.to_string_lossy(),
                "tasks": "running",
                "elapsed_us": micros(elapsed),
                "statistics": stats,
            }),
        );
        if let (Some(true), Some(stats)) = (self.jobs.display_stats, stats) {
            output.print(stats);
        }
    }
}

fn stats(work_dir: &Path) -> Option<DumpStats> {
    DumpStats::parse(&read_file(&work_dir.join("stats-dump")).ok()?).ok()
}
