//! Whether a set is whole: what `fsck` is for a file system.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::chain::Level;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::{self, Entries, Kind};
use crate::memory::{self, Backing, Memory, PageFlags, PageSize, PageSource, Pagemap, next_place};
use crate::namespaces::NamespaceKind;
use crate::set::ImageSet;
use crate::task::Task;

/// Something wrong with a set. It displays as one line: how bad, where, what.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and where.
    pub error: Error,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Not as CRIU writes it. A restore may do without.
    Warning,
    /// A restore fails, or loses something.
    Error,
}

/// Checks a set, and the parent sets it takes pages from: that every image can be read that the process
/// tree leads to, that ids lead somewhere, that pagemaps agree with their pages files and with the
/// mappings, and that parents have what is left to them. The worst come first.
///
/// Pages are not read, and restoring may still fail for reasons of the host.
///
/// ```
/// use criu_images::{ImageSet, check};
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// for finding in check(&set) {
///     println!("{finding}");
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
pub fn check(set: &ImageSet) -> Vec<Finding> {
    let mut findings = Findings::default();
    let mut page_size = None;
    match set.checkpoint() {
        Ok(checkpoint) => {
            for task in checkpoint.tasks() {
                check_task(set, &task, &mut findings);
                let known = page_size;
                page_size = known.or_else(|| match task.is_alive() {
                    true => memory::page_size(set, task.pid()).ok(),
                    false => None,
                });
            }
        }
        // What a pre-dump leaves: pages, and no tree yet.
        Err(error) if is_pre_dump(set, &error) => {}
        Err(error) => findings.error(error),
    }
    let mut level = Some(set.level());
    while let Some(now) = level {
        level = match now.parent() {
            Ok(parent) => parent,
            Err(error) => {
                findings.error(error);
                None
            }
        };
        check_level(now, level, page_size.unwrap_or(PageSize::K4), &mut findings);
    }
    let mut all = findings.all;
    all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    all
}

fn is_pre_dump(set: &ImageSet, error: &Error) -> bool {
    error.image() == kind::PSTREE.file
        && matches!(error.kind(), ErrorKind::Missing)
        && set.inventory().pre_dump_mode.is_some()
}

#[derive(Default)]
struct Findings {
    all: Vec<Finding>,
    /// Lines of those known: what tasks share is found more than once.
    known: HashSet<String>,
}

impl Findings {
    fn add(&mut self, severity: Severity, error: Error) {
        if self.all.len() < MAX_FINDINGS && self.known.insert(error.to_string()) {
            self.all.push(Finding { severity, error });
        }
    }

    fn error(&mut self, error: Error) {
        self.add(Severity::Error, error);
    }

    /// The value, unless it is a finding.
    fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.error(error)).ok()
    }
}

fn check_task(set: &ImageSet, task: &Task<'_>, findings: &mut Findings) {
    if !task.is_alive() {
        return;
    }
    let pstree = |kind| Error::new(kind::PSTREE.file, kind);
    if task.tids().first() != Some(&task.pid()) {
        let found = task.tids().first().copied().unwrap_or_default().into();
        findings.error(pstree(ErrorKind::Value { found, want: "the task itself as first thread" }));
    }
    let root = set.checkpoint().map(|checkpoint| checkpoint.root().architecture());
    for thread in findings.take(task.threads()).unwrap_or_default() {
        let (tid, found) = (thread.tid().into(), thread.core().mtype);
        let core = |kind| Error::new(kind::CORE.file_name(tid), kind);
        if root.as_ref().is_ok_and(|&root| root != found) {
            let found = u64::try_from(found).unwrap_or_default();
            findings.error(core(ErrorKind::Value { found, want: "the root task's architecture" }));
        }
        if thread.thread_core().is_none() {
            findings.error(core(ErrorKind::Malformed("has no thread_core, as only zombies do")));
        }
    }
    findings.take(task.files());
    for file in [task.cwd(), task.root_dir(), task.exe()] {
        findings.take(file);
    }
    check_namespaces(set, task, findings);
    if let Some(memory) = findings.take(task.memory()).flatten() {
        check_memory(task, &memory, findings);
    }
}

/// The images that namespaces of the tree's own come with.
fn check_namespaces(set: &ImageSet, task: &Task<'_>, findings: &mut Findings) {
    for namespace in findings.take(task.namespaces()).unwrap_or_default() {
        let kind = match namespace.kind {
            _ if namespace.host => continue,
            NamespaceKind::Net => kind::NETNS,
            NamespaceKind::Ipc => kind::IPC_VAR,
            NamespaceKind::Uts => kind::UTSNS,
            NamespaceKind::Mnt => kind::MNTS,
            NamespaceKind::User => kind::USERNS,
            NamespaceKind::Time => kind::TIMENS,
            NamespaceKind::Pid | NamespaceKind::Cgroup => continue,
        };
        let name = kind.file_name(namespace.id.into());
        match set.level().open(&name) {
            Ok(Some(_)) => {}
            Ok(None) => findings.error(Error::new(name, ErrorKind::Missing)),
            Err(error) => findings.error(error),
        }
    }
}

