//! The parts of words that go on as servers: a log, descriptors, a daemon.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;
use criu_rs::LogLevel;
use criu_rs::pages::Socket;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::descriptors;
use crate::fault::Fault;
use crate::fd::{self, by_number};
use crate::options::Verbosity;
use crate::output::Output;
use crate::own;
use crate::places::open_log;
use crate::settings;
use crate::shown::one_line;
use crate::tool::Fallible;
use crate::word::NAME;

/// Options of words that serve: their log, their exit status, and their daemon.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The log's name in the work directory, or its path, or - for standard output; standard error
    /// unless given
    #[arg(short = 'o', long, value_name = "FILE", help_heading = "Logging")]
    log_file: Option<PathBuf>,
    /// The level, as for criu
    #[arg(
        short = 'v', long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "",
        require_equals = true, help_heading = "Logging"
    )]
    verbosity: Vec<Verbosity>,
    /// End with status 2 after wrong usage
    #[arg(long, help_heading = "This program")]
    exit_codes: bool,
    /// The listening socket is standard input: for the daemon
    #[arg(long, hide = true)]
    pub(crate) listening: bool,
}

impl ServerArgs {
    /// Opens the log.
    pub(crate) fn log(&self, work_dir: &Path, output: &Output) -> Fallible<Log> {
        Log::open(self.log_file.as_deref(), work_dir, output)
    }

    /// Returns true if everything is to be logged.
    pub(crate) fn logs_all(&self) -> bool {
        Verbosity::level(&self.verbosity) == LogLevel::Debug
    }
}

/// The place for messages: a file, standard output or standard error.
pub(crate) struct Log {
    to: Option<fs::File>,
    output: Output,
}

impl Log {
    /// Opens the log of a name in a directory. Without a name, messages go to standard error.
    fn open(name: Option<&Path>, work_dir: &Path, output: &Output) -> Fallible<Self> {
        let to = match name {
            None => None,
            Some(name) if name == Path::new("-") => {
                Some(fs::File::from(io::stdout().as_fd().try_clone_to_owned()?))
            }
            Some(name) => {
                let path = work_dir.join(name);
                let file = open_log(&path);
                Some(file.map_err(|error| format!("{}: {error}", path.display()))?)
            }
        };
        Ok(Self { to, output: output.clone() })
    }

    /// Returns a copy of the descriptor of the file, if there is one.
    pub(crate) fn file(&self) -> io::Result<Option<OwnedFd>> {
        self.to.as_ref().map(|file| file.as_fd().try_clone_to_owned()).transpose()
    }

    /// Writes a line. What peers and files are called does not make it two, or another.
    pub(crate) fn line(&self, text: &str) {
        let text = one_line(text);
        match &self.to {
            Some(file) => {
                let _ = writeln!(&mut &*file, "{text}");
            }
            None => self.output.say(&text),
        }
    }
}

/// Raises the soft limit of open descriptors to the hard limit.
///
/// The soft limit is 1,024 on most systems, for programs that call select(2), and many sessions at
/// once need more. This process starts no program but its own daemon.
pub(crate) fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // A server with the old limit takes fewer sessions at once.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// The descriptor that is told when a server is ready, and its number, if there is one.
pub(crate) struct Status(Option<(OwnedFd, RawFd)>);

impl Status {
    /// Takes the descriptor of `--status-fd`.
    pub(crate) fn of(number: Option<RawFd>) -> Fallible<Self> {
        let taken = number.map(|number| Ok((by_number("--status-fd", number)?, number)));
        Ok(Self(taken.transpose().map_err(|fault: Fault| fault.to_string())?))
    }

    /// Writes a zero byte, and closes the descriptor.
    pub(crate) fn tell_ready(self) -> Fallible<()> {
        if let Some((fd, number)) = self.0 {
            nix::unistd::write(fd, &[0])?;
            nix::unistd::close(number)?;
        }
        Ok(())
    }
}

/// Blocks the signals that let a server end in order, in this thread and in those that it starts.
/// A server does so before anybody can see its socket, and answers the signals when it is ready.
pub(crate) fn block_signals() -> nix::Result<SigSet> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    Ok(signals)
}

/// Starts this program again in the background, with a word, the option `--listening`, and a socket
/// as standard input. The daemon tells the descriptor `status` when it is ready.
pub(crate) fn daemonize(
    word: &str,
    socket: OwnedFd,
    args: &[OsString],
    status: Option<RawFd>,
    pidfile: Option<&Path>,
) -> Fallible<()> {
    settings::refuse_pipe(args).map_err(|fault| fault.to_string())?;
    let words = args.iter().filter_map(|word| word.to_str());
    let named = status.into_iter().chain(words.flat_map(fd::in_text));
    let named: Vec<_> = named.filter(|number| descriptors::is_of_caller(*number)).collect();
    descriptors::name(&named).map_err(|fault| fault.to_string())?;
    let mut daemon = Command::new(own::PROGRAM);
    // The word is given, because the file may have any name.
    daemon.arg0(NAME).args([word, "--listening"]).args(args);
    daemon.stdin(socket).stdout(Stdio::null()).stderr(Stdio::null());
    let Some(path) = pidfile else {
        spawn(&mut daemon)?;
        return Ok(());
    };
    // A file that is taken is found before there is a daemon.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    if let Err(error) = start_daemon(&mut daemon, file) {
        let _ = fs::remove_file(path);
        let path = path.display();
        return Err(format!("cannot start a daemon with {path}: {error}").into());
    }
    Ok(())
}

/// Starts a daemon and writes its process id into a file. After a failure there is no daemon.
fn start_daemon(daemon: &mut Command, mut pidfile: fs::File) -> io::Result<()> {
    let mut child = spawn(daemon)?;
    let written = write!(pidfile, "{}", child.id());
    if written.is_err() {
        let _ = child.kill();
    }
    written
}

/// Starts a daemon with its signals blocked: a signal may come before it has begun.
fn spawn(daemon: &mut Command) -> io::Result<Child> {
    let signals = block_signals()?;
    let child = daemon.spawn();
    signals.thread_unblock()?;
    child
}

/// Takes a connected socket of either family.
pub(crate) fn connected(fd: OwnedFd) -> Fallible<Socket> {
    let address: SockaddrStorage = getsockname(std::os::fd::AsRawFd::as_raw_fd(&fd))?;
    Ok(match address.family() {
        Some(AddressFamily::Unix) => UnixStream::from(fd).into(),
        Some(AddressFamily::Inet | AddressFamily::Inet6) => TcpStream::from(fd).into(),
        _ => return Err("the descriptor is not a stream socket".into()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use criu_images::Text;

    use super::*;

    #[test]
    fn a_log_has_no_characters_that_act_on_a_terminal() {
        let path = criu_lab::scratch("server-log").join("log");
        let mut file = fs::File::options().read(true).append(true).create(true).open(path).unwrap();
        let output = Output::new("criu-rs", NAME, false);
        let log = Log { to: Some(file.try_clone().unwrap()), output };
        log.line("peer \u{202e}gmi.1\u{200b}\u{9b}1m\x1b[2J\nforged: done");
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.chars().any(Text::hides), "{line:?}");
        assert!(line.contains("\\u{202e}gmi.1") && line.ends_with("\\nforged: done"), "{line}");
    }
}
