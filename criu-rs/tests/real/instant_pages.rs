//! The pages of instant captures: marked as a dump marks them, and more than the pool takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use criu_images::memory::{PageFlags, PageObject, PageSet, PageSize};
use criu_lab::{names, process};
use criu_rs::instant::{InstantCapture, InstantOptions, Way};
use criu_rs::lazy::{LazyOptions, LazyPages};
use criu_rs::pages::{Client, Layout, Server, ServerLimits};
use criu_rs::{AfterDump, Dump, PageServer, Restore};
use nix::sys::signal::{Signal, kill};

use crate::instant::all;
use crate::lab::{Lab, TestFn};
use crate::lazy::{is_right, patterned};
use crate::pages::{anywhere, are_alike, is_whole, pages, restores};

pub const TESTS: &[(&str, TestFn)] = &[
    ("an_instant_capture_restores_lazily", lazily),
    ("an_instant_capture_is_handed_on_to_criu", to_criu),
    ("an_instant_capture_whose_page_server_goes_leaves_nothing", to_nobody),
    ("an_instant_capture_spills_what_the_pool_does_not_take", spills),
];

/// The flags of all pages.
fn flags(directory: &Path) -> BTreeMap<(PageObject, u64), PageFlags> {
    let set = PageSet::open(directory, PageSize::K4).unwrap();
    let mut all = BTreeMap::new();
    for object in set.objects().unwrap() {
        for run in set.pages(object).unwrap().unwrap().runs() {
            all.extend((0..run.pages).map(|n| ((object, run.start + n * 4096), run.flags)));
        }
    }
    all
}

/// Three tasks with threads' stacks, files and memory without a file: the pages have the flags that
/// a dump gives them, and come back one by one.
fn lazily(lab: &Lab) {
    let local = lab.dir("local");
    let (mut target, dumped) = patterned(lab, 2);
    let restored = Restore::new(&dumped).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    let images = lab.dir("instant");
    let stopped = |images| Dump::new(target.pid, images).after_dump(AfterDump::LeaveStopped);
    stopped(&local).run(&lab.criu).unwrap();
    let capture = stopped(&images).instant(&lab.criu, &all(), &mut ()).unwrap();
    assert_eq!(held(&capture), 3, "{:?}", capture.tasks);
    capture.reading.wait().unwrap();
    let (mut want, found) = (flags(&local), flags(&images));
    // The fork may take the first page below what a task has used of its stack.
    let more: Vec<_> = found.iter().filter(|(at, _)| !want.contains_key(at)).collect();
    assert!(more.len() <= 3, "{more:x?}");
    let bytes = pages(&images);
    assert!(more.iter().all(|(at, _)| bytes[at].iter().all(|byte| *byte == 0)), "{more:x?}");
    want.extend(more);
    assert!(want == found, "{} {}", want.len(), found.len());
    let lazy = found.values().filter(|flags| flags.contains(PageFlags::LAZY)).count();
    assert!(lazy > 3 << 10 && lazy < found.len(), "{lazy} of {}", found.len());
    is_whole(&images);
    target.end();
    let source = LazyPages::open(&images, LazyOptions::default()).unwrap();
    let restore = Restore::new(&images).rst_sibling(true).lazy(&source);
    let (restored, memory) = restore.run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    // They were stopped when they were saved.
    for pid in process::descendants(restored.pid) {
        kill(nix::unistd::Pid::from_raw(pid.as_raw()), Signal::SIGCONT).unwrap();
    }
    is_right(&target, 2);
    assert!(memory.wait(Some(Duration::from_secs(20))).unwrap());
    let progress = memory.progress();
    assert_eq!((progress.missing, progress.tasks), (0, 0));
    assert_eq!(progress.pages, lazy as u64);
}

/// The number of tasks with a holder.
fn held(capture: &InstantCapture) -> usize {
    capture.tasks.iter().filter(|task| matches!(task.way, Way::Held { .. })).count()
}

/// 24 MiB of a task without a holder, with a pool of 1 MiB.
fn spills(lab: &Lab) {
    let (local, images) = (lab.dir("local"), lab.dir("images"));
    let mut target = lab.start(&["memory", "24"]);
    let stopped = |images| Dump::new(target.pid, images).after_dump(AfterDump::LeaveStopped);
    stopped(&local).run(&lab.criu).unwrap();
    let options = InstantOptions::new().least(u64::MAX).pool(1 << 20).verify(true);
    let capture = stopped(&images).instant(&lab.criu, &options, &mut ()).unwrap();
    assert_eq!(held(&capture), 0, "{:?}", capture.tasks);
    let read = capture.reading.wait().unwrap();
    assert!(read.held == 0 && read.captured > 24 << 8, "{read:?}");
    assert_eq!(read.verified, Some(read.captured));
    are_alike(&pages(&local), &pages(&images));
    assert!(flags(&local) == flags(&images));
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
}

/// CRIU's own page server gets what a dump would write.
fn to_criu(lab: &Lab) {
    let (local, images) = (lab.dir("local"), lab.dir("images"));
    let mut target = lab.start(&["memory", "24"]);
    let stopped = |images| Dump::new(target.pid, images).after_dump(AfterDump::LeaveStopped);
    stopped(&local).run(&lab.criu).unwrap();
    let server = PageServer::new(&images, anywhere()).spawn(&lab.criu).unwrap();
    let layout = Layout::of(lab.version);
    let client = Client::connect(("127.0.0.1", server.port()), layout).unwrap();
    let options = all().verify(false);
    let capture = stopped(&images).instant_to(&lab.criu, &options, client, &mut ()).unwrap();
    assert_eq!(held(&capture), 1, "{:?}", capture.tasks);
    let read = capture.reading.wait().unwrap();
    assert!(server.wait().unwrap().success());
    let found = pages(&images);
    assert_eq!(found.len() as u64, read.held + read.captured);
    for (at, page) in pages(&local) {
        let differ = page.iter().zip(&found[&at]).filter(|(a, b)| a != b).count();
        assert!(differ <= 8, "{at:x?}");
    }
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
}

/// A page server that takes 1 MiB and goes: the capture is an error, and the task runs on.
fn to_nobody(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["memory", "24"]);
    let mut limits = ServerLimits::default();
    limits.bytes = 1 << 20;
    let server = Server::new().directory(lab.dir("pages")).limits(limits);
    let server = server.listen(anywhere()).unwrap();
    let client = Client::connect(("127.0.0.1", server.port()), Layout::of(lab.version)).unwrap();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let options = all().verify(false);
    let capture = dump.instant_to(&lab.criu, &options, client, &mut ()).unwrap();
    assert_eq!(held(&capture), 1, "{:?}", capture.tasks);
    let error = capture.reading.wait().unwrap_err();
    println!("{error}");
    let error = running.join().unwrap().remove(0).result.unwrap_err();
    assert_eq!(error.to_string(), "the peer sends more than 1048576 bytes, the limit");
    assert_eq!(names(lab.dir.join("pages")), [""; 0]);
    let left = names(&images);
    assert!(!left.iter().any(|name| name.ends_with(".img")), "{left:?}");
    assert!(process::descendants(target.pid).len() == 1, "a holder is left");
    target.goes_on();
}
