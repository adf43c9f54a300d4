//! The filter of CRIU's scans, with a fork that the payload itself has made in place of a holder.

use criu_images::memory::{PageObject, PageSet, PageSize, PageSource};
use criu_plugin::journal::{Field, Record, State};

use crate::lab::{Lab, Ledger, TestFn, started};
use crate::memory::{KINDS, Kind};
use crate::pages::{check, look, pages_in};
use crate::payload::{parts_of, twin_of};

pub const TESTS: &[(&str, TestFn)] = &[
    ("pages_of_a_holder_are_hidden", hidden),
    ("pages_that_were_written_after_the_fork_are_saved", written),
    ("nothing_is_hidden_if_the_holder_is_another_process", another),
    ("nothing_is_hidden_if_the_holder_is_dead", dead),
];

/// Words for memory beside [`KINDS`].
const MORE: &[&str] =
    &["small:512", "small:513", "dontfork:8", "wipe:9", "small:5", "file:7", "none:11", "shared:8"];

fn hidden(lab: &Lab) {
    let (target, twin, ledger) = held(lab, 0);
    let dump = lab.dump("images", target.pid, &ledger, &["--leave-running"]).succeeds();
    ledger.is_ready();
    check(&parts_of(target.file()), &dump, &ledger.record(target.pid));
    target.goes_on();
    end(twin);
}

/// The fork has written one page of each of four parts. The journal names two of them as those of
/// the stack and of the area for restartable sequences. A page that the fork has written must not
/// pass for a sign that the fork has the task's pages.
fn written(lab: &Lab) {
    let words = ["written-twin", "wipe:1024", "small:1024", "wipe:300", "small:300"];
    for (stack, rseq) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        let target = lab.start(&words);
        let twin = twin_of(target.file());
        let parts = parts_of(target.file());
        let ledger = ledger(target.pid, twin, |record| {
            record.set(Field::Stack, parts[stack].written() + 64);
            record.set(Field::Rseq, parts[rseq].written() - 64);
        });
        let name = format!("images-{stack}");
        let dump = lab.dump(&name, target.pid, &ledger, &["--leave-running"]).succeeds();
        let record = ledger.record(target.pid);
        let set = PageSet::open(&dump.images, PageSize::K4).unwrap();
        let task = PageObject::Task(u32::try_from(record.inner).unwrap());
        let images = set.pages(task).unwrap().unwrap();
        for (number, part) in parts.iter().enumerate().filter(|(n, _)| [stack, rseq].contains(n)) {
            let stored = pages_in(&images, part);
            if part.kind == Kind::WipeOnFork {
                assert_eq!(stored, part.pages, "{} is missing in the images", part.kind.name());
                look(part, |address, buffer| images.read_at(address, buffer).unwrap());
            } else {
                // Those that may have been written are in the images, as the task has them.
                assert_eq!(stored, if number == stack { 5 } else { 1 });
                let mut word = [0; 8];
                images.read_at(part.written(), &mut word).unwrap();
                assert_eq!(u64::from_le_bytes(word), 0);
            }
        }
        target.goes_on();
        end(twin);
    }
}

fn another(lab: &Lab) {
    let (target, twin, ledger) = held(lab, 1);
    let with = lab.dump("images", target.pid, &ledger, &["--leave-running"]).succeeds();
    let plain = lab.plain("plain", target.pid, &["--leave-running"]).succeeds();
    ledger.is_ready();
    let record = ledger.record(target.pid);
    assert_eq!((record.hidden, record.hidden_whole), (0, 0));
    let sizes = [&with, &plain].map(|dump| dump.files()["pages-1.img"].len() / 4096);
    assert!(sizes[0].abs_diff(sizes[1]) < 20, "{sizes:?}");
    target.goes_on();
    end(twin);
}

fn dead(lab: &Lab) {
    let (target, twin, ledger) = held(lab, 0);
    end(twin);
    let with = lab.dump("images", target.pid, &ledger, &["--leave-running"]).succeeds();
    let plain = lab.plain("plain", target.pid, &["--leave-running"]).succeeds();
    let sizes = [&with, &plain].map(|dump| dump.files()["pages-1.img"].len() / 4096);
    assert!(sizes[0].abs_diff(sizes[1]) < 20, "{sizes:?}");
    target.goes_on();
}

/// A payload, its fork, and a journal that says that the fork is the holder. The journal has the
/// fork's start time, and so much more.
fn held(lab: &Lab, later: u64) -> (crate::lab::Target, i32, Ledger) {
    let target = lab.start(&[&["twin"], KINDS, MORE].concat());
    let twin = twin_of(target.file());
    let ledger = ledger(target.pid, twin, |record| {
        record.set(Field::HolderStart, record.get(Field::HolderStart) + later);
    });
    (target, twin, ledger)
}

/// A journal with one record, of a task that is held by its fork.
fn ledger(task: i32, twin: i32, change: impl FnOnce(&Record<'_>)) -> Ledger {
    Ledger::with(u64::MAX, |journal| {
        let record = journal.add(task.unsigned_abs().into()).unwrap();
        record.set(Field::TaskStart, started(task));
        record.set(Field::Holder, twin.unsigned_abs().into());
        record.set(Field::HolderStart, started(twin));
        change(&record);
        record.pass(State::Held);
    })
}

fn end(twin: i32) {
    assert!(criu_lab::process::send(twin, nix::sys::signal::Signal::SIGKILL));
    assert!(criu_lab::soon(|| {
        criu_lab::process::reap();
        !criu_lab::process::exists(twin)
    }));
}
