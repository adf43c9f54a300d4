//! The place of a container in the cgroup hierarchies.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::error::{Error, Result};
use crate::host::MountInfo;
use crate::operation::Restore;
use crate::value::Pid;

/// The cgroups of a container: a path in the hierarchy of version 2, a path in each hierarchy of
/// version 1, or both.
///
/// ```
/// use criu_rs::oci::Cgroups;
/// use criu_rs::Pid;
///
/// let own = Cgroups::of(Pid::this())?;
/// for (controllers, path) in own.iter() {
///     println!("{controllers:?}: {}", path.display());
/// }
/// # Ok::<(), criu_rs::oci::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Paths by controllers as the kernel lists them (`cpu,cpuacct`, `name=systemd`). The key of
    /// version 2 is empty.
    paths: BTreeMap<String, PathBuf>,
}

impl Cgroups {
    /// The cgroups of a process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: Pid) -> Result<Self> {
        let text = listed(pid)?;
        Ok(Self { paths: text.split(|&byte| byte == b'\n').filter_map(row).collect() })
    }

    /// The cgroups at `path` in every hierarchy that is mounted here. They need not exist yet.
    ///
    /// A runtime that leaves some hierarchies alone, or has another path in each, names its own
    /// with [`from_pairs`](Self::from_pairs).
    ///
    /// # Errors
    /// When the mounts cannot be read; [`Error::Path`] with `EINVAL` for a path with `..` in it.
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = rooted(path.as_ref())?;
        let own = Self::of(Pid::this())?;
        let mounted = hierarchies()?;
        let is_mounted = |controllers: &String| mounted.iter().any(|m| is_of(m, controllers));
        let paths = own.paths.into_keys().filter(is_mounted).map(|name| (name, path.clone()));
        Ok(Self { paths: paths.collect() })
    }

    /// The cgroups that a runtime manages: the controllers of each hierarchy with a path in it, and
    /// no other hierarchy. They need not exist yet.
    ///
    /// Controllers are named as in `/proc/PID/cgroup`: `memory`, `name=systemd`, and an empty text
    /// for version 2. Of controllers that share a hierarchy, such as `cpu,cpuacct`, any one is
    /// enough. Pairs with the same path may name the same hierarchy. A path of systemd is a slice
    /// with a scope, such as `/system.slice/web-1.scope`.
    ///
    /// ```
    /// use criu_rs::oci::Cgroups;
    ///
    /// let pairs = Cgroups::of(criu_rs::Pid::this())?;
    /// let managed = pairs.iter().filter(|(controllers, _)| !controllers.starts_with("name="));
    /// let cgroups = Cgroups::from_pairs(managed.map(|(controllers, _)| (controllers, "/web")))?;
    /// # let _ = cgroups;
    /// # Ok::<(), criu_rs::oci::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if this machine has no such controller, or if two pairs name one
    /// hierarchy with different paths; [`Error::Path`] for a path with `..` in it.
    pub fn from_pairs<C: AsRef<str>, P: AsRef<Path>>(
        pairs: impl IntoIterator<Item = (C, P)>,
    ) -> Result<Self> {
        let text = listed(Pid::this())?;
        let lines = text.split(|&byte| byte == b'\n');
        let known: Vec<String> = lines.filter_map(controllers).collect();
        let mut paths = BTreeMap::new();
        for (wanted, path) in pairs {
            let (wanted, path) = (wanted.as_ref(), rooted(path.as_ref())?);
            let what = || format!("the cgroup controller `{}`", wanted.escape_debug());
            let is_all_of =
                |known: &str| wanted.split(',').all(|name| known.split(',').any(|own| own == name));
            let hierarchy = known.iter().find(|known| is_all_of(known)).ok_or_else(|| {
                let why = "is in no cgroup hierarchy of this machine".into();
                Error::Invalid { what: what(), why }
            })?;
            let first = paths.entry(hierarchy.clone()).or_insert_with(|| path.clone());
            if *first != path {
                let why = format!(
                    "has the path {}, and its hierarchy has the path {} already",
                    path.display(),
                    first.display()
                );
                return Err(Error::Invalid { what: what(), why });
            }
        }
        Ok(Self { paths })
    }

    /// The path in each hierarchy, with the controllers of that hierarchy: an empty text for
    /// version 2.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.paths.iter().map(|(controllers, path)| (controllers.as_str(), path.as_path()))
    }

    /// The directory of the cgroup that freezes the container, of version 2 or of the freezer of
    /// version 1.
    ///
    /// `None` if no such directory exists, or if this process is in or below that cgroup and would
    /// freeze itself.
    ///
    /// # Errors
    /// When the mounts cannot be read.
    pub fn freezer(&self) -> Result<Option<PathBuf>> {
        let own = Self::of(Pid::this())?;
        let mounted = hierarchies()?;
        for (controllers, path) in &self.paths {
            if own.paths.get(controllers).is_some_and(|own| own.starts_with(path)) {
                continue;
            }
            let Some(dir) = directory(&mounted, controllers, path) else { continue };
            let file = if controllers.is_empty() {
                "cgroup.freeze"
            } else if controllers.split(',').any(|name| name == "freezer") {
                "freezer.state"
            } else {
                continue;
            };
            if dir.join(file).exists() {
                return Ok(Some(dir));
            }
        }
        Ok(None)
    }

    /// Moves a process into these cgroups, and makes those that are missing.
    ///
    /// Tasks begin in the cgroups of the criu that restores them
    /// ([`Session::pid`](crate::Session::pid)).
    ///
    /// # Errors
    /// When a cgroup cannot be made, or does not take the process.
    pub fn add(&self, pid: Pid) -> Result<()> {
        let mut made = MadeCgroups::default();
        self.enter(pid, &mut made)?;
        made.keep();
        Ok(())
    }

    /// Moves a process into these cgroups. `made` takes the cgroups that are made for it.
    pub(crate) fn enter(&self, pid: Pid, made: &mut MadeCgroups) -> Result<()> {
        let mounted = hierarchies()?;
        for (controllers, path) in &self.paths {
            let Some(dir) = directory(&mounted, controllers, path) else { continue };
            make(&dir, &mut made.0)?;
            let entered = fs::write(dir.join("cgroup.procs"), pid.to_string());
            entered.map_err(|source| Error::path("move a process into", dir, source))?;
        }
        Ok(())
    }

    /// Makes the parents of these cgroups. CRIU then makes the cgroups themselves, with the
    /// properties that were saved.
    pub(crate) fn make_above(&self) -> Result<MadeCgroups> {
        let mut made = MadeCgroups(Vec::new());
        let mounted = hierarchies()?;
        for (controllers, path) in &self.paths {
            let Some(dir) = directory(&mounted, controllers, path) else { continue };
            let Some(above) = dir.parent().filter(|_| path.parent().is_some()) else { continue };
            make(above, &mut made.0)?;
            if !dir.exists() {
                made.0.push(dir);
            }
        }
        Ok(made)
    }

    /// Replaces each path below `path` by `path`.
    pub(crate) fn widened_to(mut self, path: &Path) -> Self {
        for own in self.paths.values_mut().filter(|own| own.starts_with(path)) {
            *own = path.into();
        }
        self
    }

    /// Makes the restored tasks' cgroups begin here instead of at their old place.
    pub(crate) fn become_roots<'a>(&self, mut restore: Restore<'a>) -> Restore<'a> {
        for (controllers, path) in self.iter() {
            restore = restore.cgroup_root(Some(controllers), path);
        }
        restore
    }

    /// The directory of the container's cgroup in the hierarchy that has a controller.
    pub(crate) fn directory_of(&self, controller: &str) -> Result<Option<PathBuf>> {
        let mounted = hierarchies()?;
        let has = |controllers: &str| controllers.split(',').any(|name| name == controller);
        let found = self.iter().find(|(controllers, _)| has(controllers));
        Ok(found.and_then(|(controllers, path)| directory(&mounted, controllers, path)))
    }
}

