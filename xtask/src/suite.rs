//! `cargo xtask suite`: CRIU's own test suite (ZDTM), with criu, and with our program in its place.
//!
//! The suite is not part of the project: the word takes the path of a checkout of CRIU, and changes
//! no file of the suite.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::misunderstood::Misunderstood;
use crate::workspace::{cargo, target_dir};
use crate::{Result, criu, process, session, setup};

/// Runs the suite of a checkout in flavors, or some of its tests. Words that begin with `zdtm/` are
/// tests.
///
/// # Errors
/// If a test that passes with criu does not pass with our program in three tries.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (checkout, words) =
        words.split_first().ok_or_else(|| wrong("the path of CRIU's sources"))?;
    let (tests, flavors): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.starts_with("zdtm/"));
    let flavors = if flavors.is_empty() { vec!["h", "ns", "uns"] } else { flavors };
    let flavors = flavors.iter().map(|name| Flavor::of(name)).collect::<Result<Vec<_>>>()?;
    if !process::is_root() {
        return Err("the suite dumps and restores processes, which takes root".into());
    }
    let suite = Suite::new(Path::new(checkout), tests)?;
    let real = criu::of_suite(criu::EXPERIMENTAL);
    if !real.exists() {
        setup::for_tests(false)?;
    }
    if !cargo(&["build", "--package", "criu-cli"]).status()?.success() {
        return Err("the program does not build, see above".into());
    }
    let ours = target_dir().join("debug/criu-rs");
    let mut lost = 0;
    for flavor in &flavors {
        let theirs = suite.run(&real, flavor, &suite.tests)?;
        println!("{flavor:18} criu:    {theirs}");
        if theirs.passed.is_empty() && theirs.failed.is_empty() {
            return Err("no test has run, see the output of zdtm.py".into());
        }
        let mut own = suite.run(&ours, flavor, &suite.tests)?;
        println!("{flavor:18} criu-rs: {own}");
        // A test may fail on a busy machine.
        for _ in 0..2 {
            let again = theirs.without(&own);
            if !again.is_empty() {
                own.passed.extend(suite.run(&ours, flavor, &again)?.passed);
            }
        }
        for test in theirs.without(&own) {
            println!("{flavor:18} lost:    {test}");
            lost += 1;
        }
    }
    if lost > 0 {
        return Err(format!("{lost} tests that pass with criu fail with criu-rs").into());
    }
    println!("no test is lost");
    Ok(())
}

fn wrong(what: &str) -> Box<dyn std::error::Error> {
    Misunderstood(format!("{what} is missing")).into()
}

/// A flavor of the suite, with options of `zdtm.py` that change how criu is called.
struct Flavor {
    name: &'static str,
    options: &'static [&'static str],
}

impl Flavor {
    fn of(name: &str) -> Result<&'static Self> {
        FLAVORS.iter().find(|flavor| flavor.name == name).ok_or_else(|| {
            let names: Vec<&str> = FLAVORS.iter().map(|flavor| flavor.name).collect();
            Misunderstood(format!("no flavor `{name}`, but {}", names.join(", "))).into()
        })
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

/// The flavors. `h` stands for no namespaces, `ns` for namespaces, `uns` for user namespaces too.
const FLAVORS: &[Flavor] = &[
    Flavor { name: "h", options: &["-f", "h"] },
    Flavor { name: "ns", options: &["-f", "ns"] },
    Flavor { name: "uns", options: &["-f", "uns"] },
    Flavor { name: "page-server", options: &["-f", "h", "--page-server"] },
    Flavor { name: "lazy-pages", options: &["-f", "h", "--lazy-pages"] },
    Flavor { name: "remote-lazy-pages", options: &["-f", "h", "--remote-lazy-pages"] },
    Flavor { name: "criu-config", options: &["-f", "h", "--criu-config"] },
];

/// A built suite.
struct Suite<'a> {
    /// The folder of `zdtm.py`.
    folder: PathBuf,
    /// The only tests to run, or none for all.
    tests: Vec<&'a str>,
    /// A copy of `zdtm.py` that starts each test as root.
    as_root: Option<PathBuf>,
}

impl<'a> Suite<'a> {
    fn new(checkout: &Path, tests: Vec<&'a str>) -> Result<Self> {
        let folder = checkout.join("test").canonicalize().unwrap_or_default();
        if !folder.join("zdtm.py").is_file() {
            let show = checkout.display();
            return Err(format!("{show} is not a checkout of CRIU: test/zdtm.py is missing").into());
        }
        let built = ["zdtm/static/env00", "../lib/pycriu/images/magic.py"];
        if !built.iter().all(|file| folder.join(file).exists()) {
            println!("builds CRIU and its tests");
            for part in [checkout.to_owned(), folder.join("zdtm")] {
                process::read(Command::new("make").args(["-j2", "-C"]).arg(part))?;
            }
        }
        fs::create_dir_all(logs())?;
        let as_root = if holds_sys_resource()? { None } else { as_root(&folder)? };
        Ok(Self { folder, tests, as_root })
    }

