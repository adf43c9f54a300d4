//! The number of processes that are lost when a dump of them is ended in the middle, by the ways to
//! end it.
//!
//! Each round dumps a counting process and ends the dump at a moment somewhere between CRIU's
//! `pre-dump` action and its end. A process that does not count on is lost.

use std::path::Path;
use std::time::Duration;

use criu_benches::{COUNTER, Counter, Random, Result, count, crius, prepare};
use criu_rs::{AfterDump, Cancel, Criu, Dump, Error, HookResult, Hooks, Pid, StopMethod};
use nix::sys::signal::{Signal, kill};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, file] = words.as_slice() {
        if word == COUNTER {
            return count(Path::new(file));
        }
    }
    prepare();
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    println!("| CRIU | ended by | rounds | ended in the middle | lost | rate |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (version, program) in crius()? {
        for way in [Way::Cancel, Way::SafePoint, Way::Term, Way::Kill] {
            let tally = measure(&Criu::at(&program), way, rounds)?;
            let rate = 100.0 * f64::from(tally.lost) / f64::from(tally.ended.max(1));
            println!(
                "| {version} | {} | {rounds} | {} | {} | {rate:.1} % |",
                way.name(),
                tally.ended,
                tally.lost
            );
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Through `Cancel`, with the default grace time.
    Cancel,
    /// Through `Cancel`, without one: criu is ended at the next safe point.
    SafePoint,
    /// SIGTERM to criu.
    Term,
    /// SIGKILL to criu.
    Kill,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Cancel => "`Cancel`",
            Self::SafePoint => "`Cancel` with `grace(0)`",
            Self::Term => "SIGTERM at any moment",
            Self::Kill => "SIGKILL at any moment",
        }
    }
}

#[derive(Default)]
struct Tally {
    ended: u32,
    lost: u32,
}

fn measure(criu: &Criu, way: Way, rounds: u32) -> Result<Tally> {
    let folder = std::env::temp_dir().join(format!("criu-stop-{}", std::process::id()));
    let mut random = Random(7);
    let mut tally = Tally::default();
    for _ in 0..rounds {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder)?;
        let counter = Counter::start(&folder.join("count"))?;
        let delay = Duration::from_micros(random.below(SPAN));
        if dump(criu, &counter, &folder, way, delay)? {
            tally.ended += 1;
        }
        if !counter.lives() {
            tally.lost += 1;
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(tally)
}

/// Dumps, and ends that after a delay; whether it had not ended by itself.
fn dump(criu: &Criu, counter: &Counter, folder: &Path, way: Way, delay: Duration) -> Result<bool> {
    let cancel = Cancel::new()?;
    let mut dump =
        Dump::new(counter.pid(), folder).after_dump(AfterDump::LeaveRunning).cancel(&cancel);
    if way == Way::SafePoint {
        dump = dump.grace(Duration::ZERO);
    }
    let session = dump.start(criu)?;
    let mut ender = Ender { way, delay, cancel, criu: session.pid(), thread: None };
    let result = session.finish(&mut ender);
    if let Some(thread) = ender.thread {
        let _ = thread.join();
    }
    match result {
        Ok(_) => Ok(false),
        Err(Error::Stopped(stopped)) => {
            if stopped.how == StopMethod::KilledUnsafely {
                eprintln!("no safe point came");
            }
            Ok(true)
        }
        Err(Error::Failed(_)) => Ok(true),
        Err(other) => Err(other.into()),
    }
}

/// Starts the clock when CRIU is about to freeze the process.
struct Ender {
    way: Way,
    delay: Duration,
    cancel: Cancel,
    criu: Option<Pid>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Hooks for Ender {
    fn pre_dump(&mut self) -> HookResult {
        let (way, delay, cancel, criu) = (self.way, self.delay, self.cancel.clone(), self.criu);
        self.thread = Some(std::thread::spawn(move || {
            std::thread::sleep(delay);
            let signal = match way {
                Way::Cancel | Way::SafePoint => return cancel.cancel(),
                Way::Term => Signal::SIGTERM,
                Way::Kill => Signal::SIGKILL,
            };
            if let Some(criu) = criu {
                let _ = kill(nix::unistd::Pid::from_raw(criu.as_raw()), signal);
            }
        }));
        Ok(())
    }
}

/// A dump of a small process takes about so long from `pre-dump` on, in microseconds.
const SPAN: u64 = 9000;
