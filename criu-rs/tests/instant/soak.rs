//! The soak: processes of random shapes, captured at random moments while they run at full speed,
//! and restored.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use criu_lab::generations::{Shape, Watch};
use criu_rs::instant::{InstantOptions, Way};

use crate::lab::{Lab, Scene, TestFn, dump, eager, holders};

pub const TESTS: &[(&str, TestFn)] = &[("soak", soak)];

fn soak(lab: &Lab) {
    let table = run(lab, 10, 7).unwrap();
    println!("{table}");
}

/// The counts of a soak.
#[derive(Debug, Default)]
pub struct Table {
    processes: u64,
    dumps: u64,
    held: u64,
    captured: u64,
    early: u64,
    corrected: u64,
    restores: u64,
    again: u64,
    pages: u64,
    torn: u64,
    frozen: Vec<Duration>,
    gaps: Vec<Duration>,
    time: Duration,
}

/// Does so many dumps, and restores each.
///
/// # Errors
/// The first thing that is wrong, with what led to it.
pub fn run(lab: &Lab, dumps: u64, seed: u64) -> Result<Table, String> {
    let begun = Instant::now();
    let mut table = Table::default();
    let mut round = 0;
    while table.dumps < dumps {
        let seed = seed.wrapping_mul(1_000_003) + round;
        round += 1;
        let shape = Shape::random(seed, 96);
        let most = dumps - table.dumps;
        table
            .round(lab, shape, seed, most)
            .map_err(|why| format!("round {round}, {shape:?}: {why}\n{table}", table = &table))?;
    }
    table.time = begun.elapsed();
    Ok(table)
}

impl Table {
    /// Dumps one process some times, and then restores each dump.
    fn round(&mut self, lab: &Lab, shape: Shape, seed: u64, most: u64) -> Result<(), String> {
        let mut scene = lab.start(shape);
        self.processes += 1;
        let mut all = Vec::new();
        for n in 0..most.min(1 + seed % 4) {
            let images = lab.dir(&format!("images-{n}"));
            std::thread::sleep(Duration::from_micros(seed * 7919 % 50_000));
            self.dump(lab, &scene, &images, seed + n)?;
            all.push(images);
        }
        scene.end();
        for images in all {
            scene.restore(lab, &images).map_err(|why| format!("restored: {why}"))?;
            self.restores += 1;
            self.again += std::mem::take(&mut scene.again);
            scene.end();
            fs::remove_dir_all(&images).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn dump(
        &mut self,
        lab: &Lab,
        scene: &Scene,
        images: &std::path::Path,
        seed: u64,
    ) -> Result<(), String> {
        scene.watches.iter().for_each(Watch::forget_gap);
        // Now and then the tasks are those that the defaults choose.
        let options = if seed % 5 == 0 { InstantOptions::new() } else { eager() };
        let options = options.verify(seed % 7 == 0);
        let text = |error: criu_rs::Error| error.to_string();
        let capture =
            dump(scene.target.pid, images).instant(&lab.criu, &options, &mut ()).map_err(text)?;
        let frozen = capture.dumped.stats.as_ref().map(|stats| stats.frozen);
        let is_held = |way: &Way| matches!(way, Way::Held { .. });
        let held = capture.tasks.iter().filter(|task| is_held(&task.way)).count();
        self.held += held as u64;
        self.captured += (capture.tasks.len() - held) as u64;
        if seed % 5 != 0 {
            crate::lab::all_held(&capture, &scene.pids)?;
        }
        let gap = scene.watches[0].gap();
        let read = capture.reading.wait().map_err(text)?;
        self.early += read.early_flags;
        self.corrected += read.corrected;
        self.dumps += 1;
        let left = holders(Duration::from_secs(2));
        if !left.is_empty() {
            return Err(format!("holders stay: {left:?}"));
        }
        scene.goes_on().map_err(|why| format!("the original: {why}"))?;
        let verdict = scene.judge_images(images)?;
        if verdict.wrong > 0 {
            return Err(format!("the images are not of one moment: {verdict:?}"));
        }
        self.pages += verdict.pages;
        self.torn += verdict.torn;
        self.frozen.extend(frozen);
        self.gaps.extend((!gap.is_zero()).then_some(gap));
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processes, dumps, held, captured, restores, again, pages, torn, .. } = self;
        let Self { early, corrected, .. } = self;
        write!(
            f,
            "{dumps} dumps of {processes} trees, {held} tasks held and {captured} captured; \
             {early} with flags read early, {corrected} flags corrected; \
             {restores} restores, {again} done again; {pages} pages of one moment, {torn} half written; frozen {}, \
             between beats {}; {:.0} s",
            spread(&self.frozen),
            spread(&self.gaps),
            self.time.as_secs_f32()
        )
    }
}

/// The middle of times, and their extremes, in milliseconds.
fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("{:.1} ms ({:.1}..{:.1})", at(times.len() / 2), at(0), at(times.len().max(1) - 1))
}
