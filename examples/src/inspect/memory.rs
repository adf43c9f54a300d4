//! Memory of a checkpoint: as hex, searched, and searched for secrets.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, BufWriter, Write};
use std::ops::Range;

use criu_archive::inspection::Place;
use criu_images::memory::{Memory, PageFlags, PageSource};
use criu_images::search::{Secret, Secrets};
use criu_images::{ImageSet, Task, Text};
use serde::Serialize;

use super::options::{Format, Inspect, Search};
use crate::crit::search::{Query, write_memory};
use crate::exit::Exit;
use crate::shown::{Shown, write_json};
use crate::ticking::Ticking;
use crate::tool::Fallible;

impl Inspect {
    /// Shows what the options of a search ask for.
    pub(super) fn look(
        &self,
        name: &str,
        place: &Place,
        format: Option<Format>,
        out: &mut impl Write,
    ) -> Fallible<Exit> {
        let (set, json) = (place.set(), format == Some(Format::Json));
        let Search { search, search_regex, context, hexdump, range, raw, reveal, .. } =
            &self.search;
        if let Some(pid) = hexdump {
            dump(set, *pid, range.clone(), *raw, out)?;
            return Ok(Exit::Done);
        }
        let line = Ticking::new("searching");
        let out = &mut line.beside(out);
        if let Some(pattern) = search.as_ref().or(search_regex.as_ref()) {
            let mut query = Query::of(pattern.clone(), search_regex.is_some());
            query.pid = self.pids(place)?;
            query.context = context.unwrap_or_default();
            query.json = json;
            return Ok(if query.run(name, set, out)? { Exit::Done } else { Exit::Failed });
        }
        let checkpoint = set.checkpoint()?;
        let tasks: Vec<Task<'_>> = match &self.pids(place)?[..] {
            [] => checkpoint.tasks().collect(),
            pids => {
                let find =
                    |pid: &u32| checkpoint.task(*pid).ok_or_else(|| format!("no task {pid}"));
                pids.iter().map(find).collect::<Result<_, _>>()?
            }
        };
        secrets(name, tasks, *reveal, json, out)?;
        Ok(Exit::Done)
    }
}

/// Writes the memory of a task as hex, or as it is: a range, or all pages that the task has of its
/// own and the checkpoint holds.
pub(super) fn dump(
    set: &ImageSet,
    pid: u32,
    range: Option<Range<u64>>,
    raw: bool,
    out: &mut impl Write,
) -> Fallible<()> {
    let task = set.checkpoint()?.task(pid).ok_or_else(|| format!("no task {pid}"))?;
    let memory = task.memory()?.ok_or_else(|| format!("{task} has no memory"))?;
    match range {
        Some(range) => write_memory(&memory, range, raw, out)?,
        None => {
            for range in own(&memory) {
                write_memory(&memory, range, raw, out)?;
            }
        }
    }
    Ok(out.flush()?)
}

/// Addresses of the pages that a task has of its own. Runs that touch each other are one.
fn own(memory: &Memory<'_>) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = Vec::new();
    let page = memory.page_size().bytes();
    let is_there = PageFlags::PRESENT | PageFlags::PARENT;
    for run in memory.runs().filter(|run| run.flags.intersects(is_there)) {
        let end = run.start.saturating_add(run.pages.saturating_mul(page));
        match all.last_mut() {
            Some(last) if last.end == run.start => last.end = end,
            _ => all.push(run.start..end),
        }
    }
    all
}

/// A secret that was found, with every place of the same value.
#[derive(Serialize)]
struct Found {
    pid: u32,
    task: String,
    kind: &'static str,
    name: String,
    value: String,
    /// Address of the first place.
    address: u64,
    /// Mapping of the first place.
    mapping: String,
    /// Number of places of the value in the memory of the task.
    places: u64,
}

/// Different values of a task, the first `most` of them.
struct Values<K> {
    most: usize,
    found: Vec<Found>,
    /// Places in `found`.
    known: HashMap<K, usize>,
    /// More than `most` different values were added.
    is_cut: bool,
}

