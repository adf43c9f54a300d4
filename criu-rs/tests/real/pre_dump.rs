//! Pre-dumps on a kernel that tracks changed memory, and the error on other kernels.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use criu_images::memory::{PageObject, PageSet, PageSize, PageSource, StoredRun};
use criu_images::{ImageSet, Severity, check};
use criu_lab::{names, soon};
use criu_rs::pages::Server;
use criu_rs::{Cause, Dump, PreDump, PreDumpMode, PreDumpSession, Restore};

use crate::lab::{Lab, Target, TestFn};
use crate::payload::{LEVELS_PAGES, level_page};

pub const TESTS: &[(&str, TestFn)] = &[
    ("pre_dump_then_dump", single),
    ("pre_dump_by_reading", by_reading),
    ("pre_dump_and_dump_into_our_page_server", into_our_server),
    ("a_series_of_pre_dumps_ended_by_a_dump", series),
    ("pre_dumps_and_dump_are_three_levels_that_are_read_as_one", levels),
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

/// Each level has the bytes that were written before it, and all together what the process had.
fn levels(lab: &Lab) {
    let mut target = lab.start(&["levels"]);
    if !tracks_memory(lab, &target) {
        return;
    }
    let dirs = ["0", "1", "2"].map(|name| lab.dir(name));
    PreDump::new(target.pid, &dirs[0]).run(&lab.criu).unwrap();
    next_generation(lab, 1);
    PreDump::new(target.pid, &dirs[1]).parent_img("../0").run(&lab.criu).unwrap();
    next_generation(lab, 2);
    let dump = Dump::new(target.pid, &dirs[2]).parent_img("../1").track_mem(true);
    dump.run(&lab.criu).unwrap();
    target.is_gone();

    let set = ImageSet::open(&dirs[2]).unwrap();
    let findings = check(&set);
    assert!(findings.iter().all(|found| found.severity < Severity::Warning), "{findings:?}");
    let at = level_address(lab);
    is_as_it_was(&set, at);
    let pid = set.checkpoint().unwrap().root().pid();
    let pages = PageSet::open(&dirs[2], PageSize::K4).unwrap();
    let pages = pages.pages(PageObject::Task(pid)).unwrap().unwrap();
    let runs = pages.stored_runs().unwrap();
    let files = ["parent/parent/pages-1.img", "parent/pages-1.img", "pages-1.img"];
    for page in 0..LEVELS_PAGES {
        let address = at + page as u64 * 4096;
        let covers = |run: &&StoredRun| run.start <= address && address < run.end;
        let in_files: Vec<&str> = runs.iter().filter(covers).map(|run| run.file.as_str()).collect();
        let mut wanted = vec![files[0]];
        if let 1 | 2 = page % 16 {
            wanted.insert(0, files[page % 16]);
        }
        assert_eq!(in_files, wanted, "page {page}");
        for run in runs.iter().filter(covers) {
            let mut bytes = vec![0; 4096];
            let file = fs::File::open(dirs[2].join(&run.file)).unwrap();
            file.read_exact_at(&mut bytes, run.offset + (address - run.start)).unwrap();
            let level = files.iter().position(|file| *file == run.file).unwrap();
            assert!(bytes == level_page(page, level), "page {page} of level {level}");
        }
    }
    drop(pages);

    let before = target.count();
    let restored = Restore::new(&dirs[2]).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    // It goes on from the generation it had, in the memory it had.
    next_generation(lab, 3);
}

/// Has the payload `levels` write its next pages.
pub fn next_generation(lab: &Lab, generation: usize) {
    let file = |extension| lab.dir.join("count-levels").with_extension(extension);
    fs::write(file("asked"), generation.to_string()).unwrap();
    let done = || fs::read_to_string(file("done")).is_ok_and(|done| done == generation.to_string());
    assert!(soon(done), "generation {generation} does not come");
}

/// Where the memory of the payload `levels` is.
pub fn level_address(lab: &Lab) -> u64 {
    fs::read_to_string(lab.dir.join("count-levels.at")).unwrap().parse().unwrap()
}

/// The memory of the payload `levels` in a set, as of the generations that it has been through.
pub fn is_as_it_was(set: &ImageSet, at: u64) {
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    for page in 0..LEVELS_PAGES {
        let mut bytes = vec![0; 4096];
        memory.read_at(at + page as u64 * 4096, &mut bytes).unwrap();
        let generation = if let 1 | 2 = page % 16 { page % 16 } else { 0 };
        assert!(bytes == level_page(page, generation), "page {page}");
    }
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
