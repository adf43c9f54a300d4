//! `lazy-pages`: brings the memory of restored tasks when these touch it. It takes CRIU's options,
//! and several restores.

pub(crate) mod report;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use criu_images::source::Directory;
use criu_rs::lazy::{
    Fill, Guarding, Images, LazyControl, LazyError, LazyEvent, LazyOptions, LazyPages, LazySocket,
    OnLoss, Remote, Snapshot, Supply,
};
use nix::sys::signalfd::SignalFd;

use crate::confine;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::fd::by_number;
use crate::foreign::without_effect;
use crate::marks::{self, Place};
use crate::options::{AtMost, Certificates, PAGE_SERVER};
use crate::output::Output;
use crate::own;
use crate::places::{check_directory, keep_files_private, note_writers};
use crate::program::{Given, Program};
use crate::progress::Progress;
use crate::serving::{
    Log, ServerArgs, Status, block_signals, connected, daemonize, raise_descriptors,
};
use crate::tool::Fallible;
use crate::working_set::{self, WorkingSetArgs};

use report::told;

/// Options of `lazy-pages`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Main options")]
pub(crate) struct LazyPagesWord {
    /// The directory of the images; the current one unless given
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    images_dir: PathBuf,
    /// The directory of lazy-pages.socket, the log and the pid file: the work directory of the
    /// restore; the images directory unless given
    #[arg(short = 'W', long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Go on in the background as soon as restores can connect
    #[arg(short, long)]
    daemon: Option<bool>,
    /// Go on in the background, under the name that criu has for the same switch on restore
    #[arg(long, hide = true)]
    restore_detached: Option<bool>,
    /// Write the process id of the daemon to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Write a zero byte to this descriptor as soon as restores can connect, and close it
    #[arg(long, value_name = "FD")]
    status_fd: Option<RawFd>,
    /// The number of restores to serve, or unlimited; 1 unless given
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true,
        value_parser = AtMost::from_str)]
    restores: AtMost,

    /// The pages that come without being touched
    #[arg(long, value_name = "WHICH", default_value = "everything", help_heading = MEMORY)]
    fill: FillWord,
    /// The most pages that come with a page that a task touches, this page included
    #[arg(long, value_name = "PAGES", help_heading = MEMORY,
        value_parser = clap::value_parser!(u64).range(1..=512))]
    around: Option<u64>,
    /// The threads that serve faults; one for two processors, at most 4, unless given
    #[arg(long, value_name = "N", help_heading = MEMORY,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    fault_threads: Option<u16>,
    /// The fate of the tasks if their missing pages are lost: killed, or SIGBUS at these pages
    #[arg(long, value_name = "FATE", default_value = "kill", help_heading = MEMORY)]
    on_loss: OnLossWord,
    #[command(flatten)]
    working_set: WorkingSetArgs,
    /// Accepted as by criu, for which the word says enough
    #[arg(long, hide = true)]
    lazy_pages: bool,

    /// Fetch pages from the page server at --address and --port, or behind --ps-socket
    #[arg(long, help_heading = PAGE_SERVER)]
    page_server: Option<bool>,
    /// The page server's address
    #[arg(long, value_name = "HOST", help_heading = PAGE_SERVER)]
    address: Option<String>,
    /// The page server's port
    #[arg(long, value_name = "PORT", help_heading = PAGE_SERVER,
        value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// A connected socket of this process, by its number
    #[arg(long, value_name = "FD", help_heading = PAGE_SERVER, conflicts_with = "daemon")]
    ps_socket: Option<RawFd>,
    /// Speak TLS with the page server
    #[arg(long, help_heading = PAGE_SERVER)]
    tls: Option<bool>,
    #[command(flatten)]
    certificates: Certificates,

    #[command(flatten)]
    server: ServerArgs,
    /// Print one JSON object a restore on standard output
    #[arg(long, help_heading = "This program")]
    json: bool,
}

/// The words of `--fill`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FillWord {
    /// All pages, in the background
    Everything,
    /// Only pages that are touched: the program is needed as long as the tasks run
    Nothing,
}

/// The words of `--on-loss`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OnLossWord {
    /// The tasks are killed
    Kill,
    /// The tasks run on, and get SIGBUS where a page is missing
    Sigbus,
}

