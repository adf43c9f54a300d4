//! Dumps with the plugin in which no task has a holder.

use criu_plugin::journal::{Plugin, State};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Ledger, TestFn};
use crate::memory::KINDS;

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_dump_that_holds_nothing_is_a_plain_dump", same),
    ("without_a_journal_the_plugin_does_nothing", alone),
];

/// Words for a process with memory of all kinds.
const ZOO: &[&str] = &["parts", "2", "2"];

fn same(lab: &Lab) {
    let target = lab.start(&[ZOO, KINDS].concat());
    let tree = criu_lab::process::descendants(target.pid);
    assert_eq!(tree.len(), 3);
    for pid in &tree {
        assert!(criu_lab::process::send(*pid, Signal::SIGSTOP));
        assert!(criu_lab::soon(|| criu_lab::process::is_stopped(*pid)));
    }
    let plain = lab.plain("plain", target.pid, &["--leave-running"]).succeeds();
    let verdicts = [(target.pid, State::Unwanted)];
    let ledger = Ledger::new(u64::MAX, &verdicts);
    let with = lab.dump("with", target.pid, &ledger, &["--leave-running"]).succeeds();
    ledger.is_ready();
    let record = ledger.record(target.pid);
    assert_eq!((record.state, record.inner), (State::Unwanted, target.pid.unsigned_abs().into()));
    // The children are none that the journal knows, and small.
    let states: Vec<_> = ledger.records().iter().map(|record| record.state).collect();
    assert_eq!(states, [State::Unwanted, State::GivenUp, State::GivenUp]);
    compare(&plain.files(), &with.files());
    for pid in tree {
        assert!(criu_lab::process::send(pid, Signal::SIGCONT));
    }
    target.goes_on();
}

/// Compares images of the same stopped processes. They differ in the number of the dump, the clock,
/// and the number of the CPU that a thread has run on.
fn compare(
    plain: &std::collections::BTreeMap<String, Vec<u8>>,
    with: &std::collections::BTreeMap<String, Vec<u8>>,
) {
    assert_eq!(plain.keys().collect::<Vec<_>>(), with.keys().collect::<Vec<_>>());
    for (name, bytes) in plain {
        let other = &with[name];
        if name.starts_with("pages-") {
            assert_eq!(bytes.len(), other.len(), "{name}");
            let differ = bytes.iter().zip(other).filter(|(one, other)| one != other).count();
            assert!(differ <= 64, "{differ} bytes of {name} differ");
        } else if !name.starts_with("inventory") && !name.starts_with("timens") {
            assert!(bytes == other, "{name} differs");
        }
    }
}

fn alone(lab: &Lab) {
    let target = lab.start(&[ZOO, KINDS].concat());
    let images = lab.dir.join("images");
    let mut command = lab.command(&images, target.pid, &["--leave-running"]);
    let child = command.env("CRIU_LIBS_DIR", lab.libraries()).spawn().unwrap();
    let dump = crate::lab::Dump::wait(child, images).succeeds();
    assert!(dump.log().contains("criu-rs"), "the plugin is not loaded");
    // Somebody could make this file smaller while criu has it mapped.
    let unsealed = Ledger::unsealed();
    unsealed.file().set_len(65_536).unwrap();
    lab.dump("unsealed", target.pid, &unsealed, &["--leave-running"]).succeeds();
    let empty = Ledger::new(u64::MAX, &[]);
    lab.dump("empty-ledger", target.pid, &empty, &["--leave-running"]).succeeds();
    assert_eq!(empty.plugin(), (Plugin::Ready as u64, 0));
    target.goes_on();
}
