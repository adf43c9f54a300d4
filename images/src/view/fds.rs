//! Open files.

use std::fmt;

use crate::error::Result;
use crate::files::OpenFile;
use crate::task::Task;
use crate::text::Text;
use crate::view::Table;

/// The open files of tasks. It displays as lsof(8) shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Fds {
    /// By task.
    pub tasks: Vec<TaskFds>,
}

/// The open files of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskFds {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its working directory; a zombie has none.
    pub cwd: Option<String>,
    /// Its root directory; a zombie has none.
    pub root: Option<String>,
    /// The program it runs; a zombie has none.
    pub exe: Option<String>,
    /// Its descriptors.
    pub fds: Vec<OpenFd>,
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OpenFd {
    /// Its number.
    pub fd: u32,
    /// "r", "w" or "u" for both; empty when the file cannot be read or written, or the set does not say.
    pub mode: &'static str,
    /// It closes on execve(2).
    pub cloexec: bool,
    /// The file's id in the set. Descriptors with the same share it.
    pub id: u32,
    /// What it is, in one word.
    pub kind: &'static str,
    /// The same in some words.
    pub description: String,
    /// The path it was opened by.
    pub path: Option<String>,
    /// The path was gone when the file was saved.
    pub deleted: bool,
    /// Of an epoll instance, the numbers of the descriptors it waits for.
    pub waits_for: Vec<u32>,
}

impl Fds {
    /// Lists the open files of tasks.
    ///
    /// # Errors
    /// Those of [`Task::files`], [`Task::cwd`] and their kin.
    pub fn new<'a>(tasks: impl IntoIterator<Item = Task<'a>>) -> Result<Self> {
        let tasks = tasks.into_iter().map(|task| TaskFds::new(&task));
        Ok(Self { tasks: tasks.collect::<Result<_>>()? })
    }
}

impl TaskFds {
    fn new(task: &Task<'_>) -> Result<Self> {
        let path = |file: Option<OpenFile<'_>>| {
            file.and_then(|file| file.path()).map(|path| Text(path).to_string())
        };
        let fds = task.files()?;
        let rows = fds.iter().map(|fd| OpenFd {
            fd: fd.number,
            mode: fd.file.file().mode(),
            cloexec: fd.cloexec,
            id: fd.file.id(),
            kind: fd.file.file().word(),
            description: fd.file.to_string(),
            path: path(Some(fd.file)),
            deleted: fd.file.is_deleted(),
            waits_for: fd.epoll_targets(&fds).iter().map(|target| target.number).collect(),
        });
        Ok(Self {
            pid: task.pid(),
            name: task.name().to_string(),
            cwd: path(task.cwd()?),
            root: path(task.root_dir()?),
            exe: path(task.exe()?),
            fds: rows.collect(),
        })
    }
}

impl fmt::Display for Fds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["COMMAND", ">PID", ">FD", "TYPE", "NAME"]);
        for task in &self.tasks {
            let mut row = |fd: String, kind: &str, name: String| {
                let (command, pid) = (task.name.clone(), task.pid.to_string());
                table.row(vec![command, pid, fd, kind.to_owned(), name]);
            };
            let places = [
                ("cwd", "directory", &task.cwd),
                ("rtd", "directory", &task.root),
                ("txt", "file", &task.exe),
            ];
            for (fd, kind, path) in places {
                if let Some(path) = path {
                    row(fd.to_owned(), kind, path.clone());
                }
            }
            for fd in &task.fds {
                let number = format!("{}{}", fd.fd, if fd.mode.is_empty() { " " } else { fd.mode });
                row(number, fd.kind, fd.description.clone());
            }
        }
        table.fmt(f)
    }
}
