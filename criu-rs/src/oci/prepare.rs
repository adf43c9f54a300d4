//! Mounts and mount points that CRIU needs when it restores a container.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::{fs, thread};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::container::{Bind, Container};
use super::error::{Error, Result};
use super::root::Root;
use crate::host::MountInfo;
use crate::sys::proc_link;

/// Mounts the container's root at `at`: CRIU wants a root that is a mount point.
pub(crate) fn mount_root(rootfs: &Path, at: &Path) -> Result<()> {
    let none = None::<&str>;
    mount_at(at, "mount the root file system at", || {
        mount(Some(rootfs), at, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
    })?;
    // Nobody else gets the mounts that are made in it from here on.
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, at, none, private, none).map_err(|source| Error::path("make private", at, source))
}

/// Makes a mount read-only, as CRIU 4.1 forgets to do with a root. Mounts in it stay as they are.
pub(crate) fn make_read_only(at: &Path) -> Result<()> {
    let failed = |source| Error::path("make read-only", at, source);
    let known = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let has = statvfs(at).map_err(failed)?.flags();
    let kept = known.into_iter().filter(|(flag, _)| has.contains(*flag)).map(|(_, flag)| flag);
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let flags = kept.fold(flags, |all, flag| all | flag);
    let none = None::<&str>;
    mount(none, at, none, flags, none).map_err(failed)
}

/// Mounts a directory at `at` without the mounts below it. In another user namespace the kernel
/// does not let CRIU uncover what these hide. Returns false if there are no mounts below the
/// directory, and mounts nothing then.
pub(crate) fn mount_alone(source: &Path, at: &Path) -> Result<bool> {
    let failed = |error| Error::path("find the source of a mount", source, error);
    let full = source.canonicalize().map_err(failed)?;
    let mounts = MountInfo::all("thread-self").map_err(failed)?;
    if !mounts.iter().any(|mount| mount.point != full && mount.point.starts_with(&full)) {
        return Ok(false);
    }
    let none = None::<&str>;
    mount_at(at, "mount what a bind mount shows at", || {
        mount(Some(source), at, none, MsFlags::MS_BIND, none)
    })?;
    Ok(true)
}

/// Mounts an empty directory at `at`, for masked directories. It is a file system of its own: a
/// later dump saves it with the container.
pub(crate) fn mount_empty(at: &Path) -> Result<()> {
    mount_at(at, "mount an empty file system at", || {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let flags = flags | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("mode=555,size=4k"))
    })
}

fn mount_at(
    at: &Path,
    doing: &'static str,
    mount: impl FnOnce() -> Result<(), Errno>,
) -> Result<()> {
    make_directory(at)?;
    mount().map_err(|source| Error::path(doing, at, source))
}

pub(crate) fn make_directory(at: &Path) -> Result<()> {
    fs::create_dir(at).map_err(|source| Error::path("make the directory", at, source))
}

/// Makes mount points that are missing in a root file system, as a runtime does when it creates the
/// container.
///
/// Bind mounts are mounted on the way, because a mount point may be below one of them. A thread
/// with a mount namespace of its own does that, and the mounts go with this namespace. A mount
/// point below a bind mount is looked for and never made: it would be made on the machine.
pub(crate) fn mount_points(container: &Container, root: &Path) -> Result<()> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let failed = |source: Errno| Error::path("prepare the mounts of", root, source);
            unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
            let none = None::<&str>;
            let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
            mount(none, "/", none, private, none).map_err(failed)?;
            let inside = Root::open(root).map_err(|source| Error::path("open", root, source))?;
            // CRIU makes mount points below these when it mounts them.
            let mut own: HashSet<&Path> = HashSet::new();
            for (destination, bind) in container.mounts() {
                if destination.as_os_str().is_empty() {
                    return Err(Error::unsupported("mounts", "a mount has no destination"));
                }
                if destination.ancestors().skip(1).any(|above| own.contains(above)) {
                    continue;
                }
                mount_point(&inside, destination, bind.as_ref())?;
                if bind.is_none() {
                    own.insert(destination);
                }
            }
            Ok(())
        });
        let panicked = || Error::path("prepare the mounts of", root, Errno::EFAULT);
        thread.join().unwrap_or_else(|_| Err(panicked()))
    })
}

