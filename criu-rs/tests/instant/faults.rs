//! Faults: whoever takes part in a capture is killed at a random moment, or memory and processes
//! run out. The task runs on unharmed, no holder stays, no half checkpoint passes, and the next
//! capture works.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criu_lab::generations::Shape;
use criu_lab::process::{children, descendants, exists, name, reap, send, state};
use criu_lab::{soon, within};
use criu_rs::instant::clear_orphans;
use criu_rs::{Criu, Error, Pid};
use nix::sys::signal::Signal;

use crate::kinds::Group;
use crate::lab::{Lab, Scene, TestFn, all_held, dump, eager, holders, is_whole, threads};

pub const TESTS: &[(&str, TestFn)] = &[("faults", faults)];

fn faults(lab: &Lab) {
    println!("{}", run(lab, 8, 3).unwrap());
}

/// A fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fault {
    KillCriu,
    KillUs,
    KillUsAndGuard,
    KillGuard,
    KillHolder,
    KillTask,
    Memory,
    Processes,
}

const FAULTS: [Fault; 8] = [
    Fault::KillCriu,
    Fault::KillUs,
    Fault::KillUsAndGuard,
    Fault::KillGuard,
    Fault::KillHolder,
    Fault::KillTask,
    Fault::Memory,
    Fault::Processes,
];

/// An event that a round waits for, before it waits a random time.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The start of the capture.
    Start,
    /// The task has stopped.
    Freeze,
    /// A holder is there.
    Holder,
}

/// The end of a round.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum End {
    /// The capture was done, whatever the fault.
    Done,
    /// The capture failed, and left nothing.
    Failed,
    /// The round was over before the fault came.
    Missed,
    /// criu was killed while the task executed CRIU's code.
    LostToKill,
    /// The kernel has ended the task, too, where memory ran out. A caller who does not accept that
    /// gets no holder where memory may run out.
    LostToMemory,
}

/// The results of the rounds.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<Fault, BTreeMap<End, u64>>,
    restores: u64,
    cleared: u64,
    bad: u64,
    time: Duration,
}

/// Does so many rounds.
///
/// # Errors
/// The table, if a round was bad.
pub fn run(lab: &Lab, rounds: u64, seed: u64) -> Result<Table, String> {
    let begun = Instant::now();
    let mut hall = Hall::new(lab, seed)?;
    let mut table = Table::default();
    let only = std::env::var("INSTANT_ONLY").ok();
    let is_wanted = |fault: &&Fault| only.as_ref().is_none_or(|only| *only == format!("{fault:?}"));
    let faults: Vec<Fault> = FAULTS.iter().filter(is_wanted).copied().collect();
    for n in 0..rounds {
        let fault = faults[usize::try_from(n).unwrap() % faults.len()];
        // A restore makes the cgroups of a dump again, and a killed task has a successor by then.
        let is_other = matches!(fault, Fault::Memory | Fault::Processes | Fault::KillTask);
        let round = hall.round(fault).and_then(|(end, said)| {
            if std::env::var_os("INSTANT_SAYS").is_some() {
                println!("{n} {fault:?} {end:?} {said}");
            }
            *table.rows.entry(fault).or_default().entry(end).or_default() += 1;
            if end == End::Done && n % 3 == 2 && !is_other {
                hall.restore().map_err(|why| format!("restored: {why}"))?;
                table.restores += 1;
            }
            Ok(())
        });
        if let Err(why) = round {
            println!("round {n} of seed {seed}, {fault:?}: {why}");
            table.bad += 1;
            hall.begin_anew();
        }
    }
    hall.scene.end();
    table.cleared = hall.cleared;
    table.time = begun.elapsed();
    if table.bad == 0 { Ok(table) } else { Err(table.to_string()) }
}

/// `CRIU PID IMAGES`: does one capture, and says how it ended.
pub fn drive(words: &[String]) {
    let (criu, images) = (Criu::at(&words[0]), Path::new(&words[2]));
    let pid: Pid = words[1].parse().unwrap();
    // CRIU waits for ever for a process of several threads that is killed at a bad moment.
    let dump = dump(pid, images).deadline(DEADLINE);
    let result = dump.instant(&criu, &eager(), &mut ()).and_then(|capture| {
        let ways: Vec<String> = capture.tasks.iter().map(|task| task.way.to_string()).collect();
        println!("WAYS {}", ways.join("; "));
        capture.reading.wait()
    });
    match result {
        Ok(read) => println!("RESULT done, {} held, {} captured", read.held, read.captured),
        Err(error) => println!("RESULT failed: {}", error.to_string().replace('\n', " ")),
    }
}

