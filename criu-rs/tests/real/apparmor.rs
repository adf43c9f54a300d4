//! AppArmor profiles over dump and restore, in a guest whose kernel has AppArmor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criu_lab::process::reap;
use criu_lab::{names, soon};
use criu_rs::labels::{Attribute, LabelProblem, LabelSupport, SecurityModule};
use criu_rs::{Criu, Dump, Error, LsmProfile, Restore};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::container::Container;
use crate::lab::{Lab, Target, TestFn};
use crate::labels::{has_leaked, of, refused, saved, start, untouched};
use crate::service::Service;

pub const TESTS: &[(&str, TestFn)] = &[
    ("apparmor_profile_is_kept", kept),
    ("apparmor_profile_is_replaced", replaced),
    ("apparmor_profile_of_a_container_is_kept", contained),
    ("apparmor_profiles_of_threads_are_kept", threads),
    ("apparmor_profile_whose_name_criu_cuts_stops_the_dump", cut),
    ("apparmor_profile_that_is_not_loaded_stops_the_restore", missing),
    ("apparmor_profiles_in_a_stack_are_kept", stacked),
    ("apparmor_profile_that_criu_does_not_see_stops_the_dump", unseen),
    ("apparmor_profile_lost_by_a_service", unsaved),
    ("apparmor_profile_that_criu_does_not_set_stops_the_restore", unset),
    ("apparmor_profile_for_the_next_program_stops_the_dump", pending),
];

/// Loads a profile that forbids reading files named `secret`.
fn load(lab: &Lab, name: &str, namespace: Option<&str>) -> PathBuf {
    let text = format!(
        "profile \"{name}\" flags=(attach_disconnected,mediate_deleted) {{\n\
         file, capability, signal, ptrace, unix, network, mount, umount, change_profile,\n\
         deny /**/secret r,\n}}\n"
    );
    let file = lab.dir.join(format!("{name}.profile"));
    fs::write(&file, text).unwrap();
    parser(&["--replace"], namespace, &file);
    file
}

fn parser(words: &[&str], namespace: Option<&str>, file: &Path) {
    let namespace = namespace.into_iter().flat_map(|name| ["--namespace", name]);
    let mut parser = Command::new("apparmor_parser");
    parser.args(words).args(["--skip-cache", "--quiet"]).args(namespace).arg(file);
    let output = parser.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn secret(lab: &Lab) -> PathBuf {
    let file = lab.dir.join("secret");
    fs::write(&file, "secret").unwrap();
    file
}

/// Starts a confined payload.
fn confined(lab: &Lab, profile: &str) -> Target {
    let target = start(lab, &format!("changeprofile {profile}"), &secret(lab));
    assert_eq!(of(target.pid), [profile, profile], "both threads");
    assert!(!has_leaked(lab));
    target
}

fn kept(lab: &Lab) {
    load(lab, "kept", None);
    let mut target = confined(lab, "kept");
    let images = lab.dump(&mut target);
    assert_eq!(saved(&images), [Some("kept".to_owned()), Some("kept".to_owned())]);
    let before = target.count();
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    assert_eq!(of(target.pid), ["kept", "kept"]);
    assert!(!has_leaked(lab));
}

fn replaced(lab: &Lab) {
    load(lab, "first", None);
    load(lab, "second", None);
    let mut target = confined(lab, "first");
    let images = lab.dump(&mut target);
    let with = |profile| {
        Restore::new(&images).lsm_profile(LsmProfile::apparmor(profile).unwrap()).run(&lab.criu)
    };
    let error = refused(with("third"));
    assert!(matches!(error.problem, LabelProblem::Unknown(_)), "{error}");
    assert!(error.to_string().contains("no AppArmor profile third is loaded here"), "{error}");
    assert_eq!(target.state(), None);
    let restored = with("second").unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), ["second", "second"]);
}

