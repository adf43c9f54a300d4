//! Images that share what is long: many tasks, descriptors or threads lead to one table, name or
//! list. What is made of them is bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{ANON, PAGE, image, one_task, pagemap, vma};
use criu_images::kind::{self, Kind};
use criu_images::proto::{
    CgMemberEntry, CgSetEntry, CgroupEntry, CoreEntry, CredsEntry, FdTypes, FdinfoEntry, FileEntry,
    FsEntry, MmEntry, PstreeEntry, RegFileEntry, TaskCoreEntry, TaskKobjIdsEntry, ThreadCoreEntry,
    UnixSkEntry,
};
use criu_images::source::{Blob, InMemory, Source};
use criu_images::view::{Fds, Mems, Ps, Security, Sockets};
use criu_images::{Checkpoint, Diff, ErrorKind, ImageSet, Result, bounds, check};
use prost::Message;

/// A bound belongs to the whole process.
static BOUND: Mutex<()> = Mutex::new(());

fn insert(files: &mut InMemory, kind: &Kind, id: u32, messages: &[Vec<u8>]) {
    files.insert(kind.file_name(id.into()), image(kind, messages));
}

/// Tasks that share a table of descriptors, which all lead to one file of a long name.
fn many(tasks: u32, fds: u32, name: usize) -> ImageSet {
    ImageSet::new(many_files(tasks, fds, name)).unwrap()
}

