//! `cargo xtask vm`: tests that need another kernel, in small virtual machines.
//!
//! Pre-dumps need a kernel that tracks changed memory, labels need AppArmor or SELinux, and CRIU
//! 3.17 needs a kernel of its time. Not every machine has these; Debian's kernels do. The guests
//! are emulated, so that they run anywhere. Their disk holds a shell, the CRIUs of the tests and
//! the built tests, all at the paths of the host.

mod disk;
mod guest;

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::Archive;
use crate::prefix::Prefix;
use crate::workspace::{BuiltTests, cargo, target_dir};
use crate::{Result, criu, programs, setup};
use guest::{GUESTS, Guest};

/// Runs the tests in each guest, or in those that are named, and prints their output.
pub(crate) fn run(is_named: impl Fn(&str) -> bool) -> Result<()> {
    let named: Vec<_> = GUESTS.iter().filter(|guest| is_named(guest.name)).collect();
    let usual = || GUESTS.iter().filter(|guest| guest.is_usual).collect();
    let guests: Vec<_> = if named.is_empty() { usual() } else { named };
    for suite in guests.iter().filter(|guest| !guest.is_usual).filter_map(|guest| guest.criu) {
        let program = criu::of_suite(suite);
        if !program.exists() {
            let what = "a CRIU built with libselinux, and in ../lib the libraries it loads";
            return Err(format!("{} is missing: {what} belongs there", program.display()).into());
        }
    }
    Machine::provide()?.test(&guests)
}

/// The parts of which the guests are made.
pub(crate) struct Machine {
    /// Debian's kernel and its modules, a static busybox, and the compilers of label policies.
    prefix: Prefix,
    /// An older kernel.
    old: Prefix,
}

impl Machine {
    /// Finds or installs all that the guests need.
    pub(crate) fn provide() -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            return Err("the virtual machines need an x86-64 host".into());
        }
        setup::for_tests(false)?;
        programs::provide(PROGRAMS)?;
        let prefix = |suite, packages, programs| {
            let dir = target_dir().join("vm").join(suite);
            let prefix = Prefix { dir, packages, programs, libraries: &[] };
            if !prefix.is_installed() {
                prefix.install(&Archive::debian(&[suite])?, false)?;
            }
            Ok::<_, Box<dyn Error>>(prefix)
        };
        Ok(Self {
            prefix: prefix(SUITE, PACKAGES, &[KMOD, APPARMOR_PARSER, SECILC])?,
            old: prefix(OLD, &["linux-image-cloud-amd64"], &[])?,
        })
    }

    fn test(&self, guests: &[&Guest]) -> Result<()> {
        let tests = build()?;
        let disk = target_dir().join("vm").join("disk.img");
        self.fill(&disk, &tests)?;
        let mut errors = Vec::new();
        for guest in guests {
            let prefix = if guest.is_old { &self.old } else { &self.prefix };
            let kernel = only(&prefix.dir.join("boot"), "vmlinuz-");
            if let Err(error) = kernel.and_then(|kernel| guest.test(&kernel, &disk)) {
                // Among the output of this guest; the other guests run nevertheless.
                eprintln!("error: {error}");
                errors.push(error.to_string());
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(errors.join("; ").into())
    }
}

/// The programs of tests that run in the guests.
struct Tests {
    /// Tests of a real CRIU.
    real: PathBuf,
    /// Tests of container runtimes.
    containers: PathBuf,
}

/// Builds the tests as the step `test` does, which then has nothing left to build.
fn build() -> Result<Tests> {
    let names = ["--test", "real", "--test", "containers", "--no-run"];
    let mut build = cargo(&[&["test", "--workspace", "--all-features"], &names[..]].concat());
    criu::with_library(&mut build);
    let built = BuiltTests::make(build)?;
    let path = |test| Ok::<_, Box<dyn Error>>(built.program("criu-rs", test)?.get_program().into());
    Ok(Tests { real: path("real")?, containers: path("containers")? })
}

/// Returns the only entry of a folder whose name begins with `start`.
fn only(folder: &Path, start: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| name(path).starts_with(start))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(format!("{} does not have exactly one {start}*", folder.display()).into()),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned()
}

/// The Debian suite of the guests' kernel and packages.
const SUITE: &str = "trixie";

/// The Debian suite with a kernel on which CRIU 3.17 works.
const OLD: &str = "bookworm";

const PACKAGES: &[&str] =
    &["linux-image-cloud-amd64", "busybox-static", "kmod", "apparmor", "secilc"];

const KMOD: &str = "usr/bin/kmod";

/// Loads AppArmor profiles.
const APPARMOR_PARSER: &str = "usr/sbin/apparmor_parser";

/// Compiles SELinux policies.
const SECILC: &str = "usr/bin/secilc";

/// The programs that run the guests and make their disk.
const PROGRAMS: &[(&str, &str)] =
    &[("qemu-system-x86_64", "qemu-system-x86"), ("mke2fs", "e2fsprogs")];
