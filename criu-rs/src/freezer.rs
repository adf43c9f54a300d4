//! The freezer cgroup that a dump may use, and what it must be like after a failure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
            let state = std::fs::read_to_string(&file).ok()?;
            (state.trim() == thawed).then_some(Self { file, thawed, kept: false })
        })
    }

    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::write(&self.file, self.thawed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
            fs::remove_dir_all(&folder).unwrap();
        }
        assert!(Freezer::watch(b"/nonexistent").is_none());
    }
}
