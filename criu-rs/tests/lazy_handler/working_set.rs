//! Working sets: recorded, and brought first.

use std::io::Write;

use criu_lab::lazy::PAGE;
use criu_lab::soon;
use criu_rs::lazy::LazyOptions;

use crate::PAGES;
use crate::stage::{Stage, without_fill};

pub fn prefetched() {
    for name in ["early", "late"] {
        let mut stage = Stage::new(without_fill(1));
        stage.first = (0..100).rev().map(|n| n * 100 * PAGE as u64).collect();
        stage.start(name, PAGES);
        let all_here = || stage.restoration.statistics().working_set == 100;
        assert!(soon(all_here), "{:?}", stage.restoration.statistics());
        stage.restoration.complete();
        stage.tasks[0].1.write_all(b"r").unwrap();
        stage.finish();
        let statistics = stage.restoration.statistics();
        assert_eq!((statistics.touched, statistics.filled), (0, 0), "{statistics:?}");
    }
}

pub fn recorded() {
    let mut stage = Stage::new(LazyOptions::default());
    stage.restoration.record();
    stage.start("some", PAGES);
    stage.restoration.complete();
    let (mut child, _) = stage.tasks.remove(0);
    assert!(child.wait().unwrap().success());
    let touches = stage.restoration.recorded();
    let base = stage.supply.base(1);
    let wanted = (0..100).map(|n| base + n * 100 * PAGE as u64);
    assert!(touches.iter().map(|touch| touch.address).eq(wanted), "{touches:?}");
    assert!(touches.iter().all(|touch| touch.pid == 1));
    assert!(touches.is_sorted_by_key(|touch| touch.time));
    let statistics = stage.restoration.statistics();
    assert_eq!((statistics.touched, statistics.around, statistics.filled), (100, 0, 0));
    stage.finish();
}