impl Program for LazyPagesWord {
    const WORD: &'static str = "lazy-pages";
    const ABOUT: &'static str = "Brings the memory of restored tasks when they touch it.";
    const MORE: &'static str = "\
Options are those of `criu lazy-pages`. A restore with --lazy-pages and the same work directory
finds this program by lazy-pages.socket, lets its tasks run at once, and leaves their memory to this
program. Unlike CRIU's, this one

- can serve several restores of the same images, one after another and at once;
- serves pages that a task touches before all others, on several threads;
- lets only this user and root connect, and takes the tasks of the images only;
- ends the tasks, or with --on-loss sigbus sends them SIGBUS, if their pages are lost: no page reads
  as zeros.

Pages come from the images and their parent sets, or from a page server: `criu-rs page-server
--lazy-pages`, CRIU's, or `criu dump --lazy-pages`.

Pages that the tasks of an earlier restore have touched come before the tasks run, if they were
recorded with --record. `criu-rs inspect img` shows them.

The first Ctrl-C or SIGTERM takes no more restores, ends a recording and brings restores under way
to their end, the second gives these up.

Examples:
  criu-rs lazy-pages -D img                        serve one restore, as criu lazy-pages does
  criu-rs restore -D img --lazy-pages -d           the other side
  criu-rs lazy-pages -D img -W run --restores unlimited --fill nothing
                                                   serve any number, which touch little
  criu-rs lazy-pages -D img --record=10            record which pages are touched in 10 seconds
  criu-rs lazy-pages -D img --page-server --address 198.51.100.7 --port 27000
                                                   fetch the memory from another machine
";
    const EXIT_CODES: &'static str = "\
Exit status:
  0  done; with --restores unlimited also if restores failed
  1  a restore failed, or pages were lost; without --exit-codes also wrong usage
  2  wrong usage; nothing was begun
";

    fn json(&self) -> bool {
        self.json
    }

    fn run(&self, output: &Output, given: &Given) -> Result<ExitCode, Fault> {
        if self.page_server == Some(true) {
            let socket = self.ps_socket.is_some();
            let place = socket || self.address.is_some() && self.port.is_some();
            if !place {
                let why = "--page-server needs --address and --port, or --ps-socket";
                return Err(Fault::usage(why));
            }
        } else {
            let unused = [
                ("--address", self.address.is_some()),
                ("--port", self.port.is_some()),
                ("--ps-socket", self.ps_socket.is_some()),
                ("--tls", self.tls == Some(true)),
            ];
            let unused = unused.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
            let unused: Vec<&str> = unused.collect();
            if let Some(note) = without_effect("lazy-pages without --page-server", &unused) {
                output.say(note);
            }
        }
        check_directory("--images-dir", &self.images_dir)?;
        check_directory("--work-dir", self.work_dir())?;
        let ended = self.start(output, &given.all);
        ended.map(ExitCode::from).map_err(|error| Fault::Failed(error.to_string()))
    }
}

impl LazyPagesWord {
    fn start(&self, output: &Output, args: &[OsString]) -> Fallible<Exit> {
        keep_files_private();
        raise_descriptors();
        confine::no_new_privileges();
        note_writers(output, "--images-dir", &self.images_dir);
        if self.work_dir.is_some() {
            note_writers(output, "--work-dir", self.work_dir());
        }
        let log = self.log(output)?;
        let is_daemon = self.daemon.or(self.restore_detached) == Some(true);
        if is_daemon && !self.server.listening {
            // What is wrong with the images is said to whoever starts the daemon.
            Snapshot::open(&self.images_dir).map_err(|error| self.unreadable(&error))?;
            let pidfile = self.pidfile.as_ref().map(|pidfile| self.work_dir().join(pidfile));
            let socket = LazySocket::bind(self.work_dir())?.into_listener();
            let socket = OwnedFd::from(socket);
            daemonize(Self::WORD, socket, args, self.status_fd, pidfile.as_deref())?;
            return Ok(Exit::Done);
        }
        let signals = block_signals()?;
        let socket = if self.server.listening {
            own::take_name();
            let _ = nix::unistd::setsid();
            let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
            LazySocket::from_listener(listener, self.work_dir())?
        } else {
            LazySocket::bind(self.work_dir())?
        };
        let status = Status::of(self.status_fd)?;
        let pages = self.pages(&log)?;
        let place =
            if self.page_server == Some(true) { Place::Elsewhere } else { Place::Directory };
        marks::note(&self.images_dir, place, |said| log.line(&said));
        let images = Directory::open(&self.images_dir)?;
        let pages = self.working_set.apply(pages, &images, |said| log.line(&said))?;
        let daemon = pages.serve(socket)?;
        let control = daemon.control();
        stop_at_signals(SignalFd::new(&signals)?, control.clone())?;
        log.line(&format!("listens at {}", self.work_dir().join("lazy-pages.socket").display()));
        status.tell_ready()?;
        let (exit, restored) = self.serve(daemon, &control, &images, &log)?;
        if exit == Exit::Done && restored > 0 {
            // A source that is not told so takes the restores for failed ones. A dump that is told
            // ends its tasks.
            let closed = pages.close();
            if let Err(error) = &closed {
                log.line(&format!("the source does not end in order: {error}"));
            }
            closed?;
        }
        Ok(exit)
    }