/// Cgroups that were made here or are to be made by CRIU. They are removed with this value, and so
/// are the cgroups below them that CRIU has made, unless a process is in one of them.
#[derive(Debug, Default)]
pub(crate) struct MadeCgroups(Vec<PathBuf>);

impl MadeCgroups {
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for MadeCgroups {
    fn drop(&mut self) {
        for dir in self.0.iter().rev() {
            for empty in unused(dir).unwrap_or_default().iter().rev() {
                let _ = fs::remove_dir(empty);
            }
        }
    }
}

/// A cgroup and all cgroups below it, parents first; `None` if a process is in one of them.
fn unused(dir: &Path) -> Option<Vec<PathBuf>> {
    let mut all = vec![dir.to_path_buf()];
    let mut next = 0;
    while let Some(dir) = all.get(next) {
        if !fs::read(dir.join("cgroup.procs")).ok()?.is_empty() {
            return None;
        }
        let entries = fs::read_dir(dir).ok()?.flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let below: Vec<PathBuf> = below.map(|entry| entry.path()).collect();
        all.extend(below);
        next += 1;
    }
    Some(all)
}

/// Makes a cgroup and its missing parents. A cgroup of the cpuset controller of version 1 takes no
/// process before it has processors and memory.
fn make(dir: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let mut missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    missing.reverse();
    for dir in missing {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::path("make the cgroup", dir, error)),
            Ok(()) => made.push(dir.into()),
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let above = dir.parent().map(|parent| fs::read(parent.join(file)));
            // Version 2 has these files, too, and inherits their values.
            let is_wanted = dir.join(file).exists() && !dir.join("cgroup.controllers").exists();
            if let (Some(Ok(value)), true) = (above, is_wanted) {
                let file = dir.join(file);
                fs::write(&file, value).map_err(|source| Error::path("write", file, source))?;
            }
        }
    }
    Ok(())
}

