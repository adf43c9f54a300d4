//! Series of captures: what has not changed is left to the round before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use criu_images::memory::{PageFlags, PageObject, PageSet, PageSize};
use criu_lab::generations::Shape;
use criu_lab::{orders, soon, within};
use criu_rs::instant::{
    Budget, InstantCapture, InstantError, InstantSeries, ReadOut, SeriesEnd, SeriesOptions, Way,
    WhenEnded, holders_of,
};
use criu_rs::lazy::{LazyOptions, LazyPages};
use criu_rs::pages::{Client, Layout, Server};
use criu_rs::{AfterDump, Criu, Error, HookResult, Hooks, Pid, Restore};
use nix::sys::signal::Signal;

use crate::kinds::Group;
use crate::lab::{Lab, SOON, Target, TestFn, all_held, dump, eager, holders, inner, is_whole};

pub const TESTS: &[(&str, TestFn)] = &[
    ("ten_rounds_save_what_was_written_and_restore_at_each_link", ten),
    ("rounds_of_writers_at_full_speed_are_right", busy),
    ("tasks_that_come_and_go_and_execute_are_saved_whole", changes),
    ("holders_end_before_they_take_too_much_memory", budget),
    ("a_lost_holder_makes_the_next_round_full", lost),
    ("a_round_that_fails_leaves_the_round_before_as_the_base", fails),
    ("a_series_may_end_with_stopped_tasks", last),
    ("rounds_go_to_a_page_server", served),
    ("a_series_that_is_dropped_leaves_no_holder", dropped),
    ("rounds_with_a_freezer_cgroup_do_not_stop_their_holders", frozen),
    ("a_killed_series_leaves_no_holder", killed),
];

/// A process that obeys orders, and the number of the last one.
struct Orders {
    target: Target,
    number: u64,
}

impl Orders {
    fn start(lab: &Lab, mebibytes: &str, kind: &str) -> Self {
        let file = lab.dir("home").join("count");
        let target = Target::start(&["orders", mebibytes, kind], &file, |command| command);
        Self { target, number: 0 }
    }

    #[track_caller]
    fn say(&mut self, text: &str) -> String {
        self.order(text);
        self.answer()
    }

    fn order(&mut self, text: &str) {
        self.number += 1;
        orders::order(self.target.file(), self.number, text);
    }

    #[track_caller]
    fn answer(&self) -> String {
        orders::answer(self.target.file(), self.number)
    }

    /// Restores the process from images, and looks whether its memory is that of a generation.
    #[track_caller]
    fn restore(&mut self, lab: &Lab, images: &Path, generation: u64, lazily: bool) {
        self.target.end();
        self.order(&format!("check {generation}"));
        if lazily {
            let pages = LazyPages::open(images, LazyOptions::default()).unwrap();
            let restore = Restore::new(images).rst_sibling(true).lazy(&pages);
            let (restored, memory) = restore.run(&lab.criu).unwrap();
            self.target.restored_as(restored.pid);
            assert_eq!(self.answer(), "right", "{}", images.display());
            assert!(memory.wait(Some(SOON)).unwrap());
            assert_eq!(memory.progress().missing, 0);
        } else {
            let restored = Restore::new(images).rst_sibling(true).run(&lab.criu).unwrap();
            self.target.restored_as(restored.pid);
            assert_eq!(self.answer(), "right", "{}", images.display());
        }
    }
}

#[track_caller]
fn begin<'a>(lab: &Lab, pid: Pid, options: &SeriesOptions) -> InstantSeries<'a> {
    let dump = criu_rs::Dump::new(pid, "/nowhere").after_dump(AfterDump::LeaveRunning);
    dump.instant_series(&lab.criu, options).unwrap()
}

fn options() -> SeriesOptions {
    SeriesOptions::new().instant(eager().verify(true))
}