    /// Serves restores. Returns the end of the program, and the number of restores that went well.
    fn serve(
        &self,
        daemon: criu_rs::lazy::LazyDaemon,
        control: &LazyControl,
        images: &Directory,
        log: &Log,
    ) -> Fallible<(Exit, u64)> {
        let _progress = show(control.clone());
        let (mut exit, mut restored) = (Exit::Done, 0);
        daemon.run(self.restores.0, |event| match event {
            LazyEvent::Refused(error) => log.line(&format!("refused: {error}")),
            LazyEvent::Restored { number, time } => log.line(&report::restored(number, time)),
            LazyEvent::Recorded { number, set } => {
                let saved = working_set::save(&set, images);
                if saved.is_err() {
                    exit = Exit::Failed;
                }
                let said = saved.unwrap_or_else(|error| error);
                log.line(&format!("restore {number}: {said}"));
            }
            LazyEvent::Ended(report) => {
                let is_done = report.result.is_ok();
                restored += u64::from(is_done);
                told(&report, self.json, |line| log.line(&line));
                // A daemon without a number of restores does its work also when restores fail.
                if !is_done && self.restores.0.is_some() {
                    exit = Exit::Failed;
                }
            }
            _ => {}
        })?;
        Ok((exit, restored))
    }

    /// Opens the source of the pages, and starts the threads.
    fn pages(&self, log: &Log) -> Fallible<LazyPages> {
        let mut options = LazyOptions::default();
        options.fill = match self.fill {
            FillWord::Everything => Fill::Everything,
            FillWord::Nothing => Fill::Nothing,
        };
        options.on_loss = match self.on_loss {
            OnLossWord::Kill => OnLoss::Kill,
            OnLossWord::Sigbus => OnLoss::SigBus,
        };
        options.around = self.around.unwrap_or(options.around);
        options.fault_threads = self.fault_threads.map_or(options.fault_threads, usize::from);
        if let Some(file) = log.file()? {
            options.guard = Guarding::Log(Arc::new(file));
        }
        let (snapshot, supply) = self.source()?;
        let pages = LazyPages::new(Arc::clone(&snapshot), Arc::clone(&supply), options.clone());
        Ok(match pages {
            Err(LazyError::Guard(error)) => {
                let why = "if this program is killed, missing pages read as zeros";
                log.line(&format!("without a guard, {why}: {error}"));
                options.guard = Guarding::Off;
                LazyPages::new(snapshot, supply, options)?
            }
            pages => pages?,
        })
    }

    fn unreadable(&self, error: &LazyError) -> String {
        report::unreadable(&self.images_dir, error)
    }

    /// Opens the source of the pages.
    fn source(&self) -> Fallible<(Arc<Snapshot>, Arc<dyn Supply>)> {
        if self.page_server != Some(true) {
            let images = Images::open(&self.images_dir);
            let images = Arc::new(images.map_err(|error| self.unreadable(&error))?);
            return Ok((Arc::clone(images.snapshot()), images));
        }
        let snapshot = Snapshot::open(&self.images_dir);
        let snapshot = Arc::new(snapshot.map_err(|error| self.unreadable(&error))?);
        let remote = match (self.ps_socket, &self.address, self.port) {
            (Some(number), _, _) => {
                let socket = by_number("--ps-socket", number).map_err(|f| f.to_string())?;
                Remote::socket(connected(socket)?)
            }
            (None, Some(address), Some(port)) if self.tls == Some(true) => {
                Remote::tls(address, port, &self.certificates.tls())
            }
            (None, address, port) => {
                let address = address.as_deref().unwrap_or_default();
                // An IPv6 address needs brackets before a port.
                let address =
                    if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                Remote::tcp(format!("{address}:{}", port.unwrap_or_default()))
            }
        };
        let remote = Arc::new(remote.open(Arc::clone(&snapshot))?);
        Ok((snapshot, remote))
    }

    fn work_dir(&self) -> &Path {
        self.work_dir.as_deref().unwrap_or(&self.images_dir)
    }

    fn log(&self, output: &Output) -> Fallible<Log> {
        self.server.log(self.work_dir(), output)
    }
}

/// Shows how many pages have come, on a terminal only, until the value is dropped.
fn show(control: LazyControl) -> Option<Showing> {
    let progress = Progress::of_bytes(0);
    let pause = progress.pause()?;
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let draw = move || {
        while ended.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let all = control.progress();
            let pages: u64 = all.iter().map(|(_, one)| one.pages).sum();
            let missing: u64 = all.iter().map(|(_, one)| one.missing).sum();
            progress.show_pages(pages, missing);
        }
    };
    Some(Showing { end: Some(end), thread: Some(thread::spawn(draw)) })
}

/// A thread that shows the progress.
struct Showing {
    end: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes no more restores at the first Ctrl-C or SIGTERM, and gives those under way up at the
/// second.
fn stop_at_signals(fd: SignalFd, control: LazyControl) -> io::Result<()> {
    thread::Builder::new().spawn(move || {
        let mut seen = 0;
        loop {
            match fd.read_signal() {
                Ok(Some(_)) if seen == 0 => {
                    control.finish();
                    control.end_recording();
                }
                Ok(Some(_)) => control.stop(),
                _ => thread::sleep(Duration::from_millis(10)),
            }
            seen += 1;
        }
    })?;
    Ok(())
}

/// The heading of options for memory.
const MEMORY: &str = "Memory";
