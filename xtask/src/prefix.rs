//! Packages unpacked into a directory of their own, where their programs run on their own C
//! library, independent of the system's.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::apt::Archive;
use crate::loader::Loader;
use crate::{Result, process};

/// The wanted content of a directory.
#[derive(Debug)]
pub(crate) struct Prefix {
    /// The directory, whose last part is the suite.
    pub(crate) dir: PathBuf,
    /// The wanted packages, by name.
    pub(crate) packages: &'static [&'static str],
    /// The programs that have to run, as paths from `dir`.
    pub(crate) programs: &'static [&'static str],
    /// Libraries for programs of this machine, which find them in [`LINKED`].
    pub(crate) libraries: &'static [&'static str],
}

impl Prefix {
    /// Tells if the directory was completed by this recipe, and in this place.
    pub(crate) fn is_installed(&self) -> bool {
        fs::read_to_string(self.dir.join(MANIFEST))
            .is_ok_and(|manifest| manifest.starts_with(&self.recipe()))
    }

    /// Fills the directory unless it is filled. The work is done in a directory beside it, which is
    /// renamed at the end: an interrupted run leaves no directory that looks complete. Of two runs
    /// at once, the second waits for the first.
    pub(crate) fn install(&self, archive: &Archive, force: bool) -> Result<()> {
        let started = Instant::now();
        let name = self.name();
        let parent = self.dir.parent().ok_or("a prefix needs a parent")?;
        fs::create_dir_all(parent).map_err(|e| format!("cannot make {}: {e}", parent.display()))?;
        // Without links: the loader says where libraries lie, and resolves links.
        let parent = &parent.canonicalize()?;
        let _lock = lock(&parent.join(format!(".{name}.lock")), &name)?;
        if self.is_installed() && !force {
            return Ok(());
        }
        let new = scratch(parent, &name)?;
        let state = new.join("apt");
        fs::create_dir_all(&state)?;

        eprintln!("{name}: downloading {}", self.packages.join(", "));
        let debs = archive
            .download(&[self.packages, &["patchelf"]].concat(), &state)
            .map_err(|error| format!("{name}: {error}"))?;
        let bytes: u64 = debs.iter().flat_map(fs::metadata).map(|m| m.len()).sum();
        let megabytes = bytes.div_ceil(1_000_000);
        eprintln!("{name}: unpacking {} packages, {megabytes} MB", debs.len());
        for deb in &debs {
            process::read(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&new))?;
        }
        fs::remove_dir_all(&state)?;
        Loader::find(&new, &self.home())?.adopt(self.programs)?;
        self.link_libraries(&new)?;

        let versions: String = debs.iter().map(|deb| version(deb)).collect();
        fs::write(new.join(MANIFEST), self.recipe() + &versions)?;
        // Out of the way first: a directory half deleted could pass for a complete one.
        let old = parent.join(format!(".{name}.new-old"));
        if self.dir.exists() {
            fs::rename(&self.dir, &old)?;
        }
        fs::rename(&new, &self.dir)?;
        let _ = fs::remove_dir_all(&old);
        eprintln!("{name}: done in {:.1} s", started.elapsed().as_secs_f32());
        Ok(())
    }

    /// Links the files of each library into [`LINKED`], below the tree at `root`.
    fn link_libraries(&self, root: &Path) -> Result<()> {
        if self.libraries.is_empty() {
            return Ok(());
        }
        fs::create_dir(root.join(LINKED))?;
        for library in self.libraries {
            let start = format!("{library}.");
            let mut count = 0;
            for folder in fs::read_dir(root.join("usr/lib"))? {
                for file in fs::read_dir(folder?.path()).into_iter().flatten() {
                    let file = file?;
                    let name = file.file_name();
                    if name.to_string_lossy().starts_with(&start) {
                        let path = file.path();
                        let from_link = Path::new("..").join(path.strip_prefix(root)?);
                        symlink(from_link, root.join(LINKED).join(name))?;
                        count += 1;
                    }
                }
            }
            if count == 0 {
                return Err(format!("{}: the packages hold no {library}", self.name()).into());
            }
        }
        Ok(())
    }

    /// Returns the head of the manifest. The directory is part of it, because programs name their
    /// ELF interpreter by its full path: a prefix that was moved does not run.
    fn recipe(&self) -> String {
        let mut recipe = format!(
            "# written by cargo xtask setup\ndir {}\npackages {}\nprograms {}\n",
            self.home().display(),
            self.packages.join(" "),
            self.programs.join(" "),
        );
        if !self.libraries.is_empty() {
            recipe += &format!("libraries {}\n", self.libraries.join(" "));
        }
        recipe
    }

    /// The directory without links: a checkout may share the folder of another one by a link.
    fn home(&self) -> PathBuf {
        let parent = || Some(self.dir.parent()?.canonicalize().ok()?.join(self.dir.file_name()?));
        self.dir.canonicalize().ok().or_else(parent).unwrap_or_else(|| self.dir.clone())
    }

    fn name(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// Locks until the returned value is dropped.
fn lock(path: &Path, name: &str) -> Result<Flock<File>> {
    let file = File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => {
            eprintln!("{name}: waiting for another run");
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
        }
        Err((_, errno)) => Err(format!("cannot lock {}: {errno}", path.display()).into()),
    }
}