/// Makes a round in which each of these tasks has a holder.
#[track_caller]
fn round(series: &mut InstantSeries<'_>, directory: &Path, pids: &[Pid]) -> ReadOut {
    let capture = series.next(directory, &mut ()).unwrap();
    all_held(&capture, pids).unwrap();
    let read = capture.reading.wait().unwrap();
    println!("{}: {read:?}", directory.display());
    is_whole(directory).unwrap();
    assert_eq!(series.base().as_deref(), Some(directory));
    read
}

/// The pages that the images of a task have, and that they leave to the parent.
#[track_caller]
fn saved(directory: &Path, pid: Pid) -> (u64, u64) {
    let set = PageSet::open(directory, PageSize::K4).unwrap();
    let object = PageObject::Task(u32::try_from(inner(pid)).unwrap());
    let pages = set.pages(object).unwrap().unwrap();
    let sum = |inherited: bool| {
        let runs = pages.runs().filter(|run| run.flags.contains(PageFlags::PARENT) == inherited);
        runs.map(|run| run.pages).sum()
    };
    (sum(false), sum(true))
}

fn size(directory: &Path) -> u64 {
    fs::read_dir(directory).unwrap().flatten().map(|entry| entry.metadata().unwrap().len()).sum()
}

/// The holders of a process that this test reads.
fn held(pid: Pid) -> usize {
    holders_of(pid).len()
}

#[track_caller]
fn none_stays() {
    let left = holders(Duration::from_secs(2));
    assert!(left.is_empty(), "holders stay: {left:?}");
}

fn ten(lab: &Lab) {
    for kind in ["small", "huge"] {
        let mut process = Orders::start(lab, "96", kind);
        let pid = process.target.pid;
        let mut series = begin(lab, pid, &options());
        let place = |n: u64| lab.dir.join(format!("{kind}-{n}"));
        let mut links = Vec::new();
        for generation in 1..=11 {
            let written: u64 = match generation {
                1 => 96 << 8,
                _ => process.say(&format!("write {generation}")).parse().unwrap(),
            };
            let directory = place(generation);
            fs::create_dir(&directory).unwrap();
            let read = round(&mut series, &directory, &[pid]);
            let (pages, inherited) = saved(&directory, pid);
            let (bytes, wanted) = (size(&directory), written * 4096);
            println!("{kind} {generation}: {written} pages written, {pages} saved, {bytes} bytes");
            assert!(bytes <= wanted + wanted / 10, "{bytes} bytes for {wanted}");
            assert!(pages >= written, "{pages} pages for {written}");
            assert_eq!(read.inherited, inherited);
            assert_eq!(read.inherited > 0, generation > 1);
            assert_eq!(held(pid), 1);
            links.push(directory);
        }
        drop(series);
        none_stays();
        assert_eq!(process.say("check 11"), "right");
        for (generation, images) in (1..).zip(&links) {
            process.restore(lab, images, generation, false);
            process.restore(lab, images, generation, true);
        }
        process.target.end();
    }
}

fn busy(lab: &Lab) {
    // The holders may have all pages for themselves.
    let options = options().budget(Budget::new().percent(200).free(0));
    for (huge, churn, children) in [(false, 1, 0), (true, 1, 0), (false, 0, 2)] {
        let shape = Shape { mib: 12, writers: 2, huge, churn, children, ..Shape::default() };
        let mut scene = lab.start(shape);
        let mut series = begin(lab, scene.target.pid, &options);
        let mut links = Vec::new();
        let mut inherited = 0;
        for n in 0..5 {
            let directory = lab.dir(&format!("link-{n}"));
            inherited += round(&mut series, &directory, &scene.pids).inherited;
            scene.goes_on().unwrap();
            links.push(directory);
        }
        assert!(inherited > 0, "program text and idle stacks do not change");
        drop(series);
        none_stays();
        for directory in &links {
            let verdict = scene.judge_images(directory).unwrap();
            assert!(verdict.wrong == 0 && verdict.pages > 0, "{verdict:?}");
        }
        for directory in links.iter().rev() {
            scene.end();
            scene.restore(lab, directory).unwrap();
        }
        scene.end();
    }
}

