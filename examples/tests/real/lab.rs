//! What a test works with: the programs, a CRIU, a scratch directory, live processes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criu_rs::{Criu, Pid, Version};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use procfs::process::Process;
use serde_json::Value;

/// A test.
pub type TestFn = fn(&Lab);

/// A CRIU and a place to work.
pub struct Lab {
    pub criu: PathBuf,
    pub version: Version,
    /// A directory of this test's own.
    pub dir: PathBuf,
}

/// How a program ended, and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Lab {
    /// A new directory below the test's, as an argument.
    pub fn dir(&self, name: &str) -> String {
        let path = self.dir.join(name);
        fs::create_dir(&path).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// A path below the test's directory, as an argument.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).into_os_string().into_string().unwrap()
    }

    /// `criu-rs WORDS` in the test's directory, with this test's CRIU.
    pub fn command(&self, words: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_criu-rs"), words)
    }

    /// The same for another program.
    pub fn program(&self, program: impl AsRef<OsStr>, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.dir).env("CRIU", &self.criu).stdin(Stdio::null());
        command
    }

    /// Runs `criu-rs WORDS`.
    pub fn run(&self, words: &[&str]) -> Ran {
        run(self.command(words))
    }

    /// Runs `criu-rs WORDS`, which must succeed.
    #[track_caller]
    pub fn done(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        ran
    }

    /// Starts a payload in a session of its own and waits until it counts.
    pub fn start(&self, words: &[&str]) -> Target {
        self.start_with(words, |command| command)
    }

    /// The same with changes to the command.
    pub fn start_with(
        &self,
        words: &[&str],
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Target {
        let mut command = self.payload(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = change(&mut command).spawn().unwrap();
        let mut target = Target::new(Pid::from(&child), self.dir.join("count"));
        target.child = Some(child);
        assert!(soon(|| target.count() > 1), "the payload {words:?} does not start");
        target
    }

    /// The command that is a payload, counting into the file `count`.
    pub fn payload(&self, words: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--payload", words[0]]).arg(self.dir.join("count")).args(&words[1..]);
        command
    }
}

/// Runs a program to its end.
pub fn run(mut command: impl std::borrow::BorrowMut<Command>) -> Ran {
    let output = command.borrow_mut().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    /// The one JSON object on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.err, "");
        assert_eq!(self.out.lines().count(), 1, "{}", self.out);
        serde_json::from_str(&self.out).unwrap()
    }

    /// That it failed with this code, and said this.
    #[track_caller]
    pub fn fails(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for said in said {
            assert!(self.err.contains(said), "no {said:?}: {self:?}");
        }
    }
}

/// A live payload.
pub struct Target {
    pub pid: Pid,
    child: Option<Child>,
    file: PathBuf,
}

impl Target {
    /// One that somebody else has started.
    pub fn new(pid: Pid, file: PathBuf) -> Self {
        Self { pid, child: None, file }
    }

    /// Its process id as an argument.
    pub fn pid(&self) -> String {
        self.pid.to_string()
    }

    /// How far it has counted.
    pub fn count(&self) -> u64 {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// The signals it has had.
    pub fn signals(&self) -> String {
        fs::read_to_string(self.file.with_extension("signals")).unwrap_or_default()
    }

    /// Waits until it has counted on; returns how far.
    #[track_caller]
    pub fn goes_on(&self) -> u64 {
        let before = self.count();
        assert!(soon(|| self.count() > before.max(1)), "{} does not count on", self.pid);
        self.count()
    }

    /// The state letter in /proc, if the process is there.
    pub fn state(&self) -> Option<char> {
        state(self.pid)
    }

    /// Waits until it has ended, and reaps it.
    #[track_caller]
    pub fn is_gone(&mut self) {
        assert!(soon(|| matches!(self.state(), None | Some('Z'))), "{} is alive", self.pid);
        self.bury();
    }

    /// Reaps it, which may take as long as its other threads take to end.
    fn bury(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        soon(|| {
            reap();
            self.state().is_none()
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(nix::unistd::Pid::from_raw(self.pid.as_raw()), signal).unwrap();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = kill(nix::unistd::Pid::from_raw(self.pid.as_raw()), Signal::SIGKILL);
        self.bury();
    }
}

/// The state letter of a process.
pub fn state(pid: Pid) -> Option<char> {
    Process::new(pid.as_raw()).ok()?.stat().ok().map(|stat| stat.state)
}

/// Whether something comes true within five seconds.
pub fn soon(mut check: impl FnMut() -> bool) -> bool {
    let limit = Instant::now() + Duration::from_secs(5);
    while Instant::now() < limit {
        if check() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Names in a directory, sorted.
pub fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The children of this process that are alive.
fn children() -> Vec<String> {
    let own = Process::myself().unwrap();
    let children = own.tasks().unwrap().flatten().filter_map(|task| task.children().ok()).flatten();
    let name = |pid: u32| {
        let stat = Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
        Some(format!("{} {} {}", stat.pid, stat.comm, stat.state))
    };
    children.filter_map(name).collect()
}

/// Reaps every child that has ended.
pub fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// The CRIUs to test with, by version.
pub fn crius() -> Result<Vec<(Version, PathBuf)>, String> {
    let found: Vec<PathBuf> = match std::env::var_os("CRIU_RS_TEST_CRIU") {
        Some(list) => std::env::split_paths(&list).collect(),
        None => {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
            let suites = ["trixie", "experimental"];
            suites.map(|suite| target.join("criu").join(suite).join("usr/sbin/criu")).into()
        }
    };
    let tell = |path: PathBuf| {
        let version = Criu::at(&path).version();
        version.map(|version| (version, path)).map_err(|error| {
            format!("{error}\nthese tests need CRIU: run `cargo xtask setup --tests`")
        })
    };
    let crius = found.into_iter().map(tell).collect::<Result<_, _>>()?;
    match nix::unistd::geteuid().is_root() {
        true => Ok(crius),
        false => Err("these tests need root".into()),
    }
}

/// Runs one test in this process.
pub fn run_one(name: &str, test: TestFn, criu: &Path) {
    // A descriptor that a dumped process has from whoever started the tests cannot be dumped.
    for number in names("/proc/self/fd").iter().filter_map(|name| name.parse::<i32>().ok()) {
        if number > 2 {
            let _ = nix::unistd::close(number);
        }
    }
    nix::unistd::setsid().ok();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let dir = format!("{}/{name}-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let version = Criu::at(criu).version().unwrap();
    let lab = Lab { criu: criu.into(), version, dir: dir.clone().into() };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&lab)));
    reap();
    let left = children();
    for pid in left.iter().filter_map(|child| child.split(' ').next()?.parse().ok()) {
        let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
    if result.is_err() {
        eprintln!("its files are in {dir}");
        std::process::exit(1);
    }
    assert!(left.is_empty(), "left behind: {left:?}");
    fs::remove_dir_all(&dir).unwrap();
}
