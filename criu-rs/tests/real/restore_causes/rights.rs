//! Rights that a restore does not have, and programs that CRIU does not find.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use caps::{CapSet, Capability};
use criu_rs::{Cause, Restore};

use super::{cause, fails, saved};
use crate::causes::wrapped;
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("restore_says_which_rights_are_missing", capabilities),
    ("restore_says_that_a_filter_forbids_a_call", filtered),
    ("restore_names_the_program_that_is_missing", programs),
];

fn capabilities(lab: &Lab) {
    let saved = saved(lab, lab.start(&["count"]), |dump| dump);
    let restore = Restore::new(&saved.images);
    for less in ["net_admin", "sys_admin"] {
        let command = format!("setpriv --bounding-set=-{less} --inh-caps=-{less}");
        let expected = cause(Cause::MissingCapability, "", "run criu as root");
        fails(&wrapped(lab, &command), &restore, &expected);
    }
    // criu inherits this loss.
    for less in [Capability::CAP_NET_RAW, Capability::CAP_SETUID] {
        for set in [CapSet::Inheritable, CapSet::Bounding] {
            caps::drop(None, set, less).unwrap();
        }
        let name = less.to_string().to_lowercase();
        let advice = "with all capabilities of the saved processes";
        fails(&lab.criu, &restore, &cause(Cause::CapabilityNotHeld, &name, advice));
    }
}

fn filtered(lab: &Lab) {
    let saved = saved(lab, lab.start(&["count"]), |dump| dump);
    let restore = Restore::new(&saved.images);
    let program = std::env::current_exe().unwrap();
    // ptrace, unshare, mount.
    for number in [101, 272, 165] {
        let words = format!("{} --payload forbidding /dev/null {number}", program.display());
        let error = restore.run(&wrapped(lab, &words)).unwrap_err();
        let known = [Some(Cause::NotPermitted), Some(Cause::MissingCapability)];
        assert!(known.contains(&error.cause()), "{number}: {error}");
        assert!(error.to_string().contains("run criu as root"), "{error}");
    }
}

fn programs(lab: &Lab) {
    let saved = saved(lab, lab.python_in(&["unshare", "--net"], ""), |dump| dump);
    let restore = Restore::new(&saved.images);
    let expected = cause(Cause::MissingProgram, "program ip", "install it and look at PATH");
    fails(&lab.criu.clone().env("PATH", "/nonexistent"), &restore, &expected);
    // A program that does not work.
    let folder = lab.dir("bin");
    for name in ["ip", "iptables-restore", "ip6tables-restore"] {
        let script = folder.join(name);
        fs::write(&script, "#!/bin/sh\nexit 2\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let expected = cause(Cause::ProgramFailed, "", "look at the lines that it printed");
    let broken = lab.criu.clone().env("PATH", folder.to_str().unwrap());
    let error = restore.run(&broken).unwrap_err();
    assert_eq!(error.cause(), Some(expected.cause), "{error}");
    assert!(error.to_string().contains(expected.advice), "{error}");
}
