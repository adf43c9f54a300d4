//! SELinux contexts and a CRIU that was built without SELinux, in a guest that enforces a policy.
//! There `free_t` may do everything, and `confined_t` may not read files of `secret_t`.

use std::fs;
use std::path::PathBuf;

use criu_lab::{names, soon};
use criu_rs::labels::{Attribute, Label, LabelError, LabelProblem, LabelSupport, SecurityModule};
use criu_rs::{Cause, Dump, Error, LsmProfile, PreDump, PreDumpSession, Restore};

use crate::lab::{Lab, TestFn};
use crate::labels::{has_leaked, of, refused, saved, start, untouched};
use crate::service::Service;

pub const TESTS: &[(&str, TestFn)] = &[
    ("selinux_confinement_that_criu_cannot_save_stops_the_dump", stopped),
    ("selinux_confinement_that_criu_cannot_save_stops_a_series", stopped_series),
    ("selinux_confinement_that_is_accepted_as_lost_is_lost", lost),
    ("selinux_label_lost_by_a_service", unsaved),
    ("selinux_label_for_sockets_stops_the_dump", sockets),
    ("selinux_label_of_criu_itself_is_no_loss", own),
    ("selinux_label_asked_of_a_criu_without_selinux_has_an_error_of_its_own", asked),
];

/// Tests for a CRIU that was built with SELinux, if one is available.
pub const BUILT: &[(&str, TestFn)] = &[
    ("libselinux_keeps_contexts", kept),
    ("libselinux_keeps_contexts_of_sockets", kept_for_sockets),
    ("libselinux_replaces_contexts", replaced),
    ("libselinux_leaves_a_context_that_the_policy_lacks", unknown),
];

const FREE: &str = "u:r:free_t:s0-s0:c0.c3";
const CONFINED: &str = "u:r:confined_t:s0:c1";

/// Makes a file that `confined_t` may not read.
fn secret(lab: &Lab) -> PathBuf {
    let file = lab.dir.join("secret");
    let label = |label: &str| fs::write("/proc/thread-self/attr/fscreate", label).unwrap();
    label("u:object_r:secret_t:s0");
    fs::write(&file, "secret").unwrap();
    label("\n");
    file
}

/// Asserts the error for a confined process whose dump is refused before criu is asked.
fn is_explained(error: &LabelError) {
    let own = Label::new(SecurityModule::Selinux, FREE);
    match &error.problem {
        LabelProblem::NoSupport { instead } => assert_eq!(*instead, Some(own)),
        other => panic!("{other:?}"),
    }
    assert_eq!(error.label, Label::new(SecurityModule::Selinux, CONFINED));
    assert_eq!((error.attribute, error.more), (Attribute::Current, 1));
    let said = error.to_string();
    for part in ["dump refused", CONFINED, "built without SELinux", FREE, "accept_label_loss"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

fn stopped(lab: &Lab) {
    assert_eq!(lab.criu.label_support(SecurityModule::Selinux).unwrap(), LabelSupport::No);
    let target = start(lab, CONFINED, &secret(lab));
    assert_eq!(of(target.pid), [CONFINED, CONFINED]);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let foreseen = dump.preflight(&lab.criu).unwrap();
    assert!(foreseen.foresees(Cause::NoSelinux) && !foreseen.will_work(), "{foreseen}");
    assert!(foreseen.to_string().contains(CONFINED), "{foreseen}");
    let accepted = dump.clone().accept_label_loss(true).preflight(&lab.criu).unwrap();
    assert!(accepted.will_work(), "{accepted}");
    is_explained(&refused(dump.run(&lab.criu)));
    assert_eq!(names(&images), [""; 0], "nothing was asked of criu");
    let pool = criu_rs::pages::Pool::new(1 << 20).unwrap();
    let captured = Dump::new(target.pid, &images).capture(&lab.criu, pool, &mut ());
    is_explained(&refused(captured));
    untouched(&target, &images);
    assert!(!has_leaked(lab));
    // A pre-dump saves only memory, so labels do not matter.
    PreDump::new(target.pid, lab.dir("pre")).run(&lab.criu).unwrap();
}

fn stopped_series(lab: &Lab) {
    let target = start(lab, CONFINED, &secret(lab));
    let (first, last) = (lab.dir("0"), lab.dir("1"));
    let mut series = PreDumpSession::new(&lab.criu);
    series.pre_dump(&PreDump::new(target.pid, &first), &mut ()).unwrap();
    let dump = Dump::new(target.pid, &last).parent_img("../0").track_mem(true);
    is_explained(&refused(series.dump(&dump, &mut ())));
    untouched(&target, &last);
}

/// Tests that the label is lost without the guard.
fn lost(lab: &Lab) {
    let mut target = start(lab, CONFINED, &secret(lab));
    let images = lab.dir("images");
    Dump::new(target.pid, &images).accept_label_loss(true).run(&lab.criu).unwrap();
    assert_eq!(saved(&images), [None, None]);
    target.is_gone();
    assert!(!has_leaked(lab));
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), [FREE, FREE]);
    assert!(soon(|| has_leaked(lab)), "it is still confined");
}

