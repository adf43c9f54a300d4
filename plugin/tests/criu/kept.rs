//! Dumps of tasks that still have the holders of earlier dumps.

use std::fs;

use criu_images::ImageSet;
use criu_lab::process::{descendants, send};
use criu_plugin::inject;
use criu_plugin::journal::{Field, Head, Plugin, State};
use nix::sys::signal::Signal;

use crate::lab::{Dump, Entry, Lab, Ledger, Target, TestFn};
use crate::pages::check;
use crate::payload::parts_of;

pub const TESTS: &[(&str, TestFn)] = &[
    ("holders_of_earlier_dumps_are_hidden", hidden),
    ("holders_that_cannot_be_hidden_fail_the_dump", refused),
];

fn hidden(lab: &Lab) {
    let target = lab.start(&["parts", "2", "2", "small:4096", "huge:1024"]);
    let tasks = descendants(target.pid).len();
    let mut kept: Vec<Entry> = Vec::new();
    for round in 0..3 {
        let (dump, ledger) = dump(lab, &target, &format!("round-{round}"), &kept);
        let dump = dump.succeeds();
        assert_eq!(saved(&dump), tasks, "round {round}");
        let of_now = |record: &Entry| record.state != State::Kept;
        let records: Vec<Entry> = ledger.records().into_iter().filter(of_now).collect();
        assert_eq!(records.len(), tasks);
        assert!(records.iter().all(|record| record.state == State::Held), "{records:?}");
        check(&parts_of(target.file()), &dump, &ledger.record(target.pid));
        kept.extend(records);
        target.goes_on();
    }
    assert!(kept.iter().all(|record| inject::parked(record.holder).is_some()));
    // Without their records they are tasks.
    let none = Ledger::new(u64::MAX, &[]);
    let all = lab.dump("all", target.pid, &none, &["--leave-running"]).succeeds();
    assert_eq!(saved(&all), tasks + kept.len());
    end_holders(&target);
}

/// This CRIU asks for another thing than scans of pagemaps, so that the plugin refuses it.
fn refused(lab: &Lab) {
    let mut program = fs::read(&lab.criu).unwrap();
    let number = 0xc060_6610_u32.to_le_bytes();
    let places: Vec<usize> =
        (0..program.len() - 4).filter(|at| program[*at..][..4] == number).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| program[*at] = 0x7f);
    let path = lab.dir.join("criu");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::metadata(&lab.criu).unwrap().permissions()).unwrap();
    let other = Lab { criu: path, dir: lab.dir.clone() };

    let target = lab.start(&["parts", "0", "0", "small:512"]);
    let (first, ledger) = dump(lab, &target, "first", &[]);
    first.succeeds();
    let record = ledger.record(target.pid);
    assert_eq!(record.state, State::Held);
    let (second, ledger) = dump(&other, &target, "second", &[record]);
    let log = second.fails().log();
    assert!(log.contains("criu-rs"), "{log}");
    assert_eq!(ledger.plugin().0, Plugin::Refused as u64);
    // Without a holder to hide, a plugin that refuses fails no dump.
    end_holders(&target);
    let (third, ledger) = dump(&other, &target, "third", &[]);
    third.succeeds();
    assert_eq!(ledger.plugin().0, Plugin::Refused as u64);
    target.goes_on();
}

/// Dumps a tree with a journal that names holders of earlier dumps.
fn dump(lab: &Lab, target: &Target, name: &str, kept: &[Entry]) -> (Dump, Ledger) {
    let ledger = Ledger::with(1, |journal| {
        for entry in kept {
            let record = journal.add(0).unwrap();
            record.set(Field::Holder, u64::from(entry.holder.unsigned_abs()));
            record.set(Field::HolderStart, entry.holder_start);
            record.pass(State::Kept);
        }
        assert_eq!(journal.head(Head::Count), kept.len() as u64);
    });
    (lab.dump(name, target.pid, &ledger, &["--leave-running"]), ledger)
}

/// The number of tasks in the images.
fn saved(dump: &Dump) -> usize {
    ImageSet::open(&dump.images).unwrap().checkpoint().unwrap().tasks().count()
}

fn end_holders(target: &Target) {
    for pid in descendants(target.pid) {
        if inject::parked(pid).is_some() {
            assert!(send(pid, Signal::SIGKILL));
        }
    }
    target.goes_on();
}
