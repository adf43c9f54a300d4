//! Open files.

use std::fmt;

use crate::error::Result;
use crate::file::File;
use crate::files::OpenFile;
use crate::task::Task;
use crate::text::Text;
use crate::view::{Room, Table};

/// The open files of tasks. Displays like lsof(8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Fds {
    /// Open files, by task.
    pub tasks: Vec<TaskFds>,
}

/// The open files of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskFds {
    /// Id of the task.
    pub pid: u32,
    /// Name of the task.
    pub name: String,
    /// Working directory; `None` for a zombie.
    pub cwd: Option<String>,
    /// Root directory; `None` for a zombie.
    pub root: Option<String>,
    /// Program; `None` for a zombie.
    pub exe: Option<String>,
    /// Descriptors of the task.
    pub fds: Vec<OpenFd>,
}

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OpenFd {
    /// Number of the descriptor.
    pub fd: u32,
    /// Access: "r", "w" or "u" for both. Empty if the file cannot be read or written, or the set
    /// does not say.
    pub mode: &'static str,
    /// The descriptor closes on execve(2).
    pub cloexec: bool,
    /// Id of the file in the set. Descriptors with equal ids share the open file.
    pub id: u32,
    /// Kind of file, in one word.
    pub kind: &'static str,
    /// Description of the file, in some words.
    pub description: String,
    /// Path that the file was opened by.
    pub path: Option<String>,
    /// The path no longer existed when the file was saved.
    pub deleted: bool,
    /// Numbers of the descriptors that an epoll instance waits for. Empty for other files.
    pub waits_for: Vec<u32>,
}

impl Fds {
    /// Lists the open files of tasks.
    ///
    /// # Errors
    /// The errors of [`Task::files`], [`Task::cwd`], [`Task::root_dir`] and [`Task::exe`];
    /// [`ErrorKind::TooMany`](crate::ErrorKind::TooMany) above [`VIEW`](crate::bounds::VIEW).
    pub fn new<'a>(tasks: impl IntoIterator<Item = Task<'a>>) -> Result<Self> {
        let mut room = Room::new();
        let tasks = tasks.into_iter().map(|task| TaskFds::new(&task, &mut room));
        Ok(Self { tasks: tasks.collect::<Result<_>>()? })
    }
}

impl TaskFds {
    fn new(task: &Task<'_>, room: &mut Room) -> Result<Self> {
        let path = |file: Option<OpenFile<'_>>| {
            file.and_then(|file| file.path()).map(|path| Text(path).to_string())
        };
        let fds = task.files()?;
        let mut rows = Vec::new();
        for fd in &fds {
            let row = OpenFd {
                fd: fd.number,
                mode: fd.file.file().mode(),
                cloexec: fd.cloexec,
                id: fd.file.id(),
                kind: fd.file.file().word(),
                description: fd.file.to_string(),
                path: path(Some(fd.file)),
                deleted: fd.file.is_deleted(),
                waits_for: match fd.file.file() {
                    File::Eventpoll(epoll) => epoll.tfd.iter().map(|target| target.tfd).collect(),
                    _ => Vec::new(),
                },
            };
            let path = row.path.as_ref().map_or(0, String::len);
            room.take(
                row.description.len().saturating_add(path).saturating_add(4 * row.waits_for.len()),
            )?;
            rows.push(row);
        }
        Ok(Self {
            pid: task.pid(),
            name: task.name().to_string(),
            cwd: path(task.cwd()?),
            root: path(task.root_dir()?),
            exe: path(task.exe()?),
            fds: rows,
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
