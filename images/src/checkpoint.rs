//! The process tree.

use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::files::OpenFile;
use crate::frame::Image;
use crate::kind::{self, Kind};
use crate::memory::{self, SharedMemory};
use crate::namespaces::SavedNamespace;
use crate::old;
use crate::proto::{
    CgroupEntry, CoreEntry, FileLockEntry, InventoryEntry, PstreeEntry, TaskCoreEntry,
};
use crate::queues::Queues;
use crate::set::ImageSet;
use crate::task::Task;

/// A saved process tree. A view on an [`ImageSet`], to be copied freely.
///
/// ```
/// use criu_images::ImageSet;
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// let checkpoint = set.checkpoint()?;
/// let names: Vec<_> = checkpoint.tasks().map(|task| task.name().to_string()).collect();
/// assert_eq!(names, ["sh", "sleep", "cat"]);
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Checkpoint<'a> {
    set: &'a ImageSet,
    tree: &'a Tree,
}

impl<'a> Checkpoint<'a> {
    pub(crate) fn new(set: &'a ImageSet, tree: &'a Tree) -> Self {
        Self { set, tree }
    }

    pub(crate) fn set(&self) -> &'a ImageSet {
        self.set
    }

    /// What is true of the whole set.
    pub fn inventory(&self) -> &'a InventoryEntry {
        self.set.inventory()
    }

    /// The task that all others descend from.
    pub fn root(&self) -> Task<'a> {
        Task::new(self.set, self.tree, &self.tree.root)
    }

    /// Every task, depth first: each is followed by its descendants.
    pub fn tasks(&self) -> impl Iterator<Item = Task<'a>> {
        let Self { set, tree } = *self;
        let mut waiting = vec![&tree.root];
        std::iter::from_fn(move || {
            let node = waiting.pop()?;
            waiting.extend(tree.children(node).rev());
            Some(Task::new(set, tree, node))
        })
    }

    /// A task by its pid.
    pub fn task(&self, pid: u32) -> Option<Task<'a>> {
        let node = self.tree.node(*self.tree.by_pid.get(&pid)?)?;
        Some(Task::new(self.set, self.tree, node))
    }

    /// The tree as text: a line a task, children below their parent and further in.
    pub fn tree(&self) -> impl fmt::Display {
        Lines(*self)
    }

    /// An open file by its id; `None` when there is none.
    ///
    /// # Errors
    /// Those of `files.img` and the images beside it.
    pub fn file(&self, id: u32) -> Result<Option<OpenFile<'a>>> {
        Ok(self.set.files()?.get(id))
    }

    /// The namespaces that its tasks lived in, in the order of the tree.
    ///
    /// # Errors
    /// Those of the tasks' ids images.
    pub fn namespaces(&self) -> Result<Vec<SavedNamespace<'a>>> {
        let mut found: Vec<SavedNamespace<'_>> = Vec::new();
        let mut known = HashMap::new();
        for task in self.tasks() {
            for namespace in task.namespaces()? {
                let next = found.len();
                let index = *known.entry((namespace.kind, namespace.id)).or_insert(next);
                if index == next {
                    found.push(SavedNamespace::new(self.set, namespace));
                }
                if let Some(namespace) = found.get_mut(index) {
                    namespace.add(task.pid());
                }
            }
        }
        Ok(found)
    }

    /// Every open file by rising id, those included that only wait in a socket to be received.
    ///
    /// # Errors
    /// Those of `files.img` and the images beside it.
    pub fn files(&self) -> Result<Vec<OpenFile<'a>>> {
        let mut files: Vec<_> = self.set.files()?.iter().collect();
        files.sort_unstable_by_key(OpenFile::id);
        Ok(files)
    }

    /// What was saved of cgroups: the combinations that threads were in, and the directories of each hierarchy.
    /// There are none of the latter when CRIU was told to ignore cgroups.
    ///
    /// # Errors
    /// Those of `cgroup.img`.
    pub fn cgroups(&self) -> Result<&'a CgroupEntry> {
        self.set.cgroup()
    }

    /// What waits in pipes, fifos and sockets.
    ///
    /// # Errors
    /// Those of the images that have it.
    pub fn queues(&self) -> Result<Queues<'a>> {
        Queues::read(self.set)
    }

    /// The locks on files that its tasks hold; none when they were not saved.
    ///
    /// # Errors
    /// Those of `filelocks.img`.
    pub fn locks(&self) -> Result<Vec<FileLockEntry>> {
        let mut locks = Vec::new();
        self.set.for_each(kind::FILE_LOCKS, 0, |lock| {
            locks.push(lock);
            Ok(())
        })?;
        Ok(locks)
    }

    /// The shared memory that this set has pages of, by rising id.
    ///
    /// # Errors
    /// Those of its pagemaps, of `files.img`, and of the mm image that tells the page size.
    pub fn shared_memory(&self) -> Result<Vec<SharedMemory<'a>>> {
        let names = self.set.names()?;
        let found = names.iter().filter_map(|name| Kind::of_file(name));
        let found = found.filter(|(kind, _)| *kind == kind::PAGEMAP_SHMEM);
        let mut ids: Vec<u64> = found.filter_map(|(_, id)| id).collect();
        ids.sort_unstable();
        // One machine has one page size.
        let living = self.tasks().find(Task::is_alive);
        let page_size = match (living, ids.is_empty()) {
            (Some(task), false) => memory::page_size(self.set, task.pid())?,
            _ => return Ok(Vec::new()),
        };
        let open = |id| SharedMemory::open(self.set, id, page_size);
        ids.into_iter().map(open).collect()
    }
}

