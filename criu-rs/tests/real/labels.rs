//! Labels: the support of the machine and of CRIU, and the common parts of the tests of both
//! modules.

use std::fs;
use std::path::Path;

use criu_images::ImageSet;
use criu_images::view::Security;
use criu_lab::names;
use criu_rs::labels::{self, LabelError, LabelSupport, SecurityModule};
use criu_rs::{Cause, Dump, Error, LsmProfile, Pid, Restore};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("label_support_matches_the_machine", support),
    ("a_profile_of_a_missing_module_has_an_error_of_its_own", not_here),
];

/// The tests for the security module, the old CRIU or the cgroups of the guest. Empty outside a
/// guest.
pub fn of_guest() -> &'static [(&'static str, TestFn)] {
    match std::env::var("CRIU_RS_TEST_GUEST").as_deref() {
        Ok("apparmor") => crate::apparmor::TESTS,
        Ok("selinux") => crate::selinux::TESTS,
        Ok("libselinux") => crate::selinux::BUILT,
        Ok("old") => crate::old::TESTS,
        #[cfg(feature = "instant")]
        Ok("scarce") => crate::scarce::TESTS,
        _ => &[],
    }
}

/// Tests that Debian's CRIU supports AppArmor if it sees it, and never SELinux.
fn support(lab: &Lab) {
    let ask = |module| lab.criu.label_support(module).unwrap();
    let sees = Path::new("/sys/kernel/security/apparmor").exists();
    let apparmor = if sees { LabelSupport::Yes } else { LabelSupport::No };
    assert_eq!(ask(SecurityModule::Apparmor), apparmor);
    assert_eq!(ask(SecurityModule::Selinux), LabelSupport::No);
    assert_eq!(ask(SecurityModule::Other), LabelSupport::No);
    // Without SELinux, the tree carries no labels that count.
    let target = lab.start(&["tree", "2"]);
    let carried = labels::of_tree(target.pid).unwrap();
    let active = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if !active.contains("selinux") {
        assert_eq!(carried, []);
    }
}

fn not_here(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    let images = lab.dir("images");
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let active = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let profiles = [
        ("selinux", LsmProfile::selinux("u:r:confined_t:s0").unwrap()),
        ("apparmor", LsmProfile::apparmor("unconfined").unwrap()),
    ];
    for (module, profile) in profiles.into_iter().filter(|(module, _)| !active.contains(module)) {
        let error = Restore::new(&images).lsm_profile(profile).run(&lab.criu).unwrap_err();
        assert_eq!(error.cause(), Some(Cause::LsmMismatch), "{module}: {error}");
        assert_eq!(target.state(), None);
    }
}

/// Starts a payload that labels itself, with a file that it tries to read.
pub fn start(lab: &Lab, label: &str, secret: &Path) -> Target {
    lab.start(&["labelled", label, secret.to_str().unwrap()])
}

/// The labels of a live process, by thread.
pub fn of(pid: Pid) -> Vec<String> {
    let carried = labels::of_tree(pid).unwrap();
    carried.iter().map(|carried| carried.label.to_string()).collect()
}

/// The labels in images, by thread.
pub fn saved(images: &Path) -> Vec<Option<String>> {
    let set = ImageSet::open(images).unwrap();
    let security = Security::new(set.checkpoint().unwrap().tasks()).unwrap();
    security.threads.into_iter().map(|thread| thread.label).collect()
}

/// The label error of an operation that was refused.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> LabelError {
    match result {
        Err(Error::Label(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Asserts that the target runs on and that the directory holds no checkpoint.
#[track_caller]
pub fn untouched(target: &Target, images: &Path) {
    target.goes_on();
    let images = names(images);
    assert!(images.iter().all(|name| name == "dump.log"), "{images:?}");
}

/// Returns true if the target has read the secret file.
pub fn has_leaked(lab: &Lab) -> bool {
    fs::read(lab.dir.join("count-labelled.leak")).is_ok_and(|leak| !leak.is_empty())
}
