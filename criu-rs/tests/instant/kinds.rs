//! Captures of processes of all kinds, at full speed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_lab::generations::Shape;
use criu_lab::payload::Payload;
use criu_lab::{soon, within};
use criu_rs::instant::{Headroom, InstantOptions, Way, WhyNot};
use criu_rs::pages::{Client, Layout, Server};
use criu_rs::{Cancel, Error};
use nix::sys::signal::Signal;

use crate::identity::HugePages;
use crate::lab::{Lab, Scene, TestFn, all_held, dump, eager, holders, is_whole};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_zoo_of_mappings_is_captured_and_restored", zoo),
    ("a_tree_is_captured_and_restored", tree),
    ("many_threads_are_captured_and_restored", threads),
    ("a_process_with_a_filter_that_kills_is_unharmed", sealed),
    ("a_stopped_process_stays_stopped", stopped),
    ("a_process_without_room_for_another_is_captured", pids),
    ("a_small_process_is_captured", small),
    ("pages_are_compared_with_the_holder", verify),
    ("a_capture_goes_to_a_page_server", page_server),
    ("a_second_capture_waits_for_the_first", second),
    ("huge_pages_of_a_pool_are_not_lost", pool),
    ("a_frozen_cgroup_is_captured", freezer),
    ("a_process_that_dies_meanwhile_is_saved", dies),
    ("a_cancelled_capture_leaves_nothing", cancelled),
    ("memory_that_is_not_there_is_not_promised", headroom),
];

/// The payloads of this suite.
pub const PAYLOADS: &[Payload] = &[("orders", criu_lab::orders::run)];

/// Captures a tree, restores it, and looks at both. Returns what became of it.
#[track_caller]
fn trip(lab: &Lab, scene: &mut Scene, options: &InstantOptions) -> criu_rs::instant::ReadOut {
    let images = lab.dir("images");
    let capture = dump(scene.target.pid, &images).instant(&lab.criu, options, &mut ()).unwrap();
    all_held(&capture, &scene.pids).unwrap();
    println!("frozen {:?}", capture.dumped.stats.as_ref().map(|stats| stats.frozen));
    let read = capture.reading.wait().unwrap();
    println!("{read:?}");
    none_stays();
    scene.goes_on().unwrap();
    right(scene, &images);
    scene.end();
    scene.restore(lab, &images).unwrap();
    scene.end();
    read
}

#[track_caller]
fn none_stays() {
    let left = holders(Duration::from_secs(2));
    assert!(left.is_empty(), "holders stay: {left:?}");
}

#[track_caller]
fn right(scene: &Scene, images: &Path) {
    let verdict = scene.judge_images(images).unwrap();
    println!("{verdict:?}");
    assert!(verdict.wrong == 0 && verdict.pages > 0, "{verdict:?}");
}

fn zoo(lab: &Lab) {
    for huge in [false, true] {
        let shape = Shape { mib: 32, writers: 2, huge, churn: 1, zoo: true, ..Shape::default() };
        trip(lab, &mut lab.start(shape), &eager());
    }
}

fn tree(lab: &Lab) {
    let shape = Shape { mib: 12, writers: 2, churn: 1, children: 5, ..Shape::default() };
    trip(lab, &mut lab.start(shape), &eager());
}

fn threads(lab: &Lab) {
    let shape = Shape { mib: 60, writers: 24, beat: true, ..Shape::default() };
    trip(lab, &mut lab.start(shape), &eager());
}

/// The process would be killed if it forked, waited or polled by itself, and so would its fork. So
/// it gets no holder: CRIU may be killed while the filter is suspended.
fn sealed(lab: &Lab) {
    let shape = Shape { mib: 32, writers: 2, sealed: true, ..Shape::default() };
    let mut scene = lab.start(shape);
    let images = lab.dir("images");
    let capture = dump(scene.target.pid, &images).instant(&lab.criu, &eager(), &mut ()).unwrap();
    let way = capture.tasks[0].way.clone();
    println!("{way}");
    assert!(matches!(way, Way::Captured(WhyNot::GivenUp { .. })), "{way:?}");
    capture.reading.wait().unwrap();
    none_stays();
    scene.goes_on().unwrap();
    right(&scene, &images);
    scene.end();
    scene.restore(lab, &images).unwrap();
    scene.end();
}

fn stopped(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 32, writers: 2, ..Shape::default() });
    let images = lab.dir("images");
    scene.target.signal(Signal::SIGSTOP);
    assert!(soon(|| scene.target.state() == Some('T')));
    let capture = dump(scene.target.pid, &images).instant(&lab.criu, &eager(), &mut ()).unwrap();
    all_held(&capture, &scene.pids).unwrap();
    let read = capture.reading.wait().unwrap();
    println!("{read:?}");
    assert!(soon(|| scene.target.state() == Some('T')));
    none_stays();
    scene.target.signal(Signal::SIGCONT);
    scene.goes_on().unwrap();
    right(&scene, &images);
    scene.end();
}

