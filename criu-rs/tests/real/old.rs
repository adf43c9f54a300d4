//! Images and pages of CRIU 3.17, on a kernel of its time.

use std::fs;
use std::path::Path;

use criu_images::{ImageSet, Severity, check};
use criu_lab::names;
use criu_rs::pages::Server;
use criu_rs::{AfterDump, Dump, NetworkLock, Restore, Tcp};

use crate::lab::{Lab, Target, TestFn};
use crate::pre_dump::{is_as_it_was, level_address, next_generation};

pub const TESTS: &[(&str, TestFn)] = &[
    ("images_of_an_old_criu_are_read_and_restored", local),
    ("images_of_an_old_criu_have_the_pages_that_our_server_took", served),
    ("images_of_an_old_criu_have_trees_and_connections", tree),
];

/// A payload that has been through all its generations.
fn start(lab: &Lab) -> Target {
    assert_eq!((lab.version.major, lab.version.minor), (3, 17), "another CRIU");
    let target = lab.start(&["levels"]);
    next_generation(lab, 1);
    next_generation(lab, 2);
    target
}

/// Nothing is wrong with a set.
fn is_whole(images: &Path) -> ImageSet {
    let set = ImageSet::open(images).unwrap();
    let findings = check(&set);
    assert!(findings.iter().all(|found| found.severity < Severity::Warning), "{findings:?}");
    set
}

fn comes_back(lab: &Lab, mut target: Target, images: &Path) {
    let before = target.count();
    let restored = Restore::new(images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    next_generation(lab, 3);
}

fn local(lab: &Lab) {
    let mut target = start(lab);
    let images = lab.dir("images");
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    is_as_it_was(&is_whole(&images), level_address(lab));
    comes_back(lab, target, &images);
}

fn served(lab: &Lab) {
    let mut target = start(lab);
    let (images, pages) = (lab.dir("images"), lab.dir("pages"));
    let server = Server::new().directory(&pages).listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = server.port();
    let served = std::thread::spawn(move || server.run(Some(1)).unwrap().remove(0).result);
    Dump::new(target.pid, &images).page_server("127.0.0.1", port).run(&lab.criu).unwrap();
    target.is_gone();
    let received = served.join().unwrap().unwrap();
    assert!(received.pages >= 2048 && received.holes == 0, "{received}");
    assert!(!names(&images).iter().any(|name| name.starts_with("pages-")));
    for name in names(&pages) {
        fs::rename(pages.join(&name), images.join(&name)).unwrap();
    }
    is_as_it_was(&is_whole(&images), level_address(lab));
    comes_back(lab, target, &images);
}

fn tree(lab: &Lab) {
    for words in [&["tree", "3"][..], &["tcp"]] {
        let target = lab.start(words);
        let images = lab.dir(words[0]);
        let dump = Dump::new(target.pid, &images).tcp(Tcp::Established);
        let dump = dump.network_lock(NetworkLock::Nftables);
        dump.after_dump(AfterDump::LeaveRunning).run(&lab.criu).unwrap();
        let set = is_whole(&images);
        let checkpoint = set.checkpoint().unwrap();
        let tasks = if words[0] == "tree" { 4 } else { 1 };
        assert_eq!(checkpoint.tasks().count(), tasks);
        assert_eq!(checkpoint.root().pid(), u32::try_from(target.pid.as_raw()).unwrap());
        for task in checkpoint.tasks() {
            assert!(!task.files().unwrap().is_empty());
            assert!(task.memory().unwrap().unwrap().totals().present > 0);
        }
        target.goes_on();
    }
}
