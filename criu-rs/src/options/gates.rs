//! Option values that need a newer CRIU than the option itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::rpc::CriuOpts;
use crate::value::Version;

/// Returns the value in a message that needs the newest CRIU: its description and that version.
/// `None` if every value is as old as its option.
pub(crate) fn newest(message: &CriuOpts) -> Option<(&'static str, Version)> {
    let fits = GATES.iter().filter(|(_, _, fits)| fits(message));
    fits.map(|&(what, since, _)| (what, since)).max_by_key(|&(_, since)| since)
}

/// A value: its description, the first version that understands it, and the test for it.
type Gate = (&'static str, Version, fn(&CriuOpts) -> bool);

const GATES: &[Gate] = &[
    ("an external network namespace", Version::new(3, 11, 0), |opts| has_external(opts, b"net[")),
    ("an external pid namespace", Version::new(3, 15, 0), |opts| has_external(opts, b"pid[")),
    ("a freezer of cgroup version 2", Version::new(3, 14, 0), |opts| {
        let dir = opts.freeze_cgroup.as_deref().map(OsStr::from_bytes).map(Path::new);
        dir.is_some_and(|dir| dir.join("cgroup.freeze").exists())
    }),
    // Older versions accept the option and ignore it.
    ("a security profile other than the saved one", Version::new(3, 16, 0), |opts| {
        opts.lsm_profile.is_some()
    }),
];

fn has_external(opts: &CriuOpts, start: &[u8]) -> bool {
    opts.external.iter().any(|external| external.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_counts() {
        assert_eq!(newest(&CriuOpts::default()), None);
        let external = vec![b"net[1]:extRootNetNS".to_vec(), b"mnt[/a]:a".to_vec()];
        let opts = CriuOpts { external: external.clone(), ..Default::default() };
        assert_eq!(newest(&opts).unwrap().1, Version::new(3, 11, 0));
        let external = [external, vec![b"pid[1]:extRootPidNS".to_vec()]].concat();
        let opts = CriuOpts { external, ..Default::default() };
        assert_eq!(newest(&opts).unwrap().0, "an external pid namespace");
    }
}
