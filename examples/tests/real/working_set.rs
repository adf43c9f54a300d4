//! The working set of a lazy restore, as `lazy-pages` records and uses it.

use std::fs;
use std::process::{Child, Stdio};

use criu_lab::process::send;
use criu_lab::soon;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Lab, Target, TestFn, run};
use crate::links::link;

pub const TESTS: &[(&str, TestFn)] =
    &[("lazy_pages_records_a_working_set_and_brings_it_first", recorded)];

/// Starts `lazy-pages` with these words, and waits until a restore can connect.
fn start(lab: &Lab, images: &str, words: &[&str]) -> Child {
    let all = [&["lazy-pages", "-D", images, "--json", "-o", "lazy.log"], words].concat();
    let daemon = lab.command(&all).stdout(Stdio::piped()).spawn().unwrap();
    assert!(soon(|| fs::exists(format!("{images}/lazy-pages.socket")).unwrap()));
    daemon
}

/// Waits for the end of `lazy-pages`. Returns its statistics, and the log.
fn end(daemon: Child, images: &str) -> (Value, String) {
    let ended = daemon.wait_with_output().unwrap();
    let file = format!("{images}/lazy.log");
    let log = fs::read_to_string(&file).unwrap();
    fs::remove_file(file).unwrap();
    assert!(ended.status.success(), "{log}");
    let facts: Value = serde_json::from_slice(&ended.stdout).unwrap();
    (facts["statistics"]["pages"].clone(), log)
}

fn recorded(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["memory", "16"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    let restore = |target: &Target| {
        lab.done(&["restore", "-d", "-D", &images, "--lazy-pages"]);
        target.goes_on();
    };

    // Recorded until the signal. Then the other pages come.
    let daemon = start(lab, &images, &["--record"]);
    restore(&target);
    send(i32::try_from(daemon.id()).unwrap(), Signal::SIGTERM);
    let (pages, log) = end(daemon, &images);
    assert!(log.contains("restore 1: the working set has "), "{log}");
    let file = format!("{images}/working-set.bin");
    assert!(pages["touched"].as_u64().unwrap() > 10 && pages["working_set"] == 0, "{pages}");
    assert!(pages["filled"].as_u64().unwrap() > 1000, "{pages}");
    target.restored_as(target.pid);
    target.end();
    let shown = run(lab.program(link(lab, "inspect"), &[&images]));
    assert!(shown.out.contains("\nworking set "), "{shown:?}");

    // Recorded by a restore that brings the memory itself, and does not stay for the tree.
    fs::remove_file(&file).unwrap();
    lab.done(&["restore", "-d", "-D", &images, "--lazy", "--record=0.2"]);
    assert!(fs::exists(&file).unwrap());
    target.goes_on();
    target.end();

    // Used, and not used.
    let daemon = start(lab, &images, &[]);
    restore(&target);
    let (pages, log) = end(daemon, &images);
    assert!(log.contains(" pages of the working set come first\n"), "{log}");
    assert!(pages["working_set"].as_u64().unwrap() > 5, "{pages}");
    target.end();
    let daemon = start(lab, &images, &["--no-working-set"]);
    restore(&target);
    let (pages, log) = end(daemon, &images);
    assert!(!log.contains(" of the working set "), "{log}");
    assert_eq!(pages["working_set"], 0);
    target.end();

    // One that does not fit is named, and changes nothing.
    fs::write(&file, "criu-wss and more, but no number that fits").unwrap();
    let daemon = start(lab, &images, &[]);
    restore(&target);
    let (pages, log) = end(daemon, &images);
    assert!(log.contains("the working set is not used: working-set.bin: byte 8: is "), "{log}");
    assert_eq!(pages["working_set"], 0);
}
