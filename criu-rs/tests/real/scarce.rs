//! Instant captures where memory and processes are scarce: limits of cgroups of version 2, and
//! memory in swap. The tests exist in their guest only, whose cgroups and swap nobody else uses.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use criu_images::ImageSet;
use criu_lab::{soon, within};
use criu_rs::instant::{Headroom, InstantOptions, SeriesOptions, Way, WhyNot};
use criu_rs::pages::{Client, Layout, Server};
use criu_rs::{AfterDump, Dump, Error, Pid};
use nix::sys::signal::{Signal, kill};

use crate::instant::{all, children, is_held};
use crate::lab::{Lab, TestFn};
use crate::pages::{anywhere, are_alike, is_of_one_moment, is_whole, pages, restores};
use crate::pre_dump::{is_as_it_was, level_address, next_generation};

pub const TESTS: &[(&str, TestFn)] = &[
    ("scarce_limits_are_looked_at_by_an_instant_capture", limits),
    ("scarce_memory_ends_the_holder_of_an_instant_capture_first", fills),
    ("scarce_memory_in_swap_is_in_an_instant_capture_as_in_a_dump", swapped),
    ("scarce_memory_that_is_swapped_meanwhile_is_of_one_moment", swaps),
    ("scarce_memory_in_swap_is_right_in_rounds_of_an_instant_series", series),
];

/// A cgroup of version 2, with one above that is ours as well.
struct Group {
    above: PathBuf,
    path: PathBuf,
}

impl Group {
    fn make() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let above = root.join("criu-rs-test-scarce");
        let path = above.join("inner");
        fs::create_dir_all(&path).unwrap();
        for folder in [root, &above] {
            fs::write(folder.join("cgroup.subtree_control"), "+memory +pids").unwrap();
        }
        Self { above, path }
    }

    fn set(&self, file: &str, value: impl ToString) {
        fs::write(self.path.join(file), value.to_string()).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap()
    }

    /// Calls a function in the cgroup. What it starts stays there, with all of its memory.
    fn within<T>(&self, call: impl FnOnce() -> T) -> T {
        let enter = |group: &Path| fs::write(group.join("cgroup.procs"), "0").unwrap();
        enter(&self.path);
        let result = call();
        enter(Path::new("/sys/fs/cgroup"));
        result
    }

    /// Has the kernel swap out so many MiB of a process's memory.
    #[track_caller]
    fn swap_out(&self, pid: Pid, mebibytes: u64) {
        let is_out = || {
            // The kernel may give back less than it is asked for, and says so by an error.
            let _ = fs::write(self.path.join("memory.reclaim"), format!("{}M", mebibytes + 4));
            in_swap(pid) >= mebibytes << 20
        };
        assert!(soon(is_out), "{} bytes of {pid} are in swap", in_swap(pid));
    }

    /// The number of processes that the kernel has killed for want of memory.
    fn killed(&self) -> u64 {
        let events = self.read("memory.events");
        let row = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        row.unwrap().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        soon(|| fs::remove_dir(&self.path).is_ok());
        soon(|| fs::remove_dir(&self.above).is_ok());
    }
}

