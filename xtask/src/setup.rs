//! `cargo xtask setup`: a CRIU that works, and all that the tests need.

use std::path::{Path, PathBuf};

use crate::apt::Archive;
use crate::criu::{self, Criu, EXPERIMENTAL, OLD, STABLE};
use crate::os::Os;
use crate::prefix::Prefix;
use crate::{Result, engines, process, programs, python, runtimes};

/// Finds a CRIU that works or installs one, and prints how to use it; `force` installs in any case.
pub(crate) fn run(tests: bool, force: bool) -> Result<()> {
    if tests {
        for_tests(force)?;
        for path in criu::unpacked() {
            match criu::version(&path) {
                Ok(version) => println!("for the tests: CRIU {version} at {}", path.display()),
                Err(error) => println!("for the tests: {error}"),
            }
        }
    }
    print(&find(force && !tests)?);
    Ok(())
}

/// Finds the newest CRIU that works, on PATH and below the target directory, or else installs one
/// there. Says of each other why it is passed over.
pub(crate) fn find(force: bool) -> Result<Criu> {
    if !force {
        let paths: Vec<_> = process::which("criu").into_iter().chain(criu::unpacked()).collect();
        if let Some(criu) = choose(&paths) {
            return Ok(criu);
        }
    }
    install(force)
}

/// Chooses among programs, and prints why the others are passed over.
fn choose(paths: &[PathBuf]) -> Option<Criu> {
    let (criu, passed_over) = criu::choose(paths);
    passed_over.iter().for_each(|reason| eprintln!("passed over: {reason}"));
    criu
}

/// Installs all that the tests need: several CRIUs, container runtimes and engines, programs, and
/// grpcio.
pub(crate) fn for_tests(force: bool) -> Result<()> {
    debian(STABLE, force)?;
    debian(EXPERIMENTAL, force)?;
    debian(OLD, force)?;
    runtimes::install(force)?;
    engines::install(force)?;
    programs::provide(programs::OF_TESTS)?;
    python::install(force)
}

/// Installs the newest CRIU that works.
fn install(force: bool) -> Result<Criu> {
    let os = Os::read()?;
    if os.id == "debian" {
        for suite in [EXPERIMENTAL, STABLE] {
            // A mirror may lack a suite.
            if let Err(error) = debian(suite, force) {
                eprintln!("passed over: {error}");
            } else if let Some(criu) = choose(&[criu::of_suite(suite)]) {
                return Ok(criu);
            }
        }
        return Err("no CRIU of Debian can be had that works on this kernel, see above".into());
    }
    if os.has_apt() {
        own(&os, force)?;
        let criu = choose(&[criu::of_suite(os.suite())]);
        return criu.ok_or_else(|| format!("the CRIU of {} does not work here", os.name).into());
    }
    Err(match os.install_criu() {
        Some(command) => format!("on {} install it as root: {command}", os.name),
        None => format!("{} is not known here: build CRIU from its source", os.name),
    }
    .into())
}

/// Installs CRIU of a Debian suite, with its Python library, whose message tables the tests
/// compare, and libcriu in both forms, with the libraries that each is linked to.
fn debian(suite: &str, force: bool) -> Result<()> {
    let mut prefix = prefix(
        suite,
        match suite {
            // In this suite the program's package holds all of it.
            OLD => &["criu", "libprotobuf-c-dev"],
            _ => &["criu", "libcriu-dev", "python3-pycriu"],
        },
    );
    prefix.libraries = &["libcriu", "libprotobuf-c"];
    criu::make_folder()?;
    if prefix.is_installed() && !force {
        return Ok(());
    }
    let archive = match suite {
        // Experimental holds only packages that are newer than sid's, and builds on sid.
        EXPERIMENTAL => Archive::debian(&[EXPERIMENTAL, "sid"])?,
        suite => Archive::debian(&[suite])?,
    };
    prefix.install(&archive, force)
}

/// Installs the CRIU of this machine's own apt.
fn own(os: &Os, force: bool) -> Result<()> {
    let prefix = prefix(os.suite(), &["criu"]);
    criu::make_folder()?;
    if prefix.is_installed() && !force {
        return Ok(());
    }
    prefix.install(&Archive::machine()?, force)
}

fn prefix(suite: &str, packages: &'static [&'static str]) -> Prefix {
    let dir = criu::folder().join(suite);
    Prefix { dir, packages, programs: &[criu::PROGRAM], libraries: &[] }
}

fn print(criu: &Criu) {
    let path = criu.path.display();
    println!("CRIU {} at {path}", criu.version);
    if !criu.is_checked {
        println!("only root can tell if it works on this kernel: sudo {path} check");
    }
    let folder = criu.path.parent().unwrap_or(Path::new("/"));
    if !process::path_folders().iter().any(|f| f == folder) {
        println!("to use it: export PATH=\"{}:$PATH\"", folder.display());
    }
}
