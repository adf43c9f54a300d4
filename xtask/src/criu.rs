//! The `criu` that is chosen: the newest that works on this machine.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io, iter};

use nix::unistd::{Uid, mkdtemp};

use crate::prefix::LINKED;
use crate::process::{self, finish, said};
use crate::version::Version;
use crate::{Result, evidence, workspace};

/// The oldest CRIU that setup accepts: the first whose RPC has every option of 4.1.1. On kernels
/// since 6.13 a program has to be 4.1 at least, but `criu check` finds that out.
const OLDEST: Version = Version(3, 19, 0);

/// A `criu` that works.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Criu {
    pub(crate) path: PathBuf,
    pub(crate) version: Version,
    /// The program was tried on this kernel, which takes root.
    pub(crate) is_checked: bool,
}

impl Criu {
    /// Tries the program of that version: it is new enough, `criu check` passes, and it dumps a
    /// process with an internet socket. The last two take root.
    ///
    /// # Errors
    /// The reason why the program does not work, for a person who has it installed.
    fn judge(path: &Path, version: Version) -> Result<Self> {
        let show = path.display();
        if version < OLDEST {
            return Err(format!("{show} is CRIU {version}, older than {OLDEST}").into());
        }
        let check = finish(Command::new(path).arg("check"))?;
        let is_checked = check.status.success();
        if !process::is_root() {
            return Ok(Self { path: path.into(), version, is_checked });
        }
        if !is_checked {
            let said = process::indent(&said(&check));
            let what = "does not work here, `criu check` says";
            return Err(format!("{show} (CRIU {version}) {what}:\n{said}").into());
        }
        evidence::dump(path).map_err(|error| {
            format!("{show} (CRIU {version}) cannot dump a process with a socket here:\n{error}")
        })?;
        Ok(Self { path: path.into(), version, is_checked })
    }
}

/// Chooses the newest program that works. Of two of one version, the first in the list counts.
/// The list of texts says why the other programs are passed over.
pub(crate) fn choose(paths: &[PathBuf]) -> (Option<Criu>, Vec<String>) {
    let known = paths.iter().map(|path| (path.clone(), version(path))).collect();
    newest(known, Criu::judge)
}

fn newest(
    paths: Vec<(PathBuf, Result<Version>)>,
    judge: impl Fn(&Path, Version) -> Result<Criu>,
) -> (Option<Criu>, Vec<String>) {
    let mut passed_over = Vec::new();
    let mut programs = Vec::new();
    for (path, version) in paths {
        match version {
            Ok(version) => programs.push((path, version)),
            Err(error) => passed_over.push(error.to_string()),
        }
    }
    // The sort is stable.
    programs.sort_by_key(|(_, version)| std::cmp::Reverse(*version));
    let mut chosen: Option<Criu> = None;
    for (path, version) in programs {
        let show = path.display();
        match &chosen {
            Some(criu) if criu.version == version => {
                passed_over.push(format!("{show} is CRIU {version} as well"));
            }
            Some(criu) => {
                passed_over.push(format!("{show} is CRIU {version}, older than {}", criu.version));
            }
            None => match judge(&path, version) {
                Ok(criu) => chosen = Some(criu),
                Err(error) => passed_over.push(error.to_string()),
            },
        }
    }
    (chosen, passed_over)
}

/// Asks the `criu` at `path` for its version.
pub(crate) fn version(path: &Path) -> Result<Version> {
    let output = process::read(Command::new(path).arg("--version"))
        .map_err(|error| format!("{} does not start: {error}", path.display()))?;
    Version::parse(&output)
        .ok_or_else(|| format!("{} is not CRIU: --version says {output:?}", path.display()).into())
}

/// The folder of the CRIUs that setup installs, with a directory for each suite.
pub(crate) fn folder() -> PathBuf {
    workspace::target_dir().join("criu")
}

/// Makes [`folder`]. Below a long path it is a link to a short directory: CRIU fails if a line of
/// its `/proc/self/maps`, which names its libraries, has more than 256 bytes.
///
/// # Errors
/// If the folder cannot be made.
pub(crate) fn make_folder() -> Result<()> {
    let target = workspace::target_dir();
    let fail = |error| format!("cannot make {}: {error}", folder().display());
    fs::create_dir_all(&target).map_err(fail)?;
    let target = target.canonicalize()?;
    Ok(place(&target.join("criu"), target.as_os_str().len() > LONG).map_err(fail)?)
}

/// Makes a directory, or a link to a short one, unless it is there. A link that leads nowhere, or
/// to a directory of somebody else, is replaced.
fn place(folder: &Path, is_long: bool) -> io::Result<()> {
    if fs::symlink_metadata(folder).is_ok_and(|entry| entry.is_symlink()) {
        if is_safe(folder) {
            return Ok(());
        }
        fs::remove_file(folder)?;
    }
    if !is_long || folder.is_dir() {
        return fs::create_dir_all(folder);
    }
    let short = mkdtemp("/var/tmp/criu-rs-XXXXXX")?;
    fs::set_permissions(&short, Permissions::from_mode(0o755))?;
    symlink(&short, folder).or_else(|error| {
        let _ = fs::remove_dir(&short);
        // Another run may have made it at the same time.
        if is_safe(folder) { Ok(()) } else { Err(error) }
    })
}

