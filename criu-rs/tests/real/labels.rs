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
    ("what_criu_says_of_labels_is_what_the_machine_has", support),
    ("a_profile_of_a_module_that_is_not_here_is_told_as_such", not_here),
];

/// The tests of the module that the guest runs, or of its old CRIU: elsewhere there is none to
/// test.
pub fn of_guest() -> &'static [(&'static str, TestFn)] {
    match std::env::var("CRIU_RS_TEST_GUEST").as_deref() {
        Ok("apparmor") => crate::apparmor::TESTS,
        Ok("selinux") => crate::selinux::TESTS,
        Ok("libselinux") => crate::selinux::BUILT,
        Ok("old") => crate::old::TESTS,
        _ => &[],
    }
}

/// Debian's CRIUs know AppArmor where they see it, and SELinux nowhere.
fn support(lab: &Lab) {
    let ask = |module| lab.criu.label_support(module).unwrap();
    let sees = Path::new("/sys/kernel/security/apparmor").exists();
    let apparmor = if sees { LabelSupport::Yes } else { LabelSupport::No };
    assert_eq!(ask(SecurityModule::Apparmor), apparmor);
    assert_eq!(ask(SecurityModule::Selinux), LabelSupport::No);
    assert_eq!(ask(SecurityModule::Other), LabelSupport::No);
    // Nothing that asks may find a process.
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

/// What a refusal for the sake of a label says.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> LabelError {
    match result {
        Err(Error::Label(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// The target runs on, and nothing in the directory passes for a checkpoint.
#[track_caller]
pub fn untouched(target: &Target, images: &Path) {
    target.goes_on();
    let images = names(images);
    assert!(images.iter().all(|name| name == "dump.log"), "{images:?}");
}

/// Whether the target has read what it should not.
pub fn has_leaked(lab: &Lab) -> bool {
    fs::read(lab.dir.join("count-labelled.leak")).is_ok_and(|leak| !leak.is_empty())
}
