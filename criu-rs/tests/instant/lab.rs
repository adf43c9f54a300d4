//! The CRIU that a test works with, and the processes that it captures.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_images::memory::PageSource;
use criu_images::{ImageSet, Severity, check};
use criu_lab::generations::{Shape, Verdict, Watch, judge};
use criu_lab::within;
use criu_rs::instant::{Headroom, InstantCapture, InstantOptions, Way};
use criu_rs::{AfterDump, Criu, Dump, Pid, Restore, Version};
use procfs::process::Process;

/// A live payload.
pub type Target = criu_lab::Target<Pid>;

/// A test.
pub type TestFn = fn(&Lab);

/// A CRIU and a place to work.
pub struct Lab {
    pub criu: Criu,
    pub program: PathBuf,
    pub version: Version,
    /// A directory of this test's own, in memory. It goes with the sandbox.
    pub dir: PathBuf,
}

/// A process of generations, and those who look at it.
pub struct Scene {
    pub shape: Shape,
    pub target: Target,
    pub watches: Vec<Watch>,
    pub pids: Vec<Pid>,
    /// Restores that have failed, and were done again.
    pub again: u64,
}

impl Lab {
    pub fn new(program: &Path, own: PathBuf) -> Self {
        let criu = Criu::at(program);
        let version = criu.version().unwrap();
        let dir = Path::new("/run").join(own.file_name().unwrap());
        fs::create_dir_all(&dir).unwrap();
        Self { criu, program: program.into(), version, dir }
    }

    /// An empty directory below the test's.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Starts a process of generations.
    #[track_caller]
    pub fn start(&self, shape: Shape) -> Scene {
        self.start_with(shape, |command| command)
    }

    /// Starts a process of generations with changes to the command.
    #[track_caller]
    pub fn start_with(
        &self,
        shape: Shape,
        change: impl FnOnce(&mut std::process::Command) -> &mut std::process::Command,
    ) -> Scene {
        let home = self.dir("home");
        // CRIU saves guard regions from 4.2 on.
        let guards = shape.zoo && self.version >= Version::new(4, 2, 0);
        let shape = Shape { guards, ..shape };
        let words = shape.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let file = home.join("count");
        let target = Target::start(&words, &file, change);
        Scene::of(shape, target)
    }
}

impl Scene {
    /// A process that somebody else has started.
    #[track_caller]
    pub fn of(shape: Shape, target: Target) -> Self {
        let counts = |n: usize| {
            let text = fs::read_to_string(target.file().with_extension(n.to_string()));
            text.unwrap_or_default().trim().parse::<u64>().unwrap_or(0)
        };
        assert!(
            within(SOON, || (0..shape.children).all(|n| counts(n) > 1)),
            "its children do not start"
        );
        let watches = Watch::of_all(target.file(), shape.children);
        // The first children; those that threads fork come and go.
        let mut pids = vec![target.pid];
        assert!(within(SOON, || members(target.pid).len() == shape.children), "{pids:?}");
        pids.extend(members(target.pid));
        Self { shape, target, watches, pids, again: 0 }
    }

    /// Waits until everything was done some times more.
    ///
    /// # Errors
    /// The first fault that was found.
    pub fn goes_on(&self) -> Result<(), String> {
        let go_on = self.watches.iter().try_for_each(|watch| watch.goes_on(2, SOON));
        go_on.map_err(|why| format!("{why}\n{}", threads(&self.pids)))?;
        for pid in &self.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if !status.contains("TracerPid:\t0\n") || status.contains("State:\tT") {
                return Err(format!("process {pid} is stopped or traced: {status}"));
            }
        }
        Ok(())
    }

    /// Ends the processes.
    pub fn end(&mut self) {
        self.target.end();
        assert!(
            within(SOON, || self.pids.iter().all(|pid| !criu_lab::process::exists(*pid))),
            "SIGKILL ends them"
        );
    }

    /// Restores the processes from images, in the place of those that have ended, and waits until
    /// they have gone on for a while.
    ///
    /// # Errors
    /// The first fault that was found.
    pub fn restore(&mut self, lab: &Lab, images: &Path) -> Result<(), String> {
        self.watches.iter().for_each(Watch::forget);
        let restored = self.try_restore(lab, images)?;
        self.target.restored_as(restored);
        self.goes_on()
    }

    /// A restore of CRIU's own images fails now and then, too: a thread's number is in use.
    fn try_restore(&mut self, lab: &Lab, images: &Path) -> Result<Pid, String> {
        let mut why = String::new();
        for _ in 0..3 {
            match Restore::new(images).run(&lab.criu) {
                Ok(restored) => return Ok(restored.pid),
                Err(error) => why = format!("{error}; there are {:?}", everybody()),
            }
            self.again += 1;
            criu_lab::process::reap();
        }
        Err(why)
    }

    /// Judges the pages of the writers in images, without a restore.
    pub fn judge_images(&self, images: &Path) -> Result<Verdict, String> {
        is_whole(images)?;
        let set = ImageSet::open(images).map_err(|error| error.to_string())?;
        let checkpoint = set.checkpoint().map_err(|error| error.to_string())?;
        let mut all = Verdict::default();
        for (pid, watch) in self.pids.iter().zip(&self.watches) {
            let pid = u32::try_from(inner(*pid)).unwrap();
            let task = checkpoint.task(pid).ok_or_else(|| format!("task {pid} is not there"))?;
            let memory = task.memory().map_err(|error| error.to_string())?.unwrap();
            let read = |address, buffer: &mut [u8]| memory.read_at(address, buffer).is_ok();
            let verdict = judge(&watch.regions(), read);
            all.pages += verdict.pages;
            all.torn += verdict.torn;
            all.wrong += verdict.wrong;
        }
        Ok(all)
    }
}

