//! Checks of pagemaps against their pages files and those of the parent set.

use std::collections::{BTreeMap, HashSet};

use super::findings::{Findings, Severity};
use crate::chain::Level;
use crate::error::{Error, ErrorKind};
use crate::kind::{self, Entries, Kind};
use crate::memory::{PageFlags, PageSize, Pagemap, next_place};

/// Checks every file of one set of the chain. With `tasks`, the names of the pagemaps of the tasks,
/// pagemaps that an earlier dump has left in the directory are passed over.
pub(super) fn check_level(
    level: &Level,
    parent: Option<&Level>,
    page: PageSize,
    tasks: Option<&HashSet<String>>,
    findings: &mut Findings,
) {
    let Some(mut names) = findings.take(level.source().names()) else {
        return;
    };
    names.sort_unstable();
    // The pagemap that each pages file belongs to, by the id of the pages file.
    let mut owners: BTreeMap<u64, String> = BTreeMap::new();
    for name in &names {
        match Kind::of_file(name) {
            Some((kind, _)) if kind.entries == Entries::Pagemap => {
                // CRIU counts pages files from 1 in each dump: those of leftovers are others'.
                let is_left = kind == kind::PAGEMAP && tasks.is_some_and(|all| !all.contains(name));
                if is_left {
                    continue;
                }
                let taken = tasks.map(|_| &owners);
                let checked = check_pagemap((level, parent), name, kind, page, taken, findings);
                let Some(pages_id) = checked else { continue };
                if owners.insert(pages_id, name.clone()).is_some() {
                    let kind = ErrorKind::Malformed("shares its pages file with another pagemap");
                    findings.error(Error::new(level.place(name), kind));
                }
            }
            None if name.ends_with(".img") => {
                let kind = ErrorKind::Malformed("is not an image of CRIU");
                findings.add(Severity::Note, Error::new(level.place(name), kind));
            }
            _ => {}
        }
    }
    for name in &names {
        if let Some((kind, Some(id))) = Kind::of_file(name) {
            if kind == kind::PAGES && !owners.contains_key(&id) {
                let kind = ErrorKind::Malformed("does not belong to a pagemap");
                findings.add(Severity::Warning, Error::new(level.place(name), kind));
            }
        }
    }
}

/// Checks a pagemap against its pages file and the parent's pagemap. Returns the id of the pages
/// file. `None` also for a pagemap whose pages file is `taken` by another.
fn check_pagemap(
    (level, parent): (&Level, Option<&Level>),
    name: &str,
    kind: &'static Kind,
    page: PageSize,
    taken: Option<&BTreeMap<u64, String>>,
    findings: &mut Findings,
) -> Option<u64> {
    let place = level.place(name);
    let bytes = findings.take(level.need(name))?;
    let pagemap = findings.take(Pagemap::parse(&place, &bytes, kind, page))?;
    if taken.is_some_and(|taken| taken.contains_key(&pagemap.pages_id().into())) {
        return None;
    }
    let inherited = parent.and_then(|parent| ranges(parent, name, kind, page)).unwrap_or_default();
    let mut free = Some(0);
    let mut walk = pagemap.runs();
    while let Some(next) = walk.with_blocks() {
        let Some((run, blocks)) = findings.take(next) else { break };
        let (start, end) = run.range(page.bytes());
        if run.flags.contains(PageFlags::PRESENT) {
            next_place(&run, blocks.as_ref(), page, &mut free);
        }
        if run.flags.contains(PageFlags::PARENT) {
            if let Some(address) = first_gap(&inherited, start, end) {
                findings.error(Error::new(&place, ErrorKind::BrokenParent { address }));
            }
        }
    }
    let stored = free.unwrap_or(u64::MAX);
    let pages_id = pagemap.pages_id().into();
    let file = kind::PAGES.file_name(pages_id);
    let place = level.place(&file);
    match level.size(&file) {
        Err(error) => findings.error(error),
        Ok(None) if stored > 0 => findings.error(Error::new(place, ErrorKind::Missing)),
        Ok(Some(left)) if left < stored => {
            let kind = ErrorKind::Truncated { need: stored, left };
            findings.error(Error::new(place, kind));
        }
        Ok(Some(found)) if found > stored => {
            let kind = ErrorKind::Value { found, want: "the bytes its pagemap lists" };
            findings.add(Severity::Warning, Error::new(place, kind));
        }
        Ok(_) => {}
    }
    Some(pages_id)
}

/// Returns the ranges that a pagemap lists, joined. Its faults are found when its own set is
/// checked.
fn ranges(
    level: &Level,
    name: &str,
    kind: &'static Kind,
    page: PageSize,
) -> Option<Vec<(u64, u64)>> {
    let bytes = level.read(name).ok()??;
    let pagemap = Pagemap::parse(name, &bytes, kind, page).ok()?;
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for run in pagemap.runs().map_while(Result::ok) {
        let (start, end) = run.range(page.bytes());
        match ranges.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => ranges.push((start, end)),
        }
    }
    Some(ranges)
}

/// Returns the first address of a range that is not in `ranges`, which are joined and ascending.
fn first_gap(ranges: &[(u64, u64)], start: u64, end: u64) -> Option<u64> {
    let after = ranges.partition_point(|range| range.0 <= start);
    let covered = after.checked_sub(1).and_then(|i| ranges.get(i)).map_or(start, |range| range.1);
    (covered < end).then(|| covered.max(start))
}