fn mount_point(root: &Root, destination: &Path, bind: Option<&Bind>) -> Result<()> {
    let make = |is_directory| {
        let made = root.make(destination, is_directory);
        made.map_err(|source| Error::path("make the mount point", destination, source))
    };
    let Some(bind) = bind else { return make(true).map(drop) };
    let source = &bind.source;
    let meta = fs::metadata(source);
    let meta = meta.map_err(|error| Error::path("find the source of a mount", source, error))?;
    let point = make(meta.is_dir())?;
    let target = proc_link(point.as_fd());
    let none = None::<&str>;
    // A mount point must not be made in a mount that is not shown later.
    let below = if bind.is_recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    let flags = MsFlags::MS_BIND | below;
    mount(Some(source), &target, none, flags, none)
        .map_err(|error| Error::path("mount what a bind mount shows,", source, error))?;
    if bind.is_read_only {
        let shown = root.find(destination);
        let shown = shown.map_err(|error| Error::path("find the mount", destination, error))?;
        make_read_only(&proc_link(shown.as_fd()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::json;

    use super::*;

    /// A bundle with a root file system, and a directory of the machine.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            criu_lab::needs_root();
            let id = std::process::id();
            let dir = std::env::temp_dir().join(format!("criu-rs-points-{name}-{id}"));
            fs::create_dir_all(dir.join("root")).unwrap();
            fs::create_dir_all(dir.join("data")).unwrap();
            fs::create_dir_all(dir.join("other")).unwrap();
            Self(dir.canonicalize().unwrap())
        }

        /// Makes the mount points of `mounts`: a destination, a source below the place and options.
        fn make(&self, mounts: &[(&str, &str, &[&str])]) -> Result<(), String> {
            let mounts: Vec<_> = mounts
                .iter()
                .map(|(at, source, options)| {
                    let source = self.0.join(source);
                    json!({"destination": at, "type": "bind", "source": source, "options": options})
                })
                .collect();
            let spec = json!({"ociVersion": "1.0.2", "root": {"path": "root"}, "mounts": mounts});
            let container = Container::new(serde_json::from_value(spec).unwrap(), &self.0).unwrap();
            mount_points(&container, container.rootfs()).map_err(|error| error.to_string())
        }

        fn names(&self, dir: &str) -> Vec<String> {
            let all = fs::read_dir(self.0.join(dir)).unwrap();
            all.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn nothing_is_made_in_what_a_bind_mount_shows() {
        let place = Place::new("across");
        let root = place.0.join("root");
        symlink("/..", root.join("through")).unwrap();
        symlink("data", root.join("out")).unwrap();
        let recursive: &[&str] = &["rbind", "ro"];
        for (data, below) in [
            (&["bind", "ro"][..], "/data/sub"),
            (&["bind"], "/data/sub"),
            (recursive, "/out/sub/deep"),
            (&["bind", "rro"], "/through/out/sub"),
            (&["bind"], "/data/file"),
        ] {
            let source = if below.ends_with("file") { "file" } else { "other" };
            fs::write(place.0.join("file"), "").unwrap();
            let made = place.make(&[("/data", "data", data), (below, source, &["bind"])]);
            let error = made.unwrap_err();
            let is_named = error.contains("another mount") && error.contains(below);
            assert!(is_named, "{below}: {error}");
            assert_eq!(place.names("data"), [""; 0], "{below}");
        }
        // A mount point that is there is used, and what is missing is made in the root alone.
        fs::create_dir(place.0.join("data/sub")).unwrap();
        let mounts: &[(&str, &str, &[&str])] = &[
            ("/data", "data", &["rbind", "ro"]),
            ("/data/sub", "other", &["bind", "ro"]),
            ("/new/place", "data", &["bind"]),
            ("/new/file", "file", &["bind", "ro"]),
        ];
        place.make(mounts).unwrap();
        assert_eq!(place.names("data"), ["sub"]);
        assert_eq!(place.names("other"), [""; 0]);
        assert!(root.join("new/place").is_dir() && root.join("new/file").is_file());
    }

    #[test]
    fn a_link_that_comes_and_goes_leads_into_no_bind_mount() {
        let place = Place::new("flip");
        let (flip, stop) = (place.0.join("root/flip"), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = fs::create_dir(&flip);
                    let _ = fs::remove_dir_all(&flip);
                    let _ = symlink("/data", &flip);
                    let _ = fs::remove_file(&flip);
                }
            });
            for _ in 0..200 {
                let mounts: &[(&str, &str, &[&str])] =
                    &[("/data", "data", &["bind"]), ("/flip/a/b", "other", &["bind"])];
                let _ = place.make(mounts);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(place.names("data"), [""; 0]);
        assert_eq!(place.names("other"), [""; 0]);
    }

    #[test]
    fn a_file_that_is_in_the_way_is_not_waited_for() {
        let place = Place::new("kinds");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        nix::unistd::mkfifo(&place.0.join("root/data"), mode).unwrap();
        let error = place.make(&[("/data", "data", &["bind"])]).unwrap_err();
        assert!(error.contains("Not a directory"), "{error}");
        let error = place.make(&[("/data/sub", "data", &["bind"])]).unwrap_err();
        assert!(error.contains("Not a directory"), "{error}");
        assert_eq!(place.names("data"), [""; 0]);
    }
}