/// The cgroups of a process, as the kernel lists them.
fn listed(pid: Pid) -> Result<Vec<u8>> {
    let (mut text, path) = (Vec::new(), format!("/proc/{pid}/cgroup"));
    let read = fs::File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
    read.map_err(|source| Error::path("read", path, source))?;
    Ok(text)
}

/// A path from the root of a hierarchy.
fn rooted(path: &Path) -> Result<PathBuf> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::path("use the cgroup", path, nix::errno::Errno::EINVAL));
    }
    Ok(Path::new("/").join(path))
}

/// The controllers in a row `NUMBER:CONTROLLERS:PATH`.
fn controllers(line: &[u8]) -> Option<String> {
    let controllers = line.split(|&byte| byte == b':').nth(1)?;
    String::from_utf8(controllers.to_vec()).ok()
}

/// Reads a row `NUMBER:CONTROLLERS:PATH`. `None` for a path outside of this process's cgroup
/// namespace, which cannot be used.
pub(crate) fn row(line: &[u8]) -> Option<(String, PathBuf)> {
    let mut parts = line.splitn(3, |&byte| byte == b':').skip(1);
    let controllers = String::from_utf8(parts.next()?.to_vec()).ok()?;
    let path = PathBuf::from(OsStr::from_bytes(parts.next()?));
    let is_inside = path.is_absolute() && !path.components().any(|p| p == Component::ParentDir);
    is_inside.then_some((controllers, path))
}

fn hierarchies() -> Result<Vec<MountInfo>> {
    let mut mounts = MountInfo::all("self")
        .map_err(|source| Error::path("read", "/proc/self/mountinfo", source))?;
    mounts.retain(|mount| mount.kind == b"cgroup" || mount.kind == b"cgroup2");
    Ok(mounts)
}

/// Says whether a mount is of the hierarchy with these controllers.
fn is_of(mount: &MountInfo, controllers: &str) -> bool {
    match controllers {
        "" => mount.kind == b"cgroup2",
        _ => {
            let mut names = controllers.split(',');
            mount.kind == b"cgroup" && names.all(|name| mount.has_option(name.as_bytes()))
        }
    }
}

