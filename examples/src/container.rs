//! `container`: saves and brings back a container of runc, crun or another OCI runtime.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use criu_rs::oci::{
    self, ConsoleSocket, ContainerDump, ContainerRestore, Error, Freezer, Keys, RestoreHooks,
};
use criu_rs::{AfterDump, Criu, HookResult, Hooks, LogLevel, Pid, Tcp};
use serde_json::json;

use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::held::Held;
use crate::hints;
use crate::instant;
use crate::later::Later;
use crate::marks;
use crate::new_file::NewFile;
use crate::options::{INSTANT, InstantOnly, Orphans, Size, criu_program};
use crate::output::{Output, micros};
use crate::places::{keep_images_private, make_directories, note_writers};
use crate::runtime_args::{BothArgs, OnlyCheckpointArgs, OnlyRestoreArgs};
use crate::state::{self, Found};
use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// The command line of `container`.
#[derive(Args)]
pub(crate) struct Container {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Save a running container, by the id its runtime knows it by
    Checkpoint(CheckpointArgs),
    /// Bring a container back from images, as its bundle describes it
    Restore(RestoreArgs),
}

#[derive(Args)]
#[command(mut_arg("verify", |verify| verify.conflicts_with("page_server")))]
struct CheckpointArgs {
    /// The container's id
    id: String,
    /// The runtime that made the container; it is asked for the container's state
    #[arg(long, default_value = "runc")]
    runtime: PathBuf,
    /// The directory in which that runtime keeps its state
    #[arg(long)]
    root: Option<PathBuf>,
    /// Let the container run on afterwards
    #[arg(short = 'R', long)]
    leave_running: bool,
    /// Stop the tasks one by one. The freezer cgroup stops them all at once, but takes long if a
    /// task is inside vfork
    #[arg(long)]
    no_freezer: bool,
    /// Save the network namespace empty, for whoever restores to fill
    #[arg(long)]
    empty_network: bool,
    /// The largest unlinked file to save, with K, M or G; 1M unless given
    #[arg(long, value_name = "SIZE")]
    ghost_limit: Option<Size>,
    /// Replace a checkpoint that is there already; it comes back if this fails
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    shared: SharedArgs,
    /// Stop the container for the shortest time: fork its processes, let them run on, and read
    /// their memory from the forks. While that lasts, each page that a process writes takes memory
    /// once more
    #[arg(
        long,
        help_heading = INSTANT,
        conflicts_with_all = ["auto_dedup", "lazy_pages", "page_server", "parent_path"]
    )]
    instant: bool,
    #[command(flatten)]
    how: InstantOnly,
    #[command(flatten)]
    orphans: Orphans,
    #[command(flatten)]
    runtime_options: OnlyCheckpointArgs,
}

#[derive(Args)]
struct RestoreArgs {
    /// The id to tell the bundle's hooks
    id: String,
    /// The directory with config.json
    #[arg(short, long)]
    bundle: PathBuf,
    /// The runtime whose configuration files CRIU reads: runc or crun; it is not run
    #[arg(long, default_value = "runc")]
    runtime: PathBuf,
    /// A socket on which somebody waits for the container's terminal
    #[arg(long)]
    console_socket: Option<PathBuf>,
    /// Write the process id of the container to this file
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// A runtime's directory of the container, in which a mount that a killed restore has left is
    /// unmounted first
    #[arg(long)]
    state: Option<PathBuf>,
    /// KEY=PATH: mount PATH in place of the external mount KEY, which config.json does not describe
    #[arg(long, value_parser = source)]
    source: Vec<(String, PathBuf)>,
    /// Mount everything that the images name, even if config.json does not describe it
    #[arg(long)]
    trust_images: bool,
    /// Stay until the container ends, and end with its exit status
    #[arg(long)]
    wait: bool,
    /// Let tasks come back without file locks that the images hold
    #[arg(long)]
    accept_lock_loss: bool,
    /// Expect a network namespace that was saved empty
    #[arg(long)]
    empty_network: bool,
    #[command(flatten)]
    later: Later,
    #[command(flatten)]
    shared: SharedArgs,
    #[command(flatten)]
    runtime_options: OnlyRestoreArgs,
}

