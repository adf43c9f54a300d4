//! `page-server`: receives or serves pages. It takes CRIU's options, and several clients.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use clap::Args;
use criu_rs::pages::{Handle, Listening, PagesError, Received, Server, SessionReport, Socket};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use serde_json::json;

use crate::exit::Exit;
use crate::fault::Fault;
use crate::fd::by_number;
use crate::foreign::without_effect;
use crate::options::{Certificates, Verbosity};
use crate::output::Output;
use crate::program::{Given, Program};
use crate::settings;
use crate::stdout;
use crate::tool::Fallible;
use crate::word::NAME;

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
    /// Allow an address that other machines reach, without TLS: whoever connects can write pages
    #[arg(long)]
    expose: bool,
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
        value_parser = sessions)]
    sessions: Sessions,
    /// Put each session into a directory of its own below the images directory: 0, 1, ...
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
    /// Serve the pages in the images directory to whoever asks for them
    #[arg(long, help_heading = "Memory")]
    lazy_pages: bool,

    /// Speak TLS: clients show a certificate, for the address that is given if there is one
    #[arg(long, help_heading = "Page server")]
    tls: Option<bool>,
    #[command(flatten)]
    certificates: Certificates,

    /// The log's name in the work directory, or its path, or - for standard output; standard error
    /// unless given
    #[arg(short = 'o', long, value_name = "FILE", help_heading = "Logging")]
    log_file: Option<PathBuf>,
    /// Directory for the log and the pid file; the images directory unless given
    #[arg(short = 'W', long, value_name = "DIR", help_heading = "Logging")]
    work_dir: Option<PathBuf>,
    /// Accepted as for criu; every level logs the same
    #[arg(
        short = 'v', long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "",
        require_equals = true, help_heading = "Logging"
    )]
    verbosity: Vec<Verbosity>,
    /// End with status 2 after wrong usage
    #[arg(long, help_heading = "This program")]
    exit_codes: bool,
    /// Print one JSON object a session on standard output
    #[arg(long, help_heading = "This program")]
    json: bool,
    /// The listening socket is standard input: for the daemon
    #[arg(long, hide = true)]
    listening: bool,
}

/// The number of sessions that a server takes; `None` is no limit.
#[derive(Clone, Copy, Debug)]
struct Sessions(Option<u64>);

fn sessions(text: &str) -> Result<Sessions, String> {
    match text {
        "unlimited" => Ok(Sessions(None)),
        number => match number.parse() {
            Ok(0) | Err(_) => Err("expected a number above 0, or unlimited".to_owned()),
            Ok(number) => Ok(Sessions(Some(number))),
        },
    }
}

impl Program for PageServer {
    const WORD: &'static str = "page-server";
    const ABOUT: &'static str = "Receives the memory of dumps, or serves that of a checkpoint.";
    const MORE: &'static str = "\
Options are those of `criu page-server`. Unlike CRIU's, this server listens on 127.0.0.1 unless
told, refuses an address that other machines reach unless TLS or --expose is given, and can take
several sessions. The first Ctrl-C or SIGTERM lets sessions end, the second ends them.

Examples:
  criu-rs page-server -D img --port 27000                  take one dump, as criu page-server does
  criu-rs page-server -D img --sessions unlimited --each   take any number, into img/0, img/1, ...
  criu-rs page-server -D img --lazy-pages --port 27000 --sessions 4
                                                           serve the pages of a checkpoint
  criu-rs page-server -D img --address 198.51.100.7 --port 27000 --tls --tls-cacert ca.pem \
    --tls-cert me.pem --tls-key me.key             take a dump from another machine
  criu-rs dump -t 4711 -D img --page-server --address 127.0.0.1 --port 27000
                                                           the other side
";
    const EXIT_CODES: &'static str = "\
Exit status:
  0  done
  1  a session failed, or the server could not start; without --exit-codes also wrong usage
  2  wrong usage; nothing was begun
";

    fn json(&self) -> bool {
        self.json
    }

    fn run(&self, output: &Output, given: &Given) -> Result<ExitCode, Fault> {
        if self.ps_socket.is_some() {
            let unused = [("--address", self.address.is_some()), ("--port", self.port.is_some())];
            let unused = unused.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
            let unused: Vec<&str> = unused.collect();
            if let Some(note) = without_effect("a server with --ps-socket", &unused) {
                output.say(note);
            }
        }
        let ended = self.start(output, &given.all);
        ended.map(ExitCode::from).map_err(|error| Fault::Failed(error.to_string()))
    }
}

impl PageServer {
    fn start(&self, output: &Output, args: &[OsString]) -> Fallible<Exit> {
        crate::make_directory("--images-dir", &self.images_dir).map_err(|f| f.to_string())?;
        let log = self.log(output)?;
        if let Some(parent) = &self.prev_images_dir {
            link_parent(&self.images_dir, parent)?;
        }
        let server = self.server()?;
        if let Some(number) = self.ps_socket {
            let socket = connected(by_number("--ps-socket", number).map_err(|f| f.to_string())?)?;
            let peer = "the given socket".to_owned();
            let result = server.session(socket);
            return Ok(self.report(&log, &peer, &result));
        }
        let listening = if self.listening {
            let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
            server.listen_on(listener)?
        } else {
            server.listen(SocketAddr::new(self.address(), self.port.unwrap_or(0)))?
        };
        let is_daemon = self.daemon.or(self.restore_detached) == Some(true);
        if is_daemon && !self.listening {
            return self.daemonize(listening, args);
        }
        if self.listening {
            let _ = nix::unistd::setsid();
        }
        log.line(&format!("listens on {} port {}", self.address(), listening.port()));
        self.tell_ready()?;
        self.serve(listening, &log)
    }

