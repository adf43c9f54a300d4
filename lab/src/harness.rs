//! The harness of the suites: tests on real processes, each in a process of its own.

use std::fmt::Display;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Arguments;
pub use libtest_mimic::{Failed, Trial};
use procfs::process::Process;

use crate::process::{descendants, descriptors, kill_tree, prepare, reap};
use crate::{own_network, place, scratch, soon};

/// A test of a suite with real CRIUs, which works with an `L`.
pub type Test<L> = (&'static str, fn(&L));

/// Does what the words of this program's own say: `--payload WORDS` is a payload, and `--one NAME
/// CRIU` is one test in this process. `lab` makes what the test works with, of the CRIU's path and
/// a directory. Returns false for other words.
pub fn own_word<L>(
    tests: &[Test<L>],
    payload: impl FnOnce(&[String]),
    lab: impl FnOnce(&Path, PathBuf) -> L,
) -> bool {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("--payload") => payload(&words[1..]),
        Some("--one") => {
            let test = tests.iter().find(|(name, _)| *name == words[1]);
            let (name, test) = test.expect("a test of this name");
            let criu = Path::new(&words[2]);
            // Sandboxes number their processes alike. TARGET/criu/SUITE/usr/sbin/criu
            let suite = criu.iter().nth_back(3).unwrap_or_default().to_string_lossy();
            let alone = Alone::begin(format!("{name}-{suite}"));
            let lab = lab(criu, alone.dir.clone());
            alone.run(|| test(&lab));
        }
        _ => return false,
    }
    true
}

/// Runs the trials that the program's arguments name, and says how they went.
pub fn run(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait for processes more than they compute.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The trials with each of the CRIUs. Without root or CRIUs there is the failed trial `setup` in
/// place of them.
pub fn with_each<V>(
    crius: Result<Vec<(V, PathBuf)>, String>,
    mut trials: impl FnMut(V, PathBuf) -> Vec<Trial>,
) -> Vec<Trial> {
    let is_root = nix::unistd::geteuid().is_root();
    match crius.and_then(|crius| is_root.then_some(crius).ok_or("these tests need root".into())) {
        Ok(crius) => crius.into_iter().flat_map(|(version, criu)| trials(version, criu)).collect(),
        Err(why) => vec![Trial::test("setup", move || Err(Failed::from(why)))],
    }
}

/// The command that runs one test of this program by name, with one CRIU and a time limit: the
/// words are `--one NAME CRIU`.
pub fn one(name: &str, criu: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &TIME_LIMIT.as_secs().to_string()]);
    command.arg(std::env::current_exe().unwrap()).args(["--one", name]).arg(criu);
    command
}

/// Runs a command to its end, with no input.
///
/// # Errors
/// Tells how the command ended, unless with success, and its output.
pub fn finish(command: &mut Command) -> Result<(), Failed> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = place::target_dir().join("tmp");
    fs::create_dir_all(&folder)?;
    // A pipe would stay open in what a killed test leaves behind.
    let path = folder.join(format!("said-{}-{number}", std::process::id()));
    let said = File::create(&path)?;
    let status = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).status()?;
    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    fs::remove_file(&path)?;
    if status.success() { Ok(()) } else { Err(format!("{status}\n{text}").into()) }
}

/// Removes the files of a test that was to fail, and has said so.
pub fn forget(said: &str) {
    let scratch = place::target_dir().join("tmp");
    let dirs = said.lines().filter_map(|line| line.strip_prefix(FILES)).map(Path::new);
    for dir in dirs.filter(|dir| dir.parent() == Some(&scratch)) {
        let _ = fs::remove_dir_all(dir);
    }
}

/// The words before the directory of a failed test.
const FILES: &str = "its files are in ";

/// A test in this process: its directory, and the look at what it leaves behind.
struct Alone {
    /// A directory of this test's own, which goes if the test passes.
    dir: PathBuf,
}

impl Alone {
    /// Makes this process fit to dump others, and a network and a directory of the test's own.
    fn begin(name: impl Display) -> Self {
        prepare();
        own_network();
        Self { dir: scratch(&format!("{name}-{}", std::process::id())) }
    }

    /// Runs the test. The process ends with it if it fails, or if it leaves a process or a
    /// descriptor.
    fn run(self, test: impl FnOnce()) {
        let result = catch_unwind(AssertUnwindSafe(test));
        let mut descriptors = descriptors();
        // The directory being read has one itself.
        descriptors.pop();
        let own = i32::try_from(std::process::id()).unwrap();
        if result.is_err() {
            for &pid in &descendants(own)[1..] {
                kill_tree(pid);
            }
            reap();
            eprintln!("{FILES}{}", self.dir.display());
            std::process::exit(1);
        }
        let is_alone = soon(|| {
            reap();
            descendants(own).len() == 1
        });
        let survivors: Vec<String> = descendants(own)[1..]
            .iter()
            .filter_map(|&pid| Process::new(pid).ok()?.stat().ok())
            .map(|stat| format!("{} {} {}", stat.pid, stat.comm, stat.state))
            .collect();
        assert!(is_alone, "left behind: {survivors:?}");
        assert_eq!(descriptors, [0, 1, 2], "descriptors left open");
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// The longest test takes some seconds.
pub const TIME_LIMIT: Duration = Duration::from_secs(90);
