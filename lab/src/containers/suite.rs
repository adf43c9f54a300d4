//! Suites of tests with containers: each test runs by itself in a sandbox.

use std::fmt::{self, Display};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::{PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::bed::{Bed, Case};
use super::payload;
use crate::cgroups::{self, Layout};
use crate::harness::{self, Failed, TIME_LIMIT, Trial};
use crate::place::Short;
use crate::process::ProcessId;
use crate::sandbox::{self, Sandbox};
use crate::soon;

/// A suite: its tests, and how it reaches a CRIU.
pub struct Suite<P: ProcessId + 'static, C: 'static, V> {
    /// The tests.
    pub tests: Vec<Case<P, C>>,
    /// The CRIU at a path.
    pub criu: fn(&Path) -> C,
    /// The version that a CRIU tells.
    pub version: fn(&C) -> Result<V, String>,
}

impl<P: ProcessId, C, V: Display> Suite<P, C, V> {
    /// The main function of a program of such tests: runs the tests, or the word that the program
    /// has given itself. Returns `None` for a word `--own-...`, which the program knows.
    pub fn main(&self, words: &[String]) -> Option<ExitCode> {
        let word = words.get(1).map_or("", String::as_str);
        match word {
            "--payload" => payload::run(&words[2..]),
            "--apart" => apart(&words[2..]),
            sandbox::FIRST => return Some(sandbox::first(&words[2], &words[3..])),
            "--one" => self.one(&words[2..]),
            "--hang" => hang(words.get(2).is_some()),
            "--frozen" => drop(frozen()),
            "--look" => look(&words[2..]),
            word if word.starts_with("--own-") => return None,
            _ => return Some(self.run()),
        }
        Some(ExitCode::SUCCESS)
    }

    fn run(&self) -> ExitCode {
        let mut trials = vec![
            Trial::test("outside_of_a_sandbox_there_is_no_runtime", none_outside),
            Trial::test("what_hangs_in_a_sandbox_ends_with_it", ends_with_it),
            Trial::test("what_is_frozen_in_a_sandbox_ends_with_it", ends_frozen),
            Trial::test("hierarchies_that_others_mount_stay_out_of_a_sandbox", stays_out),
        ];
        let mut crius = crate::place::crius(|path| (self.version)(&(self.criu)(path)));
        if let Ok(crius) = &mut crius {
            crius.reverse();
        }
        let mut rank = 0;
        trials.extend(harness::with_each(crius, |version, criu| {
            rank += 1;
            let tests = self.tests.iter().filter(|test| rank <= test.crius());
            tests.flat_map(|test| trials_of(test, &version, &criu)).collect()
        }));
        harness::run(trials)
    }

    /// Runs one test in this process, which is in a sandbox.
    fn one(&self, words: &[String]) {
        let [name, runtime, program] = words else { panic!("--one NAME RUNTIME CRIU") };
        let test = self.tests.iter().find(|test| test.name == name).expect("a test of this name");
        let program = Path::new(program);
        let criu = (self.criu)(program);
        let version = (self.version)(&criu).unwrap().to_string();
        let sandbox = Sandbox::check().unwrap();
        Bed::lay(sandbox, name, runtime, program, (criu, version)).run(test.test);
    }
}

impl<P: ProcessId, C, V> fmt::Debug for Suite<P, C, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.tests)
    }
}

/// A test with each of its runtimes.
fn trials_of<P: ProcessId, C>(
    test: &Case<P, C>,
    version: &impl Display,
    criu: &Path,
) -> Vec<Trial> {
    let name = test.name;
    let trial = |runtime: &&str| {
        let words = [name.into(), (*runtime).into(), criu.display().to_string()];
        let layout = if *runtime == "crun" { Layout::Unified } else { Layout::Machine };
        let run = move || {
            let _others = HIERARCHIES.read().unwrap_or_else(PoisonError::into_inner);
            run_apart("--one", &words, layout, TIME_LIMIT)
        };
        Trial::test(format!("{runtime}::{version}::{name}"), run)
    };
    test.runtimes.iter().map(trial).collect()
}

/// Runs this program with `word` in a sandbox.
fn run_apart(word: &str, words: &[String], layout: Layout, limit: Duration) -> Result<(), Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--apart", &format!("{layout:?}"), &limit.as_millis().to_string(), word]);
    harness::finish(command.args(words))
}