/// The memory of a process that is in swap, in bytes.
fn in_swap(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A file of swap.
struct Swap(PathBuf);

impl Swap {
    fn on(lab: &Lab, mebibytes: usize) -> Self {
        let path = lab.dir.join("swap");
        let mut file = File::create(&path).unwrap();
        (0..mebibytes).for_each(|_| file.write_all(&[0; 1 << 20]).unwrap());
        file.sync_all().unwrap();
        let swap = Self(path);
        swap.run("mkswap");
        swap.run("swapon");
        swap
    }

    fn run(&self, program: &str) {
        let output = Command::new(program).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.run("swapoff");
        fs::remove_file(&self.0).unwrap();
    }
}

/// The options of a capture that takes the risk.
fn risky() -> InstantOptions {
    all().headroom(Headroom::Accept)
}

fn limits(lab: &Lab) {
    let group = Group::make();
    let target = group.within(|| lab.start(&["memory", "24"]));
    let mut count = 0;
    let mut way = |options: &InstantOptions| {
        count += 1;
        let images = lab.dir(&format!("images-{count}"));
        let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
        let capture = dump.instant(&lab.criu, options, &mut ()).unwrap();
        let way = capture.tasks[0].way.clone();
        println!("{way}");
        capture.reading.wait().unwrap();
        is_whole(&images);
        assert!(children(target.pid).is_empty(), "a holder is left");
        target.goes_on();
        way
    };
    let above = group.above.join("memory.max");
    for file in [group.path.join("memory.max"), group.path.join("memory.high"), above] {
        fs::write(&file, (40u64 << 20).to_string()).unwrap();
        let Way::Captured(WhyNot::Memory { needed, free, cgroup }) = way(&all()) else {
            panic!("{} is not looked at", file.display());
        };
        assert_eq!(cgroup.as_deref(), file.parent());
        assert!(needed > 24 << 20 && free < 24 << 20, "{needed} {free}");
        fs::write(&file, "max").unwrap();
    }
    group.set("pids.max", 1);
    assert!(matches!(way(&all()), Way::Captured(WhyNot::Processes)));
    // Nobody has looked, and the kernel refuses the fork.
    let refused = way(&risky());
    let is_refused = matches!(refused, Way::Captured(WhyNot::GivenUp { errno: Some(_), .. }));
    assert!(is_refused, "{refused:?}");
    group.set("pids.max", 2);
    assert!(matches!(way(&all()), Way::Held { .. }));
    assert_eq!(group.killed(), 0);
    drop(target);
}

/// The process writes its memory, while nobody takes the pages of the holder: memory runs out, the
/// kernel ends the holder, and the process runs on. Now and then the kernel ends the process, too,
/// because what the holder had is not free yet.
fn fills(lab: &Lab) {
    assert!((1..=3).any(|n| fills_once(lab, n)), "the process ends whenever its holder does");
}

/// Returns false if the process has ended, too.
fn fills_once(lab: &Lab, number: u32) -> bool {
    let group = Group::make();
    let images = lab.dir(&format!("images-{number}"));
    let mut target = group.within(|| lab.start(&["rewrite", "64"]));
    let used: u64 = group.read("memory.current").trim().parse().unwrap();
    let before = group.killed();
    group.set("memory.max", used + (52 << 20));
    let pages = lab.dir(&format!("pages-{number}"));
    let server = Server::new().directory(pages).listen(anywhere()).unwrap();
    let layout = Layout::of(lab.version);
    let client = Client::connect(("127.0.0.1", server.port()), layout).unwrap();
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let options = risky().verify(false);
    let result = dump.instant_to(&lab.criu, &options, client, &mut ()).and_then(|capture| {
        assert!(is_held(&capture, target.pid), "{:?}", capture.tasks);
        let is_full = within(LONG, || group.killed() > before);
        // From now on the pages are taken.
        let serving = thread::spawn(move || server.run(Some(1)).unwrap());
        let result = capture.reading.wait();
        assert!(serving.join().unwrap()[0].result.is_err());
        assert!(is_full, "{}", group.read("memory.events"));
        result
    });
    let error = result.unwrap_err();
    println!("{error}");
    assert!(matches!(error, Error::Instant(_)), "{error:?}");
    let left = criu_lab::names(&images);
    assert!(left.iter().all(|name| !name.ends_with(".img")), "{left:?}");
    if group.killed() > before + 1 {
        target.end();
        return false;
    }
    assert!(children(target.pid).is_empty(), "a holder is left");
    target.goes_on();
    target.end();
    true
}

/// A stopped process is captured and dumped, with most of its memory in swap.
fn swapped(lab: &Lab) {
    let (group, _swap) = (Group::make(), Swap::on(lab, 96));
    let (local, images) = (lab.dir("local"), lab.dir("images"));
    let mut target = group.within(|| lab.start(&["patterned", "32", "0"]));
    kill(nix::unistd::Pid::from_raw(target.pid.as_raw()), Signal::SIGSTOP).unwrap();
    assert!(soon(|| target.state() == Some('T')));
    group.swap_out(target.pid, 24);
    let stopped = |images| Dump::new(target.pid, images).after_dump(AfterDump::LeaveStopped);
    let capture = stopped(&images).instant(&lab.criu, &all(), &mut ()).unwrap();
    assert!(is_held(&capture, target.pid), "{:?}", capture.tasks);
    println!("{} bytes are in swap", in_swap(target.pid));
    assert!(in_swap(target.pid) > 16 << 20, "the capture has brought the memory back");
    let read = capture.reading.wait().unwrap();
    println!("{read:?}");
    assert!(read.held > 32 << 8, "{read:?}");
    assert!(children(target.pid).is_empty(), "a holder is left");
    stopped(&local).run(&lab.criu).unwrap();
    are_alike(&pages(&local), &pages(&images));
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
    drop(target);
}

/// The process and its holder have more memory than their cgroup may have, and the process writes
/// all the time.
fn swaps(lab: &Lab) {
    let (group, _swap) = (Group::make(), Swap::on(lab, 192));
    let images = lab.dir("images");
    let mut target = group.within(|| lab.start(&["rewrite", "64"]));
    group.set("memory.max", 56u64 << 20);
    target.goes_on();
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let before = in_swap(target.pid);
    let capture = dump.instant(&lab.criu, &risky(), &mut ()).unwrap();
    assert!(is_held(&capture, target.pid), "{:?}", capture.tasks);
    println!("{before} and {} bytes are in swap", in_swap(target.pid));
    let read = capture.reading.wait().unwrap();
    println!("{read:?}");
    assert!(before > 0 && read.held > 64 << 8, "{before} {read:?}");
    assert_eq!(group.killed(), 0);
    target.goes_on();
    is_of_one_moment(&images);
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
    drop(target);
}

/// Pages are written, and go to swap and come back between the rounds.
fn series(lab: &Lab) {
    let (group, _swap) = (Group::make(), Swap::on(lab, 96));
    let mut target = group.within(|| lab.start(&["levels"]));
    let dump = Dump::new(target.pid, "/nowhere").after_dump(AfterDump::LeaveRunning);
    let options = SeriesOptions::new().instant(all());
    let mut rounds = dump.instant_series(&lab.criu, &options).unwrap();
    for generation in 0..4 {
        if let 1 | 2 = generation {
            next_generation(lab, generation);
        }
        if generation < 3 {
            group.swap_out(target.pid, 4);
        }
        let images = lab.dir.join(generation.to_string());
        fs::create_dir(&images).unwrap();
        let capture = rounds.next(&images, &mut ()).unwrap();
        assert!(is_held(&capture, target.pid), "{:?}", capture.tasks);
        let read = capture.reading.wait().unwrap();
        println!("{generation}: {} bytes are in swap, {read:?}", in_swap(target.pid));
        is_whole(&images);
    }
    drop(rounds);
    assert!(children(target.pid).is_empty(), "a holder is left");
    target.goes_on();
    target.end();
    for last in ["2", "3"] {
        is_as_it_was(&ImageSet::open(lab.dir.join(last)).unwrap(), level_address(lab));
    }
    restores(lab, &mut target, &lab.dir.join("3"));
    drop(target);
}

/// Time in which a process has written its memory, on an emulated machine.
const LONG: Duration = Duration::from_secs(60);
