//! Freezer cgroups: thawing the one that a failed dump leaves frozen, and freezing one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

/// A guard of a freezer cgroup during a dump. A criu that is killed leaves its freezer frozen.
/// Dropped without [`Freezer::keep`], the guard thaws the cgroup.
#[derive(Debug)]
pub(crate) struct Freezer {
    file: PathBuf,
    thawed: &'static str,
    kept: bool,
}

impl Freezer {
    /// Makes a guard for the cgroup. `None` if the cgroup is frozen already or cannot be read.
    pub(crate) fn watch(cgroup: &[u8]) -> Option<Self> {
        let cgroup = Path::new(OsStr::from_bytes(cgroup));
        // Version 1, then version 2.
        let states = [("freezer.state", "THAWED"), ("cgroup.freeze", "0")];
        states.into_iter().find_map(|(name, thawed)| {
            let file = cgroup.join(name);
            let state = fs::read_to_string(&file).ok()?;
            // Made only for a thawed cgroup: dropping a guard thaws.
            (state.trim() == thawed).then(|| Self { file, thawed, kept: false })
        })
    }

    /// Ends the guard without thawing.
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

/// A cgroup that this process has frozen. Dropped, it returns to its earlier state.
#[derive(Debug)]
pub(crate) struct Frozen {
    file: PathBuf,
    interface: &'static Interface,
    /// True if the cgroup was frozen before.
    was_frozen: bool,
}

/// The files and words that a version of cgroups uses for freezing.
#[derive(Debug)]
struct Interface {
    /// The file that takes the wanted state.
    state: &'static str,
    thawed: &'static str,
    frozen: &'static str,
    /// The file that tells if this cgroup itself is frozen, whatever its ancestors are.
    own: &'static str,
    /// The file that tells if all tasks have stopped, and the line that says so.
    done: (&'static str, &'static str),
}

impl Frozen {
    /// Freezes a cgroup and waits until all its tasks have stopped.
    ///
    /// # Errors
    /// `NotFound` if it is not a freezer cgroup, `TimedOut` if tasks still run after `limit`.
    pub(crate) fn freeze(cgroup: &Path, limit: Duration) -> io::Result<Self> {
        let is_it = |interface: &&Interface| cgroup.join(interface.state).exists();
        let interface = INTERFACES.iter().find(is_it).ok_or_else(|| {
            let why = "not a freezer cgroup: it has neither cgroup.freeze nor freezer.state";
            io::Error::new(io::ErrorKind::NotFound, why)
        })?;
        let file = cgroup.join(interface.state);
        let was_frozen = fs::read_to_string(cgroup.join(interface.own))?.trim() == "1";
        fs::write(&file, interface.frozen)?;
        // From here on, an error drops `frozen`, which restores the earlier state.
        let frozen = Self { file, interface, was_frozen };
        let end = Instant::now() + limit;
        let (name, line) = interface.done;
        while !fs::read_to_string(cgroup.join(name))?.lines().any(|said| said == line) {
            if Instant::now() > end {
                let why = format!("not all tasks have stopped after {} ms", limit.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            // Version 1 may get stuck half way until the state is written again.
            fs::write(&frozen.file, interface.frozen)?;
            std::thread::sleep(PAUSE);
        }
        Ok(frozen)
    }

    /// Says whether the cgroup was frozen before.
    #[cfg(feature = "pod")]
    pub(crate) fn was_frozen(&self) -> bool {
        self.was_frozen
    }

    /// Thaws the cgroup for good, whatever its earlier state was.
    pub(crate) fn thaw(mut self) -> io::Result<()> {
        self.was_frozen = false;
        self.release()
    }

    /// Thaws the cgroup until this value is dropped.
    pub(crate) fn release(&self) -> io::Result<()> {
        fs::write(&self.file, self.interface.thawed)
    }
}

/// The nearest ancestor of a cgroup that is frozen and so keeps it frozen.
pub(crate) fn frozen_above(cgroup: &Path) -> Option<&Path> {
    let is_frozen = |above: &&Path| {
        let says = |interface: &Interface| fs::read_to_string(above.join(interface.own));
        INTERFACES.iter().any(|interface| says(interface).is_ok_and(|own| own.trim() == "1"))
    };
    cgroup.ancestors().skip(1).find(is_frozen)
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let state = if self.was_frozen { self.interface.frozen } else { self.interface.thawed };
        let _ = fs::write(&self.file, state);
    }
}

static INTERFACES: [Interface; 2] = [
    Interface {
        state: "freezer.state",
        thawed: "THAWED",
        frozen: "FROZEN",
        own: "freezer.self_freezing",
        done: ("freezer.state", "FROZEN"),
    },
    Interface {
        state: "cgroup.freeze",
        thawed: "0",
        frozen: "1",
        own: "cgroup.freeze",
        done: ("cgroup.events", "frozen 1"),
    },
];

/// The pause between two looks. Tasks stop within some milliseconds.
const PAUSE: Duration = Duration::from_micros(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thawed_cgroup_is_thawed_again_unless_kept() {
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
            assert!(watch().is_none(), "a cgroup that was frozen before stays frozen");
            assert_eq!(fs::read_to_string(&state).unwrap(), frozen, "a look changes nothing");
            fs::remove_dir_all(&folder).unwrap();
        }
        assert!(Freezer::watch(b"/nonexistent").is_none());
    }

    #[test]
    fn a_cgroup_that_does_not_freeze_is_thawed_again() {
        let folder = std::env::temp_dir().join(format!("criu-rs-frozen-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let limit = Duration::from_millis(1);
        let missing = Frozen::freeze(&folder, limit).unwrap_err().to_string();
        assert!(missing.contains("not a freezer cgroup"), "{missing}");
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
