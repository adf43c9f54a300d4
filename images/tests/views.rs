//! Views and differences of sets made by hand.

#![cfg(feature = "serde")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{ANON, PAGE, image, load, one_task, pagemap, pattern, run, vma};
use criu_images::memory::PageSize;
use criu_images::proto::{FileEntry, FsEntry, PstreeEntry, RegFileEntry, UnixSkEntry, VmaEntry};
use criu_images::source::{InMemory, Source};
use criu_images::view::{Ps, Summary};
use criu_images::working_set::{Fingerprint, Recording};
use criu_images::{CoreDump, Diff, ImageSet, check, kind, view};
use prost::Message;

const BASE: u64 = 0x40_0000;

fn sample() -> InMemory {
    load(Path::new("tests/data/pipeline"))
}

/// A task of these mappings with directories and a program.
fn task(vmas: Vec<VmaEntry>) -> InMemory {
    let mut files = one_task(vmas);
    let program = RegFileEntry { name: b"/bin/it".into(), ..Default::default() };
    let entry = FileEntry { r#type: 1, reg: Some(program), ..Default::default() };
    files.insert("files.img", image(kind::FILES, &[entry.encode_to_vec()]));
    files.insert("fs-1.img", image(kind::FS, &[FsEntry::default().encode_to_vec()]));
    files
}

/// Eight pages. The listed pages are stored, each filled with a byte of its own.
fn pages(stored: &[(u64, u8)]) -> InMemory {
    let mut files = task(vec![vma(BASE, 8, ANON)]);
    let runs: Vec<_> = stored.iter().map(|(page, _)| run(BASE + page * PAGE, 1, 4)).collect();
    files.insert("pagemap-1.img", pagemap(1, &runs));
    let bytes: Vec<u8> = stored.iter().flat_map(|(_, byte)| vec![*byte; 4096]).collect();
    files.insert("pages-1.img", bytes);
    files
}

fn diff(old: InMemory, new: InMemory) -> Diff {
    let (old, new) = (ImageSet::new(old).unwrap(), ImageSet::new(new).unwrap());
    Diff::new(old.checkpoint().unwrap(), new.checkpoint().unwrap()).unwrap()
}

#[test]
fn the_process_list_shows_who_descends_from_whom() {
    let set = ImageSet::new(sample()).unwrap();
    let ps = view::Ps::new(set.checkpoint().unwrap().tasks());
    assert_eq!(
        ps.to_string(),
        "  PID  PPID  PGID   SID THREADS USER STATE COMMAND\n\
         10139     0 10135 10135       1    0 alive sh\n\
         10141 10139 10135 10135       1    0 alive  \\_ sleep\n\
         10142 10139 10135 10135       1    0 alive  \\_ cat"
    );
    let json = serde_json::to_value(&ps).unwrap();
    assert_eq!(json["processes"][1]["ppid"], 10139);
    assert_eq!(json["processes"][1]["arguments"], serde_json::Value::Null);
}

#[test]
fn branches_reach_down_to_the_last_child() {
    let mut files = one_task(Vec::new());
    let task = |pid, ppid| PstreeEntry { pid, ppid, threads: vec![pid], ..Default::default() };
    let tasks = [task(1, 0), task(2, 1), task(3, 2), task(4, 2), task(5, 1)];
    let tasks: Vec<_> = tasks.iter().map(Message::encode_to_vec).collect();
    files.insert("pstree.img", image(kind::PSTREE, &tasks));
    let core = ImageSet::new(files.clone()).unwrap().read("core-1.img").unwrap().unwrap();
    for pid in 2..=5 {
        files.insert(kind::CORE.file_name(pid), &core[..]);
    }
    let set = ImageSet::new(files).unwrap();
    let ps = view::Ps::new(set.checkpoint().unwrap().tasks()).to_string();
    let name = set.checkpoint().unwrap().root().name().to_string();
    let tree: Vec<_> =
        ps.lines().skip(1).map(|line| line.split_once("alive ").unwrap().1).collect();
    assert_eq!(
        tree,
        [
            name.clone(),
            format!(" \\_ {name}"),
            format!(" |   \\_ {name}"),
            format!(" |   \\_ {name}"),
            format!(" \\_ {name}"),
        ]
    );
}

#[test]
fn views_of_a_task_are_tables() {
    let set = ImageSet::new(sample()).unwrap();
    let checkpoint = set.checkpoint().unwrap();
    let fds = view::Fds::new(checkpoint.task(10141)).unwrap().to_string();
    assert!(fds.starts_with("COMMAND   PID  FD TYPE      NAME\n"), "{fds}");
    assert!(fds.contains("\nsleep   10141  1w pipe "), "{fds}");
    let rss = view::Rss::new(checkpoint.tasks()).unwrap();
    let totals = checkpoint.root().memory().unwrap().unwrap().totals();
    assert_eq!(rss.tasks[0].pages, totals);
    let mems = view::Mems::new(checkpoint.task(10139)).unwrap();
    let own: u64 = mems.tasks[0].mappings.iter().map(|mapping| mapping.pages.own()).sum();
    assert_eq!(own, totals.own());
    assert!(mems.to_string().contains(" rw-p 00000000 [stack]\n"), "{mems}");
    let namespaces = view::Namespaces::new(checkpoint).unwrap();
    assert!(namespaces.namespaces.iter().all(|row| row.host && row.pids.len() == 3));
    let security = view::Security::new(checkpoint.tasks()).unwrap().to_string();
    assert!(security.starts_with("10139 sh\n  user 0; group 0\n  capabilities "), "{security}");
    let summary = view::Summary::new(checkpoint).unwrap().to_string();
    assert!(summary.contains("\ntasks       3, 3 threads; stopped for "), "{summary}");
}

#[test]
fn a_working_set_is_shown_beside_the_memory_of_its_tasks() {
    let set = ImageSet::new(sample()).unwrap();
    let checkpoint = set.checkpoint().unwrap();
    let own = |pid| {
        let task = checkpoint.task(pid).unwrap();
        task.memory().unwrap().unwrap().totals().own()
    };
    let mut recording = Recording::new(PageSize::K4);
    for (pid, page, micros) in [(10141, 5, 1), (10139, 9, 1500), (10139, 10, 1600), (4, 4, 9)] {
        recording.touch(pid, page * 4096, Duration::from_micros(micros));
    }
    let found = recording.finish(Fingerprint::of(&sample()).unwrap(), Duration::from_millis(20));
    let touches = view::Touches::new(checkpoint, &found).unwrap();
    assert_eq!((touches.pages, touches.bytes, touches.recorded_us), (4, 16384, 20000));
    assert_eq!(touches.own_pages, own(10139) + own(10141) + own(10142));
    let [first, second] = &touches.tasks[..] else { panic!("{touches:?}") };
    assert_eq!((first.pid, first.pages, first.runs, first.first_us), (10139, 2, 1, 1500));
    assert_eq!((second.pid, second.name.as_str(), second.own_pages), (10141, "sleep", own(10141)));
    let shown = touches.to_string();
    assert!(shown.starts_with("working set 4 pages, 16 KiB of "), "{shown}");
    assert!(shown.contains(" %), recorded for 20.000 ms\n  PID TOUCHED "), "{shown}");
    assert!(shown.contains("\n10139       8 "), "{shown}");
}

#[test]
fn text_in_a_table_has_no_control_characters() {
    let mut files = sample();
    let unix = UnixSkEntry { ino: 5, name: b"/a\x1b[2J\nb\0".into(), ..Default::default() };
    let entry = FileEntry { r#type: 5, id: 1, usk: Some(unix), ..Default::default() };
    files.insert("files.img", image(kind::FILES, &[entry.encode_to_vec()]));
    for id in [2, 3, 4] {
        files.remove(&kind::FDINFO.file_name(id));
    }
    let set = ImageSet::new(files).unwrap();
    let sockets = view::Sockets::new(set.checkpoint().unwrap()).unwrap().to_string();
    assert!(sockets.contains("/a\\u{1b}[2J\\nb 5") && !sockets.contains('\x1b'), "{sockets}");
}

#[test]
fn pages_that_differ_are_counted_and_named() {
    let old = pages(&[(0, 1), (1, 2), (2, 3), (5, 9)]);
    assert!(diff(old.clone(), old.clone()).is_empty());
    // The same bytes; others; zeroes of which the other has none; no longer stored.
    let new = pages(&[(0, 1), (1, 7), (2, 8), (4, 0), (6, 5)]);
    let found = diff(old, new);
    let dirty = &found.changed[0].dirty[0];
    let ranges: Vec<_> =
        dirty.ranges.iter().map(|range| ((range.address - BASE) / PAGE, range.pages)).collect();
    assert_eq!(ranges, [(1, 2), (5, 2)]);
    assert_eq!((dirty.pages, dirty.dirty, dirty.unknown), (8, 4, 0));
    let said = found.to_string();
    assert!(said.ends_with("  ~ pages of 400000-408000 rw-p 4 of 8 differ"), "{said}");
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["changed"][0]["dirty"][0]["ranges"][0]["pages"], 2);
}

#[test]
fn pages_are_compared_where_both_have_a_mapping() {
    let mut old = task(vec![vma(BASE, 4, ANON), vma(BASE + 6 * PAGE, 2, ANON)]);
    let mut new = task(vec![vma(BASE + 2 * PAGE, 5, ANON)]);
    for (files, seed) in [(&mut old, 0), (&mut new, 1)] {
        files.insert(
            "pagemap-1.img",
            pagemap(1, &[run(BASE + 2 * PAGE, 1, 4), run(BASE + 6 * PAGE, 1, 4)]),
        );
        let bytes = [pattern(BASE), pattern(BASE + seed)].concat();
        files.insert("pages-1.img", bytes);
    }
    let found = diff(old, new);
    let task = &found.changed[0];
    assert_eq!((task.mappings.added.len(), task.mappings.removed.len()), (1, 2));
    // Pages 2, 3 and 6 are mapped in both.
    assert_eq!((task.dirty[0].pages, task.dirty[0].dirty), (3, 1));
    assert_eq!(task.dirty[0].ranges[0].address, BASE + 6 * PAGE);
}

#[test]
fn pages_kept_back_are_not_said_to_differ() {
    let mut lazy = pages(&[(0, 1)]);
    lazy.insert("pagemap-1.img", pagemap(1, &[run(BASE, 1, 2)]));
    let found = diff(pages(&[(0, 1)]), lazy);
    let dirty = &found.changed[0].dirty[0];
    assert_eq!((dirty.dirty, dirty.unknown), (0, 1));
    assert!(found.to_string().ends_with("0 of 8 differ, 1 were kept back"), "{found}");
}

#[test]
fn a_set_whose_pages_went_to_a_page_server_is_shown() {
    let mut files = load(Path::new("tests/data/pipeline"));
    for name in files.names().unwrap() {
        if name.starts_with("page") {
            files.remove(&name);
        }
    }
    let set = ImageSet::new(files).unwrap();
    let checkpoint = set.checkpoint().unwrap();
    let said = Summary::new(checkpoint).unwrap().to_string();
    let elsewhere = "0 KiB mapped; pages of 3 tasks are elsewhere, as with a page server\n";
    assert!(said.contains(elsewhere), "{said}");
    let ps = Ps::with_arguments(checkpoint.tasks(), true).unwrap();
    assert!(ps.processes.iter().all(|process| process.arguments.is_none()));
    // A check and a core file say so.
    let missing = check(&set).iter().filter(|one| one.to_string().contains("pagemap-")).count();
    assert_eq!(missing, 3);
    assert!(CoreDump::new(&checkpoint.root()).is_err());
}