    /// Runs tests with a criu, in namespaces that hold what they leave behind.
    fn run(&self, criu: &Path, flavor: &Flavor, tests: &[impl AsRef<str>]) -> Result<Outcome> {
        let begun = Instant::now();
        let program = criu.file_name().unwrap_or_default().to_string_lossy();
        let path = logs().join(format!("{flavor}-{program}.log"));
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--mount", "--ipc", "--fork", "--mount-proc", "sh", "-c", RUN]);
        unshare.arg("sh").arg(self.as_root.as_deref().unwrap_or(Path::new("")));
        unshare.args(["run", "--keep-going", "-p", "2", "--criu-bin"]).arg(criu);
        unshare.args(flavor.options).args(tests.is_empty().then_some("-a"));
        unshare.args(tests.iter().flat_map(|test| ["-t", test.as_ref()])).current_dir(&self.folder);
        unshare.env("CRIU", criu::of_suite(criu::EXPERIMENTAL));
        let mut isolated = session::isolated(&unshare);
        let log = File::create(&path)?;
        let mut child = isolated.stdout(log.try_clone()?).stderr(log).spawn()?;
        // The standard input is a lifeline, which `wait` would close.
        let lifeline = child.stdin.take();
        // The status only tells if a test failed, and tests fail with criu, too.
        child.wait()?;
        drop(lifeline);
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        Ok(Outcome { seconds: begun.elapsed().as_secs(), log: path, ..Outcome::read(&text) })
    }
}

/// The script of the first process in the namespaces. Modules of the distribution belong to the
/// distribution's Python.
const RUN: &str = "\
if [ -n \"$1\" ]; then mount --bind \"$1\" zdtm.py || exit; fi
shift
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
python3 ./zdtm.py \"$@\"
exit $?";

fn logs() -> PathBuf {
    target_dir().join("xtask/suite")
}

/// Tells if this process has `CAP_SYS_RESOURCE`.
fn holds_sys_resource() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    Ok(u64::from_str_radix(set.trim(), 16)? & 1 << 24 != 0)
}

/// Makes a copy of `zdtm.py` that starts each test as root. Without `CAP_SYS_RESOURCE` not even
/// root's criu can read the limits of other users' processes.
fn as_root(folder: &Path) -> Result<Option<PathBuf>> {
    let original = folder.join("zdtm.py");
    let text = fs::read_to_string(&original)?;
    let root = text.replace("_UID'] = \"18943\"", "_UID'] = \"0\"");
    let root = root.replace("_GID'] = \"58467\"", "_GID'] = \"0\"");
    if root == text {
        println!("without CAP_SYS_RESOURCE criu cannot dump tests of users other than root");
        return Ok(None);
    }
    println!("CAP_SYS_RESOURCE is missing: the tests run as root");
    let copy = logs().join("zdtm.py");
    // With the permissions of the original, which is executed.
    fs::copy(&original, &copy)?;
    fs::write(&copy, root)?;
    Ok(Some(copy))
}

/// The outcome of a run.
#[derive(Debug, Default)]
struct Outcome {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    seconds: u64,
    log: PathBuf,
}

impl Outcome {
    /// Reads what `zdtm.py` prints: `==== Test zdtm/static/env00 PASS ====`.
    fn read(text: &str) -> Self {
        let mut outcome = Self::default();
        for line in text.lines() {
            let line = line.trim_matches(['=', '#']).trim();
            let Some(rest) = line.strip_prefix("Test ") else { continue };
            if let Some(test) = rest.strip_suffix(" PASS") {
                outcome.passed.insert(test.to_owned());
            } else if let Some((test, _)) = rest.split_once(" FAIL at ") {
                outcome.failed.insert(test.to_owned());
            }
        }
        outcome
    }

    /// Returns the tests that pass here and not there.
    fn without(&self, other: &Self) -> Vec<String> {
        self.passed.difference(&other.passed).cloned().collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, seconds, log } = self;
        let (passed, failed) = (passed.len(), failed.len());
        write!(f, "{passed} passed, {failed} failed, {seconds} s: {}", log.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_from_the_output_of_zdtm() {
        let criu = Outcome::read(
            "======= Test zdtm/static/env00 PASS =======\nTest is SUID\n\
             ##### Test zdtm/static/sit FAIL at CRIU dump #####\n\
             == Test zdtm/transition/fork PASS ===\n",
        );
        assert_eq!(criu.failed.iter().collect::<Vec<_>>(), ["zdtm/static/sit"]);
        let ours = Outcome::read("## Test zdtm/static/env00 FAIL at result check ##");
        assert_eq!(criu.without(&ours), ["zdtm/static/env00", "zdtm/transition/fork"]);
        assert!(ours.without(&criu).is_empty());
    }

    #[test]
    fn every_flavor_is_known_by_its_name() {
        assert_eq!(Flavor::of("uns").unwrap().options, ["-f", "uns"]);
        assert!(Flavor::of("x").is_err_and(|error| error.to_string().contains("page-server")));
    }
}