fn changes(lab: &Lab) {
    let mut process = Orders::start(lab, "24", "small");
    let pid = process.target.pid;
    let mut series = begin(lab, pid, &options());
    let mut made = Vec::new();
    let mut next = |series: &mut InstantSeries<'_>, pids: &[Pid]| {
        let directory = lab.dir(&format!("changes-{}", made.len()));
        made.push(directory.clone());
        round(series, &directory, pids);
        directory
    };
    next(&mut series, &[pid]);
    // A new task has no page in the images before.
    let child: Pid = process.say("child").parse().unwrap();
    let count = process.target.file().with_file_name("child");
    assert!(within(SOON, || fs::read_to_string(&count).is_ok_and(|text| !text.is_empty())));
    let with_child = next(&mut series, &[pid, child]);
    assert_eq!(saved(&with_child, child).1, 0);
    assert!(saved(&with_child, pid).1 > 20 << 8);
    let again = next(&mut series, &[pid, child]);
    assert!(saved(&again, child).1 > 20 << 8);
    assert_eq!(held(pid), 2);
    // The same program in empty memory, with the same process id and start time.
    assert_eq!(process.say("end"), "done");
    process.say("write 2");
    assert_eq!(process.say("exec"), "done");
    let executed = next(&mut series, &[pid]);
    assert_eq!(saved(&executed, pid).1, 0, "no page of the new program is left to the old one");
    assert_eq!(held(pid), 1);
    process.say("write 2");
    process.say("discard");
    let discarded = next(&mut series, &[pid]);
    let (pages, inherited) = saved(&discarded, pid);
    assert!(pages > 256 && inherited > 20 << 8, "{pages}, {inherited}");
    drop(series);
    none_stays();
    process.restore(lab, &discarded, 2, false);
    process.restore(lab, &executed, 1, true);
    process.restore(lab, &made[0], 1, false);
    process.target.end();
}

fn budget(lab: &Lab) {
    let mut process = Orders::start(lab, "128", "small");
    let pid = process.target.pid;
    let small = |when| options().budget(Budget::new().percent(10).bytes(8 << 20)).when_ended(when);
    let mut series = begin(lab, pid, &small(WhenEnded::Fail));
    round(&mut series, &lab.dir("first"), &[pid]);
    // A twentieth of 128 MiB is less than 8 MiB.
    process.say("write 2");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(series.ended().is_none() && held(pid) == 1);
    process.say("write 3");
    assert!(within(SOON, || series.ended().is_some()));
    let end = series.ended().unwrap();
    println!("{end}");
    assert!(
        matches!(end, SeriesEnd::Budget { own, most } if own > most && most == 8 << 20),
        "{end:?}"
    );
    assert!(soon(|| held(pid) == 0));
    none_stays();
    let refused = lab.dir("refused");
    let error = series.next(&refused, &mut ()).unwrap_err();
    println!("{error}");
    let Error::Instant(why) = error else { panic!("{error:?}") };
    assert!(matches!(why.downcast_ref(), Some(InstantError::SeriesEnded(_))), "{why:?}");
    assert!(criu_lab::names(&refused).is_empty() && series.base().is_none());
    let read = round(&mut series, &lab.dir("full"), &[pid]);
    assert_eq!(read.inherited, 0);
    assert!(!lab.dir.join("full/parent").exists());
    drop(series);

    // Free memory that nobody has.
    let budget = Budget::new().free(1 << 60);
    let mut series = begin(lab, pid, &options().budget(budget));
    round_that_ends(&mut series, &lab.dir("free"), pid);
    let end = series.ended().unwrap();
    assert!(matches!(end, SeriesEnd::Free { free, least } if free < least), "{end:?}");
    let read = series.next(lab.dir("again"), &mut ()).unwrap().reading.wait().unwrap();
    assert_eq!(read.inherited, 0);
    drop(series);
    none_stays();
    assert_eq!(process.say("check 3"), "right");
    process.restore(lab, &lab.dir.join("full"), 3, false);
    process.target.end();
}

