//! Touches that are timed.

use std::fmt::Write as _;
use std::time::Duration;

use super::memory::{Area, PAGE, now, page_faults};
use super::pages::{Pages, WORDS, holds};
use super::remote::Touch;
use super::storm::Random;

/// Touches pages at random, each once or more, and compares their first words. Pages must be as
/// they were at the beginning.
pub(crate) fn run(pages: &Pages, touch: Touch) -> String {
    let mut random = Random(touch.seed);
    // New memory is never missing.
    let number = usize::try_from(touch.touches).unwrap();
    let times = Area::private((number * 8).next_multiple_of(PAGE).max(PAGE));
    for at in (0..number * 8).step_by(PAGE) {
        times.store(at, 0);
    }
    let mut wrong = 0;
    let before = page_faults();
    let begun = now();
    let mut last = before;
    for n in 0..number {
        let page = random.below(pages.area.pages());
        let token = pages.area.address(page * PAGE) as u64;
        let from = now();
        let found = pages.area.load(page * PAGE + WORDS[0]);
        let took = now().saturating_sub(from);
        wrong += u64::from(found != holds(token, WORDS[0]));
        let mut nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX >> 1) << 1;
        if touch.exact {
            let so_far = page_faults();
            nanoseconds |= u64::from(so_far != last);
            last = so_far;
        }
        times.store(n * 8, nanoseconds);
        if touch.pause > 0 {
            let until = now() + Duration::from_nanos(touch.pause);
            while now() < until {
                std::hint::spin_loop();
            }
        }
    }
    let end = now();
    let faults = page_faults() - before;
    let all: Vec<u64> = (0..number).map(|n| times.load(n * 8)).collect();
    let waited = |time: &u64| !touch.exact || time & 1 == 1;
    let mut waited: Vec<u64> = all.iter().filter(|time| waited(time)).map(|t| t >> 1).collect();
    waited.sort_unstable();
    let at = |percent: usize| waited.get(waited.len() * percent / 100).copied().unwrap_or(0);
    let mut report = format!("checked {number}\nwrong {wrong}\nfaults {faults}\n");
    let rows = [("begun", begun.as_nanos()), ("end", end.as_nanos())];
    rows.iter().for_each(|(name, value)| _ = writeln!(report, "{name} {value}"));
    let rows = [("p50", at(50)), ("p90", at(90)), ("p99", at(99))];
    rows.iter().for_each(|(name, value)| _ = writeln!(report, "{name} {value}"));
    let _ = writeln!(report, "max {}", waited.last().copied().unwrap_or(0));
    report
}

/// Reads a word of each page in order, and compares.
pub(crate) fn sweep(pages: &Pages) -> String {
    let begun = now();
    let before = page_faults();
    let wrong = (0..pages.area.pages())
        .filter(|page| {
            let token = pages.area.address(page * PAGE) as u64;
            pages.area.load(page * PAGE + WORDS[1]) != holds(token, WORDS[1])
        })
        .count();
    let (begun, end) = (begun.as_nanos(), now().as_nanos());
    let (number, faults) = (pages.area.pages(), page_faults() - before);
    format!("checked {number}\nwrong {wrong}\nfaults {faults}\nbegun {begun}\nend {end}\n")
}
