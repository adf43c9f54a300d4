//! `dump`: saves a process tree.

mod archive;
mod instant;
mod into_archive;
mod last;
mod rounds;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use criu_cri::coordinator::Joined;
use criu_rs::pages::{Capture, Client, Pool};
use criu_rs::{AfterDump, Dump, Dumped, HookResult, Hooks};
use indicatif::HumanBytes;
use serde_json::json;

use self::archive::Making;
use self::into_archive::IntoArchive;
use crate::config::Config;
use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::fd;
use crate::foreign::without_effect;
use crate::marks;
use crate::options::{
    Apply, Cgroups, CgroupsSaved, Common, Coordinated, DumpOnly, Files, Images, InstantDump, Jobs,
    Lazy, Memory, Network, NetworkSaved, Notice, Reach, Saved, Way,
};
use crate::output::{Output, micros};
use crate::places::{keep_images_private, make_directory, note_writers};
use crate::program::{self, Given};
use crate::progress::Progress;

/// Options of `dump`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Program {
    #[command(flatten)]
    saved: Saved,
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    dump: DumpOnly,
    #[command(flatten)]
    notice: Notice,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    network_saved: NetworkSaved,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    lazy: Lazy,
    #[command(flatten)]
    instant: InstantDump,
    #[command(flatten)]
    into_archive: IntoArchive,
    #[command(flatten)]
    cgroups: Cgroups,
    #[command(flatten)]
    cgroups_saved: CgroupsSaved,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    coordinated: Coordinated,
    #[command(flatten)]
    reach: Reach,
}

impl program::Program for Program {
    const WORD: &'static str = "dump";
    const ABOUT: &'static str = "Saves a process and all its descendants, and ends them.";
    const MORE: &'static str = "\
The tasks are stopped, saved, and killed, unless --leave-running or --leave-stopped is given. When
a dump fails or is stopped the tasks run on, and the images directory holds the log and no
checkpoint.

Examples:
  criu-rs dump -t 4711 -D img                      save process 4711 in the directory img
  criu-rs dump -t 4711 -D img -R                   the same, and let it run on
  criu-rs dump -t 4711 -D img -R --capture 2G      the same, with a short standstill
  criu-rs dump -t 4711 -D img -R --instant         the same, with the shortest standstill
  criu-rs dump -t 4711 -R --instant --archive web.tar.zst
                                                   the same, into an archive
  criu-rs dump -t 4711 -D 2 --prev-images-dir ../1 --instant
                                                   the end of `pre-dump --instant`
  criu-rs dump -t $$ -D img -j                     a job of this terminal
  criu-rs dump -t 4711 -D img --tcp-established    with its TCP connections
  criu-rs dump -t 4711 -D img --external mnt[/data]:data
                                                   leave the mount at /data outside
  criu-rs dump -t 4711 -D img --copy-file /run/web/copy --copy-signal USR2
                                                   tell each copy that `criu-rs start` makes
  criu-rs dump -t 4711 -D img --coordinator 127.0.0.1:8080 --coordinator-id A --coordinator-deps B
                                                   save A and B at one moment, see `coordinator`
";

    fn json(&self) -> bool {
        self.reach.json
    }

    fn run(&self, output: &Output, _: &Given) -> Result<ExitCode, Fault> {
        let mode = keep_images_private(self.saved.tree);
        self.common.prepare()?;
        let unused = self.memory.unused(self.lazy.lazy_pages);
        if let Some(note) = without_effect("a dump without --page-server", &unused) {
            output.say(note);
        }
        let making = self.making()?;
        let images = self.images.path();
        if making.is_none() || self.images.given().is_some() {
            make_directory("--images-dir", images, mode)?;
            note_writers(output, "--images-dir", images);
        }
        self.common.note_work_dir(output);
        let criu = self.reach.criu()?;
        self.saved.clear_orphans(output)?;
        if let Some(options) = self.instant.given() {
            return match (self.instant.rounds(), self.memory.previous()) {
                (Some(rounds), _) => self.run_rounds(output, &criu, options, rounds, mode),
                (None, Some(previous)) => self.run_last(output, &criu, options, previous),
                (None, None) => self.run_instant(output, &criu, &options, making.as_ref()),
            };
        }
        let way = self.memory.way()?;
        let is_sent = way.is_some();
        let mut memory = self.memory.clone();
        let mut capture = None;
        // The pool is made before the tasks are stopped, because its memory takes time.
        if let Some(bytes) = self.dump.capture {
            memory = memory.without_server();
            let needed = Pool::needed(self.saved.tree);
            if needed > bytes as u64 {
                let (needed, pool) = (HumanBytes(needed), HumanBytes(bytes as u64));
                let why = format!("some {needed} of memory do not fit into {pool}");
                if self.memory.has_server() {
                    return Err(Fault::usage(format!("--capture: {why}")));
                }
                output.say(format!("{why}: the rest goes to disk while the tasks stand still"));
            }
            capture = Some(receiver(bytes, images, self.memory.client(&criu)?)?);
        }
        let status = self.dump.status_fd.map(|fd| fd::by_number("--status-fd", fd)).transpose()?;
        let drive = Drive::new()?;

        let mut config = Config::default();
        let mut dump = Dump::new(self.saved.tree, images).after_dump(self.dump.after());
        if self.lazy.lazy_pages {
            let (address, port) = self.memory.lazy_address()?;
            // CRIU before 4.3 does not take the address from a request, and would listen on all.
            config.value("address", address)?;
            dump = dump.lazy_pages_at(address, port);
        }
        if let Some(way) = &way {
            dump = dump.page_server_socket(way);
        }
        if let Some(capture) = &capture {
            dump = dump.page_server_socket(capture);
        }
        dump = self.apply(dump.cancel(drive.cancel()), &memory, &mut config)?;
        let config = config.into_file()?;
        if let Some(config) = &config {
            dump = dump.config_file(config.path());
        }

        let log = self.common.log(images, "dump.log");
        let progress = Progress::of_dump(self.saved.tree, images);
        let mut ready = Ready(status.map(File::from));
        let mut member = self.coordinated.member(drive.cancel(), self.reach.deadline())?;
        let begun = Instant::now();
        let run = |hooks: &mut dyn Hooks| match &capture {
            None => drive.run(dump.start(&criu), hooks, &progress, &log),
            Some(capture) => {
                let kills = self.dump.after() == AfterDump::Kill;
                let mut hooks = capture.hold(hooks, kills);
                drive.run(dump.start(&criu), &mut hooks, &progress, &log)
            }
        };
        let dumped = match &mut member {
            None => run(&mut ready),
            // A member waits for others inside of a hook.
            Some(member) => drive.watch(|| run(&mut Joined::new(member, &mut ready)))?,
        };
        drop(member);
        let dumped = dumped.map_err(|fault| self.common.name_log(fault))?;
        drop(dump);
        way.map_or(Ok(()), Way::finish)?;
        if let Some(capture) = capture {
            capture.write().wait().1.map_err(|error| {
                let why = std::io::Error::other(error.to_string());
                Fault::system("write the captured memory", why)
            })?;
        }
        drop(progress);
        let elapsed = begun.elapsed();
        // A restore asks a lazy dump for marked pages, and this one does not have them.
        let is_whole = !self.lazy.lazy_pages && !is_sent;
        let marked = if is_whole { marks::mark(images, output) } else { 0 };
        self.tell(output, &dumped, marked, elapsed);
        Ok(Exit::Done.into())
    }
}

