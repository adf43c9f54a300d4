//! Instant dumps: waits for the memory that is read while the tasks run on, and tells of it.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use criu_rs::Dumped;
use criu_rs::instant::{ReadOut, Reading, TaskCapture, Way, WhyNot};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::drive::Drive;
use crate::fault::Fault;
use crate::output::{Output, micros};
use crate::progress::Progress;

/// Waits until the memory is in the images, and shows on a terminal how much is there. A signal
/// ends the reading.
pub(crate) fn wait(reading: Reading, drive: &Drive, output: &Output) -> Result<ReadOut, Fault> {
    let progress = Progress::of_bytes(reading.progress().1);
    let watched = drive.watch(|| {
        while !reading.is_finished() {
            thread::sleep(TURN);
            let (done, all) = reading.progress();
            progress.show_part(done, all);
        }
        reading.wait()
    });
    let read = watched??;
    note_unreaped(output, &read);
    Ok(read)
}

/// Tells a person of forks of which something is left.
pub(crate) fn note_unreaped(output: &Output, read: &ReadOut) {
    for fork in &read.unreaped {
        output.say(format!("{fork}; the next dump of the process clears up"));
    }
}

/// Tells a person which tasks were not forked, unless they are merely small, and why. Says so in
/// any case if no task was forked.
pub(crate) fn note(output: &Output, tasks: &[TaskCapture]) {
    let mut reasons = BTreeMap::new();
    let mut forked = 0;
    for task in tasks {
        match &task.way {
            Way::Held { .. } => forked += 1,
            Way::Captured(why) => {
                let is_small = matches!(why, WhyNot::Small { .. });
                let row = reasons.entry((is_small, why.to_string())).or_insert((task.pid, 0));
                row.1 += 1;
            }
            _ => {}
        }
    }
    if forked == 0 {
        output.say("no process was forked: they stood still while their memory was read");
    }
    for ((is_small, why), (pid, count)) in reasons {
        if is_small && forked > 0 {
            continue;
        }
        let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        output.say(format!("process {pid}{more} was not forked: {why}"));
    }
}

/// Tells in words how much memory an instant dump has saved, and how long that took.
pub(crate) fn in_words(dumped: &Dumped, read: &ReadOut) -> String {
    words(dumped.stats.as_ref().ok().map(|stats| stats.frozen), read, "it")
}

/// Tells in words how much memory was saved of several processes that stood still together, and how
/// long that took.
pub(crate) fn all_in_words<'a>(
    frozen: Duration,
    all: impl IntoIterator<Item = &'a ReadOut>,
) -> String {
    let mut sum = ReadOut::default();
    for read in all {
        sum.held = sum.held.saturating_add(read.held);
        sum.captured = sum.captured.saturating_add(read.captured);
        sum.time = sum.time.max(read.time);
    }
    words(Some(frozen), &sum, "they")
}

fn words(frozen: Option<Duration>, read: &ReadOut, who: &str) -> String {
    let bytes = |pages: u64| HumanBytes(pages.saturating_mul(procfs::page_size()));
    let mut words = format!("{} of memory", bytes(read.held.saturating_add(read.captured)));
    if read.inherited > 0 {
        let more = bytes(read.inherited);
        words = format!("{words} that has changed, {more} as in the checkpoint before");
    }
    if let Some(frozen) = frozen {
        words += &format!(", frozen for {frozen:.1?}");
    }
    if read.held > 0 {
        words += &format!(", {} read in {:.1?} while {who} ran", bytes(read.held), read.time);
    }
    if let Some(verified) = read.verified {
        words += &format!(", {} compared", bytes(verified));
    }
    words
}

/// The facts of an instant dump.
pub(crate) fn facts(tasks: &[TaskCapture], read: &ReadOut) -> Value {
    json!({
        "tasks": tasks.iter().map(task).collect::<Value>(),
        "held_pages": read.held,
        "captured_pages": read.captured,
        "inherited_pages": read.inherited,
        "verified_pages": read.verified,
        "read_out_us": micros(read.time),
        "teardown_us": micros(read.teardown),
        "unreaped": read.unreaped,
    })
}

fn task(task: &TaskCapture) -> Value {
    let pid = task.pid.as_raw();
    match &task.way {
        Way::Held { pages, fork } => json!({
            "pid": pid,
            "way": "held",
            "pages": pages,
            "bytes": pages.saturating_mul(procfs::page_size()),
            "fork_us": micros(*fork),
        }),
        Way::Captured(why) => json!({ "pid": pid, "way": "captured", "why": why.to_string() }),
        other => json!({ "pid": pid, "way": other.to_string() }),
    }
}

/// The time between two looks at the progress.
const TURN: Duration = Duration::from_millis(10);
