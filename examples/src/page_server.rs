//! `page-server`: receives or serves pages. It takes CRIU's options, and several clients.

mod failures;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use criu_rs::Tls;
use criu_rs::pages::{Handle, Listening, PagesError, Provider, Received, Server, SessionReport};
use nix::sys::signalfd::SignalFd;
use serde_json::json;

use crate::confine::{self, Access, Connects, Place};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::fd::by_number;
use crate::foreign::without_effect;
use crate::numbers::first_free;
use crate::options::{AtMost, Certificates};
use crate::output::Output;
use crate::own;
use crate::places::{PRIVATE, READABLE, keep_files_private, make_directory, note_writers};
use crate::program::{Given, Program};
use crate::serving::{
    Log, ServerArgs, Status, block_signals, connected, daemonize, raise_descriptors,
};
use crate::stdout;
use crate::tool::Fallible;

use failures::Failures;

/// Options of `page-server`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Main options")]
pub(crate) struct PageServer {
    /// The directory that pages go into or are served from; the current one unless given
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    images_dir: PathBuf,
    /// The address to listen on; 127.0.0.1 unless given, where criu listens on all
    #[arg(long)]
    address: Option<IpAddr>,
    /// The port to listen on; the kernel chooses one unless given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Allow an address that other machines reach, without TLS: whoever connects can write pages,
    /// or with --lazy-pages read all memory
    #[arg(long)]
    expose: bool,
    /// Let every user of this machine connect, not only this user and root
    #[arg(long)]
    other_users: bool,
    /// Go on in the background as soon as it listens
    #[arg(short, long)]
    daemon: Option<bool>,
    /// Go on in the background, under the name that criu has for the same switch on restore
    #[arg(long, hide = true)]
    restore_detached: Option<bool>,
    /// Write the process id of the daemon to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Write a zero byte to this descriptor as soon as it listens, and close it
    #[arg(long, value_name = "FD")]
    status_fd: Option<i32>,
    /// Take one session over this connected socket instead of listening
    #[arg(long, value_name = "FD", conflicts_with_all = ["daemon", "sessions"])]
    ps_socket: Option<i32>,
    /// The number of sessions to take, or unlimited; 1 unless given
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true,
        value_parser = AtMost::from_str)]
    sessions: AtMost,
    /// Put each session into a directory below the images directory whose name is a number: 0, 1,
    /// ..., or those after the numbers that are there
    #[arg(long)]
    each: bool,
    /// Answer the end of a session only when everything is on disk
    #[arg(long)]
    sync: bool,

    /// The previous images, as a path from the images directory
    #[arg(long, value_name = "DIR", help_heading = "Memory")]
    prev_images_dir: Option<PathBuf>,
    /// Free pages of the previous images that newer ones replace
    #[arg(long, help_heading = "Memory")]
    auto_dedup: Option<bool>,
    /// Let others read the files, less the umask: for trees in a user namespace of their own, which
    /// CRIU restores as a user of that namespace
    #[arg(long, help_heading = "Memory")]
    others_read: bool,
    /// Serve the pages in the images directory to whoever asks for them
    #[arg(long, help_heading = "Memory")]
    lazy_pages: bool,

    /// Speak TLS: clients show a certificate, for the address that is given if there is one
    #[arg(long, help_heading = "Page server")]
    tls: Option<bool>,
    #[command(flatten)]
    certificates: Certificates,

    #[command(flatten)]
    server: ServerArgs,
    /// Directory for the log and the pid file; the images directory unless given
    #[arg(short = 'W', long, value_name = "DIR", help_heading = "Logging")]
    work_dir: Option<PathBuf>,
    /// Print one JSON object a session on standard output
    #[arg(long, help_heading = "This program")]
    json: bool,
    /// Give up all rights but those on the directories as soon as it listens: the default
    #[arg(long, help_heading = "Page server")]
    confine: Option<bool>,
}

impl Program for PageServer {
    const WORD: &'static str = "page-server";
    const ABOUT: &'static str = "Receives the memory of dumps, or serves that of a checkpoint.";
    const MORE: &'static str = "\
Options are those of `criu page-server`. Unlike CRIU's, this server

- listens on 127.0.0.1 unless told, and refuses an address that other machines reach unless --tls or
  --expose is given;
- on 127.0.0.1 serves this user and root only, unless --other-users is given. With --tls the
  certificate tells who may connect; on an address that --expose allows, everybody may;
- stores or, with --lazy-pages, serves, and never does both, and replaces no pagemap that is there;
- makes files that only this user reads, unless --others-read is given;
- can take several sessions. A connection is a session when its first header has come. Others are
  logged, ten a minute, and counted. Of failed sessions 100 a minute are logged, and the others
  counted;
- gives up all rights but those on its directories as soon as it listens: capabilities, other files,
  new connections, other programs. --no-confine keeps them, and -v4 logs what the kernel confines.

The first Ctrl-C or SIGTERM lets sessions end, the second ends them.

Examples:
  criu-rs page-server -D img --port 27000                  take one dump, as criu page-server does
  criu-rs page-server -D img --sessions unlimited --each   take any number, into img/0, img/1, ...
  criu-rs page-server -D img --lazy-pages --port 27000 --sessions 4
                                                           serve the pages of a checkpoint
  criu-rs page-server -D img --address 198.51.100.7 --port 27000 --tls \\
    --tls-cacert ca.pem --tls-cert me.pem --tls-key me.key take a dump from another machine
  criu-rs dump -t 4711 -D img --page-server --address 127.0.0.1 --port 27000
                                                           the other side
";
    const EXIT_CODES: &'static str = "\
Exit status:
  0  done; with --sessions unlimited also if sessions failed
  1  a session failed, or the server could not start; without --exit-codes also wrong usage
  2  wrong usage; nothing was begun
";

