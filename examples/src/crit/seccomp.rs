//! `crit seccomp`: shows filters, and what they do.

use std::collections::BTreeMap;
use std::fmt;

use criu_images::bounds::VIEW;
use criu_images::{Checkpoint, Seccomp};
use serde::Serialize;

use crate::images::show;
use crate::tool::Fallible;

#[derive(Serialize)]
struct Filters {
    filters: Vec<Filter>,
    /// The threads. A filter is named by its place in the order of installation.
    threads: Vec<Thread>,
}

#[derive(Serialize)]
struct Filter {
    index: u32,
    flags: Vec<&'static str>,
    summary: String,
    code: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Thread {
    pid: u32,
    tid: u32,
    name: String,
    seccomp: &'static str,
    filters: Vec<u32>,
}

/// Prints the filters of all tasks, or of one.
pub(crate) fn seccomp(
    checkpoint: Checkpoint<'_>,
    pid: Option<u32>,
    code: bool,
    json: bool,
) -> Fallible<()> {
    if let Some(pid) = pid {
        checkpoint.task(pid).ok_or_else(|| format!("no task {pid}"))?;
    }
    let (mut filters, mut threads) = (BTreeMap::new(), Vec::new());
    let mut left = VIEW.get() / ENTRY;
    for task in checkpoint.tasks().filter(|task| pid.is_none_or(|pid| pid == task.pid())) {
        for thread in task.threads()? {
            let mut chain = Vec::new();
            let seccomp = thread.seccomp()?;
            if let Seccomp::Filters(installed) = &seccomp {
                left = left.checked_sub(installed.len() as u64).ok_or_else(|| {
                    let most = VIEW.get() / ENTRY;
                    format!("the threads have more than {most} filters in all")
                })?;
                for filter in installed {
                    chain.push(filter.index());
                    if filters.contains_key(&filter.index()) {
                        continue;
                    }
                    let program = filter.program()?;
                    let lines = || program.to_string().lines().map(str::to_owned).collect();
                    let filter = Filter {
                        index: filter.index(),
                        flags: filter.flags().collect(),
                        summary: filter.summary()?.to_string(),
                        code: code.then(lines),
                    };
                    filters.insert(filter.index, filter);
                }
            }
            threads.push(Thread {
                pid: task.pid(),
                tid: thread.tid(),
                name: thread.name().to_string(),
                seccomp: match seccomp {
                    Seccomp::Off => "off",
                    Seccomp::Strict => "strict",
                    _ => "filters",
                },
                filters: chain,
            });
        }
    }
    show(&Filters { filters: filters.into_values().collect(), threads }, json)?;
    Ok(())
}

impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        for Filter { index, flags, summary, code } in &self.filters {
            let flags =
                if flags.is_empty() { String::new() } else { format!(" ({})", flags.join(", ")) };
            lines.push(format!("filter {index}{flags}: {summary}"));
            lines.extend(code.iter().flatten().map(|line| format!("  {line}")));
        }
        for Thread { pid, tid, name, seccomp, filters } in &self.threads {
            let filters: Vec<_> = filters.iter().map(u32::to_string).collect();
            let filters = match filters.len() {
                0 => (*seccomp).to_owned(),
                1 => format!("filter {}", filters.join("")),
                _ => format!("filters {}", filters.join(", ")),
            };
            lines.push(format!("task {pid}, thread {tid} {name}: {filters}"));
        }
        f.write_str(&lines.join("\n"))
    }
}

/// Bytes that a filter of a thread counts as.
const ENTRY: u64 = 64;
