//! Faults, their neighbours and the fill.

use std::sync::Arc;

use criu_rs::lazy::LazyOptions;

use crate::PAGES;
use crate::stage::{Stage, without_fill};
use crate::task::{Dice, Task};

pub fn touches() {
    let mut stage = Stage::new(LazyOptions::default());
    stage.start("touch", PAGES);
    stage.restoration.complete();
    stage.finish();
    let statistics = stage.restoration.statistics();
    assert!(statistics.faults > 0 && statistics.filled > 0, "{statistics:?}");
    let came = statistics.touched + statistics.around + statistics.filled;
    assert_eq!(came, PAGES as u64, "{statistics:?}");
    let progress = stage.restoration.progress();
    assert_eq!((progress.pages, progress.missing, progress.tasks), (PAGES as u64, 0, 0));
    assert_eq!(progress.unused, 0);
}

pub fn touch(task: &Task) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let mut dice = Dice::new(thread);
                (0..4000).for_each(|_| task.check(dice.below(task.region.pages)));
            });
        }
    });
    (0..task.region.pages).for_each(|page| task.check(page));
}

pub fn nothing() {
    let mut stage = Stage::new(without_fill(1));
    stage.start("some", PAGES);
    stage.restoration.complete();
    stage.finish();
    let statistics = stage.restoration.statistics();
    assert_eq!((statistics.touched, statistics.around, statistics.filled), (100, 0, 0));
}

pub fn neighbours() {
    let mut stage = Stage::new(without_fill(8));
    stage.start("row", PAGES);
    stage.restoration.complete();
    stage.finish();
    let statistics = stage.restoration.statistics();
    // A page of each eight, and the second page.
    assert_eq!((statistics.touched, statistics.filled), (14, 0));
    assert_eq!(statistics.around, 90);
}

/// Touches 100 pages in a row.
pub fn row(task: &Task) {
    (0..100).for_each(|page| task.check(page));
}

/// Touches 100 pages in order, every hundredth.
pub fn some(task: &Task) {
    (0..100).for_each(|n| task.check(n * 100));
}

pub fn many() {
    let stages: Vec<Stage> = {
        let first = Stage::new(LazyOptions::default());
        let (handler, supply) = (first.handler.clone().unwrap(), Arc::clone(&first.supply));
        let others = (1..20).map(|n| Stage::on(&handler, &supply, n * 100));
        std::iter::once(first).chain(others).collect()
    };
    std::thread::scope(|scope| {
        for mut stage in stages {
            scope.spawn(move || {
                stage.start("touch", 1024);
                stage.restoration.complete();
                stage.finish();
                let statistics = stage.restoration.statistics();
                let came = statistics.touched + statistics.around + statistics.filled;
                assert_eq!(came, 1024, "{statistics:?}");
            });
        }
    });
}
