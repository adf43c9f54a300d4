//! The words for what has become of a restore.

use std::time::Duration;

use criu_rs::lazy::{LazyReport, LazyStatistics};
use serde_json::{Value, json};

use crate::output::micros;
use crate::stdout;

/// The outcome of memory that is all there, and of memory whose tasks ended before.
pub(crate) const COMPLETE: &str = "memory complete";
pub(crate) const INCOMPLETE: &str = "memory incomplete";

/// Makes the line for a restore whose tasks run.
pub(crate) fn restored(number: u64, time: Duration) -> String {
    format!("restore {number}: all tasks are restored after {time:.1?}")
}

/// Tells how a restore ended: in a line for a person, and as JSON if wanted.
pub(crate) fn told(report: &LazyReport, is_json: bool, line: impl FnOnce(String)) {
    let LazyReport { number, result, statistics, time, progress, .. } = report;
    let numbers = numbers(statistics);
    line(match result {
        Ok(()) if progress.unused > 0 => {
            let never = never_came(progress.unused);
            format!("restore {number}: done after {time:.1?}: {numbers}; {never}")
        }
        Ok(()) => format!("restore {number}: done after {time:.1?}: {numbers}"),
        Err(error) => {
            let fate = fate(statistics);
            format!("restore {number}: failed after {time:.1?}: {error}{fate}; {numbers}")
        }
    });
    if is_json {
        let mut facts = json!({
            "outcome": if result.is_ok() { "done" } else { "failed" },
            "restore": number,
            "elapsed_us": micros(*time),
            "unused_pages": progress.unused,
            "statistics": lazy_stats(statistics),
        });
        if let Err(error) = result {
            facts["error"] = error.to_string().into();
        }
        stdout::print_json(&facts);
    }
}

/// Makes the words for pages whose tasks ended before they came.
pub(crate) fn never_came(unused: u64) -> String {
    format!(
        "tasks have ended before all their memory had come ({} left out)",
        count(unused, "page")
    )
}

/// Says what became of the tasks whose pages are lost.
fn fate(numbers: &LazyStatistics) -> String {
    let mut text = String::new();
    if numbers.killed > 0 {
        text += &format!("; tasks ended: {}", numbers.killed);
    }
    if numbers.poisoned > 0 {
        text += &format!("; tasks with SIGBUS where a page is missing: {}", numbers.poisoned);
    }
    text
}

/// Makes the numbers of a restore for a person.
pub(crate) fn numbers(numbers: &LazyStatistics) -> String {
    let LazyStatistics { faults, touched, around, filled, working_set, latency, .. } = numbers;
    let pages = count(touched + around + filled + working_set, "page");
    let mut text = format!("{pages} ({touched} touched, {around} around them");
    if *working_set > 0 {
        text += &format!(", {working_set} of the working set");
    }
    text += &format!(", {filled} in the background), {}", count(*faults, "fault"));
    let (p50, p99, max) = (latency.p50, latency.p99, latency.max);
    match faults {
        0 => {}
        1 => text += &format!(" served in {max:.1?}"),
        _ => {
            text += &format!(
                " served in {p50:.1?} (median), {p99:.1?} (99 of 100), {max:.1?} (the longest)"
            );
        }
    }
    text
}

/// Formats a number with its noun: "1 page", "2 pages".
fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Makes the numbers of a restore for a program.
pub(crate) fn lazy_stats(numbers: &LazyStatistics) -> Value {
    json!({
        "faults": numbers.faults,
        "fault_us": {
            "p50": micros(numbers.latency.p50), "p90": micros(numbers.latency.p90),
            "p99": micros(numbers.latency.p99), "max": micros(numbers.latency.max),
        },
        "pages": {
            "touched": numbers.touched, "around": numbers.around, "filled": numbers.filled,
            "working_set": numbers.working_set, "zeros": numbers.zeros,
        },
        "bytes": numbers.bytes,
        "retries": numbers.retries,
        "killed": numbers.killed, "poisoned": numbers.poisoned,
    })
}
