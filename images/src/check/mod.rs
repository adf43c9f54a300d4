//! Check of a whole set, like `fsck` for a file system.

mod findings;
mod graph;
mod namespaces;
mod pages;

use std::collections::HashSet;

use crate::error::{Error, ErrorKind};
use crate::kind;
use crate::memory::{self, Backing, Memory, PageSize, PageSource};
use crate::seccomp::Seccomp;
use crate::set::ImageSet;
use crate::task::Task;
use findings::Findings;
pub use findings::{Finding, Severity};

/// Checks a set and the parent sets that it takes pages from. Returns the findings, the worst
/// first.
///
/// The check reads every image to its end. It makes sure that ids lead somewhere, that pagemaps
/// agree with their pages files and with the mappings, and that parent sets have the pages that are
/// left to them.
///
/// Pages are not read, and a restore may still fail for reasons of the host.
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
#[must_use = "the findings are all that a check is for"]
pub fn check(set: &ImageSet) -> Vec<Finding> {
    let mut findings = Findings::default();
    let mut page_size = None;
    match set.checkpoint() {
        Ok(checkpoint) => {
            namespaces::check_namespaces(checkpoint, &mut findings);
            graph::check_files(checkpoint, &mut findings);
            let mut seen = Seen::default();
            for task in checkpoint.tasks() {
                check_task(set, &task, &mut seen, &mut findings);
                let known = page_size;
                page_size = known.or_else(|| {
                    if task.is_alive() {
                        memory::page_size(set.store(), task.pid()).ok()
                    } else {
                        None
                    }
                });
            }
        }
        // A pre-dump leaves pages and no process tree.
        Err(error) if is_pre_dump(set, &error) => {}
        Err(error) => findings.error(error),
    }
    graph::check_images(set, &mut findings);
    check_levels(set, page_size.unwrap_or(PageSize::K4), None, &mut findings);
    findings.worst_first()
}

/// Checks only that the pages which the pagemaps of the tasks list are there: the part of [`check`]
/// that a restore depends on, and that CRIU before 4.2 does not look at. That CRIU reads a file of
/// pages that is too short for ever, and leaves out memory if a pagemap is too short.
///
/// Of the memory, only the pagemaps are read. Pagemaps that an earlier dump has left in the
/// directory are passed over. Returns the findings, the worst first.
#[must_use = "the findings are all that a check is for"]
pub fn check_pages(set: &ImageSet) -> Vec<Finding> {
    let mut findings = Findings::default();
    let checkpoint = set.checkpoint().ok();
    let page_size = checkpoint.and_then(|checkpoint| {
        checkpoint.tasks().find_map(|task| memory::page_size(set.store(), task.pid()).ok())
    });
    let tasks = checkpoint.map(|checkpoint| {
        checkpoint.tasks().map(|task| kind::PAGEMAP.file_name(task.pid().into())).collect()
    });
    check_levels(set, page_size.unwrap_or(PageSize::K4), tasks.as_ref(), &mut findings);
    findings.worst_first()
}

/// Checks the pages of the set and of the parent sets.
fn check_levels(
    set: &ImageSet,
    page_size: PageSize,
    tasks: Option<&HashSet<String>>,
    findings: &mut Findings,
) {
    let mut level = Some(set.store().level());
    while let Some(now) = level {
        level = match now.parent() {
            Ok(parent) => parent,
            Err(error) => {
                findings.error(error);
                None
            }
        };
        pages::check_level(now, level, page_size, tasks, findings);
    }
}

fn is_pre_dump(set: &ImageSet, error: &Error) -> bool {
    error.image() == kind::PSTREE.file
        && matches!(error.kind(), ErrorKind::Missing)
        && set.inventory().pre_dump_mode.is_some()
}

/// Tables and filters that tasks and threads share, and that were looked at.
#[derive(Default)]
struct Seen {
    tables: HashSet<u32>,
    filters: HashSet<u32>,
}

fn check_task(set: &ImageSet, task: &Task<'_>, seen: &mut Seen, findings: &mut Findings) {
    if !task.is_alive() {
        return;
    }
    let pstree = |kind| Error::new(kind::PSTREE.file, kind);
    if task.tids().first() != Some(&task.pid()) {
        let found = task.tids().first().copied().unwrap_or_default().into();
        findings.error(pstree(ErrorKind::Value { found, want: "the task itself as first thread" }));
    }
    let root = set.checkpoint().map(|checkpoint| checkpoint.root().architecture());
    for thread in findings.take(task.threads_in_brief()).unwrap_or_default() {
        let (tid, found) = (thread.tid().into(), thread.core().mtype);
        let core = |kind| Error::new(kind::CORE.file_name(tid), kind);
        if root.as_ref().is_ok_and(|&root| root != found) {
            let found = u64::try_from(found).unwrap_or_default();
            findings.error(core(ErrorKind::Value { found, want: "the root task's architecture" }));
        }
        findings.take(thread.cgroups());
        match thread.seccomp() {
            Ok(Seccomp::Filters(filters)) => {
                for filter in filters.iter().filter(|filter| seen.filters.insert(filter.index())) {
                    findings.take(filter.program());
                }
            }
            Ok(_) => {}
            Err(error) => findings.error(error),
        }
        if thread.thread_core().is_none() {
            findings.error(core(ErrorKind::Malformed("lacks thread_core, but is not a zombie")));
        }
    }
    let table = findings.take(task.table_id()).flatten();
    if table.is_some_and(|table| seen.tables.insert(table)) {
        findings.take(task.files());
    }
    for file in [task.cwd(), task.root_dir(), task.exe()] {
        findings.take(file);
    }
    if let Some(memory) = findings.take(task.memory()).flatten() {
        check_memory(task, &memory, findings);
    }
}

/// Checks that every page belongs to a mapping, and that every mapping leads to its pages or file.
fn check_memory(task: &Task<'_>, memory: &Memory<'_>, findings: &mut Findings) {
    let pid = task.pid().into();
    let page = memory.page_size().bytes();
    for run in memory.runs() {
        let (mut at, end) = run.range(page);
        // A run may continue from one mapping into the next.
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
