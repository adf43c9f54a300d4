//! The freezer cgroup that a dump may use, and what it must be like after a failure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

/// Watches over a freezer cgroup during a dump: dropped without [`Freezer::keep`] it thaws what was
/// not frozen before. A criu that is ended leaves its freezer frozen.
#[derive(Debug)]
pub(crate) struct Freezer {
    file: PathBuf,
    thawed: &'static str,
    kept: bool,
}

impl Freezer {
    /// Looks at the cgroup; nothing is to be watched over where it is frozen already.
    pub(crate) fn watch(cgroup: &[u8]) -> Option<Self> {
        let cgroup = Path::new(OsStr::from_bytes(cgroup));
        // Version 1, then version 2.
        let states = [("freezer.state", "THAWED"), ("cgroup.freeze", "0")];
        states.into_iter().find_map(|(name, thawed)| {
            let file = cgroup.join(name);
            let state = fs::read_to_string(&file).ok()?;
            // Not made in vain: dropped it would thaw.
            (state.trim() == thawed).then(|| Self { file, thawed, kept: false })
        })
    }

    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::write(&self.file, self.thawed);
        }
    }
}

/// A cgroup that is frozen by us. Dropped it is as it was before.
#[derive(Debug)]
pub(crate) struct Frozen {
    file: PathBuf,
    version: &'static Version,
    /// Whether it was frozen before.
    was: bool,
}

/// How a version of cgroups says it.
#[derive(Debug)]
struct Version {
    state: &'static str,
    thawed: &'static str,
    frozen: &'static str,
    /// Where it tells whether this cgroup is to be frozen itself, whatever those above are.
    own: &'static str,
    /// Where it tells whether all tasks have stopped, and the line that says so.
    done: (&'static str, &'static str),
}

impl Frozen {
    /// Freezes a cgroup, and waits until all of it has stopped.
    pub(crate) fn freeze(cgroup: &Path, limit: Duration) -> io::Result<Self> {
        let is_it = |version: &&Version| cgroup.join(version.state).exists();
        let version = VERSIONS.iter().find(is_it).ok_or_else(|| {
            let why = "it is no freezer cgroup: neither cgroup.freeze nor freezer.state is there";
            io::Error::new(io::ErrorKind::NotFound, why)
        })?;
        let file = cgroup.join(version.state);
        let was = fs::read_to_string(cgroup.join(version.own))?.trim() == "1";
        fs::write(&file, version.frozen)?;
        // From here on it is thawed again, if need be.
        let frozen = Self { file, version, was };
        let end = Instant::now() + limit;
        let (name, line) = version.done;
        while !fs::read_to_string(cgroup.join(name))?.lines().any(|said| said == line) {
            if Instant::now() > end {
                let why = format!("not all of it has stopped after {} ms", limit.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            // Version 1 may be stuck half way until it is told again.
            fs::write(&frozen.file, version.frozen)?;
            std::thread::sleep(PAUSE);
        }
        Ok(frozen)
    }

    /// Thaws it, whatever it was before.
    pub(crate) fn thaw(mut self) -> io::Result<()> {
        self.was = false;
        self.release()
    }

    /// Thaws it for now.
    pub(crate) fn release(&self) -> io::Result<()> {
        fs::write(&self.file, self.version.thawed)
    }
}

/// The cgroup above this one that keeps it frozen.
pub(crate) fn frozen_above(cgroup: &Path) -> Option<&Path> {
    let is_frozen = |above: &&Path| {
        let says = |version: &Version| fs::read_to_string(above.join(version.own));
        VERSIONS.iter().any(|version| says(version).is_ok_and(|own| own.trim() == "1"))
    };
    cgroup.ancestors().skip(1).find(is_frozen)
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let state = if self.was { self.version.frozen } else { self.version.thawed };
        let _ = fs::write(&self.file, state);
    }
}

static VERSIONS: [Version; 2] = [
    Version {
        state: "freezer.state",
        thawed: "THAWED",
        frozen: "FROZEN",
        own: "freezer.self_freezing",
        done: ("freezer.state", "FROZEN"),
    },
    Version {
        state: "cgroup.freeze",
        thawed: "0",
        frozen: "1",
        own: "cgroup.freeze",
        done: ("cgroup.events", "frozen 1"),
    },
];

/// Tasks stop within some milliseconds.
const PAUSE: Duration = Duration::from_micros(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_thawed_is_thawed_again_unless_kept() {
        let folder = std::env::temp_dir().join(format!("criu-rs-freezer-{}", std::process::id()));
        for (file, thawed, frozen) in
            [("freezer.state", "THAWED", "FROZEN"), ("cgroup.freeze", "0", "1")]
        {
            fs::create_dir(&folder).unwrap();
            let state = folder.join(file);
            let watch = || Freezer::watch(folder.as_os_str().as_bytes());
            fs::write(&state, format!("{thawed}\n")).unwrap();
            let freezer = watch().unwrap();
            fs::write(&state, frozen).unwrap();
            drop(freezer);
            assert_eq!(fs::read_to_string(&state).unwrap(), thawed);
            let freezer = watch().unwrap();
            fs::write(&state, frozen).unwrap();
            freezer.keep();
            assert_eq!(fs::read_to_string(&state).unwrap(), frozen);
            assert!(watch().is_none(), "frozen before: not ours to thaw");
            assert_eq!(fs::read_to_string(&state).unwrap(), frozen, "a look changes nothing");
            fs::remove_dir_all(&folder).unwrap();
        }
        assert!(Freezer::watch(b"/nonexistent").is_none());
    }

    #[test]
    fn what_does_not_freeze_is_thawed_again() {
        let folder = std::env::temp_dir().join(format!("criu-rs-frozen-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let limit = Duration::from_millis(1);
        let missing = Frozen::freeze(&folder, limit).unwrap_err().to_string();
        assert!(missing.contains("no freezer cgroup"), "{missing}");
        for (file, content) in
            [("cgroup.freeze", "0\n"), ("cgroup.events", "populated 1\nfrozen 0\n")]
        {
            fs::write(folder.join(file), content).unwrap();
        }
        let late = Frozen::freeze(&folder, limit).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let state = || fs::read_to_string(folder.join("cgroup.freeze")).unwrap();
        assert_eq!(state(), "0");
        fs::write(folder.join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
        let frozen = Frozen::freeze(&folder, limit).unwrap();
        assert_eq!(state(), "1");
        let again = Frozen::freeze(&folder, limit).unwrap();
        drop(again);
        assert_eq!(state(), "1", "frozen before");
        let below = folder.join("below");
        assert_eq!(frozen_above(&below), Some(&*folder));
        Frozen::freeze(&folder, limit).unwrap().thaw().unwrap();
        assert_eq!(frozen_above(&below), None);
        assert_eq!(state(), "0");
        drop(frozen);
        assert_eq!(state(), "0");
        fs::remove_dir_all(&folder).unwrap();
    }
}
