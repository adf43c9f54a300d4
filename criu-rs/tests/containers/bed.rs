//! The environment of a test: a runtime with a CRIU, and a directory.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criu_rs::{Criu, Version};

use crate::cgroups::Layout;
use crate::runtime::Runtime;
use crate::sandbox::Sandbox;

/// A test, and the runtimes and CRIUs with which it runs.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub test: fn(&Bed),
    /// `runc`, `crun`.
    pub runtimes: &'static [&'static str],
    /// Set if only the newest CRIU can do it.
    pub newest_only: bool,
}

impl Case {
    /// The number of CRIUs with which it runs, counted from the newest.
    pub fn crius(&self) -> usize {
        if self.newest_only { 1 } else { usize::MAX }
    }
}

/// The environment of one test.
pub struct Bed {
    pub runtime: Runtime,
    /// The CRIU that the runtime finds, for what a test does by itself.
    #[allow(dead_code, reason = "the tests of the programs, which share this file, use theirs")]
    pub criu: Criu,
    pub version: Version,
    /// A directory of this test's own.
    pub dir: PathBuf,
}

impl Bed {
    /// Makes the environment of a test.
    pub fn lay(sandbox: Sandbox, test: &str, runtime: &str, criu: &Path) -> Self {
        close_inherited();
        let _ = nix::unistd::setsid();
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        // Process ids repeat in pid namespaces, so that the directory is named after the test.
        let version = Criu::at(criu).version().unwrap();
        let dir = scratch().join(format!("{test}-{runtime}-{version}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let runtime = Runtime::new(sandbox, runtime, criu, &dir);
        Self { runtime, criu: Criu::at(criu), version, dir }
    }

    /// A new directory below the test's.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Runs the test. If it fails, ends this process.
    pub fn run(self, test: fn(&Self)) {
        if catch_unwind(AssertUnwindSafe(|| test(&self))).is_err() {
            eprintln!("{}its files are in {}", self.runtime.logs(), self.dir.display());
            std::process::exit(1);
        }
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// The cgroup hierarchies that a runtime takes.
pub fn layout(runtime: &str) -> Layout {
    match runtime {
        "crun" => Layout::Unified,
        _ => Layout::Machine,
    }
}

/// The CRIUs to test with, by version, the oldest first.
pub fn crius() -> Result<Vec<(Version, PathBuf)>, String> {
    let suites = ["trixie", "experimental"];
    let tell = |suite| {
        let path = target().join("criu").join(suite).join("usr/sbin/criu");
        let version = Criu::at(&path).version();
        version.map(|version| (version, path)).map_err(|error| {
            format!("{error}\nthese tests need CRIU: run `cargo xtask setup --tests`")
        })
    };
    if !nix::unistd::geteuid().is_root() {
        return Err("these tests need root".into());
    }
    suites.into_iter().map(tell).collect()
}

/// A program that setup has unpacked beside the runtimes.
pub fn unpacked(program: &str) -> PathBuf {
    let path = target().join("runtimes/sid/usr").join(program);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup --tests`", path.display());
    path
}

/// Waits up to five seconds for a condition. Returns whether it came true.
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

fn target() -> &'static Path {
    scratch().parent().unwrap()
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Closes descriptors of whoever started the tests: a container that inherits one cannot be dumped.
fn close_inherited() {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let numbers: Vec<i32> =
        open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    for number in numbers.into_iter().filter(|&number| number > 2) {
        let _ = nix::unistd::close(number);
    }
}