/// Makes a round, and waits until its holders have ended.
#[track_caller]
fn round_that_ends(series: &mut InstantSeries<'_>, directory: &Path, pid: Pid) {
    let capture = series.next(directory, &mut ()).unwrap();
    capture.reading.wait().unwrap();
    assert!(within(SOON, || series.ended().is_some() && held(pid) == 0));
    assert!(series.base().is_none());
}

fn lost(lab: &Lab) {
    let mut process = Orders::start(lab, "24", "small");
    let pid = process.target.pid;
    let mut series = begin(lab, pid, &options());
    round(&mut series, &lab.dir("first"), &[pid]);
    process.say("write 2");
    let holder = holders_of(pid)[0].holder;
    assert!(criu_lab::process::send(holder, Signal::SIGKILL));
    // With and without the time to see it.
    let read = round(&mut series, &lab.dir("at-once"), &[pid]);
    assert_eq!(read.inherited, 0);
    process.say("write 3");
    let holder = holders_of(pid)[0].holder;
    assert!(criu_lab::process::send(holder, Signal::SIGKILL));
    assert!(within(SOON, || series.ended() == Some(SeriesEnd::Lost)));
    none_stays();
    let read = round(&mut series, &lab.dir("later"), &[pid]);
    assert_eq!(read.inherited, 0);
    process.say("write 4");
    let read = round(&mut series, &lab.dir("last"), &[pid]);
    assert!(read.inherited > 20 << 8);
    drop(series);
    none_stays();
    process.restore(lab, &lab.dir.join("last"), 4, false);
    process.restore(lab, &lab.dir.join("at-once"), 2, false);
    process.target.end();
}

/// Kills the new holder of a task when the dump has done its work.
struct KillNew {
    task: Pid,
    old: Pid,
}

impl Hooks for KillNew {
    fn post_dump(&mut self) -> HookResult {
        kill_new(self.task, self.old);
        Ok(())
    }
}

#[track_caller]
fn kill_new(task: Pid, old: Pid) {
    let new = holders_of(task).into_iter().find(|found| found.holder != old).unwrap();
    assert!(criu_lab::process::send(new.holder, Signal::SIGKILL));
}

fn fails(lab: &Lab) {
    let mut process = Orders::start(lab, "64", "small");
    let pid = process.target.pid;
    let mut series = begin(lab, pid, &options());
    let first = lab.dir("first");
    round(&mut series, &first, &[pid]);
    // Directories that are not for a round.
    let error = series.next(&first, &mut ()).unwrap_err();
    println!("{error}");
    assert!(matches!(error, Error::InvalidValue(_)), "{error:?}");
    let linked = lab.dir("linked");
    std::os::unix::fs::symlink("../first", linked.join("parent")).unwrap();
    println!("{}", series.next(&linked, &mut ()).unwrap_err());
    assert!(series.next(lab.dir.join("nothing"), &mut ()).is_err());
    assert_eq!((held(pid), series.base()), (1, Some(first.clone())));
    // The new holder is lost, before and while it is read.
    let old = holders_of(pid)[0].holder;
    let (before, meanwhile) = (lab.dir("before"), lab.dir("meanwhile"));
    let error = series.next(&before, &mut KillNew { task: pid, old }).unwrap_err();
    println!("{error}");
    let capture = series.next(&meanwhile, &mut ()).unwrap();
    kill_new(pid, old);
    let error = capture.reading.wait().unwrap_err();
    println!("{error}");
    for directory in [before, meanwhile] {
        let left = criu_lab::names(&directory);
        assert!(!left.iter().any(|name| name.ends_with(".img") || name == "parent"), "{left:?}");
    }
    assert_eq!((held(pid), series.base()), (1, Some(first)));
    assert_eq!(holders_of(pid)[0].holder, old);
    process.say("write 2");
    let second = lab.dir("second");
    let read = round(&mut series, &second, &[pid]);
    assert!(read.inherited > 50 << 8, "{read:?}");
    process.restore(lab, &second, 2, false);
    // The process that the series is about is gone.
    process.target.end();
    drop(series);
    none_stays();
}

