//! Verdicts on all checkpoints of a directory.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use criu_archive::metadata::Time;

use super::rules::{Rules, Scope};
use super::stored::{Entry, Stored, freed};

/// Verdicts on the files of a directory, by names of containers, with the newest first, and files
/// that are no checkpoints last.
#[derive(Clone, Debug)]
pub struct Plan {
    rows: Vec<Row>,
}

/// A file with its verdict.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Row {
    /// The file.
    pub entry: Entry,
    /// The verdict.
    pub verdict: Verdict,
}

/// The verdict on a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// No rule wants the file to go.
    Keep,
    /// A mark `.keep` is beside the file.
    Pinned,
    /// A rule wants the file to go, and the file was changed lately.
    Young,
    /// A rule wants the file to go, and a process has the file open.
    Open,
    /// The file is no checkpoint that can be read.
    Unread,
    /// The rules are for others.
    Other,
    /// A rule wants the file to go.
    Remove(Reason),
}

/// The rule that wants a checkpoint to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The pod of the checkpoint is not on this node.
    Orphan,
    /// The checkpoint is too old.
    Age,
    /// The checkpoint is too large.
    Size,
    /// There are enough newer ones.
    Count(Scope),
    /// Newer ones have as many bytes as are allowed.
    Total(Scope),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "kept",
            Self::Pinned => "kept by a .keep mark",
            Self::Young => "left: changed lately",
            Self::Open => "left: a process has it open",
            Self::Unread => "left: no checkpoint of a pod",
            Self::Other => "not asked for",
            Self::Remove(reason) => return reason.fmt(f),
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orphan => f.write_str("its pod is gone"),
            Self::Age => f.write_str("too old"),
            Self::Size => f.write_str("too large"),
            Self::Count(Scope::All) => f.write_str("too many"),
            Self::Count(scope) => write!(f, "too many of the {scope}"),
            Self::Total(Scope::All) => f.write_str("too many bytes"),
            Self::Total(scope) => write!(f, "too many bytes of the {scope}"),
        }
    }
}

impl Plan {
    /// Applies rules to the files of a directory. Nothing is deleted yet.
    pub fn new(entries: Vec<Entry>, rules: &Rules, now: SystemTime) -> Self {
        let now = Time::from(now);
        let verdict = |entry: &Entry| match &entry.stored {
            Err(_) => Verdict::Unread,
            Ok(stored) if !rules.are_for(stored) => Verdict::Other,
            Ok(_) if entry.is_pinned => Verdict::Pinned,
            Ok(stored) => single(entry, stored, rules, now).map_or(Verdict::Keep, Verdict::Remove),
        };
        let mut rows: Vec<Row> =
            entries.into_iter().map(|entry| Row { verdict: verdict(&entry), entry }).collect();
        rows.sort_by(|a, b| order(&a.entry).cmp(&order(&b.entry)));
        for (scope, most) in &rules.counts {
            for group in groups(&rows, *scope) {
                for at in group.into_iter().skip(*most) {
                    rows[at].verdict = Verdict::Remove(Reason::Count(*scope));
                }
            }
        }
        for (scope, most) in &rules.totals {
            for group in groups(&rows, *scope) {
                let sizes = group.iter().map(|at| rows[*at].entry.size);
                let mut total = sizes.fold(0, u64::saturating_add);
                for at in group.into_iter().rev() {
                    if total <= *most {
                        break;
                    }
                    total = total.saturating_sub(rows[at].entry.size);
                    rows[at].verdict = Verdict::Remove(Reason::Total(*scope));
                }
            }
        }
        for row in &mut rows {
            let age = now.as_nanos().saturating_sub(row.entry.changed.as_nanos());
            let is_young = u128::try_from(age).unwrap_or(0) < rules.young.as_nanos();
            if matches!(row.verdict, Verdict::Remove(_)) {
                if row.entry.is_open {
                    row.verdict = Verdict::Open;
                } else if is_young {
                    row.verdict = Verdict::Young;
                }
            }
        }
        Self { rows }
    }

    /// Returns the files with their verdicts.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns the files that are to go.
    pub fn removals(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| matches!(row.verdict, Verdict::Remove(_)))
    }

    /// Returns the bytes that are free without the files that are to go. A file that keeps another
    /// name keeps its bytes.
    pub fn bytes(&self) -> u64 {
        freed(self.removals().map(|row| &row.entry))
    }
}

/// Returns the rule by which a checkpoint goes whatever others there are.
fn single(entry: &Entry, stored: &Stored, rules: &Rules, now: Time) -> Option<Reason> {
    let is_orphan = |live: &std::collections::BTreeSet<String>| {
        !stored.pod_uid.is_empty() && !live.contains(&stored.pod_uid)
    };
    if rules.live.as_ref().is_some_and(is_orphan) {
        return Some(Reason::Orphan);
    }
    let age = u128::try_from(now.as_nanos().saturating_sub(stored.time.as_nanos())).unwrap_or(0);
    if rules.age.is_some_and(|most| age > most.as_nanos()) {
        return Some(Reason::Age);
    }
    rules.size.is_some_and(|most| entry.size > most).then_some(Reason::Size)
}

/// Groups of the rows that would stay, each with the newest first.
fn groups(rows: &[Row], scope: Scope) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<[&str; 3], Vec<(Time, usize)>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        if let (Verdict::Keep, Ok(stored)) = (row.verdict, &row.entry.stored) {
            groups.entry(scope.key(stored)).or_default().push((stored.time, at));
        }
    }
    let sorted = groups.into_values().map(|mut group| {
        // Of the same time the first name counts as the newest.
        group.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        group.into_iter().map(|(_, at)| at).collect()
    });
    sorted.collect()
}

/// The order of rows.
fn order(entry: &Entry) -> impl Ord + '_ {
    let stored = entry.stored.as_ref().ok();
    let time = stored.map(|stored| std::cmp::Reverse(stored.time));
    (stored.is_none(), stored.map(|stored| &stored.container), time, &entry.name)
}
