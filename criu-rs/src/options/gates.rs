//! The CRIU version that the options of a message need, and values that need a newer one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use prost::Message;

use super::fields::field_numbers;
use super::info::OptionInfo;
use super::table::OPTIONS;
use crate::rpc::CriuOpts;
use crate::value::Version;

/// Returns the newest option in a message, if it is newer than `version`.
pub(crate) fn newer_than(version: Version, message: &CriuOpts) -> Option<&'static OptionInfo> {
    options_in(message).filter(|option| option.since > version).max_by_key(|option| option.since)
}

/// Returns the rows of the options that a message sets.
pub(crate) fn options_in(message: &CriuOpts) -> impl Iterator<Item = &'static OptionInfo> {
    let numbers = field_numbers(&message.encode_to_vec());
    OPTIONS.iter().filter(move |option| numbers.contains(&option.number))
}

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
    use super::super::opts::Opts;
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

    #[test]
    fn an_old_criu_is_told_from_the_message_itself() {
        let mut opts = Opts::new("/".into(), "x.log");
        assert_eq!(newer_than(Version::OLDEST, opts.message()), None);
        Opts::leave_stopped(&mut opts, true);
        Opts::skip_file_rwx_check(&mut opts, true);
        let newest = newer_than(Version::new(3, 17, 1), opts.message()).unwrap();
        assert_eq!(newest.name, "leave_stopped");
        assert_eq!(newer_than(Version::new(3, 19, 0), opts.message()), None);
    }
}
