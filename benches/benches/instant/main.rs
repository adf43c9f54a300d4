//! The frozen time of a process under a plain dump, a capture, CRIU's floor and an instant capture,
//! interleaved, and what an instant capture costs the process.
//!
//! `MIB=256,1024 PAGES=4k,thp TASK=idle,busy ROUNDS=7 DIR=/dev/shm` chooses what is measured.
//! `REDIS=4096` measures the latency of a Redis of so many MiB in their place.

mod costs;
mod redis;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_benches::{Result, crius, discarded, prepare, summary};
use criu_lab::Target;
use criu_lab::generations::{Shape, Watch};
use criu_rs::instant::{InstantOptions, Way};
use criu_rs::pages::Pool;
use criu_rs::{AfterDump, Criu, Dump, Pid};

use costs::Costs;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if words.get(1).is_some_and(|word| word == "--payload") {
        criu_lab::payload::run(words.get(2..).unwrap_or_default(), criu_lab::generations::PAYLOADS);
        return Ok(());
    }
    prepare();
    let list = |name: &str, usual: &str| -> Vec<String> {
        let text = std::env::var(name).unwrap_or_else(|_| usual.to_owned());
        text.split(',').map(str::to_owned).collect()
    };
    let directory = std::env::var("DIR").unwrap_or_else(|_| "/dev/shm".to_owned());
    let directory = Path::new(&directory).join(format!("criu-instant-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let rounds: usize = list("ROUNDS", "7").concat().parse()?;
    if let Ok(mib) = std::env::var("REDIS") {
        redis::measure(&directory, mib.parse()?, rounds)?;
        return Ok(fs::remove_dir_all(&directory)?);
    }
    let mut rows = Vec::new();
    for (version, program) in crius()? {
        for mib in list("MIB", "256,1024,2048,4096") {
            for pages in list("PAGES", "4k,thp") {
                for task in list("TASK", "idle,busy") {
                    let name = format!("{version} | {mib} MiB, {pages}, {task}");
                    let (huge, idle) = (pages == "thp", task == "idle");
                    let shape =
                        Shape { mib: mib.parse()?, huge, idle, beat: true, ..Shape::default() };
                    let mut row = Row::new(name, Criu::at(&program), shape, &directory)?;
                    row.measure(rounds)?;
                    eprintln!("{}", row.frozen());
                    rows.push(row.end());
                }
            }
        }
    }
    tell(&rows);
    Ok(fs::remove_dir_all(&directory)?)
}

/// The ways of saving a process, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Capture,
    Floor,
    /// An instant capture that reads the flags of mappings in the freeze.
    Late,
    Instant,
}

const KINDS: [Kind; 5] = [Kind::Plain, Kind::Capture, Kind::Floor, Kind::Late, Kind::Instant];

/// The measurements of a process.
struct Row {
    name: String,
    criu: Criu,
    target: Option<Target<Pid>>,
    watch: Watch,
    shape: Shape,
    directory: PathBuf,
    /// Empty where the memory of the machine has no room for it.
    pool: Option<Pool>,
    frozen: [Vec<Duration>; 5],
    gaps: [Vec<Duration>; 5],
    costs: Vec<Costs>,
}

impl Row {
    fn new(name: String, criu: Criu, shape: Shape, directory: &Path) -> Result<Self> {
        let (target, watch) = start(&shape, directory);
        let bytes = shape.mib << 20;
        // The process, its copies, its images and a pool of their size.
        let fits = costs::meminfo("MemAvailable")? > 3 * bytes as u64 + (2 << 30);
        let pool = if fits { Some(Pool::new(bytes + (64 << 20))?) } else { None };
        let target = Some(target);
        let directory = directory.to_owned();
        let (frozen, gaps, costs) = Default::default();
        Ok(Self { name, criu, target, watch, shape, directory, pool, frozen, gaps, costs })
    }

    /// Runs all ways once, one after the other. The first round warms up.
    fn measure(&mut self, rounds: usize) -> Result<()> {
        for round in 0..=rounds {
            for (n, kind) in KINDS.into_iter().enumerate() {
                // Huge pages that were written beside a holder stay split.
                let is_after_holder = matches!(kind, Kind::Plain | Kind::Instant);
                if is_after_holder && self.shape.huge && !self.shape.idle {
                    drop(self.target.take());
                    let (target, watch) = start(&self.shape, &self.directory);
                    (self.target, self.watch) = (Some(target), watch);
                }
                if kind == Kind::Capture && self.pool.is_none() {
                    continue;
                }
                let Some((frozen, gap, costs)) = self.once(kind)? else { continue };
                if round > 0 {
                    self.frozen.get_mut(n).ok_or("a way")?.push(frozen);
                    self.gaps.get_mut(n).ok_or("a way")?.push(gap);
                    self.costs.extend(costs);
                }
                if let Some(wrong) = self.watch.wrong() {
                    return Err(wrong.into());
                }
            }
        }
        Ok(())
    }

