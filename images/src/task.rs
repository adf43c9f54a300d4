//! A task, and its threads.

use std::fmt;

use crate::arch::Architecture;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::files::{Fd, OpenFile};
use crate::kind::{self, Kind};
use crate::memory::{self, Memory, Vma};
use crate::namespaces::Namespace;
use crate::old;
use crate::proto::{
    CoreEntry, CredsEntry, FdinfoEntry, FsEntry, MmEntry, TaskCoreEntry, TaskKobjIdsEntry,
    ThreadCoreEntry,
};
use crate::set::ImageSet;
use crate::store::Store;
use crate::text::Text;
use crate::tree::{self, Node, Tree};

/// A task of a [`Checkpoint`](crate::Checkpoint): a process with all its threads. A view, cheap to
/// copy. Displays as one line of a process list.
///
/// ```
/// use criu_images::{ImageSet, State};
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// let shell = set.checkpoint()?.root();
/// assert_eq!(shell.state(), State::Alive);
/// for child in shell.children() {
///     assert_eq!(child.ppid(), shell.pid());
///     println!("{child} runs {}", child.exe()?.expect("it is alive"));
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Task<'a> {
    set: &'a ImageSet,
    tree: &'a Tree,
    node: &'a Node,
}

/// The state of a task at the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Running or sleeping.
    Alive,
    /// Ended, but no parent has waited for it yet: a zombie.
    Dead,
    /// Stopped by a signal.
    Stopped,
    /// A number that this version does not know.
    Unknown(u32),
}

/// A thread of a [`Task`].
#[derive(Clone, Debug)]
pub struct Thread<'a> {
    task: Task<'a>,
    tid: u32,
    core: CoreEntry,
}

impl<'a> Task<'a> {
    pub(crate) fn new(set: &'a ImageSet, tree: &'a Tree, node: &'a Node) -> Self {
        Self { set, tree, node }
    }

    /// Process id, in the task's own pid namespace.
    pub fn pid(&self) -> u32 {
        self.node.entry.pid
    }

    /// Process id of the parent; 0 for the root.
    pub fn ppid(&self) -> u32 {
        self.node.entry.ppid
    }

    /// Id of the process group.
    pub fn pgid(&self) -> u32 {
        self.node.entry.pgid
    }

    /// Id of the session.
    pub fn sid(&self) -> u32 {
        self.node.entry.sid
    }

    /// Distance from the root, which has depth 0.
    pub fn depth(&self) -> usize {
        self.node.depth
    }

