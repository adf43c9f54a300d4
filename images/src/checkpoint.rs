//! The saved process tree.

use std::collections::HashMap;
use std::fmt;

use crate::error::Result;
use crate::files::OpenFile;
use crate::kind::{self, Kind};
use crate::memory::{self, SharedMemory};
use crate::namespaces::SavedNamespace;
use crate::proto::{CgroupEntry, FileLockEntry, InventoryEntry};
use crate::queues::Queues;
use crate::set::ImageSet;
use crate::store::Store;
use crate::task::Task;
use crate::tree::Tree;

/// A saved process tree. A view of an [`ImageSet`], cheap to copy.
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

impl ImageSet {
    /// The process tree of the set. A pre-dump does not have one.
    ///
    /// # Errors
    /// The errors of reading `pstree.img` and the core image of each task.
    pub fn checkpoint(&self) -> Result<Checkpoint<'_>> {
        Ok(Checkpoint { set: self, tree: self.tree()? })
    }
}

impl<'a> Checkpoint<'a> {
    pub(crate) fn store(&self) -> &'a Store {
        self.set.store()
    }

    /// Facts about the whole set, such as the version of its images: `inventory.img`.
    pub fn inventory(&self) -> &'a InventoryEntry {
        self.set.inventory()
    }

    /// The task from which all others descend.
    pub fn root(&self) -> Task<'a> {
        Task::new(self.set, self.tree, self.tree.root())
    }

    /// All tasks, depth first: a task is followed by its descendants.
    pub fn tasks(&self) -> impl Iterator<Item = Task<'a>> {
        let Self { set, tree } = *self;
        let mut waiting = vec![tree.root()];
        std::iter::from_fn(move || {
            let node = waiting.pop()?;
            waiting.extend(tree.children(node).rev());
            Some(Task::new(set, tree, node))
        })
    }

    /// Finds a task by its pid.
    pub fn task(&self, pid: u32) -> Option<Task<'a>> {
        let node = self.tree.find(pid)?;
        Some(Task::new(self.set, self.tree, node))
    }

    /// The tree as text: one line for each task, children indented below their parent.
    pub fn tree(&self) -> impl fmt::Display {
        Lines(*self)
    }

    /// Finds an open file by its id; `None` if there is no file with this id.
    ///
    /// # Errors
    /// The errors of `files.img` and the images that belong to it.
    pub fn file(&self, id: u32) -> Result<Option<OpenFile<'a>>> {
        Ok(self.set.files()?.get(id))
    }

    /// Namespaces of all tasks, in the order of the tree.
    ///
    /// # Errors
    /// The errors of the tasks' ids images.
    pub fn namespaces(&self) -> Result<Vec<SavedNamespace<'a>>> {
        let mut found: Vec<SavedNamespace<'_>> = Vec::new();
        let mut known = HashMap::new();
        for task in self.tasks() {
            for namespace in task.namespaces()? {
                let next = found.len();
                let index = *known.entry((namespace.kind, namespace.id)).or_insert(next);
                if index == next {
                    found.push(SavedNamespace::new(self.store(), namespace));
                }
                if let Some(namespace) = found.get_mut(index) {
                    namespace.add(task.pid());
                }
            }
        }
        Ok(found)
    }

    /// All open files, by rising id. Files that are in flight in a unix socket are included.
    ///
    /// # Errors
    /// The errors of `files.img` and the images that belong to it.
    pub fn files(&self) -> Result<Vec<OpenFile<'a>>> {
        let mut files: Vec<_> = self.set.files()?.iter().collect();
        files.sort_unstable_by_key(OpenFile::id);
        Ok(files)
    }

    /// Saved cgroups: the combinations that threads were in, and the directories of each hierarchy.
    /// The directories are absent if CRIU was told to ignore cgroups.
    ///
    /// # Errors
    /// The errors of `cgroup.img`.
    pub fn cgroups(&self) -> Result<&'a CgroupEntry> {
        self.set.cgroup()
    }

    /// Data that waits in pipes, fifos and sockets.
    ///
    /// # Errors
    /// The errors of the images that hold the data.
    pub fn queues(&self) -> Result<Queues<'a>> {
        Queues::read(self.store())
    }

    /// Locks on files that tasks hold; empty if locks were not saved.
    ///
    /// # Errors
    /// The errors of `filelocks.img`.
    pub fn locks(&self) -> Result<Vec<FileLockEntry>> {
        let mut locks = Vec::new();
        self.store().for_each(kind::FILE_LOCKS, 0, |lock| {
            locks.push(lock);
            Ok(())
        })?;
        Ok(locks)
    }

    /// Shared memory whose pages are in this set, by rising id.
    ///
    /// # Errors
    /// The errors of the pagemaps, of `files.img`, and of the mm image that holds the page size.
    pub fn shared_memory(&self) -> Result<Vec<SharedMemory<'a>>> {
        let names = self.set.names()?;
        let found = names.iter().filter_map(|name| Kind::of_file(name));
        let found = found.filter(|(kind, _)| *kind == kind::PAGEMAP_SHMEM);
        let mut ids: Vec<u64> = found.filter_map(|(_, id)| id).collect();
        ids.sort_unstable();
        // One machine has one page size.
        let living = self.tasks().find(Task::is_alive);
        let page_size = match (living, ids.is_empty()) {
            (Some(task), false) => memory::page_size(self.store(), task.pid())?,
            _ => return Ok(Vec::new()),
        };
        let files = self.set.files()?;
        let open = |id| SharedMemory::open(self.store(), files, id, page_size);
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
            // A tree that is deeper than a screen is wide stays readable: the indent stops growing.
            let indent = task.depth().min(MAX_INDENT) * 2;
            write!(f, "{line}{:indent$}{task}", "")?;
        }
        Ok(())
    }
}

const MAX_INDENT: usize = 40;
