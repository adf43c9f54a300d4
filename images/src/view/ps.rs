//! The process list.

use std::fmt;

use crate::error::Result;
use crate::task::Task;
use crate::text::Text;
use crate::view::{Room, Table};

/// The processes, as a tree. Displays like `ps -e --forest`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Ps {
    /// The processes, each followed by its descendants.
    pub processes: Vec<Process>,
}

/// A process of a [`Ps`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Process {
    /// Id of the process.
    pub pid: u32,
    /// Id of the parent; 0 for the root.
    pub ppid: u32,
    /// Id of the process group.
    pub pgid: u32,
    /// Id of the session.
    pub sid: u32,
    /// Distance from the root of the tree.
    pub depth: usize,
    /// State: "alive", "zombie" or "stopped".
    pub state: String,
    /// Ids of the threads, the process's own first. A zombie has no threads.
    pub tids: Vec<u32>,
    /// Effective user; `None` for a zombie.
    pub user: Option<u32>,
    /// Name, at most 15 bytes.
    pub name: String,
    /// Command line, if asked for and readable.
    pub arguments: Option<Vec<String>>,
    /// Environment, if asked for and readable.
    pub environment: Option<Vec<String>>,
}

impl Ps {
    /// Lists tasks.
    #[must_use]
    pub fn new<'a>(tasks: impl IntoIterator<Item = Task<'a>>) -> Self {
        Self { processes: tasks.into_iter().map(|task| Process::new(&task)).collect() }
    }

    /// Lists tasks with their command lines, and with their environments if `environments` is true.
    /// Both come from the tasks' memory. Environments may hold secrets.
    ///
    /// # Errors
    /// The errors of the images that describe memory. Command lines and environments whose pages
    /// are kept back or missing are left out. [`ErrorKind::TooMany`](crate::ErrorKind::TooMany)
    /// above [`VIEW`](crate::bounds::VIEW).
    pub fn with_arguments<'a>(
        tasks: impl IntoIterator<Item = Task<'a>>,
        environments: bool,
    ) -> Result<Self> {
        let strings = |strings: Vec<Vec<u8>>, room: &mut Room| -> Result<Vec<String>> {
            let mut shown = Vec::with_capacity(strings.len());
            for bytes in &strings {
                room.take(bytes.len())?;
                shown.push(Text(bytes).to_string());
            }
            Ok(shown)
        };
        let (mut processes, mut room) = (Vec::new(), Room::new());
        for task in tasks {
            let mut process = Process::new(&task);
            if let Some(memory) = task.memory_here()? {
                let mut shown =
                    |read: Result<_>| read.ok().map(|read| strings(read, &mut room)).transpose();
                process.arguments = shown(memory.cmdline())?;
                if environments {
                    process.environment = shown(memory.environ())?;
                }
            }
            processes.push(process);
        }
        Ok(Self { processes })
    }
}

impl Process {
    fn new(task: &Task<'_>) -> Self {
        Self {
            pid: task.pid(),
            ppid: task.ppid(),
            pgid: task.pgid(),
            sid: task.sid(),
            depth: task.depth(),
            state: task.state().to_string(),
            tids: task.tids().to_vec(),
            user: task.creds().map(|creds| creds.euid),
            name: task.name().to_string(),
            arguments: None,
            environment: None,
        }
    }
}

impl fmt::Display for Ps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = &[">PID", ">PPID", ">PGID", ">SID", ">THREADS", ">USER", "STATE", "COMMAND"];
        let mut table = Table::new(head);
        for (process, branches) in self.processes.iter().zip(branches(&self.processes)) {
            let number = |number: u32| number.to_string();
            let command = match &process.arguments {
                Some(arguments) if !arguments.is_empty() => arguments.join(" "),
                _ => process.name.clone(),
            };
            table.row(vec![
                number(process.pid),
                number(process.ppid),
                number(process.pgid),
                number(process.sid),
                process.tids.len().to_string(),
                process.user.map_or_else(|| "-".to_owned(), number),
                process.state.clone(),
                branches + &command,
            ]);
        }
        table.fmt(f)
    }
}

/// Returns the branches of the tree to show before each name.
fn branches(processes: &[Process]) -> Vec<String> {
    // True for each depth at which another process follows. The list is read from its end.
    let mut follows: Vec<bool> = Vec::new();
    let mut branches: Vec<String> = Vec::with_capacity(processes.len());
    for process in processes.iter().rev() {
        // Even a deep tree has to fit on a screen.
        let depth = process.depth.min(MAX_DEPTH);
        follows.resize(depth + 1, false);
        let above = follows.iter().take(depth).skip(1);
        let mut branch: String = above.map(|follows| [" ", "|"][usize::from(*follows)]).fold(
            String::new(),
            |mut line, bar| {
                line.push(' ');
                line.push_str(bar);
                line.push_str("  ");
                line
            },
        );
        if depth > 0 {
            branch.push_str(" \\_ ");
        }
        if let Some(here) = follows.last_mut() {
            *here = true;
        }
        branches.push(branch);
    }
    branches.reverse();
    branches
}

const MAX_DEPTH: usize = 30;