    fn address(&self) -> IpAddr {
        self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn server(&self) -> Fallible<Server> {
        let images = self.images_dir.clone();
        let server = Server::new().exposed(self.expose).auto_dedup(self.auto_dedup == Some(true));
        let server = server.durable(self.sync);
        let server = if self.each {
            server.directories(move |n| images.join(n.to_string()))
        } else {
            server.directory(images)
        };
        let server = if self.lazy_pages { server.serve(&self.images_dir) } else { server };
        if self.tls != Some(true) {
            return Ok(server);
        }
        // A server without an address of its own knows no name for its clients.
        Ok(match self.address {
            Some(address) => server.tls(&self.certificates.tls(), &address.to_string())?,
            None => server.tls(&self.certificates.tls().any_name(), "")?,
        })
    }

    fn serve(&self, listening: Listening, log: &Log) -> Fallible<Exit> {
        stop_at_signals(listening.handle())?;
        let mut exit = Exit::Done;
        listening.run_with(self.sessions.0, |SessionReport { peer, result, .. }| {
            let ended = self.report(log, &peer, &result);
            if ended != Exit::Done {
                exit = ended;
            }
        })?;
        Ok(exit)
    }

    fn report(&self, log: &Log, peer: &str, result: &Result<Received, PagesError>) -> Exit {
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
        log.line(&line);
        if self.json {
            stdout::print_json(&facts);
        }
        if result.is_ok() { Exit::Done } else { Exit::Failed }
    }

    /// Starts this program again with the socket as standard input, and leaves.
    fn daemonize(&self, listening: Listening, args: &[OsString]) -> Fallible<Exit> {
        settings::refuse_pipe(args).map_err(|fault| fault.to_string())?;
        let socket = listening.into_listener()?;
        let mut daemon = Command::new(std::env::current_exe()?);
        // The word is given, because the file may have any name.
        daemon.arg0(NAME).args([Self::WORD, "--listening"]).args(args);
        daemon.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
        let Some(pidfile) = &self.pidfile else {
            daemon.spawn()?;
            return Ok(Exit::Done);
        };
        let path = self.work_dir().join(pidfile);
        // A file that is taken is found before there is a daemon.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        if let Err(error) = start_daemon(&mut daemon, file) {
            let _ = fs::remove_file(&path);
            let path = path.display();
            return Err(format!("cannot start a daemon with {path}: {error}").into());
        }
        Ok(Exit::Done)
    }

    fn tell_ready(&self) -> Fallible<()> {
        if let Some(number) = self.status_fd {
            let fd = by_number("--status-fd", number).map_err(|fault| fault.to_string())?;
            nix::unistd::write(fd, &[0])?;
            nix::unistd::close(number)?;
        }
        Ok(())
    }

    fn work_dir(&self) -> &Path {
        self.work_dir.as_deref().unwrap_or(&self.images_dir)
    }

    fn log(&self, output: &Output) -> Fallible<Log> {
        let Some(name) = &self.log_file else {
            return Ok(Log { to: None, output: output.clone() });
        };
        if name.as_path() == Path::new("-") {
            let file = fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
            return Ok(Log { to: Some(file), output: output.clone() });
        }
        let path = self.work_dir().join(name);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Log { to: Some(file), output: output.clone() })
    }
}

/// The place for messages: a file, standard output or standard error.
struct Log {
    to: Option<fs::File>,
    output: Output,
}

impl Log {
    fn line(&self, text: &str) {
        match &self.to {
            Some(file) => {
                let _ = writeln!(&mut &*file, "{text}");
            }
            None => self.output.say(text),
        }
    }
}

/// Starts a daemon and writes its process id into a file. After a failure there is no daemon.
fn start_daemon(daemon: &mut Command, mut pidfile: fs::File) -> io::Result<()> {
    let mut child = daemon.spawn()?;
    let written = write!(pidfile, "{}", child.id());
    if written.is_err() {
        let _ = child.kill();
    }
    written
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

/// Takes a connected socket of either family.
fn connected(fd: OwnedFd) -> Fallible<Socket> {
    let address: SockaddrStorage = getsockname(std::os::fd::AsRawFd::as_raw_fd(&fd))?;
    Ok(match address.family() {
        Some(AddressFamily::Unix) => UnixStream::from(fd).into(),
        Some(AddressFamily::Inet | AddressFamily::Inet6) => TcpStream::from(fd).into(),
        _ => return Err("the descriptor is not a stream socket".into()),
    })
}

/// Lets sessions end at the first Ctrl-C or SIGTERM, and ends them at the second.
fn stop_at_signals(handle: Handle) -> Fallible<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    let fd = SignalFd::new(&signals)?;
    thread::spawn(move || {
        let mut seen = 0;
        loop {
            match fd.read_signal() {
                Ok(Some(_)) if seen == 0 => handle.finish(),
                Ok(Some(_)) => handle.stop(),
                _ => thread::sleep(Duration::from_millis(10)),
            }
            seen += 1;
        }
    });
    Ok(())
}
