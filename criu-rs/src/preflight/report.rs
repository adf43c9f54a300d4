//! The report of a look, and how it reads.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::finding::{Finding, Severity};
use super::need::Need;
use crate::diagnosis::Cause;

/// An estimate of how long the tasks will stand still. It gives the order of magnitude on a machine
/// that is not busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Freeze {
    /// The time on a fast machine with the images in memory.
    pub shortest: Duration,
    /// The time on a slow machine, or with a disk that has to keep up.
    pub longest: Duration,
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", about(self.shortest), about(self.longest))
    }
}

fn about(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1000 => format!("{} ms", millis.max(1)),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// The result of a look at a live tree or at images. [`Dump::preflight`](crate::Dump::preflight)
/// and [`Restore::preflight`](crate::Restore::preflight) return it.
///
/// `Display` is a report for people that names options by the library's methods. It groups findings
/// of a kind. With the feature `serde` a report serializes with the numbers, findings and options
/// that its methods return.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) operation: &'static str,
    pub(super) findings: Vec<Finding>,
    pub(super) left_out: usize,
    pub(super) tasks: usize,
    pub(super) threads: usize,
    pub(super) descriptors: usize,
    pub(super) unreadable: usize,
    pub(super) memory: u64,
    pub(super) files: u64,
    pub(super) freeze: Option<Freeze>,
}

impl Report {
    /// Returns true if the operation will work with the options that are set.
    pub fn will_work(&self) -> bool {
        self.is_possible() && self.needs().next().is_none()
    }

    /// Returns true if the operation will work once the options of [`needs`](Self::needs) are set.
    pub fn is_possible(&self) -> bool {
        self.blocks().next().is_none()
    }

    /// All findings, the heaviest first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The findings that make the operation fail, whatever the options are.
    pub fn blocks(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Blocks)
    }

    /// The findings that need an option that is not set.
    pub fn needs(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Needs)
    }

    /// Returns true if a finding makes the operation fail with this cause.
    pub fn foresees(&self, cause: Cause) -> bool {
        self.blocks().chain(self.needs()).any(|finding| finding.cause == Some(cause))
    }

    /// The options that are needed, each once. If several would do, it is the likeliest; of several
    /// limits, it is the greatest.
    pub fn options(&self) -> Vec<Need> {
        chosen(self.needs())
    }

    /// The needed options that can be set without asking anybody.
    pub fn safe_options(&self) -> Vec<Need> {
        chosen(self.needs().filter(|finding| !finding.is_choice))
    }

    /// The number of findings that were counted but not kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The number of processes in the tree.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// The number of threads of all processes.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The number of open descriptors of all processes. Those of [unreadable](Self::unreadable)
    /// processes are not counted.
    pub fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// The number of processes whose open files and memory this process may not read, so that they
    /// are not measured.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Bytes of memory that a dump will save, or that the images hold.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes of file systems in memory (tmpfs) that a dump will save with the tree's own mount
    /// namespace.
    pub fn file_systems(&self) -> u64 {
        self.files
    }

    /// An estimate of how long the tasks will stand still. `None` for a restore.
    pub fn freeze_estimate(&self) -> Option<Freeze> {
        self.freeze
    }

    /// The findings grouped by kind, the heaviest kind first.
    pub fn kinds(&self) -> Vec<Vec<&Finding>> {
        let mut kinds: Vec<Vec<&Finding>> = Vec::new();
        let mut places: BTreeMap<(Severity, &str), usize> = BTreeMap::new();
        for finding in &self.findings {
            let place = places.entry((finding.severity, &*finding.what)).or_insert(kinds.len());
            match kinds.get_mut(*place) {
                Some(kind) => kind.push(finding),
                None => kinds.push(vec![finding]),
            }
        }
        kinds
    }

    /// The verdict, in one line.
    pub fn verdict(&self) -> String {
        let operation = self.operation;
        match (self.is_possible(), self.options().len()) {
            (true, 0) => format!("the {operation} will work"),
            (true, 1) => format!("the {operation} will work with one more option"),
            (true, more) => format!("the {operation} will work with {more} more options"),
            (false, _) => format!("the {operation} will fail"),
        }
    }

    /// Writes the size of the tree, as far as it was measured.
    fn measured(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tasks == 0 {
            return Ok(());
        }
        let tasks = count(self.tasks, "process", "processes");
        write!(f, "\n{tasks}, {}", count(self.threads, "thread", "threads"))?;
        if self.unreadable == self.tasks {
            return f.write_str("; open files and memory may not be read, and are not measured");
        }
        let files = count(self.descriptors, "open file", "open files");
        write!(f, ", {files}, {:.1} MiB of memory", mebibytes(self.memory))?;
        if self.files > 0 {
            write!(f, ", {:.1} MiB of file systems in memory", mebibytes(self.files))?;
        }
        if self.unreadable > 0 {
            let unread = count(self.unreadable, "process", "processes");
            return write!(f, "; {unread} may not be read and are not measured");
        }
        let Some(freeze) = self.freeze else { return Ok(()) };
        let who = if self.tasks == 1 { "it" } else { "they" };
        write!(f, "; {who} will stand still for about {freeze}")
    }

    /// The report in other words than the library's, for example those of a command line.
    pub fn in_words<'a>(&'a self, words: &'a dyn Words) -> impl fmt::Display + 'a {
        ReportInWords { report: self, words }
    }
}