/// A pids cgroup that is full: the task is captured in the ordinary way.
fn pids(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 32, writers: 2, ..Shape::default() });
    let group = Group::make("pids", scene.target.pid.as_raw());
    let threads = fs::read_dir(format!("/proc/{}/task", scene.target.pid)).unwrap().count();
    group.set("pids.max", &threads.to_string());
    let images = lab.dir("images");
    let capture = dump(scene.target.pid, &images).instant(&lab.criu, &eager(), &mut ()).unwrap();
    let way = capture.tasks[0].way.clone();
    println!("{way}");
    assert!(matches!(way, Way::Captured(WhyNot::Processes | WhyNot::GivenUp { .. })), "{way:?}");
    capture.reading.wait().unwrap();
    none_stays();
    scene.goes_on().unwrap();
    right(&scene, &images);
    scene.end();
    group.remove();
}

fn small(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 4, writers: 2, ..Shape::default() });
    let images = lab.dir("images");
    let options = InstantOptions::new();
    let capture = dump(scene.target.pid, &images).instant(&lab.criu, &options, &mut ()).unwrap();
    let way = capture.tasks[0].way.clone();
    assert!(matches!(way, Way::Captured(WhyNot::Small { .. })), "{way:?}");
    capture.reading.wait().unwrap();
    right(&scene, &images);
    scene.end();
    scene.restore(lab, &images).unwrap();
    scene.end();
}

fn verify(lab: &Lab) {
    let shape = Shape { mib: 32, writers: 2, churn: 1, zoo: true, ..Shape::default() };
    let read = trip(lab, &mut lab.start(shape), &eager().verify(true));
    assert!(read.verified >= Some(32 << 8), "{read:?}");
}

fn page_server(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 32, writers: 2, zoo: true, ..Shape::default() });
    let (images, pages) = (lab.dir("images"), lab.dir("pages"));
    let server = Server::new().directory(&pages).listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = server.port();
    let running = std::thread::spawn(move || server.run(Some(1)).unwrap());
    let client = Client::connect(("127.0.0.1", port), Layout::of(lab.version)).unwrap();
    let dump = dump(scene.target.pid, &images);
    let capture = dump.instant_to(&lab.criu, &eager(), client, &mut ()).unwrap();
    all_held(&capture, &scene.pids).unwrap();
    capture.reading.wait().unwrap();
    let reports = running.join().unwrap();
    assert!(reports.iter().all(|report| report.result.is_ok()), "{reports:?}");
    none_stays();
    scene.goes_on().unwrap();
    for entry in fs::read_dir(&pages).unwrap().flatten() {
        fs::rename(entry.path(), images.join(entry.file_name())).unwrap();
    }
    right(&scene, &images);
    scene.end();
    scene.restore(lab, &images).unwrap();
    scene.end();
}

/// While the memory is read, another capture and another dump of the same task are refused.
fn second(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 256, writers: 2, ..Shape::default() });
    let (images, other) = (lab.dir("images"), lab.dir("other"));
    let capture = dump(scene.target.pid, &images).instant(&lab.criu, &eager(), &mut ()).unwrap();
    all_held(&capture, &scene.pids).unwrap();
    let result = dump(scene.target.pid, &other).instant(&lab.criu, &eager(), &mut ());
    assert!(!capture.reading.is_finished(), "the first is done already");
    let error = result.expect_err("a second capture while a holder lives");
    println!("{error}");
    assert!(matches!(error, Error::Holder(_)), "{error:?}");
    assert!(criu_lab::names(&other).iter().all(|name| !name.ends_with(".img")));
    capture.reading.wait().unwrap();
    none_stays();
    right(&scene, &images);
    let capture = dump(scene.target.pid, &other).instant(&lab.criu, &eager(), &mut ()).unwrap();
    capture.reading.wait().unwrap();
    right(&scene, &other);
    scene.goes_on().unwrap();
    scene.end();
}

/// The kernel takes huge pages away from a holder when a pool is empty. The zoo has two of three.
fn pool(lab: &Lab) {
    let _alone = criu_lab::place::alone("huge-pages");
    let pool = HugePages::set(3);
    let shape = Shape { mib: 32, writers: 2, zoo: true, pool: true, ..Shape::default() };
    let mut scene = lab.start(shape);
    let maps = fs::read_to_string(format!("/proc/{}/maps", scene.target.pid)).unwrap();
    assert!(maps.contains("anon_hugepage"), "{maps}");
    trip(lab, &mut scene, &eager());
    drop(pool);
}

