//! Memory that a task cuts into areas.

use std::io::Write;
use std::time::Duration;

use criu_lab::lazy::fork;
use criu_rs::lazy::{LazyError, LazyOptions, OnLoss};
use nix::sys::signal::Signal;

use crate::forks::signal_of;
use crate::stage::{Stage, without_fill};
use crate::task::Task;

/// The fill, and faults with their neighbours, in memory that a task cuts into areas: the kernel
/// fills one area at a time.
pub fn areas() {
    for (options, fills) in [(LazyOptions::default(), true), (without_fill(16), false)] {
        let mut stage = Stage::new(options);
        stage.start("areas", AREAS);
        stage.hear_number();
        stage.restoration.complete();
        if fills {
            assert!(stage.restoration.wait(Some(Duration::from_secs(10))).unwrap());
            let statistics = stage.restoration.statistics();
            assert_eq!((statistics.filled, statistics.touched), (AREAS as u64, 0));
        }
        stage.tasks[0].1.write_all(b"x").unwrap();
        stage.finish();
    }
}

/// The number of pages of tests with areas.
const AREAS: usize = 1024;

/// Cuts the memory into areas whose ends are nowhere near those of pieces.
fn cut_into_areas(task: &Task) {
    (0..AREAS / 2).step_by(7).for_each(|page| task.region.part(page, 3).protect());
    (AREAS / 2..AREAS).step_by(37).for_each(|page| task.region.part(page, 1).protect());
    (&task.parent).write_all(&0i32.to_ne_bytes()).unwrap();
    task.hear();
}

pub fn areas_then_all(task: &Task) {
    cut_into_areas(task);
    (0..AREAS).for_each(|page| task.check(page));
}

pub fn areas_then_lost(task: &Task) {
    cut_into_areas(task);
    for page in (0..AREAS).step_by(5) {
        let child = fork(|| i32::from(task.region.word(page, 0) == 0));
        assert_eq!(signal_of(child), Some(Signal::SIGBUS), "page {page}");
    }
}

pub fn poisoned_areas() {
    let mut options = without_fill(1);
    options.on_loss = OnLoss::SigBus;
    let mut stage = Stage::new(options);
    stage.start("areas-lost", AREAS);
    stage.hear_number();
    stage.restoration.complete();
    stage.restoration.give_up(LazyError::Stopped);
    assert!(stage.restoration.wait(Some(Duration::from_secs(5))).is_err());
    stage.tasks[0].1.write_all(b"x").unwrap();
    let status = stage.tasks[0].0.wait().unwrap();
    assert!(status.success(), "{status}");
}
