//! The tests: an oracle is restored, and every page is right.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criu_lab::harness::Test;
use criu_lab::oracle::{Remote, Storm, Task};
use criu_lab::process;
use criu_rs::lazy::{LazyOptions, LazyPages, Snapshot};
use criu_rs::{Criu, Restore};
use nix::sys::signal::Signal;

use crate::carried;
use crate::copies::Copy;
use crate::daemon::{self, Settings};
use crate::handler::{self, Handler};
use crate::scene::{Scene, finish};
use crate::source::Source;

pub const ALL: &[Test<Scene>] = &[
    ("pages_from_images_by_criu", |scene| from_images(scene, handler::Kind::Criu)),
    ("pages_from_a_page_server_by_criu", |scene| from_server(scene, handler::Kind::Criu)),
    ("pages_from_a_dump_by_criu", |scene| from_dump(scene, handler::Kind::Criu)),
    ("pages_from_images_by_the_daemon", |scene| from_images(scene, LIBRARY)),
    ("pages_when_touched_alone", |scene| from_images(scene, ON_DEMAND)),
    ("pages_from_a_page_server_by_the_daemon", |scene| from_server(scene, LIBRARY)),
    ("pages_from_a_dump_by_the_daemon", |scene| from_dump(scene, LIBRARY)),
    ("pages_from_images_by_the_program", |scene| from_images(scene, handler::Kind::Program)),
    ("pages_from_a_page_server_by_the_program", |scene| from_server(scene, handler::Kind::Program)),
    ("pages_from_a_dump_by_the_program", |scene| from_dump(scene, handler::Kind::Program)),
    ("pages_from_images_in_one_call", |scene| in_one_call(scene, |_| Source::images())),
    ("pages_from_a_page_server_in_one_call", |scene| in_one_call(scene, Source::server)),
    ("pages_from_an_archive_by_the_program", carried::from_archive),
    ("pages_from_a_registry_by_the_program", carried::from_registry),
    ("twenty_copies_side_by_side", |scene| copies(scene, LIBRARY, 20)),
    ("two_copies_by_the_program", |scene| copies(scene, handler::Kind::Program, 2)),
    ("a_dump_that_nobody_restores_lets_its_tasks_run_on", not_restored),
    ("a_wrong_page_is_noticed", wrong_page),
    ("an_oracle_that_was_not_restored_is_right", without_restore),
];

/// Tells if a test is run with a CRIU. Each source is restored from with each CRIU, by the program
/// or by the library. With `CRIU_RS_TEST_LAZY=all` each of them is, and by CRIU itself.
pub fn is_wanted(name: &str, is_old: bool) -> bool {
    let of_old = [
        "pages_from_images_by_the_program",
        "pages_from_a_page_server_by_the_daemon",
        "pages_from_a_dump_by_the_program",
        "pages_from_images_in_one_call",
        "pages_when_touched_alone",
        "two_copies_by_the_program",
        "a_dump_that_nobody_restores_lets_its_tasks_run_on",
        "pages_from_a_registry_by_the_program",
    ];
    let of_new = [
        "pages_from_images_by_criu",
        "pages_from_images_by_the_daemon",
        "pages_from_a_page_server_by_the_program",
        "pages_from_a_dump_by_the_daemon",
        "pages_from_a_page_server_in_one_call",
        "pages_from_an_archive_by_the_program",
        "pages_from_a_registry_by_the_program",
        "twenty_copies_side_by_side",
        "two_copies_by_the_program",
        "a_dump_that_nobody_restores_lets_its_tasks_run_on",
        "a_wrong_page_is_noticed",
    ];
    let wanted = if is_old { &of_old[..] } else { &of_new };
    std::env::var_os("CRIU_RS_TEST_LAZY").is_some() || wanted.contains(&name)
}

/// The library's daemon with its usual settings.
const LIBRARY: handler::Kind =
    handler::Kind::Library(Settings { nothing: false, record: false, with_record: false });

/// The library's daemon, whose pages come when they are touched.
const ON_DEMAND: handler::Kind =
    handler::Kind::Library(Settings { nothing: true, record: false, with_record: false });

