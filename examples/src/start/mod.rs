//! `start`: restores several copies of one snapshot, side by side.
//!
//! ```text
//! plan        what each copy is told: `wire` carries it, and what becomes of the copy
//! launch      starts the first process of a copy's pid namespace: this program again
//! inside      that process: makes the other namespaces, restores the tasks, and stays with them
//! streams     the resources of a snapshot that each copy gets a file of its own for
//! memory      brings the memory of all copies
//! herd        looks after all copies until they have ended
//! background  goes on without a terminal
//! ```

mod background;
mod herd;
mod inside;
mod launch;
mod memory;
mod plan;
mod streams;
mod wire;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use criu_rs::lazy::{Fill, Guarding, LazyOptions};

use crate::descriptors;
use crate::exit::{Exit, OWN_EXIT_CODES};
use crate::fault::Fault;
use crate::lazy_pages::FillWord;
use crate::options::{Around, Cgroups, Files, Jobs, Network, Notice, Reach, Verbosity, seconds};
use crate::output::Output;
use crate::places::{PRIVATE, check_directory, keep_files_private, make_directory, note_writers};
use crate::program::{self, Given};
use crate::settings;
use crate::signals::{STOP, Signals};
use crate::working_set::WorkingSetArgs;

use background::Background;
use herd::Herd;
use plan::Plan;

/// Options of `start`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Main options")]
pub(crate) struct Program {
    /// The directory of the snapshot's images
    #[arg(value_name = "IMAGES")]
    images: Option<PathBuf>,
    /// The images directory, as restore names it
    #[arg(short = 'D', long, value_name = "DIR", conflicts_with = "images")]
    images_dir: Option<PathBuf>,
    /// The number of copies; 1 unless given
    #[arg(short = 'n', long, value_name = "N", default_value = "1", hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    copies: u32,
    /// The most copies that are restored at one time; two for each processor unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    parallel: Option<u32>,
    /// End once all copies run; a process in the background looks after them
    #[arg(short = 'd', long)]
    detach: bool,
    /// Seconds from SIGTERM for the copies, at Ctrl-C or SIGTERM, to their end by force; 5 unless
    /// given
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    grace: Option<Duration>,

    /// The hostname of each copy, in which %n is its number; without %n the number is appended.
    /// This machine's hostname unless given
    #[arg(long, value_name = "NAME", help_heading = "Copies")]
    hostname: Option<String>,
    /// A variable for the identity of each copy, in whose value %n is its number
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Copies")]
    env: Vec<String>,
    /// A file with such lines, before those of --env
    #[arg(long, value_name = "FILE", help_heading = "Copies")]
    env_file: Option<PathBuf>,
    #[command(flatten)]
    notice: Notice,
    /// A network of its own for each copy, with a loopback interface alone
    #[arg(long, help_heading = "Copies")]
    net: bool,
    /// An empty directory of its own for each copy, over this one
    #[arg(long, value_name = "DIR", help_heading = "Copies")]
    private: Vec<PathBuf>,
    /// Restore all memory of a copy before it runs; by default pages come when the copy touches
    /// them, those of the working set first
    #[arg(long, help_heading = "Memory")]
    eager: bool,
    /// The pages that come without being touched; everything unless given
    #[arg(long, value_name = "WHICH", conflicts_with = "eager", help_heading = "Memory")]
    fill: Option<FillWord>,
    #[command(flatten)]
    working_set: WorkingSetArgs,
    /// A directory for what each copy prints (N.out) and the log of its restore (N.log), made if it
    /// is missing. Otherwise copies print on standard error, and with --detach nowhere
    #[arg(long, value_name = "DIR", help_heading = "Logging")]
    log_dir: Option<PathBuf>,
    /// Log more: -v1 errors, -v2 warnings, -v3 information, -v4 all
    #[arg(
        short = 'v', long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "",
        require_equals = true, help_heading = "Logging"
    )]
    verbosity: Vec<Verbosity>,

    #[command(flatten)]
    around: Around,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    cgroups: Cgroups,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    reach: Reach,

    /// This process is the first of a copy's pid namespace, and standard input says which
    #[arg(long, hide = true)]
    inside: bool,
    /// This process goes on in the background, and tells so on standard input
    #[arg(long, hide = true)]
    background: bool,
}