/// Options of both words.
#[derive(Args)]
struct SharedArgs {
    /// The directory of the images
    #[arg(short = 'D', long, visible_alias = "image-path")]
    images_dir: PathBuf,
    /// The directory for logs and statistics; the images directory unless given
    #[arg(short = 'W', long, visible_alias = "work-path")]
    work_dir: Option<PathBuf>,
    /// Keep TCP connections
    #[arg(long, conflicts_with = "tcp_close")]
    tcp_established: bool,
    /// Drop TCP connections
    #[arg(long)]
    tcp_close: bool,
    /// Keep file locks
    #[arg(long)]
    file_locks: bool,
    /// Accept unix sockets whose peer is outside the container
    #[arg(long)]
    ext_unix_sk: bool,
    /// Accept a container that is a job of this terminal
    #[arg(long)]
    shell_job: bool,
    /// Trust the directories, where nobody else can write: for file systems that keep no owners
    #[arg(long)]
    trust_directory: bool,
    /// The criu to use; else the variable CRIU, else `criu` in PATH
    #[arg(long)]
    criu: Option<PathBuf>,
    /// Print one JSON object on standard output: the outcome and statistics, or the error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of_runtimes: BothArgs,
}

impl Tool for Container {
    const WORD: &'static str = "container";
    const ABOUT: &'static str = "Saves and brings back a container of an OCI runtime.";
    const MORE: &'static str = "\
Examples:
  criu-rs container checkpoint web -D img                    save and end the container web of runc
  criu-rs container checkpoint web -D img --runtime crun -R  save one of crun's, and let it run on
  criu-rs container checkpoint web -D img -R --instant       the same, with the shortest standstill
  criu-rs container restore web -b bundle -D img             bring it back
  criu-rs container restore web -b bundle -D img --tcp-established --wait

A checkpoint leaves images and descriptors.json as the runtimes themselves do: `runc restore` and
`crun restore` bring it back, and this program brings back what they save. The runtime still knows
a container that was ended as stopped, until it is told to delete it. A restored container belongs
to no runtime. CRIU reads the configuration file that the annotation org.criu.config names, else
/etc/criu/crun.conf with --runtime crun, else /etc/criu/runc.conf.

Exit status:
  0  done
  1  CRIU refused or failed, or the bundle or the images cannot be used
  2  wrong usage; nothing was begun
  3  criu cannot be started or reached, or is too old
  4  stopped by Ctrl-C or SIGTERM; what was begun is undone. A hook of the bundle that runs then
     is waited for, at most for its timeout
With --wait the exit status is that of the container. With restore --lazy the program stays until
the container's memory is there, and a signal that ends the program before ends the container.";

    fn run(self, name: &str, _: &Table) -> Fallible<ExitCode> {
        let code = match self.word {
            Word::Checkpoint(args) => args.run(name)?,
            Word::Restore(args) => args.run(name)?,
        };
        Ok(code)
    }
}

fn source(text: &str) -> Result<(String, PathBuf), String> {
    let (key, path) = text.split_once('=').ok_or("expected KEY=PATH")?;
    Ok((key.to_owned(), path.into()))
}