impl fmt::Debug for Checkpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tasks()).finish()
    }
}

struct Lines<'a>(Checkpoint<'a>);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, task) in self.0.tasks().enumerate() {
            let line = if i == 0 { "" } else { "\n" };
            // A tree that is deeper than a screen is wide stays readable.
            let indent = task.depth().min(MAX_INDENT) * 2;
            write!(f, "{line}{:indent$}{task}", "")?;
        }
        Ok(())
    }
}

const MAX_INDENT: usize = 40;

/// What `pstree.img` and the leaders' core images say.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Node,
    /// All tasks but the root.
    others: Vec<Node>,
    by_pid: HashMap<u32, usize>,
}

/// One task of the tree. Tasks are numbered: 0 is the root, then come the others.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) entry: PstreeEntry,
    pub(crate) task: TaskCoreEntry,
    /// The leader's, without `tc` and without registers.
    pub(crate) core: CoreEntry,
    parent: Option<usize>,
    children: Vec<usize>,
    pub(crate) depth: usize,
}

impl Tree {
    pub(crate) fn read(set: &ImageSet) -> Result<Self> {
        let name = kind::PSTREE.file;
        let bytes = set.level().need(name)?;
        let mut image = Image::parse(name, &bytes, kind::PSTREE)?;
        let Some(first) = image.next_entry()? else {
            let none = ErrorKind::Malformed("has no root task");
            return Err(Error::new(name, none));
        };
        let root = Node::read(set, first.decode()?, None, 0)?;
        let mut tree =
            Self { by_pid: HashMap::from([(root.entry.pid, 0)]), root, others: Vec::new() };
        while let Some(entry) = image.next_entry()? {
            let task: PstreeEntry = entry.decode()?;
            let (what, id) = ("parent task", task.ppid.into());
            let dangling = || entry.fault(ErrorKind::Dangling { what, id });
            let index = tree.others.len() + 1;
            // A parent that has come before: so there are no loops.
            let parent = tree.by_pid.get(&task.ppid).copied();
            let parent_node = parent.and_then(|parent| tree.node_mut(parent));
            let parent_node = parent_node.ok_or_else(dangling)?;
            parent_node.children.push(index);
            let depth = parent_node.depth + 1;
            if tree.by_pid.insert(task.pid, index).is_some() {
                return Err(entry.fault(ErrorKind::Malformed("a pid occurs twice")));
            }
            tree.others.push(Node::read(set, task, parent, depth)?);
        }
        Ok(tree)
    }

    fn node(&self, index: usize) -> Option<&Node> {
        match index.checked_sub(1) {
            None => Some(&self.root),
            Some(index) => self.others.get(index),
        }
    }

    fn node_mut(&mut self, index: usize) -> Option<&mut Node> {
        match index.checked_sub(1) {
            None => Some(&mut self.root),
            Some(index) => self.others.get_mut(index),
        }
    }

    pub(crate) fn parent(&self, node: &Node) -> Option<&Node> {
        self.node(node.parent?)
    }

    pub(crate) fn children(&self, node: &Node) -> impl DoubleEndedIterator<Item = &Node> {
        node.children.iter().filter_map(|&index| self.node(index))
    }
}

impl Node {
    fn read(
        set: &ImageSet,
        entry: PstreeEntry,
        parent: Option<usize>,
        depth: usize,
    ) -> Result<Self> {
        // Registers are for whoever asks for the threads: of many tasks they are most of the bytes.
        let (task, core) = leader(set, entry.pid, |number| matches!(number, 1 | 3 | 4 | 5))?;
        Ok(Self { entry, task, core, parent, children: Vec::new(), depth })
    }
}

/// What the core image of a task has of the task, and of its first thread.
pub(crate) fn leader(
    set: &ImageSet,
    pid: u32,
    wanted: impl Fn(u32) -> bool,
) -> Result<(TaskCoreEntry, CoreEntry)> {
    let name = kind::CORE.file_name(pid.into());
    let bytes = set.level().need(&name)?;
    let image = Image::parse(&name, &bytes, kind::CORE)?;
    let mut core: CoreEntry = image.single_by(|entry| entry.decode_only(wanted))?;
    let mut task = core.tc.take().ok_or_else(|| {
        let fault = Fault::from(ErrorKind::Required).field("core_entry", "tc");
        Error::new(name, fault)
    })?;
    if core.thread_core.is_some() {
        old::complete_task(set, pid, &mut task, &mut core)?;
    }
    Ok((task, core))
}
