//! Programs on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use criu_lab::{names, soon};
use criu_rs::Pid;
use nix::sys::signal::{Signal, kill};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_shell_s_job_gets_one_ctrl_c", ctrl_c),
    ("a_long_dump_shows_how_far_it_is", progress),
    ("no_archive_goes_to_a_terminal", archives),
];

/// A pseudo terminal, and what has been written to it.
pub struct Terminal {
    master: File,
    /// Absent once it is closed.
    slave: Option<OwnedFd>,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    pub fn new() -> Self {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        let pty = nix::pty::openpty(None, None).unwrap();
        for fd in [&pty.master, &pty.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let master = File::from(pty.master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, writer) = (master.try_clone().unwrap(), Arc::clone(&seen));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                writer.lock().unwrap().extend(&bytes[..length]);
            }
        });
        Self { master, slave: Some(pty.slave), seen, reader }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Starts a command as the leader of a session whose terminal this is.
    pub fn start(&self, command: &Command) -> Child {
        let mut leader = Command::new("setsid");
        leader.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            leader.env(name, value.unwrap_or_default());
        }
        let end = || Stdio::from(self.slave.as_ref().unwrap().try_clone().unwrap());
        leader.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    /// Types Ctrl-C.
    pub fn interrupt(&self) {
        (&self.master).write_all(b"\x03").unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The reader ends with the last of the other ends, and closes its own.
        self.slave = None;
        soon(|| self.reader.is_finished());
    }
}

fn ctrl_c(lab: &Lab) {
    let images = lab.dir("img");
    let (old, new) = (Terminal::new(), Terminal::new());
    let mut session = old.start(&lab.payload(&["job"]));
    let mut target = Target::at(Pid::from(&session), lab.dir.join("count"));
    target.goes_on();
    let plain = lab.run(&["dump", "-t", &target.pid(), "-D", &images]);
    plain.fails(1, &["do: ", "--shell-job"]);
    lab.done(&["dump", "-j", "-t", &target.pid(), "-D", &images]);
    session.wait().unwrap();
    target.is_gone();
    let before = target.count();

    let mut session = new.start(&lab.coded_command(&["restore", "-j", "-D", &images]));
    assert!(soon(|| target.count() > before), "{}", new.text());
    new.interrupt();
    assert!(soon(|| target.signals() == "SIGINT\n"), "{}", target.signals());
    // One that was sent to the program alone is handed on.
    let program = i32::try_from(session.id()).unwrap();
    kill(nix::unistd::Pid::from_raw(program), Signal::SIGINT).unwrap();
    assert!(soon(|| target.signals() == "SIGINT\nSIGINT\n"), "{}", target.signals());
    target.goes_on();
    target.signal(Signal::SIGTERM);
    assert_eq!(session.wait().unwrap().code(), Some(7));
    assert_eq!(target.signals(), "SIGINT\nSIGINT\nSIGTERM\n");
}

fn progress(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "1000"]);
    let terminal = Terminal::new();
    let dump = lab.coded_command(&["dump", "-t", &target.pid(), "-D", &images]);
    let mut session = terminal.start(&dump);
    assert!(soon(|| terminal.text().contains("in memory")), "{}", terminal.text());
    terminal.interrupt();
    assert_eq!(session.wait().unwrap().code(), Some(4), "{}", terminal.text());
    assert!(soon(|| terminal.text().contains("dump cancelled")), "{}", terminal.text());
    target.goes_on();
    assert!(names(&images).iter().all(|name| name == "dump.log"), "{:?}", names(&images));
}

fn archives(lab: &Lab) {
    let (images, tar) = (lab.dir("img"), lab.path("a.tar"));
    std::fs::write(format!("{images}/inventory.img"), "").unwrap();
    lab.done(&["archive", "create", &images, &tar, "--engine", "none"]);
    let layout = format!("oci:{}:v1", lab.path("layout"));
    lab.done(&["push", &tar, &layout]);
    for words in [
        &["archive", "create", &images, "-", "--engine", "none"][..],
        &["archive", "convert", &tar, "-"],
        &["archive", "anonymise", &tar, "-o", "-"],
        &["archive", "encrypt", &tar, "-"],
        &["pull", &layout, "-"],
    ] {
        let terminal = Terminal::new();
        let status = terminal.start(&lab.command(words)).wait().unwrap();
        assert_eq!(status.code(), Some(2), "{words:?}: {}", terminal.text());
        let said = "standard output is a terminal: name a file";
        assert!(soon(|| terminal.text().contains(said)), "{words:?}: {}", terminal.text());
    }
}