/// The setting of all rounds.
struct Hall<'a> {
    lab: &'a Lab,
    scene: Scene,
    random: u64,
    /// The time that a capture takes without a fault.
    usual: Duration,
    /// Holders that nobody but the next capture has ended.
    cleared: u64,
}

impl<'a> Hall<'a> {
    fn new(lab: &'a Lab, seed: u64) -> Result<Self, String> {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut hall =
            Self { lab, scene: lab.start(SHAPE), random, usual: Duration::ZERO, cleared: 0 };
        // The first fills caches.
        for _ in 0..2 {
            let begun = Instant::now();
            let said = end_of(&mut hall.driver());
            hall.usual = begun.elapsed();
            if !said.contains("RESULT done") {
                return Err(format!("without a fault: {said}"));
            }
        }
        Ok(hall)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit.max(1)
    }

    fn round(&mut self, fault: Fault) -> Result<(End, String), String> {
        let group = self.group(fault);
        let mut driver = self.driver();
        let own = Pid::from(&driver);
        let is_in_time = group.is_some() || {
            let delay = self.wait(fault, &mut driver);
            std::thread::sleep(delay);
            driver.try_wait().unwrap().is_none() && self.kill(fault, own)
        };
        let said = end_of(&mut driver);
        if let Some(group) = &group {
            group.set("memory.limit_in_bytes", "-1");
            group.set("pids.max", "max");
        }
        let end = self.judge(fault, &said).map_err(|why| format!("{why}; it said {said}"))?;
        if let Some(group) = group {
            group.leave(self.scene.target.pid.as_raw());
        }
        self.next(fault).map_err(|why| format!("the next capture: {why}; it said {said}"))?;
        Ok((if is_in_time { end } else { End::Missed }, said))
    }