/// The words in which a [`Report`] names options and gives advice.
pub trait Words {
    /// Names an option.
    fn option(&self, need: &Need) -> String;

    /// Advises what to do about a cause.
    fn hint(&self, cause: Cause) -> &'static str;

    /// Emphasizes the headline of a kind of findings. By default the text stays as it is.
    fn head(&self, _severity: Severity, text: &str) -> String {
        text.to_owned()
    }
}

/// The library's words: options are named by their methods.
struct LibraryWords;

impl Words for LibraryWords {
    fn option(&self, need: &Need) -> String {
        need.to_string()
    }

    fn hint(&self, cause: Cause) -> &'static str {
        cause.hint()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.in_words(&LibraryWords).fmt(f)
    }
}

struct ReportInWords<'a> {
    report: &'a Report,
    words: &'a dyn Words,
}

impl fmt::Display for ReportInWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (report, words) = (self.report, self.words);
        f.write_str(&report.verdict())?;
        report.measured(f)?;
        for kind in report.kinds() {
            let Some(first) = kind.first() else { continue };
            let head = format!("{}: {}", first.severity, first.what);
            write!(f, "\n\n{}", words.head(first.severity, &head))?;
            for finding in kind.iter().take(SHOWN) {
                let about = finding.subject.to_string();
                match (finding.subject.is_empty(), finding.detail.is_empty()) {
                    (true, true) => {}
                    (false, true) => write!(f, "\n    {about}")?,
                    (true, false) => write!(f, "\n    {}", finding.detail)?,
                    (false, false) => write!(f, "\n    {about}: {}", finding.detail)?,
                }
                if let Some(need) = finding.keeps() {
                    write!(f, "; a restore keeps it with {}", words.option(need))?;
                }
            }
            if kind.len() > SHOWN {
                write!(f, "\n    and {} more", kind.len() - SHOWN)?;
            }
            match (first.hint, first.cause) {
                (Some(hint), _) => write!(f, "\n    do: {hint}")?,
                (None, Some(cause)) if first.severity <= Severity::Needs => {
                    write!(f, "\n    do: {}", words.hint(cause))?;
                }
                _ => {}
            }
        }
        if report.left_out > 0 {
            write!(f, "\n\nand {}", count(report.left_out, "more finding", "more findings"))?;
        }
        let options = report.options();
        if report.is_possible() && !options.is_empty() {
            let options: Vec<String> = options.iter().map(|need| words.option(need)).collect();
            write!(f, "\n\nadd: {}", options.join(" "))?;
        }
        Ok(())
    }
}

/// The first option of each finding, without duplicates.
fn chosen<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<Need> {
    let mut options: Vec<Need> = Vec::new();
    for need in findings.filter_map(|finding| finding.needs.first()) {
        if let Need::GhostLimit(bytes) = need {
            let limit = options.iter_mut().find_map(|option| match option {
                Need::GhostLimit(limit) => Some(limit),
                _ => None,
            });
            if let Some(limit) = limit {
                *limit = (*limit).max(*bytes);
                continue;
            }
        }
        if !options.contains(need) {
            options.push(need.clone());
        }
    }
    options
}

fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// Converts to MiB for display. The loss of precision does not matter there.
#[allow(clippy::cast_precision_loss)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Most findings of a kind that are shown one by one.
const SHOWN: usize = 5;