impl CheckpointArgs {
    fn run(self, name: &str) -> Result<ExitCode, Fault> {
        let output = Output::new(name, "checkpoint", self.shared.json);
        let fault = |error| self.shared.fault(error, DUMP_LOG);
        let options = self.runtime_options.options(&self.shared.of_runtimes)?;
        let criu = self.shared.criu()?;
        let Found { pid, bundle } = state::ask(&self.runtime, self.root.as_deref(), &[], &self.id)?;
        let keys = if is_crun(&self.runtime) { Keys::Crun } else { Keys::Runc };
        let container = oci::Container::open(bundle).map_err(fault)?.keys(keys);
        let container = with_config_files(container, &self.runtime);
        let freezer = if self.no_freezer { Freezer::Off } else { Freezer::Container };
        let checkpoint = container.freezer(freezer).checkpoint(pid).map_err(fault)?;
        let mode = keep_images_private(pid);
        make_directories(&self.shared.images_dir, mode)?;
        note_writers(&output, "--images-dir", &self.shared.images_dir);
        let after = if self.leave_running { AfterDump::LeaveRunning } else { AfterDump::Kill };
        let dump = checkpoint.dump(&self.shared.images_dir).after_dump(after);
        let dump = self.shared.dump(dump)?.empty_net_ns(self.empty_network);
        let dump = dump.trust_directory(self.shared.trust_directory);
        let dump = options.apply(dump).map_err(|error| Fault::usage(error.to_string()))?;
        let drive = Drive::new()?;
        let mut dump = dump.overwrite(self.overwrite).cancel(drive.cancel());
        if let Some(Size(bytes)) = self.ghost_limit {
            dump = dump.ghost_limit(bytes);
        }
        self.orphans.clear(pid, &output)?;
        let begun = Instant::now();
        let (mut memory, mut facts) = (String::new(), None);
        let dumped = if self.instant {
            let how = self.how.options();
            let captured = drive.watch(|| dump.instant(&criu, &how, &mut ()))?.map_err(fault)?;
            instant::note(&output, &captured.tasks);
            let read = instant::wait(captured.reading, &drive, &output)?;
            memory = format!(" ({})", instant::in_words(&captured.dumped, &read));
            facts = Some(instant::facts(&captured.tasks, &read));
            captured.dumped
        } else {
            drive.watch(|| dump.run(&criu))?.map_err(fault)?
        };
        let ended = if self.leave_running { "it runs on" } else { "it has been ended" };
        let freezer = if dumped.freezer_left_out {
            " (without its freezer cgroup, which did not stop all its tasks)"
        } else {
            ""
        };
        let elapsed = begun.elapsed();
        let marked =
            if options.lazy_pages { 0 } else { marks::mark(&self.shared.images_dir, &output) };
        let images = self.shared.images_dir.display();
        let external = checkpoint.external().iter().map(ToString::to_string);
        output.done(
            format!(
                "container {} (process {pid}) is saved in {images}{memory}{freezer}; {ended}",
                self.id
            ),
            json!({
                "id": self.id, "pid": pid.as_raw(), "images": images.to_string(),
                "external": external.collect::<Vec<_>>(),
                "freezer_left_out": dumped.freezer_left_out,
                "elapsed_us": micros(elapsed),
                "marked_pages": marked,
                "statistics": dumped.stats.as_ref().ok(),
                "instant": facts,
            }),
        );
        Ok(Exit::Done.into())
    }
}

impl RestoreArgs {
    fn run(self, name: &str) -> Result<ExitCode, Fault> {
        let output = Output::new(name, "restore", self.shared.json);
        let criu = self.shared.criu()?;
        let fault = |error| self.shared.fault(error, RESTORE_LOG);
        let options = self.runtime_options.options(&self.shared.of_runtimes)?;
        let mut container =
            oci::Container::open(&self.bundle).map_err(fault)?.trust_images(self.trust_images);
        container = with_config_files(container, &self.runtime);
        for (key, path) in &self.source {
            container = container.source(key, path);
        }
        let drive = Drive::new()?;
        let plan = container.restore(&self.shared.images_dir).map_err(fault)?;
        let state = self.state.as_ref().unwrap_or(&self.shared.images_dir);
        make_directories(state, 0o700)?;
        let restore = plan.prepare(state).map_err(fault)?;
        let (input, out, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let stdio = [input.as_fd(), out.as_fd(), error.as_fd()];
        let restore = self.shared.restore(restore.stdio(stdio))?.empty_net_ns(self.empty_network);
        let restore = options.apply(restore).map_err(|error| Fault::usage(error.to_string()))?;
        let restore = restore.accept_lock_loss(self.accept_lock_loss);
        let restore = restore.trust_directory(self.shared.trust_directory);
        let restore = restore.cancel(drive.cancel());
        let mut own = PidFileHook { pid_file: self.pid_file.as_deref() };
        let mut hooks = RestoreHooks::new(&container, &self.id, &mut own);
        if let Some(socket) = &self.console_socket {
            hooks = hooks.console(ConsoleSocket::new(socket));
        }
        let begun = Instant::now();
        let held = Held::of_directory(&self.shared.images_dir);
        let pages = self.later.pages(&held, &output)?;
        let (restored, memory) = match &pages {
            None => {
                let restored = drive.watch(|| restore.run_with(&criu, &mut hooks))?;
                (restored.map_err(fault)?, None)
            }
            Some(pages) => {
                let restore = restore.lazy(pages);
                let restored = drive.watch(|| restore.run_with(&criu, &mut hooks))?;
                let (restored, memory) = restored.map_err(fault)?;
                (restored, Some(memory))
            }
        };
        output.done(
            format!("container {} runs again as process {}", self.id, restored.pid),
            json!({
                "id": self.id, "pid": restored.pid.as_raw(), "elapsed_us": micros(begun.elapsed()),
                "statistics": restored.stats.as_ref().ok(),
            }),
        );
        let images = &self.shared.images_dir;
        if !self.wait {
            if let Some(memory) = memory {
                self.later.stay(memory, &drive, images, &output)?;
            }
            return Ok(Exit::Done.into());
        }
        let received = drive.received();
        drop(drive);
        if let Some(received) = received {
            // It came too late for the restore, and ends the wait as a later one does.
            let _ = nix::sys::signal::raise(received.signal);
        }
        let later = &self.later;
        let (status, came) = std::thread::scope(|scope| {
            let output = &output;
            let come = |memory| scope.spawn(move || later.accompany(memory, images, output));
            let come = memory.as_ref().map(come);
            let status = restored.wait();
            (status, come.map_or(Ok(()), |come| come.join().unwrap_or(Ok(()))))
        });
        if came.is_err() {
            // It is said by now.
            return Ok(Exit::Failed.into());
        }
        let status = status.map_err(|error| Fault::system("wait for the container", error))?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(1);
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}

/// The answer to CRIU while nothing runs yet. A restore whose process id cannot be written down is
/// refused.
struct PidFileHook<'a> {
    pid_file: Option<&'a Path>,
}

impl Hooks for PidFileHook<'_> {
    fn post_restore(&mut self, root: Pid) -> HookResult {
        let Some(file) = self.pid_file else { return Ok(()) };
        NewFile::write_public(file, root.to_string().as_bytes())
            .map_err(|error| format!("cannot write {}: {error}", file.display()).into())
    }
}