/// The process that waits outside of the sandbox.
fn apart(words: &[String]) {
    let limit = Duration::from_millis(words[1].parse().unwrap());
    if let Err(error) = sandbox::run(&words[2..], Layout::named(&words[0]), limit) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn none_outside() -> Result<(), Failed> {
    if Sandbox::check().is_ok() {
        return Err("this process passes for one in a sandbox".into());
    }
    // The claim that all namespaces differ is not enough.
    match Sandbox::check_against("pid:[1] mnt:[2] ipc:[3] uts:[4] net:[5] cgroup:[6]") {
        Err(why) if why == "process 1 is not ours" => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// Hangs, in a session and a cgroup of its own, or with a process that is frozen.
fn hang(with_frozen: bool) {
    Sandbox::check().unwrap();
    if with_frozen {
        let _ = frozen().wait();
    }
    let cgroup = Path::new("/sys/fs/cgroup/hangs");
    fs::create_dir(cgroup).unwrap();
    cgroups::join(cgroup).unwrap();
    let _ = Command::new("setsid").args(["sleep", MARK]).status();
}

/// Starts a process and freezes it, with the freezer of version 1 if the machine has one.
fn frozen() -> Child {
    Sandbox::check().unwrap();
    let folder = Path::new("/sys/fs/cgroup");
    let (above, file, word) = [
        (folder.join("freezer"), "freezer.state", "FROZEN"),
        (folder.join("unified"), "cgroup.freeze", "1"),
        (folder.to_owned(), "cgroup.freeze", "1"),
    ]
    .into_iter()
    .find(|(above, ..)| above.is_dir())
    .unwrap();
    let cgroup = above.join("frozen");
    fs::create_dir(&cgroup).unwrap();
    let child = Command::new("sleep").arg(FROZEN_MARK).spawn().unwrap();
    fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
    fs::write(cgroup.join(file), word).unwrap();
    child
}

fn ends_with_it() -> Result<(), Failed> {
    ends_late(&[], Layout::Unified)?;
    none_is_left(MARK)
}

fn ends_frozen() -> Result<(), Failed> {
    ends_late(&["frozen".into()], Layout::Machine)?;
    // A test that leaves something frozen ends before its time is up.
    run_apart("--frozen", &[], Layout::Machine, TIME_LIMIT)?;
    none_is_left(FROZEN_MARK)
}

/// Checks that a test which hangs ends when its time is up.
fn ends_late(words: &[String], layout: Layout) -> Result<(), Failed> {
    let limit = Duration::from_millis(500);
    let Err(failed) = run_apart("--hang", words, layout, limit) else {
        return Err("the test ended by itself".into());
    };
    let said = failed.message().unwrap_or_default();
    if !said.contains("not done after") {
        return Err(format!("it said {said}").into());
    }
    Ok(())
}

fn none_is_left(mark: &str) -> Result<(), Failed> {
    let is_left = |process: procfs::process::Process| {
        process.cmdline().is_ok_and(|words| words.iter().any(|word| word == mark))
    };
    if procfs::process::all_processes()?.flatten().any(is_left) {
        return Err("the process of the test runs on".into());
    }
    Ok(())
}

/// Looks for a hierarchy that the test outside has mounted, in this sandbox, and mounts it as CRIU
/// does once the test has unmounted it.
fn look(words: &[String]) {
    let (name, folder) = (&words[0], Path::new(&words[1]));
    Sandbox::check().unwrap();
    let has_name = |path: &str| fs::read_to_string(path).unwrap().contains(name);
    assert!(has_name("/proc/self/cgroup"), "the hierarchy {name} is not listed");
    assert!(!has_name("/proc/self/mountinfo"), "the hierarchy {name} is mounted in the sandbox");
    fs::write(folder.join(LOOKED), "").unwrap();
    assert!(soon(|| folder.join(UNMOUNTED).exists()));
    mount_hierarchy(name, &folder.join(POINT)).unwrap();
}

fn stays_out() -> Result<(), Failed> {
    let _alone = HIERARCHIES.write().unwrap_or_else(PoisonError::into_inner);
    for (n, layout) in [Layout::Machine, Layout::Unified].into_iter().enumerate() {
        let folder = Short::folder();
        let point = folder.join(POINT);
        fs::create_dir(&point)?;
        let name = format!("name=lab-{}-{n}", std::process::id());
        match mount_hierarchy(&name, &point) {
            // A kernel without version 1 has no such hierarchies.
            Err(Errno::ENODEV) => return Ok(()),
            result => result?,
        }
        let words = [name, folder.path().display().to_string()];
        let look = thread::spawn(move || run_apart("--look", &words, layout, TIME_LIMIT));
        let looked = soon(|| folder.join(LOOKED).exists() || look.is_finished());
        umount2(&point, MntFlags::MNT_DETACH)?;
        fs::write(folder.join(UNMOUNTED), "")?;
        look.join().unwrap()?;
        assert!(looked, "the sandbox has no time to look");
    }
    Ok(())
}

fn mount_hierarchy(name: &str, at: &Path) -> nix::Result<()> {
    let options = format!("none,{name}");
    mount(None::<&str>, at, Some("cgroup"), MsFlags::empty(), Some(options.as_str()))
}

/// The hierarchies of the machine. A container that is dumped while one comes or goes cannot be
/// restored, so the test that mounts one has them for itself.
static HIERARCHIES: RwLock<()> = RwLock::new(());

/// The mount point of a hierarchy, in the folder that a test shares with a sandbox.
const POINT: &str = "hierarchy";

/// The file by which a sandbox says that it has looked, in the same folder.
const LOOKED: &str = "looked";

/// The file by which a test says that it has unmounted the hierarchy, in the same folder.
const UNMOUNTED: &str = "unmounted";

/// A number of seconds that nothing else sleeps for.
const MARK: &str = "94061";

/// Another such number, of the process that is frozen.
const FROZEN_MARK: &str = "94062";
