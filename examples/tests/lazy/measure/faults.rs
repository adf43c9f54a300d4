//! Latencies of faults, and the time until all pages are there.

use std::time::Duration;

use criu_lab::oracle::{Task, Touch};

use super::Hall;
use super::figures::{Row, Unit, print};
use super::run::{Busy, Side, Times};
use crate::daemon::Settings;
use crate::handler;
use crate::source;

/// The handlers that are compared, CRIU's first.
const HANDLERS: &[handler::Kind] = &[handler::Kind::Criu, handler::Kind::Library(PLAIN)];

const PLAIN: Settings = Settings { nothing: false, record: false, with_record: false };

/// Columns of touches during the fill.
const FAULTS: &[(&str, Unit)] = &[
    ("first instruction ms", Unit::Milli),
    ("fault p50 us", Unit::Micro),
    ("p90", Unit::Micro),
    ("p99", Unit::Micro),
    ("max", Unit::Micro),
    ("faults", Unit::Number),
    ("all pages ms", Unit::Milli),
    ("daemon CPU ms", Unit::Milli),
];

pub fn from_images(hall: &Hall) {
    saved(hall, source::Kind::Images, false);
}

pub fn from_server(hall: &Hall) {
    saved(hall, source::Kind::PageServer, false);
}

/// Measures faults while a process computes on each processor.
pub fn when_busy(hall: &Hall) {
    println!("from images:\n");
    saved(hall, source::Kind::Images, true);
    println!("\nfrom a page server:\n");
    saved(hall, source::Kind::PageServer, true);
}

fn saved(hall: &Hall, kind: source::Kind, busy: bool) {
    let mut saved = hall.saved();
    let busy = busy.then(Busy::everywhere);
    let mut touched = rows();
    let mut idle = rows();
    for round in 0..hall.rounds {
        for turn in 0..HANDLERS.len() {
            let n = (round + turn) % HANDLERS.len();
            let side = Side::Lazy(HANDLERS[n]);
            touched[n].1.push(&figures(&saved.restore(side, kind, touches(round))));
            idle[n].1.push(&filling(&saved.restore(side, kind, none())));
        }
    }
    drop(busy);
    print(FAULTS, &touched);
    println!();
    print(FILLING, &idle);
}

/// Measures faults whose pages come from a dump that holds the frozen process.
pub fn from_dump(hall: &Hall) {
    let (mut touched, mut idle) = (rows(), rows());
    for round in 0..hall.rounds {
        for turn in 0..HANDLERS.len() {
            let n = (round + turn) % HANDLERS.len();
            touched[n].1.push(&figures(&hall.serve_from_dump(HANDLERS[n], touches(round))));
            idle[n].1.push(&filling(&hall.serve_from_dump(HANDLERS[n], none())));
        }
    }
    print(FAULTS, &touched);
    println!();
    print(FILLING, &idle);
}

/// Measures the time until 5 % of the pages have been touched at random.
pub fn early(hall: &Hall) {
    let mut saved = hall.saved();
    let library = |settings| Side::Lazy(handler::Kind::Library(settings));
    let with_record = library(Settings { with_record: true, ..PLAIN });
    let sides = [Side::Full, Side::Lazy(handler::Kind::Criu), library(PLAIN), with_record];
    let mut rows: Vec<(String, Row)> =
        sides.iter().map(|side| (side.name().into(), Row::default())).collect();
    let touches = hall.mebibytes * 256 / 20;
    let task = Task::Touch(Touch { touches, seed: 7, pause: 0, exact: false });
    saved.restore(library(Settings { record: true, ..PLAIN }), source::Kind::Images, task);
    for round in 0..hall.rounds {
        for turn in 0..sides.len() {
            let n = (round + turn) % sides.len();
            let times = saved.restore(sides[n], source::Kind::Images, task);
            let faults = Duration::from_nanos(times.report.value("faults"));
            rows[n].1.push(&[times.restored, times.first, times.end, faults]);
        }
    }
    print(
        &[
            ("restored ms", Unit::Milli),
            ("first instruction ms", Unit::Milli),
            ("5 % touched ms", Unit::Milli),
            ("faults", Unit::Number),
        ],
        &rows,
    );
}

const FILLING: &[(&str, Unit)] =
    &[("nothing touched: all pages ms", Unit::Milli), ("daemon CPU ms", Unit::Milli)];

fn filling(times: &Times) -> [Duration; 2] {
    [times.filled, times.cpu]
}

fn figures(times: &Times) -> [Duration; 8] {
    let report = |name: &str| times.report.time(name);
    let [p50, p90, p99, max] = ["p50", "p90", "p99", "max"].map(report);
    [times.first, p50, p90, p99, max, report("faults"), times.filled, times.cpu]
}

/// Touches that take as long as a fill, or longer.
fn touches(round: usize) -> Task {
    Task::Touch(Touch { touches: 4000, seed: 100 + round as u64, pause: 0, exact: true })
}

/// A task that touches nothing.
fn none() -> Task {
    Task::Touch(Touch { touches: 0, seed: 0, pause: 0, exact: false })
}

fn rows() -> Vec<(String, Row)> {
    HANDLERS.iter().map(|kind| (Side::Lazy(*kind).name().into(), Row::default())).collect()
}
