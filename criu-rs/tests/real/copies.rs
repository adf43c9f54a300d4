//! Copies of containers, and what a dump keeps for them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use criu_lab::rootfs::everybody;
use criu_lab::soon;
use criu_rs::copies::{Arrival, Identity, Space};
use criu_rs::{CopyNotice, Dump, Error, Restore};
use nix::sched::CloneFlags;

use crate::container::{Container, Plan};
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_copy_in_a_container_learns_who_it_is", in_container),
    ("a_copy_in_a_user_namespace_owns_its_identity", in_user_namespace),
    ("a_copy_that_cannot_be_told_does_not_run", not_told),
    ("a_failed_dump_leaves_no_notice", failed_dump),
    ("only_the_first_process_of_a_namespace_enters_a_space", space),
];

/// A container that has been dumped, with the notice for its copies.
fn dumped(lab: &Lab, namespaces: CloneFlags) -> (Container, String) {
    let images = lab.dir("images");
    let payload = ["copy", "/old", "/dev/copy"];
    let plan = Plan { namespaces: Some(namespaces), payload: &payload, ..Plan::default() };
    let mut container = Container::launch(lab, &plan);
    let notice = CopyNotice::new().file("/dev/copy").unwrap().signal_named("USR2").unwrap();
    let dump = Dump::new(container.target.pid, &images).copy_notice(notice.clone());
    dump.run(&lab.criu).unwrap();
    container.is_gone();
    let images = images.to_string_lossy().into_owned();
    assert_eq!(CopyNotice::read(&(&images).into()).unwrap(), Some(notice));
    (container, images)
}

fn told(lab: &Lab, namespaces: CloneFlags) {
    let (mut container, images) = dumped(lab, namespaces);
    let count = container.target.count();
    everybody(&container.root.join("old"), 0o777);
    let notice = CopyNotice::read(&(&images).into()).unwrap().unwrap();
    let identity = Identity::new(7, 9, "box-7").unwrap().variable("PORT", "8007").unwrap();
    let text = identity.text();
    let mut arrival = Arrival::new(identity, notice);
    let restore = Restore::new(&images).root(&container.root);
    let restored = restore.run_with(&lab.criu, &mut arrival).unwrap();
    container.target.restored_as(restored.pid);
    let report = container.root.join("old/box-7");
    assert!(soon(|| report.exists()), "it has not reported");
    let said = fs::read_to_string(report).unwrap();
    let (facts, seen) = said.split_once('\n').unwrap();
    let counted = facts.split(' ').nth(3).unwrap().parse::<u64>().unwrap();
    assert!(counted <= count + 1, "{facts}, {count} at the dump");
    assert!(
        facts.starts_with("pid 1 ") && facts.ends_with("mode 600 uid 0 memory right"),
        "{facts}"
    );
    assert_eq!(seen, text);
    // Outside there is another file, which goes with the copy.
    let outside = container.root.join("dev/copy");
    assert!(fs::read_to_string(&outside).unwrap().contains("Not a copy"));
    assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o600);
    drop(arrival);
    assert!(!outside.exists(), "the file outside is left");
}

fn in_container(lab: &Lab) {
    told(lab, CloneFlags::CLONE_NEWUTS);
}

fn in_user_namespace(lab: &Lab) {
    told(lab, CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWUSER);
}

fn not_told(lab: &Lab) {
    let (container, images) = dumped(lab, CloneFlags::CLONE_NEWUTS);
    let count = container.target.count();
    // A link out of the container leads to a place inside.
    std::os::unix::fs::symlink("/tmp", container.root.join("out")).unwrap();
    for (file, why) in [
        ("/nowhere/copy", "its directory cannot be opened"),
        ("/out/copy", "its directory cannot be opened"),
        ("/proc/1/root/copy", "its directory cannot be opened"),
        ("/dev/null", "there is something else than a file"),
    ] {
        let notice = CopyNotice::new().file(file).unwrap();
        let mut arrival = Arrival::new(Identity::new(1, 1, "box").unwrap(), notice);
        let restore = Restore::new(&images).root(&container.root);
        let error = restore.run_with(&lab.criu, &mut arrival).unwrap_err();
        let Error::Hook { source, .. } = &error else { panic!("{file}: {error}") };
        assert!(source.to_string().contains(why), "{file}: {source}");
    }
    assert_eq!(container.target.count(), count, "a copy that is not told has run");
}

fn failed_dump(lab: &Lab) {
    let images = lab.dir("images");
    let notice = CopyNotice::new().signal(1).unwrap();
    let gone = "999999".parse().unwrap();
    Dump::new(gone, &images).copy_notice(notice).run(&lab.criu).unwrap_err();
    assert_eq!(CopyNotice::read(&(&images).into()).unwrap(), None);
}

fn space(_: &Lab) {
    let error = Space::new("copy").enter().unwrap_err();
    assert!(error.to_string().contains("not the first of a pid namespace"), "{error}");
}
