//! Pre-dumps, where the kernel tracks changed memory; elsewhere, that we are told so.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use criu_rs::pages::Server;
use criu_rs::{Cause, Dump, PreDump, PreDumpMode, PreDumpSession, Restore};

use crate::lab::{Lab, Target, TestFn, names};

pub const TESTS: &[(&str, TestFn)] = &[
    ("pre_dump_then_dump", single),
    ("pre_dump_by_reading", by_reading),
    ("pre_dump_and_dump_into_our_page_server", into_our_server),
    ("a_series_of_pre_dumps_ended_by_a_dump", series),
];

/// Whether the kernel can. Where it cannot, the test sees what a pre-dump says of it.
fn tracks_memory(lab: &Lab, target: &Target) -> bool {
    if lab.criu.features().unwrap().mem_track == Some(true) {
        return true;
    }
    // Who runs these where it should does not want to hear that it does not.
    assert!(std::env::var_os("CRIU_RS_TEST_TRACKS_MEMORY").is_none(), "no memory tracking");
    let images = lab.dir("refused");
    let error = PreDump::new(target.pid, &images).run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::NoSoftDirty), "{error}");
    assert_eq!(names(&images), ["pre-dump.log"]);
    let mut series = PreDumpSession::new(&lab.criu);
    let images = lab.dir("refused-series");
    let pre_dump = PreDump::new(target.pid, &images);
    let error = series.pre_dump(&pre_dump, &mut ()).unwrap_err();
    assert_eq!(error.cause(), Some(Cause::NoSoftDirty), "{error}");
    let over = series.pre_dump(&pre_dump, &mut ()).unwrap_err();
    assert!(over.to_string().contains("first failure"), "{over}");
    target.goes_on();
    false
}

/// Bytes of memory in an images directory.
fn stored(images: &Path) -> u64 {
    let pages = names(images).into_iter().filter(|name| name.starts_with("pages-"));
    pages.map(|name| fs::metadata(images.join(name)).unwrap().len()).sum()
}

/// The last dump left most pages to the ones before, and all of them together restore.
fn restores(lab: &Lab, mut target: Target, first: &Path, last: &Path) {
    assert!(stored(first) > 32 << 20 && stored(last) < 16 << 20, "{}", stored(last));
    target.is_gone();
    let before = target.count();
    let restored = Restore::new(last).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
}

fn single(lab: &Lab) {
    let target = lab.start(&["memory", "32"]);
    if !tracks_memory(lab, &target) {
        return;
    }
    let (first, last) = (lab.dir("0"), lab.dir("1"));
    PreDump::new(target.pid, &first).run(&lab.criu).unwrap();
    target.goes_on();
    Dump::new(target.pid, &last).parent_img("../0").track_mem(true).run(&lab.criu).unwrap();
    restores(lab, target, &first, &last);
}

/// The server is asked what the first has, and given only what has changed since.
fn into_our_server(lab: &Lab) {
    let target = lab.start(&["memory", "32"]);
    if !tracks_memory(lab, &target) {
        return;
    }
    let dirs = ["0", "1", "pages-0", "pages-1"].map(|name| lab.dir(name));
    let [first, last, first_pages, last_pages] = &dirs;
    symlink("../pages-0", last_pages.join("parent")).unwrap();
    let serve = |directory: &Path| {
        let server = Server::new().directory(directory).listen("127.0.0.1:0".parse().unwrap());
        let server = server.unwrap();
        let port = server.port();
        (port, std::thread::spawn(move || server.run(Some(1)).unwrap().remove(0).result.unwrap()))
    };
    let (port, received) = serve(first_pages);
    let pre_dump = PreDump::new(target.pid, first).page_server("127.0.0.1", port);
    pre_dump.run(&lab.criu).unwrap();
    assert!(received.join().unwrap().pages > 32 << 8);
    target.goes_on();
    let (port, received) = serve(last_pages);
    let dump = Dump::new(target.pid, last).parent_img("../0").track_mem(true);
    dump.page_server("127.0.0.1", port).run(&lab.criu).unwrap();
    let received = received.join().unwrap();
    assert!(received.holes > 16 << 8 && received.pages < 16 << 8, "{received}");
    for (from, to) in [(first_pages, first), (last_pages, last)] {
        for name in names(from).iter().filter(|name| *name != "parent") {
            fs::rename(from.join(name), to.join(name)).unwrap();
        }
    }
    restores(lab, target, first, last);
}

fn by_reading(lab: &Lab) {
    let target = lab.start(&["memory", "32"]);
    if !tracks_memory(lab, &target) {
        return;
    }
    let (first, last) = (lab.dir("0"), lab.dir("1"));
    PreDump::new(target.pid, &first).pre_dump_mode(PreDumpMode::Read).run(&lab.criu).unwrap();
    Dump::new(target.pid, &last).parent_img("../0").track_mem(true).run(&lab.criu).unwrap();
    restores(lab, target, &first, &last);
}

fn series(lab: &Lab) {
    let target = lab.start(&["memory", "32"]);
    if !tracks_memory(lab, &target) {
        return;
    }
    let folders = [lab.dir("0"), lab.dir("1"), lab.dir("2")];
    let mut series = PreDumpSession::new(&lab.criu);
    let pid = target.pid;
    series.pre_dump(&PreDump::new(pid, &folders[0]), &mut ()).unwrap();
    let criu = series.pid();
    assert!(criu.is_some());
    target.goes_on();
    let second = PreDump::new(pid, &folders[1]).parent_img("../0");
    series.pre_dump(&second, &mut ()).unwrap();
    assert_eq!(series.pid(), criu, "another criu");
    target.goes_on();
    let last = Dump::new(pid, &folders[2]).parent_img("../1").track_mem(true);
    series.dump(&last, &mut ()).unwrap();
    restores(lab, target, &folders[0], &folders[2]);
}