fn last(lab: &Lab) {
    let mut process = Orders::start(lab, "24", "small");
    let pid = process.target.pid;
    let mut series = begin(lab, pid, &options());
    round(&mut series, &lab.dir("first"), &[pid]);
    process.say("write 2");
    let end = lab.dir("end");
    let capture: InstantCapture = series.last(&end, AfterDump::LeaveStopped, &mut ()).unwrap();
    assert!(matches!(capture.tasks[0].way, Way::Held { .. }), "{:?}", capture.tasks);
    let read = capture.reading.wait().unwrap();
    assert!(read.inherited > 20 << 8, "{read:?}");
    none_stays();
    assert_eq!(process.target.state(), Some('T'));
    process.restore(lab, &end, 2, false);
    let series = begin(lab, process.target.pid, &options());
    let error = series.last(lab.dir("kill"), AfterDump::Kill, &mut ()).unwrap_err();
    assert!(matches!(error, Error::InvalidValue(_)), "{error:?}");
    process.target.end();
}

fn served(lab: &Lab) {
    let mut process = Orders::start(lab, "24", "small");
    let pid = process.target.pid;
    let mut series = begin(lab, pid, &SeriesOptions::new().instant(eager()));
    let mut sets: Vec<PathBuf> = Vec::new();
    for generation in 1..=3 {
        if generation > 1 {
            process.say(&format!("write {generation}"));
        }
        let images = lab.dir(&format!("images-{generation}"));
        let pages = lab.dir(&format!("pages-{generation}"));
        if let Some(before) = sets.last() {
            let name = Path::new("..").join(before.file_name().unwrap());
            std::os::unix::fs::symlink(name, pages.join("parent")).unwrap();
        }
        let server =
            Server::new().directory(&pages).listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = server.port();
        let running = std::thread::spawn(move || server.run(Some(1)).unwrap());
        let client = Client::connect(("127.0.0.1", port), Layout::of(lab.version)).unwrap();
        let capture = series.next_to(&images, client, &mut ()).unwrap();
        let read = capture.reading.wait().unwrap();
        let reports = running.join().unwrap();
        assert!(reports.iter().all(|report| report.result.is_ok()), "{reports:?}");
        assert_eq!(read.inherited > 20 << 8, generation > 1, "{read:?}");
        // The set is complete where the pages are.
        for entry in fs::read_dir(&images).unwrap().flatten() {
            fs::rename(entry.path(), pages.join(entry.file_name())).unwrap();
        }
        is_whole(&pages).unwrap();
        sets.push(pages);
    }
    drop(series);
    none_stays();
    for (generation, pages) in (1..).zip(&sets) {
        process.restore(lab, pages, generation, false);
    }
    process.target.end();
}