    fn json(&self) -> bool {
        self.json
    }

    fn run(&self, output: &Output, given: &Given) -> Result<ExitCode, Fault> {
        let tell = |of: &str, options: &[(&'static str, bool)]| {
            let unused = options.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
            let unused: Vec<&str> = unused.collect();
            if let Some(note) = without_effect(of, &unused) {
                output.say(note);
            }
        };
        if self.ps_socket.is_some() {
            let listens = [("--address", self.address.is_some()), ("--port", self.port.is_some())];
            tell("a server with --ps-socket", &listens);
        }
        if self.lazy_pages {
            let dedup = self.auto_dedup == Some(true);
            let stores = [
                ("--each", self.each),
                ("--sync", self.sync),
                ("--auto-dedup", dedup),
                ("--others-read", self.others_read),
            ];
            tell("a server with --lazy-pages", &stores);
        }
        let ended = self.start(output, &given.all);
        ended.map(ExitCode::from).map_err(|error| Fault::Failed(error.to_string()))
    }
}

impl PageServer {
    fn start(&self, output: &Output, args: &[OsString]) -> Fallible<Exit> {
        if !self.others_read {
            keep_files_private();
        }
        raise_descriptors();
        if self.lazy_pages {
            // The images are there already, and nothing is written beside them.
            fs::read_dir(&self.images_dir)
                .map_err(|error| format!("--images-dir: {}: {error}", self.images_dir.display()))?;
        } else {
            let mode = if self.others_read { READABLE } else { PRIVATE };
            make_directory("--images-dir", &self.images_dir, mode).map_err(|f| f.to_string())?;
            note_writers(output, "--images-dir", &self.images_dir);
        }
        if self.server.listening {
            own::take_name();
            let _ = nix::unistd::setsid();
        }
        let log = self.log(output)?;
        if let Some(parent) = &self.prev_images_dir {
            link_parent(&self.images_dir, parent)?;
        }
        if let Some(number) = self.ps_socket {
            let socket = connected(by_number("--ps-socket", number).map_err(|f| f.to_string())?)?;
            let peer = "the given socket".to_owned();
            // Certificates are read before the server is confined.
            let result = if self.lazy_pages {
                let provider = self.provider()?;
                self.confine(&log);
                provider.session(socket)
            } else {
                let server = self.server()?;
                self.confine(&log);
                server.session(socket)
            };
            return Ok(self.report(&peer, &result, |line| log.line(&line)));
        }
        let is_daemon = self.daemon.or(self.restore_detached) == Some(true);
        let goes_on = !is_daemon || self.server.listening;
        let signals = goes_on.then(block_signals).transpose()?;
        let address = SocketAddr::new(self.address(), self.port.unwrap_or(0));
        let handed = if self.server.listening {
            Some(TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?))
        } else {
            None
        };
        let listening = match (self.lazy_pages, handed) {
            (true, Some(listener)) => self.provider()?.listen_on(listener)?,
            (true, None) => self.provider()?.listen(address)?,
            (false, Some(listener)) => self.server()?.listen_on(listener)?,
            (false, None) => self.server()?.listen(address)?,
        };
        let Some(signals) = signals else { return self.daemonize(listening, args) };
        let status = Status::of(self.status_fd)?;
        self.confine(&log);
        stop_at_signals(SignalFd::new(&signals)?, listening.handle())?;
        log.line(&format!("listens on {} port {}", self.address(), listening.port()));
        status.tell_ready()?;
        self.serve(listening, &log)
    }