/// Tests a container, whose processes have other ids in the images than outside.
fn contained(lab: &Lab) {
    load(lab, "contained", None);
    let mut container = Container::start_confined(lab, "contained");
    assert_eq!(of(container.target.pid), ["contained"]);
    let images = lab.dir("images");
    Dump::new(container.target.pid, &images).run(&lab.criu).unwrap();
    container.is_gone();
    assert_eq!(saved(&images), [Some("contained".to_owned())]);
    let restored = Restore::new(&images).root(&container.root).run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
    assert_eq!(of(container.target.pid), ["contained"]);
}

fn threads(lab: &Lab) {
    load(lab, "leader", None);
    load(lab, "follower", None);
    let secret = secret(lab);
    let secret = secret.to_str().unwrap();
    let nothing = "current=changeprofile leader";
    let follower = "changeprofile follower";
    let mut target = lab.start(&["labelled", "changeprofile leader", secret, nothing, follower]);
    assert_eq!(of(target.pid), ["leader", "follower"]);
    let images = lab.dump(&mut target);
    assert_eq!(saved(&images), [Some("leader".to_owned()), Some("follower".to_owned())]);
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), ["leader", "follower"]);
}

/// Tests a name with a blank, at which CRIU cuts it.
fn cut(lab: &Lab) {
    load(lab, "with blank", None);
    let target = confined(lab, "with blank");
    let images = lab.dir("images");
    let error = refused(Dump::new(target.pid, &images).run(&lab.criu));
    assert!(
        matches!(&error.problem, LabelProblem::NotInImages(Some(found)) if found.as_bytes() == b"with")
    );
    assert_eq!((error.label.as_bytes(), error.more), (&b"with blank"[..], 1));
    assert!(error.to_string().contains("without blanks"), "{error}");
    untouched(&target, &images);
}

fn missing(lab: &Lab) {
    let profile = load(lab, "missing", None);
    let mut target = confined(lab, "missing");
    let images = lab.dump(&mut target);
    parser(&["--remove"], None, &profile);
    let error = refused(Restore::new(&images).run(&lab.criu));
    assert_eq!((error.operation, error.label.as_bytes()), ("restore", &b"missing"[..]));
    assert_eq!(error.more, 1, "the other thread");
    assert!(error.to_string().contains("no AppArmor profile missing is loaded here"), "{error}");
    // With several threads, CRIU itself waits for ever for the thread that could not be created.
    let theirs = Restore::new(&images).accept_label_loss(true).deadline(Duration::from_secs(4));
    let error = theirs.run(&lab.criu).unwrap_err();
    assert!(matches!(error, Error::Stopped(_)), "{error}");
    assert!(soon(|| target.state().is_none()), "{:?}", target.state());
    parser(&["--replace"], None, &profile);
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), ["missing", "missing"]);
}

fn stacked(lab: &Lab) {
    let namespace = format!("ns{}", lab.version.to_string().replace('.', ""));
    load(lab, "outer", None);
    load(lab, "inner", Some(&namespace));
    let outer = "changeprofile outer";
    let inner = format!("current=stack :{namespace}:inner");
    let secret = secret(lab);
    let mut target = lab.start(&["labelled", outer, secret.to_str().unwrap(), &inner]);
    let label = format!("outer//&:{namespace}:inner");
    assert_eq!(of(target.pid), [&*label, &*label]);
    let images = lab.dump(&mut target);
    assert_eq!(saved(&images), [Some(label.clone()), Some(label.clone())]);
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), [&*label, &*label]);
    assert!(!has_leaked(lab));
}

/// Hides AppArmor from CRIU until dropped. CRIU looks for it in securityfs and keeps its findings
/// in `/run`.
struct Blind;

impl Blind {
    fn new() -> Self {
        umount2(SECURITYFS, MntFlags::MNT_DETACH).unwrap();
        let _ = fs::remove_file(KDAT);
        Self
    }
}

