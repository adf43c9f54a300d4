//! Instant captures: the memory is read from holders, while the tasks run on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use criu_lab::{names, soon};
use criu_rs::instant::{InstantCapture, InstantOptions, Way, WhyNot};
use criu_rs::pages::{Client, Layout, Server};
use criu_rs::{AfterDump, Cancel, Dump, Error, External, HookResult, Hooks, Pid};
use nix::sys::signal::{Signal, kill};

use crate::lab::{Lab, Target, TestFn};
use crate::pages::{anywhere, are_alike, is_of_one_moment, is_whole, pages, restores};

pub const TESTS: &[(&str, TestFn)] = &[
    ("an_instant_capture_is_what_a_dump_would_be", alike),
    ("an_instant_capture_of_a_busy_process_is_of_one_moment", busy),
    ("an_instant_capture_is_handed_on_to_a_page_server", hand_on),
    ("a_task_too_small_for_a_holder_is_captured_in_an_instant_capture", small),
    ("an_instant_capture_that_ends_the_tasks_is_a_capture", ends),
    ("an_instant_capture_that_is_cancelled_leaves_nothing", cancelled),
    ("an_instant_capture_that_is_dropped_is_completed", dropped),
    ("an_instant_capture_that_a_hook_refuses_leaves_nothing", refused),
    ("an_instant_capture_past_its_deadline_leaves_nothing", too_late),
    ("an_instant_capture_whose_criu_is_killed_leaves_nothing", criu_killed),
    ("an_instant_capture_whose_holder_is_killed_leaves_nothing", holder_killed),
    ("a_tree_with_a_live_holder_is_not_dumped_by_an_instant_capture_or_a_dump", live_holder),
    ("an_instant_capture_loads_the_other_plugins_of_criu", other_plugins),
    ("an_instant_capture_without_a_plugin_touches_nothing", no_plugin),
    ("an_instant_capture_with_a_memory_limit_holds_what_fits", memory_limit),
];

/// The options of a capture in which every task gets a holder.
pub fn all() -> InstantOptions {
    InstantOptions::new().least(1).least_per_mapping(1).verify(true)
}

/// Says whether a task of a capture has a holder.
#[track_caller]
pub fn is_held(capture: &InstantCapture, pid: Pid) -> bool {
    let task = capture.tasks.iter().find(|task| task.pid == pid).unwrap();
    println!("{pid}: {}", task.way);
    matches!(task.way, Way::Held { pages, .. } if pages > 0)
}

/// The children of a process, of all kinds.
pub fn children(pid: Pid) -> Vec<i32> {
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
        is_of_one_moment(&images);
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

/// A task with an earlier checkpoint, which has to stay as it is.
struct Earlier<'l> {
    lab: &'l Lab,
    target: Target,
    images: PathBuf,
    files: BTreeMap<OsString, Vec<u8>>,
}

impl<'l> Earlier<'l> {
    fn start(lab: &'l Lab, mebibytes: &str) -> Self {
        let (target, images) = (lab.start(&["memory", mebibytes]), lab.dir("images"));
        let earlier = Self { lab, target, images, files: BTreeMap::new() };
        earlier.dump().run(&lab.criu).unwrap();
        Self { files: earlier.now(), ..earlier }
    }

    fn dump(&self) -> Dump<'_> {
        let dump = Dump::new(self.target.pid, &self.images).after_dump(AfterDump::LeaveRunning);
        dump.overwrite(true)
    }

    fn instant(&self, hooks: &mut dyn Hooks) -> Result<InstantCapture, Error> {
        self.dump().instant(&self.lab.criu, &all(), hooks)
    }

    /// The images. Logs are those of the last dump.
    fn now(&self) -> BTreeMap<OsString, Vec<u8>> {
        let entries = fs::read_dir(&self.images).unwrap().map(|entry| entry.unwrap());
        let images = entries.filter(|entry| !entry.file_name().to_string_lossy().ends_with(".log"));
        images.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
    }

    /// The task runs on, nothing is left, and the earlier checkpoint is there.
    #[track_caller]
    fn is_untouched(&self) {
        self.target.goes_on();
        let left = children(self.target.pid);
        assert!(left.is_empty(), "a holder is left: {left:?}");
        let (now, names) = (self.now(), criu_lab::names(&self.images));
        assert!(now == self.files, "{names:?}");
    }
}