impl program::Program for Program {
    const WORD: &'static str = "start";
    const ABOUT: &'static str = "Starts copies of a saved process tree, side by side.";
    const WORDS: &'static str = "IMAGES";
    const EXIT_CODES: &'static str = OWN_EXIT_CODES;
    const IS_CRIU_S: bool = false;
    const MORE: &'static str = "\
Each copy has pid, mount, UTS and IPC namespaces of its own, in which its processes have the ids of
the snapshot; with --net it has a network of its own, too. For each copy the program prints the
process id of the root as this process sees it, and the time from the start of the copy to the
moment at which criu had let its tasks run. The program stays until all copies have ended. With
--detach a process in the background does, whose process id is printed: SIGTERM to it ends the
copies. Ctrl-C or SIGTERM ends the copies. A copy that fails is told, and the others go
on; then the exit status is 1.

A copy has the memory of the others: also random numbers and keys. A program learns that it is a
copy by the file and the signal of --copy-file and --copy-signal, given to dump or here. When the
root task gets the signal, before it runs anything else, the file has these lines, as a shell reads
them, and then those of --env-file and --env:
  CRIU_COPY, CRIU_COPIES   the number of the copy, from 1, and the number of copies
  CRIU_COPY_HOSTNAME       its hostname
  CRIU_COPY_SEED           32 random bytes, in hexadecimal: feed them to random number generators
  CRIU_COPY_GENERATION     16 bytes that no other copy ever has
  CRIU_COPY_STARTED        the time of the start, in seconds since 1970
The directory of the file has to be there. Only the copy sees the file, with mode 0600, owned by the
user of the root task. All other files are those of this machine: copies share them.

Examples:
  criu-rs dump -t 4711 -D img --copy-file /run/web/copy --copy-signal USR2
  criu-rs start img -n 10                          ten copies, until they end or Ctrl-C
  criu-rs start img -n 9 --hostname web-%n --env PORT=808%n --log-dir logs
  criu-rs start img -n 3 --net                     each may listen on the port of the snapshot
  criu-rs start img -n 3 -d --json | jq 'select(.hostname).pid'      in the background
";

    fn json(&self) -> bool {
        self.reach.json
    }

    fn run(&self, output: &Output, given: &Given) -> Result<ExitCode, Fault> {
        if self.inside {
            return inside::run(self);
        }
        if let Some(option) = self.working_set.given().filter(|_| self.eager) {
            return Err(Fault::usage(format!("--eager and {option} exclude each other")));
        }
        let images = self.images()?;
        check_directory("IMAGES", images)?;
        for directory in &self.private {
            check_directory("--private", directory)?;
        }
        if let Some(directory) = &self.log_dir {
            make_directory("--log-dir", directory, PRIVATE)?;
        }
        settings::refuse_pipe(&given.all)?;
        if self.detach && !self.background {
            return background::begin(&given.all);
        }
        let background = self.background.then(Background::new).transpose()?;
        keep_files_private();
        note_writers(output, "IMAGES", images);
        if let Some(directory) = &self.log_dir {
            note_writers(output, "--log-dir", directory);
        }
        // Held before the first file is made, which a program that a signal ends would leave.
        let signals = Signals::hold(STOP)?;
        let plan = Plan::new(self, output)?;
        descriptors::hand_on(&given.all)?;
        let exit = Herd::new(self, &given.all, output, signals)?.run(plan, background)?;
        Ok(exit.into())
    }
}

impl Program {
    fn images(&self) -> Result<&Path, Fault> {
        let images = self.images.as_deref().or(self.images_dir.as_deref());
        images.ok_or_else(|| Fault::usage("a directory of images is missing"))
    }

    /// Returns the most copies that are restored at one time.
    fn most_at_once(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let given = self.parallel.and_then(|given| usize::try_from(given).ok());
        given.unwrap_or(processors.saturating_mul(2))
    }

    fn lazy_options(&self) -> Result<LazyOptions, Fault> {
        let mut options = LazyOptions::default();
        if let Some(FillWord::Nothing) = self.fill {
            options.fill = Fill::Nothing;
        }
        if self.background {
            // The guard of the memory would keep the caller's standard error.
            let null = File::options().write(true).open("/dev/null");
            let null = null.map_err(|error| Fault::system("open /dev/null", error))?;
            options.guard = Guarding::Log(Arc::new(null.into()));
        }
        Ok(options)
    }

    fn grace(&self) -> Duration {
        self.grace.unwrap_or(Duration::from_secs(5))
    }
}

/// The end of a program that had to start copies.
fn end_of(failed: bool, stopped: bool) -> Exit {
    match (failed, stopped) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::Stopped,
        (false, false) => Exit::Done,
    }
}
