//! The process tree.

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

impl ImageSet {
    /// The process tree. A pre-dump has none.
    ///
    /// # Errors
    /// Those of reading `pstree.img` and the core image of every task.
    pub fn checkpoint(&self) -> Result<Checkpoint<'_>> {
        Ok(Checkpoint { set: self, tree: self.tree()? })
    }
}

impl<'a> Checkpoint<'a> {
    pub(crate) fn store(&self) -> &'a Store {
        self.set.store()
    }

    /// What is true of the whole set.
    pub fn inventory(&self) -> &'a InventoryEntry {
        self.set.inventory()
    }

    /// The task that all others descend from.
    pub fn root(&self) -> Task<'a> {
        Task::new(self.set, self.tree, self.tree.root())
    }

    /// Every task, depth first: each is followed by its descendants.
    pub fn tasks(&self) -> impl Iterator<Item = Task<'a>> {
        let Self { set, tree } = *self;
        let mut waiting = vec![tree.root()];
        std::iter::from_fn(move || {
            let node = waiting.pop()?;
            waiting.extend(tree.children(node).rev());
            Some(Task::new(set, tree, node))
        })
    }

    /// A task by its pid.
    pub fn task(&self, pid: u32) -> Option<Task<'a>> {
        let node = self.tree.find(pid)?;
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
                    found.push(SavedNamespace::new(self.store(), namespace));
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
        Queues::read(self.store())
    }

    /// The locks on files that its tasks hold; none when they were not saved.
    ///
    /// # Errors
    /// Those of `filelocks.img`.
    pub fn locks(&self) -> Result<Vec<FileLockEntry>> {
        let mut locks = Vec::new();
        self.store().for_each(kind::FILE_LOCKS, 0, |lock| {
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
            // A tree that is deeper than a screen is wide stays readable.
            let indent = task.depth().min(MAX_INDENT) * 2;
            write!(f, "{line}{:indent$}{task}", "")?;
        }
        Ok(())
    }
}

const MAX_INDENT: usize = 40;