fn unsaved(lab: &Lab) {
    let target = start(lab, CONFINED, &secret(lab));
    let service = Service::start(lab);
    let images = lab.dir("images");
    let error = refused(Dump::new(target.pid, &images).run(&service.criu()));
    assert!(matches!(error.problem, LabelProblem::NotInImages(None)), "{error}");
    untouched(&target, &images);
    assert_eq!(of(target.pid), [CONFINED, CONFINED]);
}

fn sockets(lab: &Lab) {
    let secret = secret(lab);
    let next = "sockcreate=u:r:other_t:s0";
    let target = lab.start(&["labelled", FREE, secret.to_str().unwrap(), next]);
    let images = lab.dir("images");
    let error = refused(Dump::new(target.pid, &images).run(&lab.criu));
    assert_eq!(
        (error.attribute, error.label.to_string()),
        (Attribute::Sockcreate, "u:r:other_t:s0".into())
    );
    assert!(error.to_string().contains("for its sockets"), "{error}");
    untouched(&target, &images);
}

fn own(lab: &Lab) {
    let mut target = start(lab, FREE, &secret(lab));
    let images = lab.dump(&mut target);
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), [FREE, FREE]);
}

fn asked(lab: &Lab) {
    let mut target = start(lab, FREE, &secret(lab));
    let images = lab.dump(&mut target);
    let restore = Restore::new(&images).lsm_profile(LsmProfile::selinux(CONFINED).unwrap());
    let error = refused(restore.run(&lab.criu));
    assert!(matches!(error.problem, LabelProblem::NoSupport { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(CONFINED) && said.contains("built without SELinux"), "{said}");
    assert_eq!(target.state(), None);
    // CRIU's own message blames the kernel.
    let theirs = restore.accept_label_loss(true).run(&lab.criu).unwrap_err();
    assert!(matches!(theirs, Error::Failed(_)), "{theirs}");
    assert_eq!(theirs.cause(), Some(Cause::NoSelinux), "{theirs}");
    assert_eq!(target.state(), None);
}

fn kept(lab: &Lab) {
    assert_eq!(lab.criu.label_support(SecurityModule::Selinux).unwrap(), LabelSupport::Yes);
    let mut target = start(lab, CONFINED, &secret(lab));
    let images = lab.dump(&mut target);
    assert_eq!(saved(&images), [Some(CONFINED.to_owned()), Some(CONFINED.to_owned())]);
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), [CONFINED, CONFINED]);
    assert!(!has_leaked(lab));
}

fn kept_for_sockets(lab: &Lab) {
    let secret = secret(lab);
    let next = "sockcreate=u:r:other_t:s0";
    let mut target = lab.start(&["labelled", FREE, secret.to_str().unwrap(), next]);
    let before = of(target.pid);
    assert_eq!(before, [FREE, "u:r:other_t:s0", FREE, "u:r:other_t:s0"], "both threads");
    let images = lab.dump(&mut target);
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), before);
}

fn replaced(lab: &Lab) {
    let mut target = start(lab, FREE, &secret(lab));
    let images = lab.dump(&mut target);
    let restore = Restore::new(&images).lsm_profile(LsmProfile::selinux(CONFINED).unwrap());
    let restored = restore.run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), [CONFINED, CONFINED]);
}

fn unknown(lab: &Lab) {
    let mut target = start(lab, CONFINED, &secret(lab));
    let images = lab.dump(&mut target);
    let profile = LsmProfile::selinux("u:r:nothing_t:s0").unwrap();
    let error = refused(Restore::new(&images).lsm_profile(profile).run(&lab.criu));
    assert!(matches!(error.problem, LabelProblem::Unknown(_)), "{error}");
    assert!(error.to_string().contains("no context u:r:nothing_t:s0"), "{error}");
    assert_eq!(target.state(), None);
}