    fn address(&self) -> IpAddr {
        self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The server that stores.
    fn server(&self) -> Fallible<Server> {
        let images = self.images_dir.clone();
        let server = Server::new().exposed(self.expose).other_users(self.other_users);
        let server = server.auto_dedup(self.auto_dedup == Some(true)).durable(self.sync);
        let server = server.others_read(self.others_read);
        let server = if self.each {
            // Sessions of an earlier server stay as they are.
            let first = first_free(&images)
                .map_err(|error| format!("--images-dir: {}: {error}", images.display()))?;
            server.directories(move |n| images.join(first.saturating_add(n).to_string()))
        } else {
            server.directory(images)
        };
        Ok(match self.names() {
            Some((tls, name)) => server.tls(&tls, &name)?,
            None => server,
        })
    }

    /// The server that only reads.
    fn provider(&self) -> Fallible<Provider> {
        let provider = Provider::new(&self.images_dir).exposed(self.expose);
        let provider = provider.other_users(self.other_users);
        Ok(match self.names() {
            Some((tls, name)) => provider.tls(&tls, &name)?,
            None => provider,
        })
    }

    /// Returns the files for TLS, and the name that clients show a certificate for.
    fn names(&self) -> Option<(Tls, String)> {
        let tls = (self.tls == Some(true)).then(|| self.certificates.tls())?;
        // A server without an address of its own knows no name for its clients.
        Some(match self.address {
            Some(address) => (tls, address.to_string()),
            None => (tls.any_name(), String::new()),
        })
    }

    fn serve(&self, listening: Listening, log: &Log) -> Fallible<Exit> {
        let mut exit = Exit::Done;
        let mut failures = Failures::new(Instant::now());
        let ended = |SessionReport { peer, result, .. }| {
            let is_done = result.is_ok();
            let ended = self.report(&peer, &result, |line| {
                let lines = if is_done { vec![line] } else { failures.lines(line, Instant::now()) };
                lines.iter().for_each(|line| log.line(line));
            });
            // A server without a number of sessions does its work also when peers fail.
            if ended != Exit::Done && self.sessions.0.is_some() {
                exit = ended;
            }
        };
        listening.run_noting(self.sessions.0.map(NonZeroU64::get), ended, |notice| {
            log.line(&notice.to_string())
        })?;
        if let Some(rest) = failures.rest() {
            log.line(&rest);
        }
        Ok(exit)
    }

    fn report(
        &self,
        peer: &str,
        result: &Result<Received, PagesError>,
        tell: impl FnOnce(String),
    ) -> Exit {
        let (line, facts) = match result {
            Ok(received) => (
                format!("{peer}: {received}"),
                json!({
                    "outcome": "done", "peer": peer, "objects": received.objects,
                    "pages": received.pages, "holes": received.holes, "served": received.served,
                    "seconds": received.time.as_secs_f64(),
                }),
            ),
            Err(error) => (
                format!("{peer}: {error}"),
                json!({ "outcome": "failed", "peer": peer, "error": error.to_string() }),
            ),
        };
        tell(line);
        if self.json {
            stdout::print_json(&facts);
        }
        if result.is_ok() { Exit::Done } else { Exit::Failed }
    }

    /// Goes on in the background.
    fn daemonize(&self, listening: Listening, args: &[OsString]) -> Fallible<Exit> {
        let pidfile = self.pidfile.as_ref().map(|pidfile| self.work_dir().join(pidfile));
        let socket = OwnedFd::from(listening.into_listener()?);
        daemonize(Self::WORD, socket, args, self.status_fd, pidfile.as_deref())?;
        Ok(Exit::Done)
    }

    /// Gives up what a page server does not need.
    fn confine(&self, log: &Log) {
        if self.confine == Some(false) {
            return;
        }
        let confined = confine::confine(&self.places(), Connects::Never);
        if let Some(missing) = confined.missing() {
            log.line(&missing);
        }
        if self.server.logs_all() {
            log.line(&confined.to_string());
        }
    }

    /// Returns the directories that the server reads or writes.
    fn places(&self) -> Vec<Place> {
        let dedup = self.auto_dedup == Some(true) && !self.lazy_pages;
        let access = if self.lazy_pages { Access::Read } else { Access::Store };
        let parents = confine::parents(&self.images_dir).into_iter();
        let parent = if dedup { Access::Change } else { Access::Read };
        let own = Place { path: self.images_dir.clone(), access };
        [own].into_iter().chain(parents.map(|path| Place { path, access: parent })).collect()
    }

    fn work_dir(&self) -> &Path {
        self.work_dir.as_deref().unwrap_or(&self.images_dir)
    }

    fn log(&self, output: &Output) -> Fallible<Log> {
        self.server.log(self.work_dir(), output)
    }
}

/// Makes the link to the parent set, as CRIU does.
fn link_parent(images: &Path, parent: &Path) -> Fallible<()> {
    let link = images.join("parent");
    match fs::read_link(&link) {
        Ok(there) if there == parent => return Ok(()),
        _ => symlink(parent, &link).map_err(|error| format!("{}: {error}", link.display()))?,
    }
    Ok(())
}

/// Lets sessions end at the first Ctrl-C or SIGTERM, and ends them at the second.
fn stop_at_signals(fd: SignalFd, handle: Handle) -> Fallible<()> {
    thread::Builder::new().spawn(move || {
        let mut seen = 0;
        loop {
            match fd.read_signal() {
                Ok(Some(_)) if seen == 0 => handle.finish(),
                Ok(Some(_)) => handle.stop(),
                _ => thread::sleep(Duration::from_millis(10)),
            }
            seen += 1;
        }
    })?;
    Ok(())
}