    /// The parent; `None` for the root.
    pub fn parent(&self) -> Option<Task<'a>> {
        let node = self.tree.parent(self.node)?;
        Some(Self { node, ..*self })
    }

    /// The children.
    pub fn children(&self) -> impl Iterator<Item = Task<'a>> {
        let Self { set, tree, node } = *self;
        let children = tree.children(node);
        children.map(move |node| Self { set, tree, node })
    }

    /// The name, at most 15 bytes (`comm`).
    pub fn name(&self) -> Text<'a> {
        Text(&self.node.task.comm)
    }

    /// The state at the dump.
    pub fn state(&self) -> State {
        match self.node.task.task_state {
            1 => State::Alive,
            // 6 is a zombie among CRIU's own states.
            2 | 6 => State::Dead,
            3 => State::Stopped,
            other => State::Unknown(other),
        }
    }

    /// Returns `true` if the task has memory, files and threads, so is not a zombie.
    pub fn is_alive(&self) -> bool {
        self.state() != State::Dead
    }

    /// Data of the task as a whole: `task_core_entry`.
    pub fn core(&self) -> &'a TaskCoreEntry {
        &self.node.task
    }

    /// Number of the architecture.
    pub(crate) fn architecture(&self) -> i32 {
        self.node.core.mtype
    }

    /// Data of the first thread, without registers.
    pub(crate) fn leader(&self) -> &'a CoreEntry {
        &self.node.core
    }

    pub(crate) fn set(&self) -> &'a ImageSet {
        self.set
    }

    fn store(&self) -> &'a Store {
        self.set.store()
    }

    /// Credentials of the first thread; `None` for a zombie.
    pub fn creds(&self) -> Option<&'a CredsEntry> {
        self.node.core.thread_core.as_ref()?.creds.as_ref()
    }

    /// Ids of the threads, the first equal to the pid; empty for a zombie.
    pub fn tids(&self) -> &'a [u32] {
        if self.is_alive() { &self.node.entry.threads } else { &[] }
    }

    /// The threads, the first with the id of the task; empty for a zombie.
    ///
    /// # Errors
    /// The errors of the threads' core images.
    pub fn threads(&self) -> Result<Vec<Thread<'a>>> {
        self.threads_by(|| Ok(tree::leader(self.store(), self.pid(), |_| true)?.1))
    }

    /// The threads, the first without registers. These are most of its image.
    pub(crate) fn threads_in_brief(&self) -> Result<Vec<Thread<'a>>> {
        self.threads_by(|| Ok(self.leader().clone()))
    }

    fn threads_by(&self, leader: impl Fn() -> Result<CoreEntry>) -> Result<Vec<Thread<'a>>> {
        let threads = self.tids().iter().map(|&tid| {
            let core = if tid == self.pid() {
                leader()?
            } else {
                let mut core = self.store().single(kind::CORE, tid.into())?;
                old::complete_thread(self.store(), tid, &mut core)?;
                core
            };
            Ok(Thread { task: *self, tid, core })
        });
        threads.collect()
    }

    /// Ids of the kernel objects that tasks may share; `None` for a zombie.
    ///
    /// # Errors
    /// The errors of the ids image.
    pub fn ids(&self) -> Result<Option<TaskKobjIdsEntry>> {
        self.if_alive(|| {
            let id = self.pid().into();
            match (self.store().optional(kind::IDS, id)?, &self.node.core.ids) {
                (Some(ids), _) => Ok(ids),
                (None, Some(ids)) => Ok(*ids),
                (None, None) => Err(Error::new(kind::IDS.file_name(id), ErrorKind::Missing)),
            }
        })
    }

    /// The namespaces; empty for a zombie.
    ///
    /// # Errors
    /// The errors of the ids image.
    pub fn namespaces(&self) -> Result<Vec<Namespace>> {
        let ids = self.ids()?.unwrap_or_default();
        let host = self.set.inventory().root_ids.as_ref();
        Ok(Namespace::all(&ids, host))
    }

    /// The descriptors, in the order in which the kernel listed them; empty for a zombie.
    ///
    /// # Errors
    /// The errors of the ids image, the descriptor table and `files.img`; [`ErrorKind::Dangling`]
    /// if a descriptor leads to no file.
    pub fn files(&self) -> Result<Vec<Fd<'a>>> {
        let Some(ids) = self.ids()? else {
            return Ok(Vec::new());
        };
        let table = self.set.files()?;
        let mut fds = Vec::new();
        let id = self.table_of(&ids).into();
        self.store().for_each(kind::FDINFO, id, |entry: FdinfoEntry| {
            fds.push(table.fd(&entry)?);
            Ok(())
        })?;
        Ok(fds)
    }

    /// The open files that were saved with an SELinux label, each with the label. CRIU saves labels
    /// of sockets alone, and gives them back to sockets with an address.
    ///
    /// # Errors
    /// The errors of [`files`](Self::files).
    pub fn file_labels(&self) -> Result<Vec<(OpenFile<'a>, Vec<u8>)>> {
        let Some(ids) = self.ids()? else {
            return Ok(Vec::new());
        };
        let table = self.set.files()?;
        let mut labels = Vec::new();
        let id = self.table_of(&ids).into();
        self.store().for_each(kind::FDINFO, id, |mut entry: FdinfoEntry| {
            if let Some(label) = entry.xattr_security_selinux.take() {
                labels.push((table.fd(&entry)?.file, label));
            }
            Ok(())
        })?;
        Ok(labels)
    }

    /// Id of the table of descriptors; `None` for a zombie. Many tasks may share a table, which
    /// is worth one look only.
    ///
    /// # Errors
    /// The errors of the ids image.
    pub fn table_id(&self) -> Result<Option<u32>> {
        Ok(self.ids()?.map(|ids| self.table_of(&ids)))
    }

    fn table_of(&self, ids: &TaskKobjIdsEntry) -> u32 {
        // Older sets have one table for each task.
        if self.set.inventory().fdinfo_per_id() { ids.files_id } else { self.pid() }
    }

    /// The address space, with its mappings; `None` for a zombie.
    ///
    /// # Errors
    /// The errors of the mm image.
    pub fn mm(&self) -> Result<Option<MmEntry>> {
        self.if_alive(|| memory::mm(self.store(), self.pid()))
    }

    /// Calls `each` with the mappings in the order of the mm image, and with guard pages, which
    /// come last. The set does not need to have the pagemap. Does nothing for a zombie.
    ///
    /// # Errors
    /// The errors of the mm image and `files.img`.
    pub fn each_vma(&self, mut each: impl FnMut(Vma<'_>)) -> Result<()> {
        let Some(mm) = self.mm()? else { return Ok(()) };
        let files = self.set.files()?;
        mm.vmas.iter().for_each(|entry| each(Vma::new(entry, files)));
        Ok(())
    }

    /// The memory; `None` for a zombie.
    ///
    /// # Errors
    /// The errors of the mm image, the pagemap and `files.img`. Pages and parent sets are not read
    /// yet.
    pub fn memory(&self) -> Result<Option<Memory<'a>>> {
        self.if_alive(|| Memory::open(self.store(), self.set.files()?, self.pid()))
    }

    /// The memory; `None` for a zombie, and if the set does not have the task's pagemap. A dump to
    /// a page server leaves pagemaps and pages there.
    pub(crate) fn memory_here(&self) -> Result<Option<Memory<'a>>> {
        let pagemap = || kind::PAGEMAP.file_name(self.pid().into());
        match self.memory() {
            Err(error)
                if matches!(error.kind(), ErrorKind::Missing) && error.image() == pagemap() =>
            {
                Ok(None)
            }
            memory => memory,
        }
    }

    /// Root directory, working directory and umask; `None` for a zombie.
    ///
    /// # Errors
    /// The errors of the fs image.
    pub fn fs(&self) -> Result<Option<FsEntry>> {
        self.if_alive(|| self.store().single(kind::FS, self.pid().into()))
    }

    /// The working directory; `None` for a zombie.
    ///
    /// # Errors
    /// The errors of the fs image and `files.img`.
    pub fn cwd(&self) -> Result<Option<OpenFile<'a>>> {
        let fs = self.fs()?;
        fs.map(|fs| self.file(kind::FS, "cwd_id", fs.cwd_id)).transpose()
    }

    /// The root directory; `None` for a zombie.
    ///
    /// # Errors
    /// The errors of the fs image and `files.img`.
    pub fn root_dir(&self) -> Result<Option<OpenFile<'a>>> {
        let fs = self.fs()?;
        fs.map(|fs| self.file(kind::FS, "root_id", fs.root_id)).transpose()
    }

    /// The program that the task runs; `None` for a zombie.
    ///
    /// # Errors
    /// The errors of the mm image and `files.img`.
    pub fn exe(&self) -> Result<Option<OpenFile<'a>>> {
        let mm = self.mm()?;
        mm.map(|mm| self.file(kind::MM, "exe_file_id", mm.exe_file_id)).transpose()
    }

    /// Finds the file that a field in an image of this task names.
    fn file(&self, kind: &Kind, field: &'static str, id: u32) -> Result<OpenFile<'a>> {
        let found = self.set.files()?.get(id);
        found.ok_or_else(|| {
            let (what, id) = ("file", id.into());
            let fault = Fault::from(ErrorKind::Dangling { what, id });
            Error::new(kind.file_name(self.pid().into()), fault.field(kind.message, field))
        })
    }

    fn if_alive<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        if self.is_alive() { read().map(Some) } else { Ok(None) }
    }
}

