//! Instant captures: the memory is read from holders, while the tasks run on.

use std::thread;

use criu_lab::{names, soon};
use criu_rs::instant::{InstantCapture, InstantOptions, Way, WhyNot};
use criu_rs::pages::{Client, Layout, Server};
use criu_rs::{AfterDump, Cancel, Dump, Error, Pid};

use crate::lab::{Lab, TestFn};
use crate::pages::{anywhere, are_alike, is_whole, pages, restores};
use crate::payload::MARK;

pub const TESTS: &[(&str, TestFn)] = &[
    ("an_instant_capture_is_what_a_dump_would_be", alike),
    ("an_instant_capture_of_a_busy_process_is_of_one_moment", busy),
    ("an_instant_capture_is_handed_on_to_a_page_server", hand_on),
    ("a_task_too_small_for_a_holder_is_captured_in_an_instant_capture", small),
    ("an_instant_capture_that_ends_the_tasks_is_a_capture", ends),
    ("an_instant_capture_that_is_cancelled_leaves_nothing", cancelled),
];

/// The options of a capture in which every task gets a holder.
pub fn all() -> InstantOptions {
    InstantOptions::new().least(1).least_per_mapping(1).verify(true)
}

/// Says whether a task of a capture has a holder.
#[track_caller]
fn is_held(capture: &InstantCapture, pid: Pid) -> bool {
    let task = capture.tasks.iter().find(|task| task.pid == pid).unwrap();
    println!("{pid}: {}", task.way);
    matches!(task.way, Way::Held { pages, .. } if pages > 0)
}

/// The children of a process, of all kinds.
fn children(pid: Pid) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// The same stopped process twice.
fn alike(lab: &Lab) {
    let (local, images) = (lab.dir("local"), lab.dir("images"));
    let mut target = lab.start(&["memory", "24"]);
    let stopped = |images| Dump::new(target.pid, images).after_dump(AfterDump::LeaveStopped);
    stopped(&local).run(&lab.criu).unwrap();
    let capture = stopped(&images).instant(&lab.criu, &all(), &mut ()).unwrap();
    assert!(is_held(&capture, target.pid), "{:?}", capture.tasks);
    let read = capture.reading.wait().unwrap();
    println!("{read:?}");
    assert!(read.held > 24 << 8 && read.captured < 100, "{read:?}");
    assert_eq!(read.verified, Some(read.held + read.captured));
    are_alike(&pages(&local), &pages(&images));
    is_whole(&images);
    assert!(children(target.pid).is_empty(), "a holder is left");
    target.end();
    restores(lab, &mut target, &images);
}

/// A process that writes all of its memory all the time: what is captured is of one moment,
/// whatever it writes while the pages are on their way to disk.
fn busy(lab: &Lab) {
    let mut target = lab.start(&["rewrite", "64"]);
    let mut last_images = None;
    for n in 0..3 {
        let images = lab.dir(&format!("images-{n}"));
        let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
        let capture = dump.instant(&lab.criu, &all(), &mut ()).unwrap();
        assert!(is_held(&capture, target.pid), "{:?}", capture.tasks);
        target.goes_on();
        capture.reading.wait().unwrap();
        target.goes_on();
        assert!(children(target.pid).is_empty(), "a holder is left");
        let word = |page: &[u8], at: usize| u64::from_le_bytes(*page[at..].first_chunk().unwrap());
        let numbers = pages(&images).into_values().filter_map(|page| {
            let (head, tail) = (word(&page, 0) ^ MARK, word(&page, 4088) ^ MARK);
            // Others have no marks; one may be half written.
            (head < 1 << 32 && tail < 1 << 32).then_some((head, tail))
        });
        let numbers: Vec<_> = numbers.collect();
        assert!(numbers.len() >= (64 << 8) - 1, "{}", numbers.len());
        let torn = numbers.iter().filter(|(head, tail)| head != tail).count();
        assert!(torn <= 1, "{torn} pages are torn");
        let (last, before) = (numbers[0].0, numbers[numbers.len() - 1].0);
        assert!(last == before || last == before + 1, "{last} {before}");
        assert!(numbers.is_sorted_by(|a, b| a.0 >= b.0));
        is_whole(&images);
        last_images = Some(images);
    }
    target.end();
    restores(lab, &mut target, &last_images.unwrap());
}

fn hand_on(lab: &Lab) {
    let (local, images) = (lab.dir("local"), lab.dir("images"));
    let mut target = lab.start(&["memory", "24"]);
    let stopped = |images| Dump::new(target.pid, images).after_dump(AfterDump::LeaveStopped);
    stopped(&local).run(&lab.criu).unwrap();
    let server = Server::new().directory(&images).listen(anywhere()).unwrap();
    let layout = Layout::of(lab.version);
    let client = Client::connect(("127.0.0.1", server.port()), layout).unwrap();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let options = all().verify(false);
    let capture = stopped(&images).instant_to(&lab.criu, &options, client, &mut ()).unwrap();
    assert!(is_held(&capture, target.pid), "{:?}", capture.tasks);
    let read = capture.reading.wait().unwrap();
    let report = running.join().unwrap().remove(0);
    assert_eq!(report.result.unwrap().pages, read.held + read.captured);
    are_alike(&pages(&local), &pages(&images));
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
}

fn small(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "4"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let options = InstantOptions::new().verify(true);
    let capture = dump.instant(&lab.criu, &options, &mut ()).unwrap();
    let way = &capture.tasks[0].way;
    assert!(matches!(way, Way::Captured(WhyNot::Small { bytes: 1.. })), "{way}");
    let read = capture.reading.wait().unwrap();
    assert!(read.held == 0 && read.captured > 4 << 8, "{read:?}");
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
}

fn ends(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "24"]);
    let capture = Dump::new(target.pid, &images).instant(&lab.criu, &all(), &mut ()).unwrap();
    let way = &capture.tasks[0].way;
    assert!(matches!(way, Way::Captured(WhyNot::Ends)), "{way}");
    capture.reading.wait().unwrap();
    target.is_gone();
    restores(lab, &mut target, &images);
}

/// Cancelled while the memory is read.
fn cancelled(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["memory", "200"]);
    let earlier = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    earlier.run(&lab.criu).unwrap();
    let before = names(&images);
    let cancel = Cancel::new().unwrap();
    let dump = earlier.cancel(&cancel).overwrite(true);
    let capture = dump.instant(&lab.criu, &all(), &mut ()).unwrap();
    cancel.cancel();
    let error = capture.reading.wait().unwrap_err();
    assert!(matches!(error, Error::Instant(_)), "{error}");
    assert!(error.to_string().contains("cancelled"), "{error}");
    assert_eq!(names(&images), before);
    assert!(soon(|| children(target.pid).is_empty()), "a holder is left");
    target.goes_on();
}
