//! What a test works with: a CRIU, a scratch directory, live processes.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criu_rs::{Criu, Dump, Pid, Version};
use nix::fcntl::{Flock, FlockArg};
use procfs::process::Process;

/// A test.
pub type TestFn = fn(&Lab);

/// A CRIU and a place to work.
pub struct Lab {
    pub criu: Criu,
    pub program: PathBuf,
    pub version: Version,
    /// A directory of this test's own.
    pub dir: PathBuf,
}

impl Lab {
    /// A new directory below the test's.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Saves and ends a payload, in the directory `images`.
    pub fn dump(&self, target: &mut Target) -> PathBuf {
        let images = self.dir("images");
        Dump::new(target.pid, &images).run(&self.criu).unwrap();
        target.is_gone();
        images
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
        // Each has its own.
        let names = std::iter::once(format!("count-{}", words[0]))
            .chain((2..).map(|n| format!("count-{}-{n}", words[0])));
        let mut files = names.map(|name| self.dir.join(name));
        let file = files.find(|file| !file.exists()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--payload", words[0]]).arg(&file).args(&words[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = change(&mut command).spawn().unwrap();
        let target = Target { pid: Pid::from(&child), child: Some(child), file };
        assert!(soon(|| target.count() > 1), "the payload {words:?} does not start");
        target
    }
}

/// A live payload.
pub struct Target {
    pub pid: Pid,
    /// Absent after a restore.
    child: Option<Child>,
    file: PathBuf,
}

impl Target {
    /// One that somebody else has started, and which counts into `file`.
    pub fn at(pid: Pid, file: PathBuf) -> Self {
        Self { pid, child: None, file }
    }

    /// A child, which counts into `file`.
    pub fn started(child: Child, file: PathBuf) -> Self {
        Self { pid: Pid::from(&child), child: Some(child), file }
    }

    /// The same payload after a restore.
    pub fn restored_as(&mut self, pid: Pid) {
        self.pid = pid;
    }