/// The options of a capture in which each task gets a holder, however small it is.
pub fn eager() -> InstantOptions {
    InstantOptions::new().least(0).least_per_mapping(0).headroom(Headroom::Accept)
}

/// A dump that leaves its tasks running.
pub fn dump<'a>(pid: Pid, images: &'a Path) -> Dump<'a> {
    Dump::new(pid, images).after_dump(AfterDump::LeaveRunning)
}

/// The ways of these tasks: `Err` tells the first that has no holder.
pub fn all_held(capture: &InstantCapture, pids: &[Pid]) -> Result<(), String> {
    pids.iter().try_for_each(|pid| {
        let task = capture.tasks.iter().find(|task| task.pid == *pid);
        match task.map(|task| &task.way) {
            Some(Way::Held { .. }) => Ok(()),
            Some(way) => Err(format!("process {pid}: {way}")),
            None => Err(format!("process {pid} is not among {:?}", capture.tasks)),
        }
    })
}

/// Runs all checks on images, and returns the first that they do not pass.
pub fn is_whole(images: &Path) -> Result<(), String> {
    let set = ImageSet::open(images).map_err(|error| error.to_string())?;
    let findings = check(&set);
    match findings.iter().find(|finding| finding.severity == Severity::Error) {
        Some(finding) => Err(finding.to_string()),
        None => Ok(()),
    }
}

/// Describes for a person what the threads of processes do.
pub fn threads(pids: &[Pid]) -> String {
    let tasks = pids.iter().filter_map(|pid| Process::new(pid.as_raw()).ok()?.tasks().ok());
    let tell = |task: procfs::process::Task| {
        let read = |name: &str| {
            let path = format!("/proc/{}/task/{}/{name}", task.pid, task.tid);
            fs::read_to_string(path).unwrap_or_default().trim().replace('\n', " < ")
        };
        let wanted = ["State", "TracerPid", "SigPnd", "ShdPnd", "SigBlk"];
        let status = read("status");
        let status: Vec<&str> = status
            .split(" < ")
            .filter(|line| wanted.iter().any(|name| line.starts_with(name)))
            .collect();
        format!("{} {status:?} {} {}", task.tid, read("syscall"), read("stack"))
    };
    let lines: Vec<String> = tasks.flatten().flatten().map(tell).collect();
    lines.join("\n")
}

/// All processes of this sandbox, for a person.
fn everybody() -> Vec<String> {
    let all = procfs::process::all_processes().unwrap().flatten();
    let stats = all.filter_map(|process| process.stat().ok());
    stats
        .map(|stat| format!("{} {} {} of {}", stat.pid, stat.comm, stat.state, stat.ppid))
        .collect()
}

/// The holders of this sandbox, zombies too: processes that tell nobody of their end, or that sleep
/// as a holder does. Waits for their end.
pub fn holders(time: Duration) -> Vec<String> {
    within(time, || {
        criu_lab::process::reap();
        look_for_holders().is_empty()
    });
    look_for_holders()
}

fn look_for_holders() -> Vec<String> {
    let all = procfs::process::all_processes().unwrap().flatten();
    let holder = |process: Process| {
        let stat = process.stat().ok()?;
        let call = fs::read_to_string(format!("/proc/{}/syscall", stat.pid)).unwrap_or_default();
        let words: Vec<&str> = call.split_whitespace().collect();
        // ppoll(NULL, 0, NULL, NULL, ...) with a number that no program gives.
        let is_parked = matches!(words[..], ["271", "0x0", "0x0", "0x0", "0x0", size, ..]
            if size != "0x8" && size != "0x0");
        (stat.exit_signal == Some(0) || is_parked)
            .then(|| format!("{} {} {} of {}", stat.pid, stat.comm, stat.state, stat.ppid))
    };
    all.filter_map(holder).collect()
}

/// The children of a process that are payloads of their own.
fn members(pid: Pid) -> Vec<Pid> {
    let is_member = |child: &Pid| {
        let process = Process::new(child.as_raw()).and_then(|process| process.cmdline());
        process.is_ok_and(|words| words.iter().any(|word| word == "generations-member"))
    };
    let mut members: Vec<Pid> =
        criu_lab::process::children(pid).into_iter().filter(is_member).collect();
    // They were started in the order of their files.
    members.sort();
    members
}

/// The id of a process in its own pid namespace.
pub fn inner(pid: Pid) -> i32 {
    let status = Process::new(pid.as_raw()).and_then(|process| process.status());
    let ids = status.ok().and_then(|status| status.nspid);
    ids.and_then(|ids| ids.last().copied()).unwrap_or(pid.as_raw())
}

/// Time in which everything goes on, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