/// Removes the directories of interrupted runs, and returns a new name for the directory to fill.
/// The name is always new, because programs of an interrupted run (apt) may still write.
fn scratch(parent: &Path, name: &str) -> Result<PathBuf> {
    let prefix = format!(".{name}.new-");
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_dir_all(&path);
        }
    }
    Ok(parent.join(format!("{prefix}{}", std::process::id())))
}

/// Returns a line of the manifest: `criu_4.1.1-1_amd64.deb` is `criu 4.1.1-1`.
fn version(deb: &Path) -> String {
    let name = deb.file_name().unwrap_or_default().to_string_lossy();
    let mut parts = name.split('_');
    let (package, version) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    format!("{package} {}\n", version.replace("%3a", ":"))
}

/// The folder with the libraries. Their original folder also has a C library that only the tree's
/// programs can load.
pub(crate) const LINKED: &str = "link";

/// The file that lists the content of the directory. It is written last.
const MANIFEST: &str = "manifest.txt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_file_names_its_version() {
        assert_eq!(version(Path::new("/d/criu_4.1.1-1_amd64.deb")), "criu 4.1.1-1\n");
        assert_eq!(
            version(Path::new("libgmp10_2%3a6.3.0+dfsg-3_amd64.deb")),
            "libgmp10 2:6.3.0+dfsg-3\n"
        );
    }

    #[test]
    fn libraries_are_linked_without_their_neighbours() {
        let dir = std::env::temp_dir().join(format!("xtask-link-{}", std::process::id()));
        let prefix =
            |libraries| Prefix { dir: dir.clone(), packages: &[], programs: &[], libraries };
        let folder = dir.join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&folder).unwrap();
        for name in ["libc.so.6", "libcriu.a", "libcriu.so.2"] {
            fs::write(folder.join(name), name).unwrap();
        }
        prefix(&["libcriu"]).link_libraries(&dir).unwrap();
        assert_eq!(fs::read_to_string(dir.join("link/libcriu.so.2")).unwrap(), "libcriu.so.2");
        assert_eq!(fs::read_dir(dir.join("link")).unwrap().count(), 2);
        fs::remove_dir_all(dir.join("link")).unwrap();
        prefix(&["libnet"]).link_libraries(&dir).unwrap_err();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_prefix_that_was_moved_counts_as_absent() {
        let dir = std::env::temp_dir().join(format!("xtask-prefix-{}", std::process::id()));
        let at = |name: &str| Prefix {
            dir: dir.join(name),
            packages: &["criu"],
            programs: &["usr/sbin/criu"],
            libraries: &[],
        };
        fs::create_dir_all(dir.join("a")).unwrap();
        fs::write(dir.join("a").join(MANIFEST), at("a").recipe() + "criu 4.1.1-1\n").unwrap();
        assert!(at("a").is_installed());
        fs::rename(dir.join("a"), dir.join("b")).unwrap();
        assert!(!at("b").is_installed());
        fs::rename(dir.join("b"), dir.join("a")).unwrap();
        symlink(&dir, dir.with_extension("link")).unwrap();
        let linked = Prefix { dir: dir.with_extension("link").join("a"), ..at("a") };
        assert!(linked.is_installed(), "a link to the folder leads to the same prefix");
        fs::remove_file(dir.with_extension("link")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