/// Memory of the oracle in MiB, and the time of a storm in milliseconds.
fn extent() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let mebibytes = number("CRIU_RS_TEST_LAZY_MIB").unwrap_or(96);
    (mebibytes, number("CRIU_RS_TEST_LAZY_MS").unwrap_or(700))
}

/// A storm of a kind that the handler survives.
fn storm(kind: handler::Kind, milliseconds: u64) -> Task {
    let is_ours = !matches!(kind, handler::Kind::Criu);
    let (seed, changes) = (milliseconds, is_ours);
    Task::Storm(Storm {
        milliseconds,
        threads: 3,
        seed,
        forks: true,
        discards: true,
        unmaps: changes,
        moves: changes,
    })
}

fn from_images(scene: &Scene, kind: handler::Kind) {
    restore(scene, kind, |_| Source::images());
}

fn from_server(scene: &Scene, kind: handler::Kind) {
    restore(scene, kind, Source::server);
}

/// Restores a saved oracle in a storm.
fn restore(scene: &Scene, kind: handler::Kind, source: impl FnOnce(&Path) -> Source) {
    let (mebibytes, milliseconds) = extent();
    let (mut target, remote, images) = scene.saved(mebibytes, true);
    let source = source(&images);
    let handler = Handler::start(kind, scene, &images, &source, &scene.folder("work"));
    remote.give(storm(kind, milliseconds), "report");
    let mut restore = scene.criu(&["restore", "--lazy-pages", "-d", "-v1", "-o", "restore.log"]);
    finish(restore.arg("-D").arg(&images).arg("-W").arg(&handler.work));
    let report = remote.report("report", LIMIT).unwrap();
    report.is_right(mebibytes * 256).unwrap();
    if matches!(kind, handler::Kind::Library(settings) if settings.nothing) {
        target.kill();
    }
    handler.ends().unwrap();
    source.ends();
    target.end();
}

fn from_dump(scene: &Scene, kind: handler::Kind) {
    let (mebibytes, milliseconds) = extent();
    let (mut target, remote) = scene.oracle(mebibytes, true);
    let images = scene.folder("images");
    let source = Source::dump(scene, &target, &images);
    let handler = Handler::start(kind, scene, &images, &source, &scene.folder("work"));
    remote.give(storm(kind, milliseconds), "report");
    let mut restore = scene.criu(&["restore", "--lazy-pages", "-d", "-v1", "-o", "restore.log"]);
    restore.arg("-D").arg(&images).arg("-W").arg(&handler.work);
    let copy = Copy::start(&restore, &scene.dir.join("status"));
    copy.is_restored().unwrap();
    let report = remote.report("report", LIMIT).unwrap();
    report.is_right(mebibytes * 256).unwrap();
    handler.ends().unwrap();
    drop(copy);
    target.is_gone_alone();
    source.ends();
}

/// Restores a saved oracle in a storm; threads of this process bring its pages.
fn in_one_call(scene: &Scene, source: impl FnOnce(&Path) -> Source) {
    let (mebibytes, milliseconds) = extent();
    let (mut target, remote, images) = scene.saved(mebibytes, true);
    let source = source(&images);
    let supply = daemon::supply(&images, source.port);
    let snapshot = Arc::new(Snapshot::open(&images).unwrap());
    let options = LazyOptions::default();
    let pages = LazyPages::new(snapshot, Arc::clone(&supply), options).unwrap();
    remote.give(storm(LIBRARY, milliseconds), "report");
    let restore = Restore::new(&images).lazy(&pages);
    let (restored, memory) = restore.run(&Criu::at(&scene.criu)).unwrap();
    target.restored_as(restored.pid);
    let report = remote.report("report", LIMIT).unwrap();
    report.is_right(mebibytes * 256).unwrap();
    assert!(memory.wait(Some(LIMIT)).unwrap(), "pages are missing: {:?}", memory.progress());
    drop((memory, pages));
    supply.close().unwrap();
    drop(supply);
    source.ends();
    target.end();
}

