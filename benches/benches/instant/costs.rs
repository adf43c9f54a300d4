//! The costs of an instant capture: memory, speed of writes, times.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use criu_benches::Result;
use criu_lab::generations::Watch;
use criu_rs::instant::Reading;

/// The cost of one instant capture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Costs {
    fork: Duration,
    /// From the end of the dump to complete images.
    read: Duration,
    teardown: Duration,
    /// The longest time between two heartbeats after the dump.
    later: Duration,
    /// Most memory more than before, in bytes: pages, and page tables.
    pages: u64,
    tables: u64,
    /// Pages written in a second: before, while the holder lived, afterwards.
    speed: [f64; 3],
}

/// Looks at the memory of the machine meanwhile.
pub(crate) struct Meter {
    over: Arc<AtomicBool>,
    most: Arc<[AtomicU64; 2]>,
    before: [u64; 2],
    speed: f64,
    thread: JoinHandle<()>,
}

impl Meter {
    pub(crate) fn start(watch: &Watch) -> Result<Self> {
        let before = memory()?;
        let speed = speed(watch, LOOK);
        // The heartbeat of the dump alone is wanted.
        watch.forget_gap();
        let (over, most) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicU64; 2]>::default());
        let (is_over, all) = (Arc::clone(&over), Arc::clone(&most));
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                for (most, now) in all.iter().zip(memory().unwrap_or_default()) {
                    most.fetch_max(now, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Ok(Self { over, most, before, speed, thread })
    }

    /// Waits for the end of the reading.
    pub(crate) fn end(self, watch: &Watch, reading: Reading, fork: Duration) -> Result<Costs> {
        watch.forget_gap();
        let (begun, before) = (Instant::now(), watch.written());
        let read = reading.wait()?;
        let meanwhile = rate(watch.written() - before, begun.elapsed());
        let later = watch.gap();
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the meter died")?;
        let afterwards = speed(watch, LOOK);
        let more = |n: usize| {
            let most = self.most.get(n).map_or(0, |most| most.load(Ordering::Relaxed));
            most.saturating_sub(self.before.get(n).copied().unwrap_or(0))
        };
        Ok(Costs {
            fork,
            read: read.time,
            teardown: read.teardown,
            later,
            pages: more(0),
            tables: more(1),
            speed: [self.speed, meanwhile, afterwards],
        })
    }
}

impl Costs {
    pub(crate) const HEAD: &str = "\
        | CRIU | process | fork, ms | read out, s/GiB | tear-down, ms | longest later gap, ms | \
        memory more, MiB | page tables more, MiB | M pages/s before | with holder | after |\n\
        | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

    /// The medians of all.
    pub(crate) fn line(all: &[Self], mib: usize) -> String {
        let median = |of: &dyn Fn(&Self) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_unstable_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        #[allow(clippy::cast_precision_loss)]
        let (gib, of_mib) = (mib as f64 / 1024.0, |bytes: u64| bytes as f64 / f64::from(1 << 20));
        let speed = |n: usize| median(&|one| one.speed.get(n).copied().unwrap_or_default() / 1e6);
        format!(
            "{:.2} | {:.3} | {:.2} | {:.2} | {:.0} | {:.1} | {:.2} | {:.2} | {:.2}",
            median(&|one| ms(one.fork)),
            median(&|one| one.read.as_secs_f64() / gib),
            median(&|one| ms(one.teardown)),
            median(&|one| ms(one.later)),
            median(&|one| of_mib(one.pages)),
            median(&|one| of_mib(one.tables)),
            speed(0),
            speed(1),
            speed(2),
        )
    }
}

/// The bytes of a line of `/proc/meminfo`.
pub(crate) fn meminfo(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no such line")?;
    Ok(number.parse::<u64>()? << 10)
}

/// Anonymous memory, which images on a tmpfs are not, and page tables.
fn memory() -> Result<[u64; 2]> {
    Ok([meminfo("AnonPages")?, meminfo("PageTables")?])
}

fn speed(watch: &Watch, time: Duration) -> f64 {
    let (begun, before) = (Instant::now(), watch.written());
    std::thread::sleep(time);
    rate(watch.written() - before, begun.elapsed())
}

#[allow(clippy::cast_precision_loss)]
fn rate(pages: u64, time: Duration) -> f64 {
    pages as f64 / time.as_secs_f64()
}

/// The time for which the speed of writes is measured.
const LOOK: Duration = Duration::from_millis(300);
