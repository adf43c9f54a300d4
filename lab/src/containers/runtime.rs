//! The runtimes runc and crun, called as container engines call them.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bundle::Bundle;
use crate::place::unpacked;
use crate::process::ProcessId;
use crate::sandbox::Sandbox;

/// A runtime that finds the CRIU under test. Ids of processes have the type `P`.
#[derive(Debug)]
pub struct Runtime<P> {
    /// `runc` or `crun`.
    pub name: &'static str,
    _sandbox: Sandbox,
    program: PathBuf,
    criu: PathBuf,
    /// The directory with the state of the runtime, its logs and the output of its containers.
    dir: PathBuf,
    /// The ends of containers' pipes, which stay open as long as the test.
    held: RefCell<Vec<File>>,
    ids: PhantomData<P>,
}

impl<P: ProcessId> Runtime<P> {
    /// The runtime of that name.
    pub(super) fn new(sandbox: Sandbox, name: &str, criu: &Path, dir: &Path) -> Self {
        let (name, program) = match name {
            "runc" => ("runc", unpacked("sbin/runc")),
            "crun" => ("crun", unpacked("bin/crun")),
            other => panic!("no runtime {other}"),
        };
        let (criu, dir, held) = (criu.into(), dir.into(), RefCell::default());
        Self { name, _sandbox: sandbox, program, criu, dir, held, ids: PhantomData }
    }

    /// Runs `create` with further options.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle, id: &str, options: &[&str]) {
        let mut command = self.command("create");
        self.do_it(command.args(options).arg("--bundle").arg(&bundle.dir).arg(id));
    }

    /// Runs `start`.
    #[track_caller]
    pub fn start(&self, id: &str) {
        self.do_it(self.command("start").arg(id));
    }

    /// Creates and starts a container, and waits for its payload. Returns its process.
    #[track_caller]
    pub fn run(&self, bundle: &Bundle, id: &str, options: &[&str]) -> P {
        self.create(bundle, id, options);
        self.start(id);
        bundle.goes_on();
        self.pid(id)
    }

    /// Runs `checkpoint` into `images`, with the options that this runtime needs on this bed.
    #[track_caller]
    pub fn checkpoint(&self, id: &str, images: &Path, options: &[&str]) {
        let mut command = self.command("checkpoint");
        command.args(self.own_options()).args(options);
        command.arg("--image-path").arg(images).arg("--work-path").arg(self.work("dump"));
        self.do_it(command.arg(id));
    }

    /// Runs `restore` from `images`. Returns the process.
    #[track_caller]
    pub fn restore(&self, bundle: &Bundle, id: &str, images: &Path, options: &[&str]) -> P {
        let mut command = self.command("restore");
        command.arg("--detach").args(self.own_options()).args(options);
        command.arg("--image-path").arg(images).arg("--work-path").arg(self.work("restore"));
        self.do_it(command.arg("--bundle").arg(&bundle.dir).arg(id));
        self.pid(id)
    }

    /// The output of `state`. `None` if there is no such container.
    #[track_caller]
    pub fn state(&self, id: &str) -> Option<Value> {
        let (is_done, said) = self.finish(self.command("state").arg(id));
        is_done.then(|| serde_json::from_str(&said).expect("a state"))
    }

    /// The first process of a container.
    #[track_caller]
    pub fn pid(&self, id: &str) -> P {
        let state = self.state(id).expect("a container");
        let pid = state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        P::of(pid.expect("a process"))
    }

    /// The file with the state of a container: `state.json`, or `status`.
    pub fn state_file(&self, id: &str) -> PathBuf {
        let name = if self.name == "crun" { "status" } else { "state.json" };
        self.state_dir().join(id).join(name)
    }

    /// Runs `kill`.
    #[track_caller]
    pub fn kill(&self, id: &str, signal: &str) {
        self.do_it(self.command("kill").arg(id).arg(signal));
    }

    /// Runs `pause` or `resume`.
    #[track_caller]
    pub fn pause(&self, id: &str, is_paused: bool) {
        self.do_it(self.command(if is_paused { "pause" } else { "resume" }).arg(id));
    }

    /// Runs `delete --force`.
    #[track_caller]
    pub fn delete(&self, id: &str) {
        self.do_it(self.command("delete").arg("--force").arg(id));
    }

    /// The command of the runtime for a word. [`Runtime::finish`] must run it to its end.
    pub fn command(&self, word: &str) -> Command {
        // Outside of a sandbox no runtime may run, whatever happened since.
        Sandbox::check().expect("a sandbox");
        let mut command = Command::new(&self.program);
        let folders = [self.criu.parent().unwrap(), Path::new("/usr/sbin:/usr/bin:/sbin:/bin")];
        command.env("PATH", folders.map(|folder| folder.display().to_string()).join(":"));
        // For crun, which loads libcriu.
        command.env("LD_LIBRARY_PATH", self.criu.ancestors().nth(3).unwrap().join("link"));
        command.arg("--root").arg(self.state_dir()).arg("--log").arg(self.dir.join(LOG));
        command.arg(word);
        command
    }

    /// Runs a command to its end. Returns true for a success, and the output. Containers that it
    /// starts have pipes for their input and output.
    #[track_caller]
    pub fn finish(&self, command: &mut Command) -> (bool, String) {
        let (input, their_input) = pipe();
        let (their_output, output) = pipe();
        command.stdin(input).stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = command.spawn().unwrap();
        // The pipes would never end if this process kept these ends.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let end = Instant::now() + LIMIT;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > end => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let mut their_output = File::from(their_output);
        let mut said = available(&mut their_output);
        self.held.borrow_mut().extend([File::from(their_input), their_output]);
        match status {
            Some(status) if status.success() => (true, said),
            Some(status) => {
                let _ = write!(said, "\n{status}");
                (false, said)
            }
            None => (false, said + "\nit was killed, because it did not end"),
        }
    }

    /// The CRIU that the runtime finds.
    pub fn criu(&self) -> &Path {
        &self.criu
    }

    /// The program, and the directory of its state.
    pub fn place(&self) -> (&Path, PathBuf) {
        (&self.program, self.state_dir())
    }

    /// The ends of the logs of CRIU and the runtime.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for name in [LOG, "work-dump/dump.log", "work-restore/restore.log"] {
            let Ok(log) = fs::read_to_string(self.dir.join(name)) else { continue };
            let lines: Vec<&str> = log.lines().collect();
            let start = lines.len().saturating_sub(SHOWN);
            let _ = writeln!(text, "{name}:");
            for line in &lines[start..] {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }

    #[track_caller]
    fn do_it(&self, command: &mut Command) {
        let (is_done, said) = self.finish(command);
        assert!(is_done, "{command:?}: {said}");
    }

    fn own_options(&self) -> &'static [&'static str] {
        match self.name {
            "crun" => &["--manage-cgroups-mode=ignore"],
            _ => &[],
        }
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn work(&self, name: &str) -> PathBuf {
        let work = self.dir.join(format!("work-{name}"));
        fs::create_dir_all(&work).unwrap();
        work
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

/// Reads as much as is there without waiting.
fn available(pipe: &mut File) -> String {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(&*pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Time limit of a command: a restore that goes wrong may wait for ever.
const LIMIT: Duration = Duration::from_secs(30);

/// The runtime's log, in the test's directory.
const LOG: &str = "runtime.log";

/// Lines of a log that are shown.
const SHOWN: usize = 25;