impl fmt::Debug for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.node.entry).finish()
    }
}

impl fmt::Display for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid(), self.name())?;
        match self.state() {
            State::Alive => {}
            state => write!(f, " [{state}]")?,
        }
        match self.tids().len() {
            0 | 1 => Ok(()),
            threads => write!(f, " ({threads} threads)"),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive => f.write_str("alive"),
            Self::Dead => f.write_str("zombie"),
            Self::Stopped => f.write_str("stopped"),
            Self::Unknown(number) => write!(f, "state {number}"),
        }
    }
}

impl Thread<'_> {
    /// The thread id.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// The name, at most 15 bytes (`comm`).
    pub fn name(&self) -> Text<'_> {
        let own = self.thread_core().and_then(|core| core.comm.as_deref());
        Text(own.unwrap_or(&self.task.core().comm))
    }

    /// The task that the thread belongs to.
    pub fn task(&self) -> Task<'_> {
        self.task
    }

    /// The thread's core image, with registers, without the part of the whole task.
    pub fn core(&self) -> &CoreEntry {
        &self.core
    }

    /// Data that does not depend on the architecture: scheduling, credentials, waiting signals.
    pub fn thread_core(&self) -> Option<&ThreadCoreEntry> {
        self.core.thread_core.as_ref()
    }

    /// The credentials.
    pub fn creds(&self) -> Option<&CredsEntry> {
        self.thread_core()?.creds.as_ref()
    }

    /// The stack pointer; `None` except on x86 and 64-bit Arm.
    pub fn stack_pointer(&self) -> Option<u64> {
        let x86 = self.core.thread_info.as_ref().map(|info| info.gpregs.sp);
        x86.or_else(|| Some(self.core.ti_aarch64.as_ref()?.gpregs.sp))
    }

    /// The architecture; `None` if this version does not know it.
    pub fn architecture(&self) -> Option<Architecture> {
        Architecture::of(&self.core)
    }
}