    fn once(&mut self, kind: Kind) -> Result<Option<(Duration, Duration, Option<Costs>)>> {
        let images = self.directory.join("images");
        _ = fs::remove_dir_all(&images);
        fs::create_dir(&images)?;
        let pid = self.target.as_ref().ok_or("it has ended")?.pid;
        let dump = Dump::new(pid, &images).after_dump(AfterDump::LeaveRunning);
        let mut costs = None;
        self.watch.forget_gap();
        let dumped = match kind {
            Kind::Plain => dump.run(&self.criu)?,
            Kind::Capture => {
                let pool = self.pool.take().ok_or("no pool")?;
                let captured = dump.capture(&self.criu, pool, &mut ())?;
                let (pool, result) = captured.writing.wait();
                result?;
                self.pool = pool;
                captured.dumped
            }
            Kind::Floor => discarded(dump, &self.criu)?,
            Kind::Late => {
                let options = InstantOptions::new().early_flags(false);
                let capture = dump.instant(&self.criu, &options, &mut ())?;
                let gap = self.watch.gap();
                capture.reading.wait()?;
                return Ok(Some((capture.dumped.stats?.frozen, gap, None)));
            }
            Kind::Instant => {
                let meter = costs::Meter::start(&self.watch)?;
                let options = InstantOptions::new();
                let capture = dump.instant(&self.criu, &options, &mut ())?;
                let held = capture.tasks.iter().find_map(|task| match task.way {
                    Way::Held { fork, .. } => Some(fork),
                    _ => None,
                });
                let fork = held.ok_or_else(|| format!("no holder: {:?}", capture.tasks))?;
                let gap = self.watch.gap();
                let dumped = capture.dumped;
                costs = Some(meter.end(&self.watch, capture.reading, fork)?);
                return Ok(Some((dumped.stats?.frozen, gap, costs)));
            }
        };
        // The heartbeat has beaten since.
        std::thread::sleep(Duration::from_millis(2));
        Ok(Some((dumped.stats?.frozen, self.watch.gap(), costs)))
    }

    fn frozen(&self) -> String {
        let mut line = format!("| {} |", self.name);
        for times in &self.frozen {
            line += &format!(" {} |", shown(times));
        }
        let [plain, .., instant] = &self.frozen;
        line + &format!(" {:.3} |", median(instant) / median(plain))
    }

    /// Ends the process, and gives back the memory.
    fn end(mut self) -> Self {
        if let Some(mut target) = self.target.take() {
            target.end();
        }
        self.pool = None;
        self
    }
}

/// Starts a process, and waits until it has its memory.
fn start(shape: &Shape, directory: &Path) -> (Target<Pid>, Watch) {
    let file = directory.join("count");
    _ = fs::remove_file(&file);
    let words = shape.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let target = Target::start(&words, &file, |command| command);
    (target, Watch::of(&file))
}

fn tell(rows: &[Row]) {
    println!("Frozen time by CRIU's statistics, ms, median (least..most):\n");
    println!(
        "| CRIU | process | plain dump | capture | CRIU's floor | instant, late flags | instant | instant / plain |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    rows.iter().for_each(|row| println!("{}", row.frozen()));
    println!(
        "\nLongest time between two heartbeats, ms, and the most it differs from the above:\n"
    );
    println!(
        "| CRIU | process | plain dump | capture | CRIU's floor | instant, late flags | instant | differs at most |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for row in rows {
        let mut line = format!("| {} |", row.name);
        for times in &row.gaps {
            line += &format!(" {} |", shown(times));
        }
        let [.., frozen] = &row.frozen;
        let [.., gaps] = &row.gaps;
        let differences = frozen.iter().zip(gaps).map(|(one, other)| one.abs_diff(*other));
        let most = differences.max().unwrap_or_default();
        println!("{line} {:.2} |", most.as_secs_f64() * 1e3);
    }
    println!("\nCosts of an instant capture, medians:\n");
    println!("{}", Costs::HEAD);
    for row in rows {
        println!("| {} | {} |", row.name, Costs::line(&row.costs, row.shape.mib));
    }
}

/// The times of a way, which may have had no room in memory.
fn shown(times: &[Duration]) -> String {
    if times.is_empty() { "no room".to_owned() } else { summary(&mut times.to_vec()) }
}

fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default().as_secs_f64()
}