/// The directory of a cgroup, below the mount that shows most of the hierarchy.
fn directory(mounted: &[MountInfo], controllers: &str, path: &Path) -> Option<PathBuf> {
    let fits = mounted.iter().filter(|mount| is_of(mount, controllers));
    let inside = fits.filter_map(|mount| Some((mount, path.strip_prefix(&mount.root).ok()?)));
    let (mount, rest) = inside.min_by_key(|(mount, _)| mount.root.components().count())?;
    Some(mount.point.join(rest))
}

/// Bytes of `/proc/PID/cgroup` that are read. A machine has a dozen hierarchies, and a path at most
/// 4 KiB.
const MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_both_versions_are_read() {
        let read = |line: &str| row(line.as_bytes());
        assert_eq!(read("0::/a b"), Some((String::new(), "/a b".into())));
        assert_eq!(read("4:cpu,cpuacct:/x:y"), Some(("cpu,cpuacct".into(), "/x:y".into())));
        assert_eq!(read("1:name=systemd:/"), Some(("name=systemd".into(), "/".into())));
        for bad in ["", "0", "0:", "0::", "0::/../x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cgroup_is_found_below_the_widest_mount() {
        let mount = |kind: &str, root: &str, point: &str, options: &str| MountInfo {
            id: 1,
            parent: 0,
            shared: None,
            master: None,
            device: b"0:1".into(),
            root: root.into(),
            point: point.into(),
            kind: kind.into(),
            options: options.into(),
        };
        let mounted = [
            mount("cgroup2", "/pod/a", "/tmp/part", "rw"),
            mount("cgroup2", "/", "/sys/fs/cgroup/unified", "rw"),
            mount("cgroup", "/", "/sys/fs/cgroup/cpu", "rw,cpu,cpuacct"),
            mount("cgroup", "/", "/sys/fs/cgroup/systemd", "rw,name=systemd"),
        ];
        let at = |controllers, path| directory(&mounted, controllers, Path::new(path));
        assert_eq!(at("", "/pod/a"), Some("/sys/fs/cgroup/unified/pod/a".into()));
        assert_eq!(at("cpu,cpuacct", "/x"), Some("/sys/fs/cgroup/cpu/x".into()));
        assert_eq!(at("name=systemd", "/x"), Some("/sys/fs/cgroup/systemd/x".into()));
        assert_eq!(at("memory", "/x"), None);
    }

    #[test]
    fn pairs_name_hierarchies_and_no_others() {
        let own = Cgroups::of(Pid::this()).unwrap();
        let hierarchies: Vec<&str> = own.iter().map(|(controllers, _)| controllers).collect();
        let all = Cgroups::from_pairs(hierarchies.iter().map(|name| (*name, "web"))).unwrap();
        assert!(all.iter().all(|(_, path)| path == Path::new("/web")));
        assert_eq!(all.iter().map(|(name, _)| name).collect::<Vec<_>>(), hierarchies);
        let one = Cgroups::from_pairs([(hierarchies[0], "/a"), (hierarchies[0], "/a")]).unwrap();
        assert_eq!(one.iter().collect::<Vec<_>>(), [(hierarchies[0], Path::new("/a"))]);
        let error = Cgroups::from_pairs([(hierarchies[0], "/a"), (hierarchies[0], "/b")]);
        assert!(error.unwrap_err().to_string().contains("has the path /a already"));
        let error = Cgroups::from_pairs([("no-such", "/a")]).unwrap_err().to_string();
        assert!(error.contains("`no-such`: is in no cgroup hierarchy"), "{error}");
        assert!(Cgroups::from_pairs([(hierarchies[0], "/a/../b")]).is_err());
        assert_eq!(controllers(b"4:cpu,cpuacct:/x:y").as_deref(), Some("cpu,cpuacct"));
        assert_eq!(controllers(b"0::/../x").as_deref(), Some(""));
    }

    #[test]
    fn a_freezer_that_would_stop_this_process_is_none() {
        assert_eq!(Cgroups::of(Pid::this()).unwrap().freezer().unwrap(), None);
        assert_eq!(Cgroups::at("/").unwrap().freezer().unwrap(), None);
        assert!(Cgroups::at("/a/../b").is_err());
    }
}