/// Says what becomes of the tasks: in a word for JSON, and in words for a person.
fn end_of(after: AfterDump) -> (&'static str, &'static str) {
    match after {
        AfterDump::Kill => ("killed", "it has been ended"),
        AfterDump::LeaveRunning => ("running", "it runs on"),
        AfterDump::LeaveStopped => ("stopped", "it is stopped"),
    }
}

/// Makes the receiver of the memory.
fn receiver(bytes: usize, images: &Path, server: Option<Client>) -> Result<Capture, Fault> {
    let capture = Pool::new(bytes).and_then(|pool| match server {
        Some(server) => Capture::to(pool, server),
        None => Capture::new(pool, images),
    });
    capture.map_err(|error| Fault::system("capture memory", error))
}

impl Program {
    /// Makes an archive ready, if one is asked for.
    fn making(&self) -> Result<Option<Making>, Fault> {
        let Some(archive) = self.into_archive.given(self.reach.json)? else { return Ok(None) };
        if self.dump.after() == AfterDump::Kill {
            let why = "--archive needs --leave-running or --leave-stopped: the tasks cannot wait \
                       for it in criu, which ends them";
            return Err(Fault::usage(why));
        }
        let is_stdout = archive.target.path().is_none();
        for (option, is_given) in [
            ("--log-file", self.common.logs_to_descriptor()),
            ("--display-stats", self.jobs.display_stats == Some(true)),
        ] {
            if is_stdout && is_given {
                let text = "the archive is on standard output: name a file for one of them";
                return Err(Fault::usage(format!("{option}: {text}")));
            }
        }
        Making::new(archive, self.images.given()).map(Some)
    }

    /// Sets the options of all dumps.
    fn apply<'a>(
        &self,
        mut dump: Dump<'a>,
        memory: &Memory,
        config: &mut Config,
    ) -> Result<Dump<'a>, Fault> {
        if let Some(notice) = self.notice.given()? {
            dump = dump.copy_notice(notice);
        }
        dump = self.reach.apply(dump, config)?;
        dump = self.common.apply(dump, config)?;
        dump = self.saved.apply(dump, config)?;
        dump = self.files.apply(dump, config)?;
        dump = self.network.apply(dump, config)?;
        dump = self.network_saved.apply(dump, config)?;
        dump = memory.apply(dump, config)?;
        dump = self.cgroups.apply(dump, config)?;
        dump = self.cgroups_saved.apply(dump, config)?;
        self.jobs.apply(dump, config)
    }

    fn tell(&self, output: &Output, dumped: &Dumped, marked: u64, elapsed: std::time::Duration) {
        let pid = self.saved.tree;
        let images = self.images.path().display();
        // CRIU counts nothing in a dump that serves its memory, and computes no time there.
        let stats = dumped.stats.as_ref().ok().filter(|stats| stats.pages_scanned > 0);
        let (after, runs_on) = end_of(self.dump.after());
        let size = stats.map_or(String::new(), |stats| {
            let memory = HumanBytes(stats.pages_written.saturating_mul(procfs::page_size()));
            format!(" ({memory} of memory, frozen for {:.1?})", stats.frozen)
        });
        output.done(
            format!("process {pid} is saved in {images}{size}; {runs_on}"),
            json!({
                "pid": pid.as_raw(),
                "images": self.images.path().to_string_lossy(),
                "tasks": after,
                "elapsed_us": micros(elapsed),
                "marked_pages": marked,
                "statistics": stats,
            }),
        );
        if let (Some(true), Some(stats)) = (self.jobs.display_stats, stats) {
            output.print(stats);
        }
    }
}

/// The hook that tells a waiting program that a lazy dump listens.
struct Ready(Option<File>);

impl Hooks for Ready {
    fn status_ready(&mut self) -> HookResult {
        match self.0.take() {
            Some(mut status) => Ok(status.write_all(&[0])?),
            None => Ok(()),
        }
    }
}