impl<K: Eq + Hash> Values<K> {
    fn new(most: usize) -> Self {
        Self { most, found: Vec::new(), known: HashMap::new(), is_cut: false }
    }

    /// Counts a place of a value.
    fn add(&mut self, value: K, found: impl FnOnce() -> Found) {
        let at = match self.known.get(&value) {
            Some(at) => *at,
            None if self.found.len() < self.most => {
                self.known.insert(value, self.found.len());
                self.found.push(found());
                self.found.len() - 1
            }
            None => {
                self.is_cut = true;
                return;
            }
        };
        if let Some(found) = self.found.get_mut(at) {
            found.places += 1;
        }
    }
}

/// Searches the memory of tasks for secrets, and prints each value once. Values are cut short
/// unless `reveal` is true.
pub(super) fn secrets(
    name: &str,
    tasks: Vec<Task<'_>>,
    reveal: bool,
    json: bool,
    to: impl Write,
) -> Fallible<()> {
    let secrets = Secrets::new();
    let mut out = BufWriter::new(to);
    let (mut count, mut kept_back, mut cut) = (0usize, 0u64, Vec::new());
    for task in tasks {
        let Some(memory) = task.memory()? else { continue };
        kept_back = kept_back.saturating_add(memory.totals().lazy);
        let mut all = Values::new(MOST);
        for secret in secrets.run(&memory) {
            let secret = secret?;
            let Secret { kind, address, ref name, ref value, .. } = secret;
            let mapping = || memory.vma(address).and_then(|vma| vma.name()).unwrap_or_default();
            all.add((kind, name.clone(), value.clone()), || Found {
                pid: task.pid(),
                task: task.name().to_string(),
                kind,
                name: Text(name).to_string(),
                value: if reveal { Text(value).to_string() } else { secret.shortened() },
                address,
                mapping: mapping(),
                places: 0,
            });
        }
        let Values { found, is_cut, .. } = all;
        if is_cut {
            cut.push(task.pid());
        }
        count += found.len();
        for found in &found {
            print(found, json, &mut out)?;
        }
    }
    out.flush()?;
    if !json {
        let least = if cut.is_empty() { "" } else { "at least " };
        match count {
            0 => eprintln!(
                "{name}: no value looks like a secret; secrets in other forms are not found"
            ),
            _ => {
                let values = if count == 1 { "value looks" } else { "values look" };
                eprintln!(
                    "{name}: {least}{count} {values} like secrets; examples in programs are among \
                     them,"
                );
                eprintln!("{name}: and secrets in other forms are not found");
            }
        }
    }
    for pid in cut {
        eprintln!("{name}: task {pid} has more: only the first {MOST} different values are shown");
    }
    if kept_back > 0 {
        eprintln!("{name}: not searched, because the dump kept them back: {kept_back} pages");
    }
    Ok(())
}

fn print(found: &Found, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        write_json(&mut *out, found)?;
        return out.write_all(b"\n");
    }
    let Found { pid, task, kind, name, value, address, mapping, places } = found;
    let assign = if name.is_empty() { "" } else { "=" };
    let space = if mapping.is_empty() { "" } else { " " };
    let times = if *places > 1 { format!(", {places} places") } else { String::new() };
    let line = format!("{pid} {task} {address:x}{space}{mapping}: {kind}: {name}{assign}{value}");
    writeln!(out, "{}", Shown(format!("{line}{times}")))
}

/// Most different values that are shown of a task.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_bound_are_told() {
        let mut all = Values::new(2);
        let found = || Found {
            pid: 1,
            task: "sh".to_owned(),
            kind: "assigned secret",
            name: "TOKEN".to_owned(),
            value: "a".to_owned(),
            address: 0x1000,
            mapping: String::new(),
            places: 0,
        };
        for value in ["a", "b", "a"] {
            all.add(value, found);
        }
        assert!(!all.is_cut);
        for value in ["c", "b", "a"] {
            all.add(value, found);
        }
        assert!(all.is_cut);
        assert_eq!(all.found.iter().map(|found| found.places).collect::<Vec<_>>(), [3, 2]);
    }
}