/// Cancelled when the tasks are saved: the dump completes, and the memory is not read.
fn cancelled(lab: &Lab) {
    let earlier = Earlier::start(lab, "24");
    let cancel = Cancel::new().unwrap();
    let mut at_the_end = AtPostDump(|| {
        cancel.cancel();
        Ok(())
    });
    let dump = earlier.dump().cancel(&cancel);
    let capture = dump.instant(&lab.criu, &all(), &mut at_the_end).unwrap();
    let error = capture.reading.wait().unwrap_err();
    assert!(matches!(error, Error::Instant(_)), "{error}");
    assert!(error.to_string().contains("cancelled"), "{error}");
    earlier.is_untouched();
}

fn dropped(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "24"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    drop(dump.instant(&lab.criu, &all(), &mut ()).unwrap());
    assert!(children(target.pid).is_empty(), "a holder is left");
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
}

/// A function that is called when the task is saved, and stands still.
struct AtPostDump<F>(F);

impl<F: FnMut() -> HookResult> Hooks for AtPostDump<F> {
    fn post_dump(&mut self) -> HookResult {
        (self.0)()
    }
}

fn refused(lab: &Lab) {
    let earlier = Earlier::start(lab, "24");
    let pid = earlier.target.pid;
    let mut held = 0;
    let mut refuse = AtPostDump(|| {
        held = children(pid).len();
        Err("the test says no".into())
    });
    let error = earlier.instant(&mut refuse).unwrap_err();
    assert!(matches!(error, Error::Hook { .. }), "{error}");
    assert_eq!(held, 1, "there was no holder");
    earlier.is_untouched();
}

/// The deadline passes while the tasks stand still.
fn too_late(lab: &Lab) {
    struct Wait;
    impl Hooks for Wait {
        fn query_ext_files(&mut self) -> HookResult<Vec<External>> {
            thread::sleep(Duration::from_millis(700));
            Ok(Vec::new())
        }
    }
    let earlier = Earlier::start(lab, "24");
    let dump = earlier.dump().deadline(Duration::from_millis(500));
    let error = dump.instant(&lab.criu, &all(), &mut Wait).unwrap_err();
    assert!(matches!(error, Error::Stopped(_)), "{error}");
    earlier.is_untouched();
}

/// Criu is killed while it holds the tasks.
fn criu_killed(lab: &Lab) {
    let earlier = Earlier::start(lab, "24");
    let pid = earlier.target.pid;
    let mut held = 0;
    let mut kill_criu = AtPostDump(|| {
        held = children(pid).len();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap();
        let criu = nix::unistd::Pid::from_raw(tracer.trim().parse().unwrap());
        Ok(kill(criu, Signal::SIGKILL)?)
    });
    let error = earlier.instant(&mut kill_criu).unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert_eq!(held, 1, "there was no holder");
    earlier.is_untouched();
}

/// The kernel kills holders first where memory runs out.
fn holder_killed(lab: &Lab) {
    let earlier = Earlier::start(lab, "200");
    let capture = earlier.instant(&mut ()).unwrap();
    let [holder] = children(earlier.target.pid)[..] else { panic!("there is no holder") };
    kill(nix::unistd::Pid::from_raw(holder), Signal::SIGKILL).unwrap();
    let error = capture.reading.wait().unwrap_err();
    assert!(matches!(error, Error::Instant(_)), "{error}");
    println!("{error}");
    assert!(error.to_string().contains("holder"), "{error}");
    earlier.is_untouched();
}