impl SharedArgs {
    fn criu(&self) -> Result<Criu, Fault> {
        criu_program(self.criu.as_deref()).map(Criu::at)
    }

    fn tcp(&self) -> Tcp {
        match (self.tcp_established, self.tcp_close) {
            (true, _) => Tcp::Established,
            (_, true) => Tcp::Close,
            _ => Tcp::Refuse,
        }
    }

    fn dump<'a>(&'a self, dump: ContainerDump<'a>) -> Result<ContainerDump<'a>, Fault> {
        let dump = dump.tcp(self.tcp()).file_locks(self.file_locks).ext_unix_sk(self.ext_unix_sk);
        let dump = dump.shell_job(self.shell_job).log_level(LogLevel::Debug);
        Ok(match &self.work_dir {
            Some(dir) => dump.work_dir(make_directories(dir, 0o700)?),
            None => dump,
        })
    }

    fn restore<'a>(&'a self, restore: ContainerRestore<'a>) -> Result<ContainerRestore<'a>, Fault> {
        let restore = restore.tcp(self.tcp()).file_locks(self.file_locks);
        let restore = restore.ext_unix_sk(self.ext_unix_sk).shell_job(self.shell_job);
        let restore = restore.log_level(LogLevel::Debug);
        Ok(match &self.work_dir {
            Some(dir) => restore.work_dir(make_directories(dir, 0o700)?),
            None => restore,
        })
    }

    /// Makes the fault of an operation that logs to `log`, with advice in options of this word.
    fn fault(&self, error: Error, log: &str) -> Fault {
        let dir = self.work_dir.as_ref().unwrap_or(&self.images_dir);
        match error {
            Error::Criu(error) => Fault::Criu {
                error: Box::new(error),
                log: Some(dir.join(log)),
                hints: hints::of_container,
            },
            error => Fault::Failed(error.to_string()),
        }
    }
}

/// The log of a checkpoint, in the work directory.
const DUMP_LOG: &str = "dump.log";

/// The log of a restore, in the work directory.
const RESTORE_LOG: &str = "restore.log";

/// Tells if a runtime is crun, by the name of its program.
fn is_crun(runtime: &Path) -> bool {
    runtime.file_name().is_some_and(|name| name == "crun")
}

/// Sets CRIU's configuration files: the same files in the same order as the runtime.
fn with_config_files(container: oci::Container, runtime: &Path) -> oci::Container {
    let container = if is_crun(runtime) {
        container.default_config_file("/etc/criu/crun.conf")
    } else {
        container
    };
    container.default_config_file("/etc/criu/runc.conf")
}
