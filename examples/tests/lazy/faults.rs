//! `--faults [ROUNDS] [SEED]`: daemons, page servers, restores and restored tasks are killed at
//! random moments.
//!
//! After each round the oracle has ended, or every one of its pages is right; and no process is
//! left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use criu_lab::oracle::{Remote, Storm, Task};
use criu_lab::process::{self, descendants, has_ended, send};
use criu_lab::{own_network, place, within};
use criu_rs::{Criu, Pid};
use nix::sys::signal::Signal;

use crate::handler::{self, Handler};
use crate::scene::{Scene, Target};
use crate::source::Source;

/// Who is killed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Victim {
    Nobody,
    Daemon,
    Server,
    Restore,
    Task,
}

/// The end of a round.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum End {
    /// The oracle has ended.
    Ended,
    /// Every page is right.
    Right,
}

/// A saved oracle.
struct Stage {
    scene: Scene,
    target: Target,
    remote: Remote,
    images: PathBuf,
}

/// Runs the rounds and prints a table.
pub fn run(words: &[String]) -> ExitCode {
    let number =
        |n: usize, default: u64| words.get(n).map_or(default, |word| word.parse().unwrap());
    let (rounds, seed) = (number(0, 200), number(1, 1));
    process::prepare();
    own_network();
    match play(rounds, seed, &place::scratch("lazy-faults")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(bad) => {
            println!("\n{bad} of {rounds} rounds ended badly");
            ExitCode::FAILURE
        }
    }
}

/// Runs rounds of a seed below a directory.
///
/// # Errors
/// The number of rounds that ended badly.
pub fn play(rounds: u64, seed: u64, dir: &std::path::Path) -> Result<(), u64> {
    let crius = place::crius(|path| Criu::at(path).version()).unwrap();
    let mut stages: Vec<Stage> = crius
        .into_iter()
        .map(|(version, criu)| {
            let dir = dir.join(version.to_string());
            std::fs::create_dir_all(&dir).unwrap();
            let scene = Scene::new(&criu, dir);
            let (target, remote, images) = scene.saved(MEBIBYTES, true);
            Stage { scene, target, remote, images }
        })
        .collect();
    let mut random = Random(seed);
    let mut table: BTreeMap<Victim, BTreeMap<End, (u64, Duration)>> = BTreeMap::new();
    let mut bad = 0;
    for n in 0..rounds {
        let number = stages.len() as u64;
        let stage = &mut stages[usize::try_from(n % number).unwrap()];
        let victim = VICTIMS[usize::try_from(n / number).unwrap() % VICTIMS.len()];
        match stage.round(victim, &mut random) {
            Ok((end, took)) => {
                let row = table.entry(victim).or_default().entry(end).or_default();
                *row = (row.0 + 1, row.1.max(took));
            }
            Err(why) => {
                bad += 1;
                println!("round {n} of seed {seed}, {victim:?} killed: {why}");
                stage.clear();
            }
        }
    }
    print(&table, rounds, seed);
    if bad == 0 { Ok(()) } else { Err(bad) }
}

impl Stage {
    /// Restores the oracle, and kills somebody. Returns the longest time that the oracle took from
    /// then on.
    fn round(&mut self, victim: Victim, random: &mut Random) -> Result<(End, Duration), String> {
        let work = self.scene.folder("work");
        let is_remote = victim == Victim::Server || random.below(2) == 0;
        let source = if is_remote { Source::server(&self.images) } else { Source::images() };
        let kind = handler::Kind::Program;
        let daemon = Handler::start(kind, &self.scene, &self.images, &source, &work);
        let storm = Storm {
            milliseconds: 300,
            threads: 2,
            seed: random.next(),
            forks: random.below(2) == 0,
            discards: true,
            unmaps: true,
            moves: true,
        };
        self.remote.give(Task::Storm(storm), "report");
        let words = ["restore", "--lazy-pages", "-d", "-v1", "-o", "restore.log"];
        let mut restore = self.scene.criu(&words);
        restore.arg("-D").arg(&self.images).arg("-W").arg(&work);
        let mut restore = restore.spawn().unwrap();
        sleep(Duration::from_micros(random.below(MOMENTS)));
        let pid = match victim {
            Victim::Nobody => None,
            Victim::Daemon => Some(daemon.pid()),
            Victim::Server => source.pid(),
            Victim::Restore => Some(restore.id()),
            Victim::Task => Some(u32::try_from(self.target.pid.as_raw()).unwrap()),
        };
        if let Some(pid) = pid {
            send(Pid::new(i32::try_from(pid).unwrap()).unwrap(), Signal::SIGKILL);
        }
        let killed = Instant::now();
        if !within(LIMIT, || restore.try_wait().unwrap().is_some()) {
            return Err("the restore hangs".into());
        }
        let pid = self.target.pid;
        let mut report = Err("no report".to_owned());
        let is_over = within(LIMIT, || {
            report = self.remote.report("report", Duration::ZERO);
            report.is_ok() || has_ended(pid)
        });
        let took = killed.elapsed();
        if !is_over {
            return Err(format!("the oracle hangs: {report:?}, {}", handler::said(&work)));
        }
        let end = match report {
            Ok(report) => {
                report.is_right(MEBIBYTES * 256)?;
                End::Right
            }
            Err(_) => End::Ended,
        };
        // Whoever is left has nothing to do any more.
        self.target.kill();
        drop(source);
        if victim == Victim::Restore {
            // A restore that was killed before it had connected: the daemon waits for another.
            send(Pid::new(i32::try_from(daemon.pid()).unwrap()).unwrap(), Signal::SIGTERM);
        }
        let left = || -> Vec<String> {
            process::reap();
            let all = descendants(Pid::this());
            all.iter().skip(1).map(|pid| format!("{pid} {}", process::name(*pid))).collect()
        };
        if !within(LIMIT, || left().is_empty()) {
            return Err(format!("left behind: {:?}", left()));
        }
        std::mem::forget(daemon);
        Ok((end, took))
    }

    /// Ends what is left of a round.
    fn clear(&mut self) {
        for pid in descendants(Pid::this()).into_iter().skip(1) {
            process::kill_tree(pid);
        }
        self.target.end();
    }
}

fn print(table: &BTreeMap<Victim, BTreeMap<End, (u64, Duration)>>, rounds: u64, seed: u64) {
    println!("{rounds} rounds of seed {seed}\n");
    println!("| killed | the oracle ended | after at most | every page right | after at most |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (victim, row) in table {
        print!("| {victim:?} |");
        for end in [End::Ended, End::Right] {
            let (number, time) = row.get(&end).copied().unwrap_or_default();
            print!(" {number} | {:.2} s |", time.as_secs_f64());
        }
        println!();
    }
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const VICTIMS: [Victim; 5] =
    [Victim::Daemon, Victim::Server, Victim::Task, Victim::Restore, Victim::Nobody];
/// Memory of the oracle.
const MEBIBYTES: u64 = 64;
/// Microseconds after the start of the restore, within which somebody is killed.
const MOMENTS: u64 = 400_000;
/// The longest time until the oracle has ended or is right: the source is asked again for 10
/// seconds.
const LIMIT: Duration = Duration::from_secs(20);