/// A freezer of version 1, thawed, and frozen already. A frozen task cannot reap its holder, which
/// has given its memory back: the next capture clears up.
fn freezer(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 32, writers: 2, ..Shape::default() });
    let group = Group::make("freezer", scene.target.pid.as_raw());
    for state in ["THAWED", "FROZEN", "THAWED"] {
        let images = lab.dir("images");
        group.set("freezer.state", state);
        let dump = dump(scene.target.pid, &images).freeze_cgroup(group.0.to_str().unwrap());
        let capture = dump.instant(&lab.criu, &eager(), &mut ()).unwrap();
        all_held(&capture, &scene.pids).unwrap();
        let read = capture.reading.wait().unwrap();
        assert_eq!(fs::read_to_string(group.0.join("freezer.state")).unwrap().trim(), state);
        right(&scene, &images);
        group.set("freezer.state", "THAWED");
        println!("{state}: {:?}", read.unreaped);
        if state == "FROZEN" {
            assert_eq!(read.unreaped.len(), holders(Duration::ZERO).len());
        } else {
            assert!(read.unreaped.is_empty(), "{read:?}");
            none_stays();
        }
        scene.goes_on().unwrap();
    }
    scene.end();
    group.remove();
}

/// The process dies while its memory is read: the images are complete, and restore.
fn dies(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 128, writers: 2, ..Shape::default() });
    let images = lab.dir("images");
    let capture = dump(scene.target.pid, &images).instant(&lab.criu, &eager(), &mut ()).unwrap();
    all_held(&capture, &scene.pids).unwrap();
    scene.target.signal(Signal::SIGKILL);
    scene.target.is_gone();
    let was_early = !capture.reading.is_finished();
    capture.reading.wait().unwrap();
    assert!(was_early, "the reading was quicker than the end of the process");
    none_stays();
    right(&scene, &images);
    scene.restore(lab, &images).unwrap();
    scene.end();
}

fn cancelled(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 256, writers: 2, ..Shape::default() });
    let images = lab.dir("images");
    let cancel = Cancel::new().unwrap();
    let dump = dump(scene.target.pid, &images).cancel(&cancel);
    let capture = dump.instant(&lab.criu, &eager(), &mut ()).unwrap();
    all_held(&capture, &scene.pids).unwrap();
    cancel.cancel();
    let error = capture.reading.wait().expect_err("it was cancelled");
    println!("{error}");
    none_stays();
    let left = criu_lab::names(&images);
    assert!(left.iter().all(|name| !name.ends_with(".img")), "{left:?}");
    assert!(is_whole(&images).is_err());
    scene.goes_on().unwrap();
    scene.end();
}

/// A memory cgroup that has no room for the worst case: no holder, by default.
fn headroom(lab: &Lab) {
    let mut scene = lab.start(Shape { mib: 64, writers: 2, ..Shape::default() });
    let group = Group::make("memory", scene.target.pid.as_raw());
    group.set("memory.limit_in_bytes", &(32 << 20).to_string());
    let images = lab.dir("images");
    let options = eager().headroom(Headroom::Check);
    let capture = dump(scene.target.pid, &images).instant(&lab.criu, &options, &mut ()).unwrap();
    let way = capture.tasks[0].way.clone();
    println!("{way}");
    assert!(matches!(way, Way::Captured(WhyNot::Memory { cgroup: Some(_), .. })), "{way:?}");
    capture.reading.wait().unwrap();
    right(&scene, &images);
    scene.goes_on().unwrap();
    scene.end();
    group.remove();
}

/// A cgroup of version 1 in this sandbox.
pub struct Group(pub PathBuf);

impl Group {
    /// Makes one, and moves a process there.
    #[track_caller]
    pub fn make(controller: &str, pid: i32) -> Self {
        let group = Self::new(controller);
        group.set("cgroup.procs", &pid.to_string());
        group
    }

    /// Makes an empty one.
    #[track_caller]
    pub fn new(controller: &str) -> Self {
        let path = Path::new("/sys/fs/cgroup").join(controller);
        assert!(path.is_dir(), "the machine has no hierarchy of {controller}");
        let group = Self(path.join("instant"));
        fs::create_dir_all(&group.0).unwrap();
        group
    }

    #[track_caller]
    pub fn set(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    /// Removes it, once it is empty.
    #[track_caller]
    pub fn remove(&self) {
        let gone = || fs::remove_dir(&self.0).is_ok();
        assert!(within(Duration::from_secs(5), gone), "{} stays", self.0.display());
    }
}