fn dropped(lab: &Lab) {
    let mut process = Orders::start(lab, "64", "small");
    let pid = process.target.pid;
    let mut series = begin(lab, pid, &options());
    round(&mut series, &lab.dir("first"), &[pid]);
    process.say("write 2");
    // The series ends while a round is being read.
    let second = lab.dir("second");
    let capture = series.next(&second, &mut ()).unwrap();
    drop(series);
    let read = capture.reading.wait().unwrap();
    assert!(read.inherited > 50 << 8, "{read:?}");
    none_stays();
    // The reading is dropped, and the next round waits for it.
    let mut series = begin(lab, pid, &options());
    drop(series.next(lab.dir("third"), &mut ()).unwrap());
    process.say("write 3");
    let fourth = lab.dir("fourth");
    assert!(round(&mut series, &fourth, &[pid]).inherited > 50 << 8);
    series.restart();
    none_stays();
    assert_eq!(round(&mut series, &lab.dir("fifth"), &[pid]).inherited, 0);
    drop(series);
    none_stays();
    // Options with which there is no series.
    let images = lab.dir("sixth");
    let killing = criu_rs::Dump::new(pid, &images);
    assert!(matches!(killing.instant_series(&lab.criu, &options()), Err(Error::InvalidValue(_))));
    let with_parent = dump(pid, &images).parent_img("../fifth").track_mem(true);
    assert!(matches!(
        with_parent.instant_series(&lab.criu, &options()),
        Err(Error::InvalidValue(_))
    ));
    process.restore(lab, &second, 2, false);
    process.restore(lab, &fourth, 3, true);
    process.target.end();
}

/// CRIU stops the whole cgroup, and the holders of the round before are in it.
fn frozen(lab: &Lab) {
    let mut process = Orders::start(lab, "24", "small");
    let pid = process.target.pid;
    let group = Group::make("freezer", pid.as_raw());
    let dump = criu_rs::Dump::new(pid, "/nowhere").after_dump(AfterDump::LeaveRunning);
    let dump = dump.freeze_cgroup(group.0.to_str().unwrap());
    let mut series = dump.instant_series(&lab.criu, &options()).unwrap();
    for generation in 1..=4 {
        if generation > 1 {
            process.say(&format!("write {generation}"));
        }
        let read = round(&mut series, &lab.dir(&format!("frozen-{generation}")), &[pid]);
        assert_eq!(read.inherited > 20 << 8, generation > 1, "{read:?}");
        assert_eq!(held(pid), 1);
    }
    drop(series);
    none_stays();
    assert_eq!(group.read("freezer.state").trim(), "THAWED");
    assert_eq!(process.say("check 4"), "right");
    process.target.end();
    group.remove();
}

/// `CRIU PID FOLDER`: makes rounds without an end.
pub fn drive(words: &[String]) {
    let (criu, folder) = (Criu::at(&words[0]), Path::new(&words[2]));
    let dump = criu_rs::Dump::new(words[1].parse().unwrap(), "/nowhere");
    let dump = dump.after_dump(AfterDump::LeaveRunning);
    let mut series = dump.instant_series(&criu, &options()).unwrap();
    for n in 0u64.. {
        let directory = folder.join(n.to_string());
        fs::create_dir(&directory).unwrap();
        series.next(&directory, &mut ()).unwrap().reading.wait().unwrap();
        fs::write(folder.join("count"), n.to_string()).unwrap();
    }
}

fn killed(lab: &Lab) {
    let mut process = Orders::start(lab, "32", "small");
    let pid = process.target.pid;
    let mut last = None;
    for n in 0..8 {
        let folder = lab.dir(&format!("killed-{n}"));
        let mut driver = Command::new(std::env::current_exe().unwrap())
            .arg("--series")
            .arg(&lab.program)
            .arg(pid.to_string())
            .arg(&folder)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let count = || {
            let text = fs::read_to_string(folder.join("count")).unwrap_or_default();
            text.parse::<u64>().ok()
        };
        assert!(within(SOON, || count() >= Some(2)), "no rounds");
        // From here on a round takes some hundred milliseconds.
        std::thread::sleep(Duration::from_millis(37 * n));
        driver.kill().unwrap();
        driver.wait().unwrap();
        let left = holders(Duration::from_secs(20));
        assert!(left.is_empty(), "holders stay: {left:?}");
        assert!(soon(|| process.target.state() == Some('S')));
        assert_eq!(process.say(&format!("check {}", n + 1)), "right");
        process.say(&format!("write {}", n + 2));
        last = count().map(|count| (folder.join(count.to_string()), n + 1));
    }
    let (images, generation) = last.unwrap();
    process.restore(lab, &images, generation, false);
    process.target.end();
}