impl Drop for Blind {
    fn drop(&mut self) {
        mount(Some("sec"), SECURITYFS, Some("securityfs"), MsFlags::empty(), None::<&str>).unwrap();
        let _ = fs::remove_file(KDAT);
    }
}

const SECURITYFS: &str = "/sys/kernel/security";
const KDAT: &str = "/run/criu.kdat";

fn unseen(lab: &Lab) {
    load(lab, "unseen", None);
    let mut target = confined(lab, "unseen");
    let _blind = Blind::new();
    let criu = Criu::at(&lab.program);
    assert_eq!(criu.label_support(SecurityModule::Apparmor).unwrap(), LabelSupport::No);
    let images = lab.dir("images");
    let foreseen = Dump::new(target.pid, &images).preflight(&criu).unwrap();
    assert!(!foreseen.will_work() && foreseen.to_string().contains("unseen"), "{foreseen}");
    let error = refused(Dump::new(target.pid, &images).run(&criu));
    assert!(matches!(error.problem, LabelProblem::NoSupport { .. }), "{error}");
    assert_eq!((error.label.as_bytes(), error.more), (&b"unseen"[..], 1));
    untouched(&target, &images);
    assert_eq!(names(&images), [""; 0], "nothing was asked of criu");
    // The refused dump would really lose the label.
    Dump::new(target.pid, &images).accept_label_loss(true).run(&criu).unwrap();
    assert_eq!(saved(&images), [None, None]);
    target.is_gone();
    assert!(!has_leaked(lab));
    let restored = Restore::new(&images).run(&criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert_eq!(of(target.pid), [""; 0]);
    assert!(soon(|| has_leaked(lab)), "it is still confined");
}

fn unsaved(lab: &Lab) {
    load(lab, "unsaved", None);
    let target = confined(lab, "unsaved");
    let _blind = Blind::new();
    let service = Service::start(lab);
    let images = lab.dir("images");
    let error = refused(Dump::new(target.pid, &images).run(&service.criu()));
    assert!(matches!(error.problem, LabelProblem::NotInImages(None)), "{error}");
    assert!(error.to_string().contains("CRIU has written none into the images"), "{error}");
    untouched(&target, &images);
    assert_eq!(of(target.pid), ["unsaved", "unsaved"]);
    drop(target);
    drop(service);
}

fn unset(lab: &Lab) {
    load(lab, "unset", None);
    let mut target = lab.start(&["count"]);
    let images = lab.dump(&mut target);
    // CRIU replaces labels, but gives no label to a task without one.
    let restore = Restore::new(&images).lsm_profile(LsmProfile::apparmor("unset").unwrap());
    let error = refused(restore.run(&lab.criu));
    assert!(matches!(error.problem, LabelProblem::NotRestored(_)), "{error}");
    assert!(soon(|| target.state().is_none()), "{:?}", target.state());
    // This crate does not end a service before it lets the task run.
    let service = Service::start(lab);
    let error = refused(restore.run(&service.criu()));
    assert!(matches!(error.problem, LabelProblem::NotRestored(_)), "{error}");
    target.is_gone_alone();
    drop(service);
    // The task has ended as a child of the service.
    let reaped = || {
        reap();
        target.state().is_none()
    };
    assert!(soon(reaped), "{:?}", target.state());
    let before = target.count();
    let restored = restore.accept_label_loss(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before, "it ran on in spite of the refusal");
    assert_eq!(of(target.pid), [""; 0]);
}

fn pending(lab: &Lab) {
    load(lab, "pending", None);
    let secret = secret(lab);
    let words =
        ["labelled", "changeprofile unconfined", secret.to_str().unwrap(), "exec=exec pending"];
    let target = lab.start(&words);
    let images = lab.dir("images");
    let error = refused(Dump::new(target.pid, &images).run(&lab.criu));
    assert!(matches!(error.problem, LabelProblem::NoPlace), "{error}");
    assert_eq!((error.attribute, error.label.as_bytes()), (Attribute::Exec, &b"pending"[..]));
    untouched(&target, &images);
}
