//! A test of containers, and its environment: a runtime with a CRIU, and a directory.

use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::runtime::Runtime;
use crate::process::{ProcessId, prepare};
use crate::sandbox::Sandbox;
use crate::scratch;

/// A test, and the runtimes and CRIUs with which it runs.
pub struct Case<P: ProcessId, C> {
    /// The name.
    pub name: &'static str,
    /// The test itself.
    pub test: fn(&Bed<P, C>),
    /// `runc`, `crun`.
    pub runtimes: &'static [&'static str],
    /// Set if only the newest CRIU can do it.
    pub newest_only: bool,
}

impl<P: ProcessId, C> Case<P, C> {
    /// The number of CRIUs with which it runs, counted from the newest.
    pub(super) fn crius(&self) -> usize {
        if self.newest_only { 1 } else { usize::MAX }
    }
}

impl<P: ProcessId, C> Clone for Case<P, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: ProcessId, C> Copy for Case<P, C> {}

impl<P: ProcessId, C> fmt::Debug for Case<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {:?}", self.name, self.runtimes)
    }
}

/// The environment of one test: a runtime with a CRIU, and a directory. `P` is a process id, and
/// `C` a CRIU, in the types that the suite has for them.
#[derive(Debug)]
pub struct Bed<P: ProcessId, C> {
    /// The runtime.
    pub runtime: Runtime<P>,
    /// The CRIU that the runtime finds, for what a test does by itself.
    pub criu: C,
    /// The version of the CRIU, like `4.1.1`.
    pub version: String,
    /// A directory of this test's own.
    pub dir: PathBuf,
}

impl<P: ProcessId, C> Bed<P, C> {
    /// Makes the environment of a test.
    pub(super) fn lay(
        sandbox: Sandbox,
        test: &str,
        runtime: &str,
        program: &Path,
        (criu, version): (C, String),
    ) -> Self {
        prepare();
        // Process ids repeat in pid namespaces, so that the directory is named after the test.
        let dir = scratch(&format!("{test}-{runtime}-{version}"));
        let runtime = Runtime::new(sandbox, runtime, program, &dir);
        Self { runtime, criu, version, dir }
    }

    /// A new directory below the test's.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Runs the test. If it fails, ends this process.
    pub(super) fn run(self, test: fn(&Self)) {
        if catch_unwind(AssertUnwindSafe(|| test(&self))).is_err() {
            eprintln!("{}its files are in {}", self.runtime.logs(), self.dir.display());
            std::process::exit(1);
        }
        fs::remove_dir_all(&self.dir).unwrap();
    }
}
