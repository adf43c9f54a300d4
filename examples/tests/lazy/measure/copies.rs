//! Copies of one snapshot by the word `start`: ten at once, and a hundred.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use criu_lab::oracle::{Remote, Task, Touch};
use criu_lab::{process, within};
use criu_rs::Pid;
use nix::sys::signal::Signal;

use super::Hall;
use super::figures::{Row, Unit, milli, print};
use super::run::now;
use crate::scene::{Target, finish};

/// A saved oracle whose copies report apart from each other.
struct Original {
    images: PathBuf,
    reports: PathBuf,
    _target: Target,
}

/// Copies that run.
struct Copies {
    start: Child,
    begun: Duration,
    roots: Vec<i32>,
}

/// Ten copies at once, beside ten that are started one after the other.
pub fn at_once(hall: &Hall) {
    let original = Original::save(hall, 256);
    let sides: [(&str, &[&str]); 4] = [
        ("one after the other, all memory first", &["--eager"]),
        ("one after the other", &[]),
        ("at once, at most 2 restores at one time", &["-n", "10"]),
        ("at once, all restores at one time", &["-n", "10", "--parallel", "10"]),
    ];
    let mut rows: Vec<(String, Row)> =
        sides.iter().map(|(name, _)| ((*name).to_owned(), Row::default())).collect();
    for round in 0..hall.rounds {
        for turn in 0..sides.len() {
            let n = (round + turn) % sides.len();
            let words = sides[n].1;
            let begun = now();
            let mut last = Duration::ZERO;
            if words.contains(&"-n") {
                let copies = original.start(hall, words, 10);
                last = copies.ends(&original).into_iter().max().unwrap_or_default() + copies.begun;
                copies.stop();
            } else {
                for _ in 0..10 {
                    let copies = original.start(hall, words, 1);
                    last = copies.ends(&original)[0] + copies.begun;
                    copies.stop();
                }
            }
            rows[n].1.push(&[last - begun]);
        }
    }
    print(&[("until the last of 10 has touched 5 % ms", Unit::Milli)], &rows);
    println!("\nbetween two that are started one after the other, the first is also ended");
}

/// A hundred copies of a process of 256 MiB, whose other pages come when they are touched.
pub fn many(hall: &Hall) {
    let original = Original::save(hall, 256);
    println!(
        "| copies | memory of all and of start | of start | until the last has touched 5 % | \
         a copy, median | p90 |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for number in [1, 10, 100] {
        let count = number.to_string();
        let copies = original.start(hall, &["-n", &count, "--fill", "nothing"], number);
        let mut ends = copies.ends(&original);
        ends.sort_unstable();
        let own = i32::try_from(copies.start.id()).unwrap();
        let all: u64 = process::descendants(own).into_iter().map(memory).sum();
        let last = ends.last().copied().unwrap_or_default();
        let at = |percent: usize| milli(ends[ends.len() * percent / 100]);
        println!(
            "| {number} | {} MiB | {} MiB | {} ms | {} ms | {} ms |",
            all >> 20,
            memory(own) >> 20,
            milli(last),
            at(50),
            at(90)
        );
        copies.stop();
    }
}

impl Original {
    /// Saves an oracle of so many MiB, whose copies touch 5 %, and records what a copy touches.
    fn save(hall: &Hall, mebibytes: u64) -> Self {
        let (scene, reports) = (&hall.scene, hall.scene.folder("reports"));
        let file = scene.folder("home").join("oracle");
        let _ = fs::remove_file(&file);
        let remote = Remote::new(&file);
        let folder = reports.to_string_lossy().into_owned();
        let words = ["oracle", &mebibytes.to_string(), "small", &folder];
        let mut target = Target::start(&words, &file, |command| command);
        let images = scene.folder("images");
        fs::remove_dir_all(&images).unwrap();
        let mut dump = scene.criu(&["dump", "-t", &target.pid()]);
        finish(dump.arg("-D").arg(scene.folder("images")));
        target.is_gone_alone();
        let touches = mebibytes * 256 / 20;
        remote.give(Task::Touch(Touch { touches, seed: 7, pause: 0, exact: false }), "report");
        let original = Self { images, reports, _target: target };
        let copies = original.start(hall, &["--record=1"], 1);
        copies.ends(&original);
        let record = original.images.join("working-set.bin");
        assert!(within(LIMIT, || record.exists()), "nothing was recorded");
        copies.stop();
        original
    }

    /// Starts copies, and waits until they run.
    fn start(&self, hall: &Hall, words: &[&str], number: usize) -> Copies {
        let mut start = hall.scene.program(&["start", "--json", "--private"]);
        start.arg(&self.reports).args(words).arg(&self.images).stdout(Stdio::piped());
        start.stderr(fs::File::create(hall.scene.dir.join("start.log")).unwrap());
        let begun = now();
        let mut start = start.spawn().unwrap();
        let lines = BufReader::new(start.stdout.take().unwrap()).lines();
        let pid = |line: String| {
            let rest = line.split_once("\"pid\":")?.1;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            line.contains("\"copy\":").then(|| digits.parse().ok())?
        };
        let roots: Vec<i32> = lines.map_while(Result::ok).filter_map(pid).take(number).collect();
        let said = || fs::read_to_string(hall.scene.dir.join("start.log")).unwrap();
        assert_eq!(roots.len(), number, "copies run: {}", said());
        Copies { start, begun, roots }
    }
}

impl Copies {
    /// Waits until all have done their task. Returns the times since the start of all.
    fn ends(&self, original: &Original) -> Vec<Duration> {
        let end = |root: &i32| {
            let reports = original.reports.strip_prefix("/").unwrap();
            let inside = Path::new(&format!("/proc/{root}/root")).join(reports);
            let report = Remote::of(&inside.join("oracle")).report("report", LIMIT).unwrap();
            report.is_right(1).unwrap();
            report.time("end").saturating_sub(self.begun)
        };
        self.roots.iter().map(end).collect()
    }

    /// Ends all.
    fn stop(mut self) {
        process::send(Pid::from(&self.start), Signal::SIGTERM);
        for root in &self.roots {
            process::send(*root, Signal::SIGKILL);
        }
        self.start.wait().unwrap();
    }
}

/// The proportional share of memory of a process, in bytes.
fn memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0 kB");
    let kibibytes = line.split_whitespace().next().and_then(|word| word.parse().ok());
    kibibytes.unwrap_or(0u64) << 10
}

const LIMIT: Duration = Duration::from_secs(60);