fn live_holder(lab: &Lab) {
    let earlier = Earlier::start(lab, "200");
    let capture = earlier.instant(&mut ()).unwrap();
    assert_eq!(children(earlier.target.pid).len(), 1);
    let images = lab.dir("others");
    let dump = Dump::new(earlier.target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let error = dump.instant(&lab.criu, &all(), &mut ()).unwrap_err();
    assert!(matches!(error, Error::Holder(_)), "{error}");
    let error = dump.run(&lab.criu).unwrap_err();
    assert!(matches!(error, Error::Holder(_)), "{error}");
    println!("{error}");
    assert!(names(&images).is_empty(), "{:?}", names(&images));
    capture.reading.wait().unwrap();
    dump.run(&lab.criu).unwrap();
    earlier.target.goes_on();
}

/// A plugin that cannot be loaded fails a dump: so the directory of the variable is not left out.
fn other_plugins(lab: &Lab) {
    let (images, folder) = (lab.dir("images"), lab.dir("plugins"));
    fs::write(folder.join("other.so"), "this is no library").unwrap();
    let criu = lab.criu.clone().env("CRIU_LIBS_DIR", &folder);
    let target = lab.start(&["memory", "24"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let error = dump.instant(&criu, &all(), &mut ()).unwrap_err();
    assert!(error.to_string().contains("other.so"), "{error}");
    target.goes_on();
    fs::rename(folder.join("other.so"), folder.join("other.txt")).unwrap();
    let capture = dump.instant(&criu, &all(), &mut ()).unwrap();
    assert!(is_held(&capture, target.pid));
    capture.reading.wait().unwrap();
}

fn no_plugin(lab: &Lab) {
    let earlier = Earlier::start(lab, "4");
    let options = all().plugin("/nonexistent/plugin.so");
    let error = earlier.dump().instant(&lab.criu, &options, &mut ()).unwrap_err();
    assert!(error.to_string().contains("no plugin at /nonexistent/plugin.so"), "{error}");
    earlier.is_untouched();
}

/// The limit of its cgroup has no room for the memory once more.
fn memory_limit(lab: &Lab) {
    let root = Path::new("/sys/fs/cgroup");
    let (above, limit) = [
        (root.join("memory"), "memory.limit_in_bytes"),
        (root.join("unified"), "memory.max"),
        (root.to_owned(), "memory.max"),
    ]
    .into_iter()
    .find(|(above, limit)| {
        let controllers = fs::read_to_string(above.join("cgroup.controllers"));
        let is_second = controllers.is_ok_and(|all| all.split(' ').any(|one| one == "memory"));
        above.join(limit).exists() || (is_second && *limit == "memory.max")
    })
    .unwrap();
    let target = lab.start(&["memory", "48"]);
    let cgroup = above.join(format!("criu-rs-test-instant-{}", target.pid));
    fs::create_dir(&cgroup).unwrap();
    // The memory that the task has already is charged elsewhere, and counts for the worst case.
    fs::write(cgroup.join("cgroup.procs"), target.pid.to_string()).unwrap();
    let ways = [(32u64 << 20, false), (512 << 20, true)].map(|(bytes, fits)| {
        fs::write(cgroup.join(limit), bytes.to_string()).unwrap();
        let images = lab.dir(&format!("images-{fits}"));
        let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
        let capture = dump.instant(&lab.criu, &all(), &mut ()).unwrap();
        let way = capture.tasks[0].way.clone();
        println!("{way}");
        let read = capture.reading.wait().unwrap();
        assert_eq!(read.held > 0, fits, "{read:?}");
        is_whole(&images);
        way
    });
    target.goes_on();
    drop(target);
    assert!(soon(|| fs::remove_dir(&cgroup).is_ok()));
    let [Way::Captured(WhyNot::Memory { cgroup: Some(found), .. }), Way::Held { .. }] = &ways
    else {
        panic!("{ways:?}");
    };
    assert_eq!(*found, cgroup);
}
