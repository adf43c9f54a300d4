//! `page-server`: takes CRIU's options, and more than one client.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use clap::Parser;
use criu_cli::{Certificates, Exit, by_number};
use criu_rs::pages::{Handle, Listening, Server, SessionReport, Socket};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use serde_json::json;

#[derive(Parser)]
#[command(
    name = "page-server",
    about = "Receive the memory of dumps, or serve that of a checkpoint",
    after_help = MORE
)]
struct Options {
    /// The directory that pages go into, or are served from.
    #[arg(short = 'D', long, default_value = ".")]
    images_dir: PathBuf,
    /// The directory for the log, and for the pid file if its path is relative.
    #[arg(short = 'W', long)]
    work_dir: Option<PathBuf>,
    /// The address to listen on: 127.0.0.1 unless given.
    #[arg(long)]
    address: Option<IpAddr>,
    /// The port to listen on; without it the kernel chooses.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Allow an address that other machines reach without TLS: whoever connects can write pages.
    #[arg(long)]
    expose: bool,
    /// Go on in the background as soon as it listens.
    #[arg(short, long)]
    daemon: bool,
    /// Write the process id of the daemon into this file.
    #[arg(long)]
    pidfile: Option<PathBuf>,
    /// Write a byte 0 to this descriptor as soon as it listens, and close it.
    #[arg(long)]
    status_fd: Option<i32>,
    /// Take one session over this connected socket instead of listening.
    #[arg(long, conflicts_with_all = ["address", "port", "daemon", "sessions"])]
    ps_socket: Option<i32>,
    /// The parent set, seen from the images directory.
    #[arg(long)]
    prev_images_dir: Option<PathBuf>,
    /// Free the space of pages in the parent sets that come anew.
    #[arg(long)]
    auto_dedup: bool,
    /// Serve the pages in the images directory to whoever wants them.
    #[arg(long)]
    lazy_pages: bool,
    /// How many sessions to take: a number, or "unlimited".
    #[arg(long, default_value = "1", value_parser = sessions)]
    sessions: Sessions,
    /// Each session into a directory of its own below the images directory: 0, 1, ...
    #[arg(long)]
    each: bool,
    /// Answer the end of a session when everything is on disk.
    #[arg(long)]
    sync: bool,
    /// Write messages into this file.
    #[arg(short = 'o', long)]
    log_file: Option<PathBuf>,
    /// Say more: -v4 or -vvvv, as CRIU has it.
    #[arg(short, long, num_args = 0..=1, default_missing_value = "1", action = clap::ArgAction::Append)]
    verbosity: Vec<u8>,
    /// One JSON object a session on standard output.
    #[arg(long)]
    json: bool,
    /// The listening socket is standard input: for the daemon.
    #[arg(long, hide = true)]
    listening: bool,
    /// Speak TLS: clients show a certificate, for the address that is given if there is one.
    #[arg(long, help_heading = "Page server")]
    tls: bool,
    #[command(flatten)]
    certificates: Certificates,
}

#[derive(Clone, Copy)]
struct Sessions(Option<u64>);

fn sessions(text: &str) -> Result<Sessions, String> {
    match text {
        "unlimited" => Ok(Sessions(None)),
        number => match number.parse() {
            Ok(0) | Err(_) => Err("wanted a number above 0, or \"unlimited\"".to_owned()),
            Ok(number) => Ok(Sessions(Some(number))),
        },
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("page-server: {error}");
            Exit::Failed.into()
        }
    }
}

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

impl Options {
    fn run(self) -> Fallible<Exit> {
        let log = self.log()?;
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
        let listening = match self.listening {
            true => {
                let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
                server.listen_on(listener)?
            }
            false => server.listen(SocketAddr::new(self.address(), self.port.unwrap_or(0)))?,
        };
        if self.daemon && !self.listening {
            return self.daemonize(listening);
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
        let server = Server::new().exposed(self.expose).auto_dedup(self.auto_dedup);
        let server = server.durable(self.sync);
        let server = match (self.each, self.lazy_pages) {
            (true, _) => server.directories(move |n| images.join(n.to_string())),
            (false, _) => server.directory(images),
        };
        let server = match self.lazy_pages {
            true => server.serve(&self.images_dir),
            false => server,
        };
        // Without an address of its own a server knows no name for its clients.
        Ok(match (self.tls, self.address) {
            (true, Some(address)) => server.tls(&self.certificates.tls(), &address.to_string())?,
            (true, None) => server.tls(&self.certificates.tls().any_name(), "")?,
            (false, _) => server,
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

    fn report(
        &self,
        log: &Log,
        peer: &str,
        result: &Result<criu_rs::pages::Received, criu_rs::pages::PagesError>,
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
        log.line(&line);
        if self.json {
            let _ = writeln!(io::stdout(), "{facts}");
        }
        if result.is_ok() { Exit::Done } else { Exit::Failed }
    }

    /// Starts itself again with the socket as standard input, and leaves.
    fn daemonize(&self, listening: Listening) -> Fallible<Exit> {
        let socket = listening.into_listener()?;
        let mut daemon = Command::new(std::env::current_exe()?);
        daemon.args(std::env::args_os().skip(1)).arg("--listening");
        daemon.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = daemon.spawn()?;
        if let Some(pidfile) = &self.pidfile {
            let path = self.work_dir().join(pidfile);
            let file = OpenOptions::new().write(true).create_new(true).open(&path);
            let written = file.and_then(|mut file| write!(file, "{}", child.id()));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
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

    fn log(&self) -> Fallible<Log> {
        let quiet = self.json && self.log_file.is_none();
        let Some(name) = &self.log_file else {
            return Ok(Log { to: None, quiet });
        };
        let path = self.work_dir().join(name);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Log { to: Some(file), quiet })
    }
}

/// Where messages go.
struct Log {
    to: Option<fs::File>,
    quiet: bool,
}

impl Log {
    fn line(&self, text: &str) {
        let _ = match &self.to {
            Some(file) => writeln!(&mut &*file, "{text}"),
            None if self.quiet => Ok(()),
            None => writeln!(io::stderr(), "page-server: {text}"),
        };
    }
}

/// The link that CRIU makes, too.
fn link_parent(images: &Path, parent: &Path) -> Fallible<()> {
    let link = images.join("parent");
    match fs::read_link(&link) {
        Ok(there) if there == parent => return Ok(()),
        _ => symlink(parent, &link).map_err(|error| format!("{}: {error}", link.display()))?,
    }
    Ok(())
}

/// A connected socket of either family.
fn connected(fd: OwnedFd) -> Fallible<Socket> {
    let address: SockaddrStorage = getsockname(std::os::fd::AsRawFd::as_raw_fd(&fd))?;
    Ok(match address.family() {
        Some(AddressFamily::Unix) => UnixStream::from(fd).into(),
        Some(AddressFamily::Inet | AddressFamily::Inet6) => TcpStream::from(fd).into(),
        _ => return Err("the descriptor is no stream socket".into()),
    })
}

/// The first Ctrl-C or SIGTERM lets sessions end; the second ends them.
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

const MORE: &str = "\
Examples:
  page-server -D img --port 27000                  # one dump, as criu page-server takes it
  page-server -D img --sessions unlimited --each   # any number, into img/0, img/1, ...
  page-server -D img --lazy-pages --port 27000 --sessions 4
  criu-rs dump -t 4711 -D img --page-server --address 127.0.0.1 --port 27000
  page-server -D img --address 198.51.100.7 --port 27000 --tls --tls-cacert ca.pem --tls-cert me.pem --tls-key me.key

Exit status: 0 done, 1 a session failed, 2 wrong usage.
";
