//! Tasks of a set, linked as parents and children.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::frame::Image;
use crate::kind;
use crate::old;
use crate::proto::{CoreEntry, PstreeEntry, TaskCoreEntry};
use crate::store::Store;

/// All tasks, as `pstree.img` and the leaders' core images describe them.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Node,
    /// All tasks except the root.
    others: Vec<Node>,
    by_pid: HashMap<u32, usize>,
}

/// A task of the tree. Tasks are numbered: 0 is the root, then the others follow.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) entry: PstreeEntry,
    pub(crate) task: TaskCoreEntry,
    /// Core image of the leader, without `tc` and without registers.
    pub(crate) core: CoreEntry,
    parent: Option<usize>,
    children: Vec<usize>,
    pub(crate) depth: usize,
}

impl Tree {
    pub(crate) fn read(store: &Store) -> Result<Self> {
        let name = kind::PSTREE.file;
        let bytes = store.need(name)?;
        let mut image = Image::parse(name, &bytes, kind::PSTREE)?;
        let Some(first) = image.next_entry()? else {
            let none = ErrorKind::Malformed("has no root task");
            return Err(Error::new(name, none));
        };
        let root = Node::read(store, first.decode()?, None, 0)?;
        let mut tree =
            Self { by_pid: HashMap::from([(root.entry.pid, 0)]), root, others: Vec::new() };
        while let Some(entry) = image.next_entry()? {
            let task: PstreeEntry = entry.decode()?;
            let (what, id) = ("parent task", task.ppid.into());
            let dangling = || entry.fault(ErrorKind::Dangling { what, id });
            let index = tree.others.len() + 1;
            // The parent comes earlier in the image, so there are no loops.
            let parent = tree.by_pid.get(&task.ppid).copied();
            let parent_node = parent.and_then(|parent| tree.node_mut(parent));
            let parent_node = parent_node.ok_or_else(dangling)?;
            parent_node.children.push(index);
            let depth = parent_node.depth + 1;
            if tree.by_pid.insert(task.pid, index).is_some() {
                return Err(entry.fault(ErrorKind::Malformed("a pid occurs twice")));
            }
            tree.others.push(Node::read(store, task, parent, depth)?);
        }
        Ok(tree)
    }

    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// Finds a task by its pid.
    pub(crate) fn find(&self, pid: u32) -> Option<&Node> {
        self.node(*self.by_pid.get(&pid)?)
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
        store: &Store,
        entry: PstreeEntry,
        parent: Option<usize>,
        depth: usize,
    ) -> Result<Self> {
        // Registers are read only with the threads: with many tasks they are most of the bytes.
        let (task, core) = leader(store, entry.pid, |number| matches!(number, 1 | 3 | 4 | 5))?;
        Ok(Self { entry, task, core, parent, children: Vec::new(), depth })
    }
}

/// Reads the core image of a task: the part of the task, and the part of its first thread.
pub(crate) fn leader(
    store: &Store,
    pid: u32,
    wanted: impl Fn(u32) -> bool,
) -> Result<(TaskCoreEntry, CoreEntry)> {
    let name = kind::CORE.file_name(pid.into());
    let bytes = store.need(&name)?;
    let image = Image::parse(&name, &bytes, kind::CORE)?;
    let mut core: CoreEntry = image.single_by(|entry| entry.decode_only(wanted))?;
    let mut task = core.tc.take().ok_or_else(|| {
        let fault = Fault::from(ErrorKind::Required).field("core_entry", "tc");
        Error::new(name, fault)
    })?;
    if core.thread_core.is_some() {
        old::complete_task(store, pid, &mut task, &mut core)?;
    }
    Ok((task, core))
}
