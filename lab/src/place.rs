//! Places: the target directory and what lies in it, scratch directories, short paths for sockets.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

/// The target directory of the build that this program is of.
///
/// The directory is the nearest folder above the program with a folder `criu` in it: with
/// `--target` cargo puts programs one level deeper. Before `cargo xtask setup --tests` it is the
/// third folder above.
pub fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let with_criu = program.ancestors().find(|folder| folder.join("criu/trixie").is_dir());
    // TARGET/PROFILE/deps/PROGRAM
    with_criu.or(program.ancestors().nth(3)).unwrap().to_owned()
}

/// An empty directory of this name in the target directory's `tmp`, where failed tests leave it.
///
/// The path may be long: a socket needs a [`Short`] one.
pub fn scratch(name: &str) -> PathBuf {
    let dir = target_dir().join("tmp").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A path in the folder for temporary files, short enough for the name of a socket whatever the
/// path of the checkout: `sun_path` has 108 bytes. The value removes it when dropped.
#[derive(Debug)]
pub struct Short(PathBuf);

impl Short {
    /// A new folder.
    pub fn folder() -> Self {
        let path = unused();
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A link to a folder, such as a container's root, in which somebody else has made the socket.
    pub fn link(to: &Path) -> Self {
        let path = unused();
        symlink(to, &path).unwrap();
        Self(path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of an entry.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        let device = |path: &Path| fs::symlink_metadata(path).map(|entry| entry.dev()).ok();
        if fs::remove_file(&self.0).is_err() && device(&self.0) == self.0.parent().and_then(device)
        {
            // Nothing is mounted there, such as cgroups, which would go with it.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A path for temporary files that nobody uses. Process ids alone would not do: sandboxes number
/// theirs from 1.
pub(crate) fn unused() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let time = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    std::env::temp_dir().join(format!("lab-{:x}-{count}-{time:x}", std::process::id()))
}

/// Ends a test with a failure unless root runs it, so that no test passes without a look.
pub fn needs_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
}

/// The names in a directory, sorted.
pub fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A lock that one test at a time holds, for what a machine has once. Waits for it.
pub fn alone(with: &str) -> Flock<fs::File> {
    let folder = target_dir().join("tmp");
    fs::create_dir_all(&folder).unwrap();
    let file = fs::File::create(folder.join(format!("{with}.lock"))).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

/// Runs a test of the calling test program again, in a process of its own, after `prepare`. Returns
/// `true` in that process.
///
/// # Panics
/// Panics if the test fails there, and if the program has no test of this name.
#[track_caller]
pub fn in_own_process(test: &str, prepare: impl FnOnce()) -> bool {
    const WORD: &str = "CRIU_RS_TEST_ALONE";
    if std::env::var_os(WORD).is_some() {
        prepare();
        return true;
    }
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    let process = process.args(["--exact", test, "--nocapture"]).env(WORD, "1");
    let output = process.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let has_passed = output.status.success() && said.contains("1 passed");
    assert!(has_passed, "{said}{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// The folder into which `cargo xtask setup --tests` has unpacked the CRIU of one of Debian's
/// suites.
///
/// # Panics
/// Panics if it is missing.
#[track_caller]
pub fn suite(name: &str) -> PathBuf {
    let folder = target_dir().join("criu").join(name);
    assert!(folder.is_dir(), "{} is missing: {SETUP}", folder.display());
    folder
}

/// The CRIU of a suite.
///
/// # Panics
/// Panics if it is missing.
#[track_caller]
pub fn criu(suite_name: &str) -> PathBuf {
    suite(suite_name).join("usr/sbin/criu")
}

/// A program that `cargo xtask setup --tests` has unpacked beside the runtimes, such as
/// `sbin/runc`.
///
/// # Panics
/// Panics if it is missing.
#[track_caller]
pub fn unpacked(program: &str) -> PathBuf {
    let path = target_dir().join("runtimes/sid/usr").join(program);
    assert!(path.exists(), "{} is missing: {SETUP}", path.display());
    path
}

/// gVisor's `runsc`, which `cargo xtask setup --tests` has unpacked beside the runtimes.
///
/// # Panics
/// Panics if it is missing.
#[track_caller]
pub fn runsc() -> PathBuf {
    let path = target_dir().join("runtimes/trixie/usr/bin/runsc");
    assert!(path.exists(), "{} is missing: {SETUP}", path.display());
    path
}

/// A program that `cargo xtask setup --tests` has unpacked beside the container engines, such as
/// `docker-registry`.
///
/// # Panics
/// Panics if it is missing.
#[track_caller]
pub fn engine(program: &str) -> PathBuf {
    let path = engines().join("bin").join(program);
    assert!(path.exists(), "{} is missing: {SETUP}", path.display());
    path
}

/// The Python that has grpcio.
///
/// # Panics
/// Panics if it is missing.
#[track_caller]
pub fn python() -> PathBuf {
    let path = target_dir().join("python/bin/python");
    assert!(path.exists(), "{} is missing: {SETUP}", path.display());
    path
}

/// The folder of the container engines, with folders such as `bin`.
pub(crate) fn engines() -> PathBuf {
    target_dir().join("engines/sid/usr")
}

/// The CRIUs to test with, each with its version, the oldest first: those of [`SUITES`], or those
/// that `CRIU_RS_TEST_CRIU` lists, separated by colons.
///
/// # Errors
/// Fails if a CRIU does not tell its version.
pub fn crius<V, E: Display>(
    version: impl Fn(&Path) -> Result<V, E>,
) -> Result<Vec<(V, PathBuf)>, String> {
    let programs: Vec<PathBuf> = match std::env::var_os("CRIU_RS_TEST_CRIU") {
        Some(list) => std::env::split_paths(&list).collect(),
        None => {
            let folder = target_dir().join("criu");
            SUITES.map(|suite| folder.join(suite).join("usr/sbin/criu")).into()
        }
    };
    let tell = |path: PathBuf| {
        let version = version(&path);
        version
            .map(|version| (version, path))
            .map_err(|error| format!("{error}\nthese tests need CRIU: {SETUP}"))
    };
    programs.into_iter().map(tell).collect()
}

/// Debian's suites whose CRIUs work on today's kernels, the oldest first.
pub const SUITES: [&str; 2] = ["trixie", "experimental"];

const SETUP: &str = "run `cargo xtask setup --tests`";