/// Tells if a directory, or the one to which a link leads, is root's, ours, or that of the owner of
/// the link: root executes what is in it.
fn is_safe(folder: &Path) -> bool {
    let (Ok(link), Ok(entry)) = (fs::symlink_metadata(folder), fs::metadata(folder)) else {
        return false;
    };
    let owners = [0, Uid::effective().as_raw(), link.uid()];
    entry.is_dir() && owners.contains(&entry.uid())
}

/// Returns the `criu` of an installed suite.
pub(crate) fn of_suite(suite: &str) -> PathBuf {
    folder().join(suite).join(PROGRAM)
}

/// Returns the folder with the libcriu of Debian's stable release.
pub(crate) fn link() -> PathBuf {
    folder().join(STABLE).join(LINKED)
}

/// Makes a cargo, and the programs that it runs, use the libcriu of Debian's stable release.
pub(crate) fn with_library(cargo: &mut Command) -> &mut Command {
    let folder = link();
    let others = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = iter::once(folder.clone()).chain(env::split_paths(&others));
    // Only a folder with a colon in its name cannot be in the list.
    let path = env::join_paths(folders).unwrap_or(others.clone());
    cargo.env("CRIU_LIB_DIR", folder).env("LD_LIBRARY_PATH", path)
}

/// Returns every `criu` below [`folder`]. Unfinished ones lie in hidden directories.
pub(crate) fn unpacked() -> Vec<PathBuf> {
    let folder = Some(folder()).filter(|folder| is_safe(folder));
    let mut suites: Vec<_> = folder
        .and_then(|folder| fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    suites.sort();
    let mut found: Vec<_> = suites.iter().map(|suite| of_suite(suite)).collect();
    found.retain(|path| path.exists());
    found
}

/// The most bytes of a target directory's path with CRIUs directly below it. The longest path of a
/// library below that has some 80 bytes, and the rest of its line in `maps` has 73.
const LONG: usize = 100;

/// The path of CRIU below the directory of its suite.
pub(crate) const PROGRAM: &str = "usr/sbin/criu";

/// The Debian suite of the stable release.
pub(crate) const STABLE: &str = "trixie";
/// The Debian suite with the newest CRIU.
pub(crate) const EXPERIMENTAL: &str = "experimental";
/// The Debian suite with the oldest CRIU that the tests look at.
pub(crate) const OLD: &str = "bookworm";

#[cfg(test)]
mod tests {
    use super::*;

    /// The choice among programs named after their versions, of which some do not work.
    fn chosen(paths: &[(&str, Version)], broken: &[&str]) -> (Option<PathBuf>, Vec<String>) {
        let paths = paths.iter().map(|(path, version)| (PathBuf::from(path), Ok(*version)));
        let (criu, passed_over) = newest(paths.collect(), |path, version| {
            if broken.iter().any(|broken| path.ends_with(broken)) {
                return Err(format!("{} does not work", path.display()).into());
            }
            Ok(Criu { path: path.into(), version, is_checked: true })
        });
        (criu.map(|criu| criu.path), passed_over)
    }

    const THREE: [(&str, Version); 3] =
        [("old", Version(3, 17, 1)), ("new", Version(4, 3, 0)), ("stable", Version(4, 1, 1))];

    #[test]
    fn the_newest_that_works_is_chosen_and_the_others_are_explained() {
        let (path, passed_over) = chosen(&THREE, &[]);
        assert_eq!(path, Some("new".into()));
        let older = ["stable is CRIU 4.1.1, older than 4.3", "old is CRIU 3.17.1, older than 4.3"];
        assert_eq!(passed_over, older);
        let (path, passed_over) = chosen(&THREE, &["new"]);
        assert_eq!(path, Some("stable".into()));
        assert_eq!(passed_over[0], "new does not work");
        assert_eq!(chosen(&THREE, &["new", "stable", "old"]).0, None);
    }

    #[test]
    fn below_a_long_path_the_folder_is_a_link_to_a_short_directory() {
        let parent = mkdtemp(&env::temp_dir().join("xtask-XXXXXX")).unwrap();
        let (plain, link) = (parent.join("plain"), parent.join("link"));
        place(&plain, false).unwrap();
        assert!(fs::symlink_metadata(&plain).unwrap().is_dir());
        place(&plain, true).unwrap();
        assert!(fs::symlink_metadata(&plain).unwrap().is_dir(), "a directory stays");

        symlink("/nonexistent/criu", &link).unwrap();
        place(&link, false).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_dir(), "a link to nothing is replaced");
        fs::remove_dir(&link).unwrap();
        symlink("/nonexistent/criu", &link).unwrap();
        place(&link, true).unwrap();
        let short = fs::read_link(&link).unwrap();
        assert!(short.starts_with("/var/tmp") && short.as_os_str().len() < 30, "{short:?}");
        assert_eq!(fs::metadata(&short).unwrap().mode() & 0o7777, 0o755);
        place(&link, true).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), short, "a link to a directory stays");
        fs::remove_dir(short).unwrap();
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn of_two_with_one_version_the_first_counts() {
        let (path, passed_over) = chosen(&[("a", Version(4, 3, 0)), ("b", Version(4, 3, 0))], &[]);
        assert_eq!(path, Some("a".into()));
        assert_eq!(passed_over, ["b is CRIU 4.3 as well"]);
    }

    #[test]
    fn a_program_that_does_not_start_is_passed_over() {
        let (criu, passed_over) = choose(&[PathBuf::from("/nonexistent/criu")]);
        assert_eq!(criu, None);
        assert!(
            passed_over[0].starts_with("/nonexistent/criu does not start: "),
            "{passed_over:?}"
        );
    }
}