    /// Starts the process that does the capture.
    fn driver(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .arg("--drive")
            .arg(&self.lab.program)
            .arg(self.scene.target.pid())
            .arg(self.lab.dir("images"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    /// Puts the task where memory or processes are scarce.
    fn group(&mut self, fault: Fault) -> Option<Groups> {
        if !matches!(fault, Fault::Memory | Fault::Processes) {
            return None;
        }
        // Of another task, whose memory counts in the group from the beginning on.
        self.scene.end();
        let groups = Groups(Group::new("memory"), Group::new("pids"));
        let (memory, pids) = (groups.0.0.clone(), groups.1.0.clone());
        self.scene = self.lab.start_with(SHAPE, |command| within_groups(command, &memory, &pids));
        let pid = self.scene.target.pid.as_raw();
        if fault == Fault::Memory {
            let usage: u64 = groups.0.read("memory.usage_in_bytes").trim().parse().unwrap();
            let limit = usage + (2 << 20) + self.below(48 << 20);
            groups.set("memory.limit_in_bytes", &limit.to_string());
        } else {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count() as u64;
            let limit = threads + self.below(3);
            groups.set("pids.max", &limit.to_string());
        }
        Some(groups)
    }

    /// Waits for one of the moments; returns the time to wait from there.
    fn wait(&mut self, fault: Fault, driver: &mut Child) -> Duration {
        let moment = match self.below(3) {
            0 => Moment::Start,
            1 => Moment::Freeze,
            _ => Moment::Holder,
        };
        let task = self.scene.target.pid;
        let is_there = || match moment {
            Moment::Start => true,
            Moment::Freeze => {
                let status = fs::read_to_string(format!("/proc/{task}/status"));
                status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
            }
            Moment::Holder => !children(task).is_empty(),
        };
        let limit = Instant::now() + Duration::from_secs(5);
        while !is_there() && Instant::now() < limit && driver.try_wait().unwrap().is_none() {}
        let usual = u64::try_from(self.usual.as_micros()).unwrap();
        // criu has ended before the memory is read.
        let is_early = matches!(fault, Fault::KillCriu | Fault::KillTask);
        Duration::from_micros(match moment {
            Moment::Start => self.below(usual),
            Moment::Freeze => self.below(60_000),
            Moment::Holder if is_early => self.below(30_000),
            Moment::Holder => self.below(usual),
        })
    }

    /// Kills; returns false if there is nobody to kill.
    fn kill(&mut self, fault: Fault, own: Pid) -> bool {
        let task = self.scene.target.pid;
        let (criu, others): (Vec<Pid>, Vec<Pid>) =
            descendants(own).into_iter().skip(1).partition(|pid| name(*pid) == "criu");
        let victims = match fault {
            Fault::KillCriu => criu,
            Fault::KillUs => vec![own],
            Fault::KillUsAndGuard => {
                let mut all = others;
                all.push(own);
                all
            }
            Fault::KillGuard => others,
            Fault::KillHolder => children(task),
            Fault::KillTask => vec![task],
            Fault::Memory | Fault::Processes => Vec::new(),
        };
        victims.into_iter().filter(|pid| send(*pid, Signal::SIGKILL)).count() > 0
    }

    fn judge(&mut self, fault: Fault, said: &str) -> Result<End, String> {
        let images = self.lab.dir.join("images");
        if said.contains("panicked") {
            return Err("it panicked".into());
        }
        let (done, failed) = (said.contains("RESULT done"), said.contains("RESULT failed"));
        let is_us = matches!(fault, Fault::KillUs | Fault::KillUsAndGuard);
        if !done && !failed && !is_us {
            return Err("it said nothing".into());
        }
        self.helpers_end()?;
        // Without us and the guard it is the next capture that clears up.
        if fault != Fault::KillUsAndGuard {
            let left = holders(HOLDERS_END);
            if !left.is_empty() {
                return Err(format!("holders stay: {left:?}"));
            }
        }
        let task = self.scene.target.pid;
        if fault == Fault::KillTask && !exists(task) || state(task) == Some('Z') {
            reap();
        }
        let whole = is_whole(&images);
        if done && whole.is_err() {
            return Err(format!("done, and the checkpoint is not whole: {whole:?}"));
        }
        if failed {
            let left = criu_lab::names(&images);
            if let Some(image) = left.iter().find(|name| name.ends_with(".img")) {
                return Err(format!("failed, and {image} is left"));
            }
        }
        if whole.is_ok() {
            let verdict = self.scene.judge_images(&images)?;
            if verdict.wrong > 0 {
                return Err(format!("a checkpoint of two moments: {verdict:?}"));
            }
        }
        let end = if whole.is_ok() { End::Done } else { End::Failed };
        if fault == Fault::KillTask {
            let is_gone = || {
                reap();
                !exists(task)
            };
            if !within(Duration::from_secs(2), is_gone) {
                // The fault came too late.
                self.scene.goes_on()?;
            }
            return Ok(end);
        }
        let is_gone = || !exists(task) || state(task) == Some('Z');
        match self.scene.goes_on() {
            Ok(()) => Ok(end),
            // CRIU's own code was in the task. A task that lives has to be right.
            Err(_) if fault == Fault::KillCriu && is_gone() => Ok(End::LostToKill),
            Err(_) if fault == Fault::Memory && is_gone() => Ok(End::LostToMemory),
            Err(why) => Err(format!("the task: {why}")),
        }
    }

    /// Waits for the end of whoever took part, except for tasks and holders.
    fn helpers_end(&self) -> Result<(), String> {
        let own = i32::try_from(std::process::id()).unwrap();
        let task = self.scene.target.pid;
        let look = || -> Vec<String> {
            let family: Vec<i32> = descendants(task).into_iter().map(|pid| pid.as_raw()).collect();
            let all = procfs::process::all_processes().unwrap().flatten();
            let stats = all.filter_map(|process| process.stat().ok());
            stats
                .filter(|stat| ![1, own].contains(&stat.pid) && !family.contains(&stat.pid))
                .filter(|stat| stat.exit_signal != Some(0))
                .map(|stat| format!("{} {} {}", stat.pid, stat.comm, stat.state))
                .collect()
        };
        let gone = within(HELPERS_END, || {
            reap();
            look().is_empty()
        });
        if gone { Ok(()) } else { Err(format!("helpers stay: {:?}", look())) }
    }

    /// A capture without a fault, of a new task if the old one is gone or harmed.
    fn next(&mut self, fault: Fault) -> Result<(), String> {
        let is_harmed = !exists(self.scene.target.pid) || self.scene.goes_on().is_err();
        if is_harmed {
            // A task that criu has left in its own code does not end by itself.
            self.scene.end();
            let left = holders(HOLDERS_END);
            if !left.is_empty() {
                return Err(format!("holders outlive their task: {left:?}"));
            }
            self.scene = self.lab.start(SHAPE);
        }
        let images = self.lab.dir("next");
        let text = |error: criu_rs::Error| error.to_string();
        let next = dump(self.scene.target.pid, &images);
        let capture = match next.instant(&self.lab.criu, &eager(), &mut ()) {
            // In a pid namespace nobody knows whether the reader lives outside.
            Err(Error::Holder(holder)) if fault == Fault::KillUsAndGuard => {
                let ended = clear_orphans(self.scene.target.pid).map_err(text)?;
                if ended.len() != 1 {
                    return Err(format!("{holder}; ended {ended:?}"));
                }
                self.cleared += 1;
                next.instant(&self.lab.criu, &eager(), &mut ())
            }
            capture => capture,
        };
        let capture = capture.map_err(text)?;
        all_held(&capture, &self.scene.pids)?;
        capture.reading.wait().map_err(text)?;
        let left = holders(HOLDERS_END);
        if !left.is_empty() {
            return Err(format!("holders stay after {fault:?}: {left:?}"));
        }
        let verdict = self.scene.judge_images(&images)?;
        if verdict.wrong > 0 {
            return Err(format!("{verdict:?}"));
        }
        self.scene.goes_on()
    }

    /// After a bad round: another task, and nobody else.
    fn begin_anew(&mut self) {
        let own = i32::try_from(std::process::id()).unwrap();
        for process in procfs::process::all_processes().unwrap().flatten() {
            if ![1, own].contains(&process.pid) {
                send(process.pid, Signal::SIGKILL);
            }
        }
        self.scene.end();
        assert!(holders(HOLDERS_END).is_empty());
        self.scene = self.lab.start(SHAPE);
    }

    /// Restores the checkpoint of the round.
    fn restore(&mut self) -> Result<(), String> {
        let images = self.lab.dir.join("images");
        self.scene.end();
        self.scene.restore(self.lab, &images)
    }
}

/// The cgroups of a task in which memory and processes are scarce.
struct Groups(Group, Group);

impl Groups {
    fn set(&self, file: &str, value: &str) {
        let group = if file.starts_with("memory") { &self.0 } else { &self.1 };
        group.set(file, value);
    }

    /// Moves a process back, and removes them.
    fn leave(self, pid: i32) {
        for group in [self.0, self.1] {
            if Path::new(&format!("/proc/{pid}")).exists() {
                let _ = fs::write(group.0.parent().unwrap().join("cgroup.procs"), pid.to_string());
            }
            group.remove();
        }
    }
}

/// Changes a command so that it starts in cgroups.
fn within_groups<'c>(command: &'c mut Command, memory: &Path, pids: &Path) -> &'c mut Command {
    let mut inside = Command::new("sh");
    let join = "echo $$ > \"$1/cgroup.procs\"; echo $$ > \"$2/cgroup.procs\"; shift 2; exec \"$@\"";
    inside.args(["-c", join, "sh"]).arg(memory).arg(pids);
    inside.arg(command.get_program()).args(command.get_args());
    inside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    *command = inside;
    command
}

/// Waits for the end of the driver, and returns its output.
fn end_of(driver: &mut Child) -> String {
    if !within(Duration::from_secs(60), || driver.try_wait().unwrap().is_some()) {
        println!("{}", threads(&descendants(Pid::from(&*driver))));
        let _ = driver.kill();
        let _ = driver.wait();
        return "RESULT hang".into();
    }
    let mut text = String::new();
    driver.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(soon(|| driver.try_wait().unwrap().is_some()));
    text.replace('\n', " ")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| fault | done | failed cleanly | too late | lost to kill -9 of criu | lost to memory |"
        )?;
        writeln!(f, "| --- | --: | --: | --: | --: | --: |")?;
        for (fault, row) in &self.rows {
            let number = |end: End| row.get(&end).copied().unwrap_or(0);
            let ends = [End::Done, End::Failed, End::Missed, End::LostToKill, End::LostToMemory];
            let ends = ends.map(|end| number(end).to_string());
            writeln!(f, "| {fault:?} | {} |", ends.join(" | "))?;
        }
        let Self { restores, cleared, bad, .. } = self;
        let seconds = self.time.as_secs_f32();
        write!(f, "{restores} restores, {cleared} orphans cleared, {bad} bad; {seconds:.0} s")
    }
}

/// The process that all faults meet.
const SHAPE: Shape = Shape { mib: 48, writers: 2, ..Shape::USUAL };

/// The time for a dump.
const DEADLINE: Duration = Duration::from_secs(10);

/// A guard ends holders in this time.
const HOLDERS_END: Duration = Duration::from_secs(5);

/// criu and the guard end in this time.
const HELPERS_END: Duration = Duration::from_secs(10);