    /// How far it has counted.
    pub fn count(&self) -> u64 {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Waits until it has counted on; returns how far.
    #[track_caller]
    pub fn goes_on(&self) -> u64 {
        let before = self.count();
        let counted = || self.count() > before.max(1);
        assert!(soon(counted), "process {} does not count on from {before}", self.pid);
        self.count()
    }

    /// The same, and reaps no other.
    #[track_caller]
    pub fn is_gone_alone(&mut self) {
        assert!(soon(|| has_ended(self.pid)), "{} is alive", self.pid);
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// The state letter in /proc, if the process is there.
    pub fn state(&self) -> Option<char> {
        state(self.pid)
    }

    /// Waits until it has ended, and reaps it.
    #[track_caller]
    pub fn is_gone(&mut self) {
        assert!(soon(|| has_ended(self.pid)), "{} is alive", self.pid);
        // With all others that have ended.
        self.child = None;
        reap();
    }
}

impl Target {
    /// Kills it and all its descendants.
    pub fn end(&mut self) {
        let tree = kill_tree(self.pid);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        soon(|| {
            reap();
            tree.iter().all(|&pid| has_ended(pid))
        });
        reap();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.end();
    }
}

/// A CRIU of another suite than the one under test.
pub fn other(lab: &Lab, suite: &str) -> Criu {
    let suites = lab.program.ancestors().nth(4).unwrap();
    Criu::at(suites.join(suite).join("usr/sbin/criu"))
}

/// Waits until no other test uses something of which the machine has one, until dropped.
pub fn alone(with: &str) -> Flock<fs::File> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{with}.lock"));
    Flock::lock(fs::File::create(path).unwrap(), FlockArg::LockExclusive).unwrap()
}

/// A pseudo terminal. Nobody inherits its ends by accident, and no other test has one meanwhile: a
/// restored terminal gets the number it had.
pub struct Terminal {
    pub master: fs::File,
    pub slave: OwnedFd,
    /// The path of its slave.
    pub path: String,
    pub alone: Flock<fs::File>,
}

pub fn terminal() -> Terminal {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let alone = alone("terminal");
    let pty = nix::pty::openpty(None, None).unwrap();
    for fd in [&pty.master, &pty.slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    let path = nix::unistd::ttyname(&pty.slave).unwrap().into_os_string().into_string().unwrap();
    Terminal { master: pty.master.into(), slave: pty.slave, path, alone }
}

/// The state letter of a process.
pub fn state(pid: Pid) -> Option<char> {
    Process::new(pid.as_raw()).ok()?.stat().ok().map(|stat| stat.state)
}

/// Whether a process has ended, with all its threads: before the last of them it cannot be reaped.
fn has_ended(pid: Pid) -> bool {
    match state(pid) {
        None => true,
        Some('Z') => {
            let tasks = Process::new(pid.as_raw()).and_then(|process| process.tasks());
            tasks.is_ok_and(|tasks| tasks.count() < 2)
        }
        Some(_) => false,
    }
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
pub fn names(dir: &Path) -> Vec<String> {
    let entry = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| entry(e).into_string().unwrap()).collect();
    names.sort();
    names
}

/// All descendants of a process, itself included.
pub fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let Ok(tasks) = Process::new(pid.as_raw()).and_then(|p| p.tasks()) else { continue };
        let children = tasks.flatten().filter_map(|task| task.children().ok()).flatten();
        found.extend(children.map(|child| Pid::try_from(child).unwrap()));
    }
    found
}

fn kill_tree(root: Pid) -> Vec<Pid> {
    use nix::sys::signal::{Signal, kill};
    let tree = descendants(root);
    for pid in &tree {
        let _ = kill(nix::unistd::Pid::from_raw(pid.as_raw()), Signal::SIGKILL);
    }
    tree
}

/// Reaps every child that has ended.
pub fn reap() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let any = nix::unistd::Pid::from_raw(-1);
    while let Ok(status) = waitpid(any, Some(WaitPidFlag::WNOHANG)) {
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
    let crius: Vec<_> = found.into_iter().map(tell).collect::<Result<_, _>>()?;
    if !nix::unistd::geteuid().is_root() {
        return Err("these tests need root".into());
    }
    Ok(crius)
}

/// Runs one test in this process.
pub fn run_one(name: &str, test: TestFn, program: &Path) {
    close_inherited();
    nix::unistd::setsid().ok();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let criu = crate::libcriu::reach(program);
    let version = criu.version().unwrap();
    let lab = Lab { criu, program: program.into(), version, dir: dir.clone() };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&lab)));
    let descriptors = open_descriptors();
    let alone = || {
        reap();
        descendants(Pid::this()).len() == 1
    };
    if result.is_ok() {
        let is_alone = soon(alone);
        let survivors: Vec<String> = descendants(Pid::this())[1..]
            .iter()
            .filter_map(|pid| Process::new(pid.as_raw()).ok()?.stat().ok())
            .map(|stat| format!("{} {} {}", stat.pid, stat.comm, stat.state))
            .collect();
        assert!(is_alone, "left behind: {survivors:?}");
        assert_eq!(descriptors, ["0", "1", "2"], "descriptors left open");
        fs::remove_dir_all(&dir).unwrap();
    } else {
        kill_all_children();
        eprintln!("its files are in {}", dir.display());
        std::process::exit(1);
    }
}

fn kill_all_children() {
    for pid in &descendants(Pid::this())[1..] {
        kill_tree(*pid);
    }
    reap();
}

/// A descriptor that a dumped process has from whoever started the tests cannot be dumped.
fn close_inherited() {
    for name in names(Path::new("/proc/self/fd")) {
        let number: i32 = name.parse().unwrap();
        if number > 2 {
            let _ = nix::unistd::close(number);
        }
    }
}

fn open_descriptors() -> Vec<String> {
    let mut open = names(Path::new("/proc/self/fd"));
    // The directory being read has one itself.
    open.pop();
    open
}