/// A single daemon serves copies that are restored at once, each in a pid namespace of its own.
fn copies(scene: &Scene, kind: handler::Kind, copies: usize) {
    let (mebibytes, milliseconds) = (extent().0 / 8, extent().1);
    let (mut target, remote, images) = scene.saved(mebibytes, true);
    remote.give(storm(kind, milliseconds), "report");
    let (work, home) = (scene.folder("work"), scene.folder("home"));
    let source = Source::images();
    let handler = Handler::for_several(kind, scene, &images, &source, &work, copies);
    let copies: Vec<(Copy, Remote)> = (0..copies)
        .map(|n| {
            let own = scene.folder(&format!("home-{n}"));
            for name in ["oracle", "oracle.orders"] {
                fs::copy(home.join(name), own.join(name)).unwrap();
            }
            let log = format!("restore-{n}.log");
            let mut restore = scene.criu(&["restore", "--lazy-pages", "-d", "-v1", "-o", &log]);
            restore.arg("-D").arg(&images).arg("-W").arg(&work);
            let status = scene.dir.join(format!("status-{n}"));
            let copy = Copy::in_place_of(&restore, &status, &own, &home);
            (copy, Remote::of(&own.join("oracle")))
        })
        .collect();
    for (n, (copy, remote)) in copies.iter().enumerate() {
        copy.is_restored().unwrap();
        let report = remote.report("report", LIMIT).unwrap();
        report.is_right(mebibytes * 256).unwrap_or_else(|error| panic!("copy {n}: {error}"));
    }
    handler.ends().unwrap();
    drop(copies);
    target.end();
}

/// A daemon is stopped before a restore has come.
fn not_restored(scene: &Scene) {
    let (mut target, _remote) = scene.oracle(8, false);
    let images = scene.folder("images");
    let source = Source::dump(scene, &target, &images);
    let work = scene.folder("work");
    let handler = Handler::start(handler::Kind::Program, scene, &images, &source, &work);
    process::send(i32::try_from(handler.pid()).unwrap(), Signal::SIGTERM);
    handler.ends().unwrap();
    source.fails();
    target.goes_on();
    target.end();
}

/// The storm itself makes no page wrong.
fn without_restore(scene: &Scene) {
    let (mebibytes, milliseconds) = extent();
    let (mut target, remote) = scene.oracle(mebibytes, true);
    remote.give(storm(LIBRARY, milliseconds), "report");
    remote.report("report", LIMIT).unwrap().is_right(mebibytes * 256).unwrap();
    target.end();
}

/// Two pages of the images change places, which the oracle has to notice.
fn wrong_page(scene: &Scene) {
    let (mut target, remote, images) = scene.saved(8, false);
    swap_pages(&images.join("pages-1.img"));
    remote.give(Task::Check, "report");
    let source = Source::images();
    let work = scene.folder("work");
    let handler = Handler::start(handler::Kind::Criu, scene, &images, &source, &work);
    let mut restore = scene.criu(&["restore", "--lazy-pages", "-d", "-v1", "-o", "restore.log"]);
    finish(restore.arg("-D").arg(&images).arg("-W").arg(&handler.work));
    let report = remote.report("report", LIMIT).unwrap();
    let error = report.is_right(8 * 256).unwrap_err();
    assert!(error.starts_with("2 of ") || error.starts_with("6 of "), "{error}");
    handler.ends().unwrap();
    target.end();
    process::reap();
}

/// Exchanges two pages in the middle of a file.
fn swap_pages(path: &Path) {
    let file: File = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let middle = (file.metadata().unwrap().len() / 2) & !4095;
    let read = |at: u64| {
        let mut page = [0; 4096];
        file.read_exact_at(&mut page, at).unwrap();
        page
    };
    let (one, other) = (read(middle), read(middle + 4096));
    assert!(one != other && one[..8] != [0; 8], "both are pages of the oracle");
    file.write_all_at(&other, middle).unwrap();
    file.write_all_at(&one, middle + 4096).unwrap();
}

/// The longest time for a report.
const LIMIT: Duration = Duration::from_secs(60);