/// That every page belongs to a mapping, and every mapping of shared memory leads to its pages.
fn check_memory(task: &Task<'_>, memory: &Memory<'_>, findings: &mut Findings) {
    let pid = task.pid().into();
    let page = memory.page_size().bytes();
    for run in memory.runs() {
        let (mut at, end) = run.range(page);
        // A run may go on from one mapping into the next.
        while at < end {
            match memory.vma(at) {
                Some(vma) if vma.is_private() => at = vma.end(),
                _ => {
                    let kind = ErrorKind::Value { found: at, want: "a page of a private mapping" };
                    findings.add(Severity::Warning, Error::new(kind::PAGEMAP.file_name(pid), kind));
                    break;
                }
            }
        }
    }
    for vma in memory.vmas() {
        match vma.backing() {
            Backing::Shared(id) => {
                findings.take(memory.shared(id));
            }
            Backing::File if vma.path().is_none() => {
                let (what, id) = ("file", vma.entry().shmid);
                let error = Error::new(kind::MM.file_name(pid), ErrorKind::Dangling { what, id });
                findings.error(error);
            }
            _ => {}
        }
    }
}

/// Every file of one set of the chain.
fn check_level(level: &Level, parent: Option<&Level>, page: PageSize, findings: &mut Findings) {
    let Some(mut names) = findings.take(level.source().names()) else {
        return;
    };
    names.sort_unstable();
    // By the id of a pages file: the pagemap that it belongs to.
    let mut owners: BTreeMap<u64, String> = BTreeMap::new();
    for name in &names {
        match Kind::of_file(name) {
            Some((kind, _)) if kind.entries == Entries::Pagemap => {
                let Some(pages_id) = check_pagemap(level, parent, name, kind, page, findings)
                else {
                    continue;
                };
                if owners.insert(pages_id, name.clone()).is_some() {
                    let kind = ErrorKind::Malformed("shares its pages file with another");
                    findings.error(Error::new(level.place(name), kind));
                }
            }
            None if name.ends_with(".img") => {
                let kind = ErrorKind::Malformed("is no image of CRIU's");
                findings.add(Severity::Note, Error::new(level.place(name), kind));
            }
            _ => {}
        }
    }
    for name in &names {
        if let Some((kind, Some(id))) = Kind::of_file(name) {
            if kind == kind::PAGES && !owners.contains_key(&id) {
                let kind = ErrorKind::Malformed("belongs to no pagemap");
                findings.add(Severity::Warning, Error::new(level.place(name), kind));
            }
        }
    }
}

/// Walks a pagemap: against its pages file, and against the parent's. Returns the pages file's id.
fn check_pagemap(
    level: &Level,
    parent: Option<&Level>,
    name: &str,
    kind: &'static Kind,
    page: PageSize,
    findings: &mut Findings,
) -> Option<u64> {
    let place = level.place(name);
    let bytes = findings.take(level.need(name))?;
    let pagemap = findings.take(Pagemap::parse(&place, &bytes, kind, page))?;
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
    match level.open(&file) {
        Err(error) => findings.error(error),
        Ok(None) if stored > 0 => findings.error(Error::new(place, ErrorKind::Missing)),
        Ok(Some(blob)) if blob.len() < stored => {
            let kind = ErrorKind::Truncated { need: stored, left: blob.len() };
            findings.error(Error::new(place, kind));
        }
        Ok(Some(blob)) if blob.len() > stored => {
            let kind = ErrorKind::Value { found: blob.len(), want: "the bytes its pagemap lists" };
            findings.add(Severity::Warning, Error::new(place, kind));
        }
        Ok(_) => {}
    }
    Some(pages_id)
}

/// What a pagemap of a set lists, joined. Its own faults are found when that set's turn comes.
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

/// The first address of a range that joined, ascending ranges lack.
fn first_gap(ranges: &[(u64, u64)], start: u64, end: u64) -> Option<u64> {
    let after = ranges.partition_point(|range| range.0 <= start);
    let covered = after.checked_sub(1).and_then(|i| ranges.get(i)).map_or(start, |range| range.1);
    (covered < end).then(|| covered.max(start))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.error)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// So many are listed: nobody reads more, and images made to have more cost memory.
const MAX_FINDINGS: usize = 10_000;