fn many_files(tasks: u32, fds: u32, name: usize) -> InMemory {
    let mut files = one_task(vec![vma(0x1000, 1, ANON)]);
    let tree = (1..=tasks).map(|pid| PstreeEntry {
        pid,
        ppid: u32::from(pid > 1),
        threads: vec![pid],
        ..Default::default()
    });
    let tree: Vec<_> = tree.map(|task| task.encode_to_vec()).collect();
    insert(&mut files, kind::PSTREE, 0, &tree);
    for pid in 1..=tasks {
        let tc = TaskCoreEntry { task_state: 1, comm: b"one".to_vec(), ..Default::default() };
        let thread = ThreadCoreEntry {
            creds: Some(CredsEntry::default()),
            cg_set: Some(1),
            ..Default::default()
        };
        let core =
            CoreEntry { mtype: 1, tc: Some(tc), thread_core: Some(thread), ..Default::default() };
        insert(&mut files, kind::CORE, pid, &[core.encode_to_vec()]);
        let ids = TaskKobjIdsEntry { files_id: 1, ..Default::default() };
        insert(&mut files, kind::IDS, pid, &[ids.encode_to_vec()]);
        // Arguments in memory that was never written.
        let mm = MmEntry {
            mm_saved_auxv: vec![33, 0, 6, PAGE],
            vmas: vec![vma(0x1000, 2, ANON)],
            mm_arg_start: 0x1000,
            mm_arg_end: 0x1000 + 4096,
            exe_file_id: 7,
            ..Default::default()
        };
        insert(&mut files, kind::MM, pid, &[mm.encode_to_vec()]);
        let fs = FsEntry { cwd_id: 7, root_id: 7, ..Default::default() };
        insert(&mut files, kind::FS, pid, &[fs.encode_to_vec()]);
        files.insert(kind::PAGEMAP.file_name(pid.into()), pagemap(1, &[]));
    }
    files.insert("pages-1.img", Vec::new());
    let name = vec![b'n'; name];
    let regular = RegFileEntry { id: 7, name: name.clone(), ..Default::default() };
    let regular =
        FileEntry { r#type: FdTypes::Reg.into(), id: 7, reg: Some(regular), ..Default::default() };
    let unix = UnixSkEntry { id: 8, ino: 8, name, ..Default::default() };
    let unix =
        FileEntry { r#type: FdTypes::Unixsk.into(), id: 8, usk: Some(unix), ..Default::default() };
    insert(&mut files, kind::FILES, 0, &[regular.encode_to_vec(), unix.encode_to_vec()]);
    let table = (0..fds).map(|fd| {
        let (id, kind) = if fd % 2 == 0 { (7, FdTypes::Reg) } else { (8, FdTypes::Unixsk) };
        FdinfoEntry { id, fd, r#type: kind.into(), ..Default::default() }.encode_to_vec()
    });
    insert(&mut files, kind::FDINFO, 1, &table.collect::<Vec<_>>());
    let member =
        CgMemberEntry { name: b"cpu".to_vec(), path: b"/a".to_vec(), ..Default::default() };
    let set = CgSetEntry { id: 1, ctls: vec![member; 500] };
    let cgroup = CgroupEntry { sets: vec![set], controllers: Vec::new() };
    insert(&mut files, kind::CGROUP, 0, &[cgroup.encode_to_vec()]);
    files
}

/// Images that count how often the table of descriptors is opened.
#[derive(Debug)]
struct Counted {
    files: InMemory,
    opens: Arc<AtomicUsize>,
}

impl Source for Counted {
    fn names(&self) -> Result<Vec<String>> {
        self.files.names()
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        self.opens.fetch_add(usize::from(name == kind::FDINFO.file_name(1)), Ordering::Relaxed);
        self.files.open(name)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        self.files.size(name)
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        Ok(None)
    }
}

fn refused<T>(made: Result<T>, what: &str) {
    let error = made.err().unwrap_or_else(|| panic!("{what}: is made"));
    assert!(matches!(error.kind(), ErrorKind::TooMany { limit: 0x10_0000, .. }), "{what}: {error}");
}

#[test]
fn what_tasks_share_is_not_written_out_without_end() {
    let _alone = BOUND.lock();
    let set = many(60, 300, 100);
    let checkpoint: Checkpoint<'_> = set.checkpoint().unwrap();
    bounds::VIEW.raise(1 << 20);
    refused(Fds::new(checkpoint.tasks()), "fds");
    refused(Security::new(checkpoint.tasks()), "security");
    refused(Ps::with_arguments(checkpoint.tasks(), false), "arguments");
    refused(Sockets::new(checkpoint), "sockets");
    refused(Diff::new(checkpoint, checkpoint), "diff");
    bounds::VIEW.raise(bounds::VIEW.default_value());
    let fds = Fds::new(checkpoint.tasks()).unwrap();
    assert_eq!(fds.tasks.iter().map(|task| task.fds.len()).sum::<usize>(), 60 * 300);
    Security::new(checkpoint.tasks()).unwrap();
    Sockets::new(checkpoint).unwrap();
    assert!(Diff::new(checkpoint, checkpoint).unwrap().is_empty());
}

#[test]
fn a_long_name_is_not_written_out_for_each_descriptor() {
    let _alone = BOUND.lock();
    let set = many(1, 50, 100_000);
    let checkpoint = set.checkpoint().unwrap();
    bounds::VIEW.raise(1 << 20);
    refused(Fds::new(checkpoint.tasks()), "fds");
    bounds::VIEW.raise(bounds::VIEW.default_value());
    let shown = Fds::new(checkpoint.tasks()).unwrap().to_string();
    assert!(shown.len() < 60 * 100_100, "{}", shown.len());
    Mems::new(checkpoint.tasks()).unwrap();
}

#[test]
fn a_table_that_tasks_share_is_checked_once() {
    let set = many(20, 5, 10);
    let table = |task: &criu_images::Task<'_>| task.table_id().unwrap();
    let checkpoint = set.checkpoint().unwrap();
    assert!(checkpoint.tasks().all(|task| table(&task) == Some(1)));
    let opens = |tasks| {
        let opens = Arc::default();
        let files = Counted { files: many_files(tasks, 100_000, 10), opens: Arc::clone(&opens) };
        let findings = check(&ImageSet::new(files).unwrap());
        assert!(findings.iter().all(|one| !one.to_string().contains("fdinfo")), "{findings:?}");
        opens.load(Ordering::Relaxed)
    };
    // A small image would be read once in any case, and kept.
    assert_ne!(opens(1), 0);
    assert_eq!(opens(20), opens(1));
}

#[test]
fn arguments_in_memory_that_was_never_written_are_no_words() {
    let mut mm = MmEntry {
        mm_saved_auxv: vec![33, 0, 6, PAGE],
        vmas: vec![vma(0x1000, 4096, ANON)],
        mm_arg_start: 0x1000,
        mm_arg_end: 0x1000 + (16 << 20),
        ..Default::default()
    };
    let read = |mm: &MmEntry| {
        let mut files = one_task(Vec::new());
        insert(&mut files, kind::MM, 1, &[mm.encode_to_vec()]);
        files.insert("pagemap-1.img", pagemap(1, &[]));
        let set = ImageSet::new(files).unwrap();
        let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
        memory.cmdline()
    };
    let error = read(&mm).unwrap_err();
    let limit = bounds::ARGUMENTS.get() / 9;
    assert_eq!(error.to_string(), format!("mm-1.img: has more than {limit} words"));
    mm.mm_arg_end = mm.mm_arg_start + 4096;
    assert_eq!(read(&mm).unwrap().len(), 4096);
}
