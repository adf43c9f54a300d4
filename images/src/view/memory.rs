//! Mappings of tasks, and the amount of memory in them.

use std::fmt;

use crate::error::Result;
use crate::memory::Totals;
use crate::task::Task;
use crate::view::{Room, Table, kib};

/// The mappings of tasks. Displays like pmap(1).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Mems {
    /// Mappings, by task; zombies are left out.
    pub tasks: Vec<TaskMems>,
}

/// The mappings of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskMems {
    /// Id of the task.
    pub pid: u32,
    /// Name of the task.
    pub name: String,
    /// Bytes of a page.
    pub page_size: u64,
    /// Mappings, by rising address.
    pub mappings: Vec<Mapping>,
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Permissions, as in /proc/PID/maps: "rw-p".
    pub permissions: String,
    /// Offset in the file at which the mapping begins, in bytes.
    pub offset: u64,
    /// Name of the file, or the kernel's name in brackets; empty without either.
    pub name: String,
    /// Pages of the mapping.
    pub pages: Totals,
}

/// Amounts of memory that tasks have. Displays as a table, in KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Rss {
    /// Amounts, by task; zombies are left out.
    pub tasks: Vec<TaskRss>,
}

/// Amount of memory that a task has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskRss {
    /// Id of the task.
    pub pid: u32,
    /// Name of the task.
    pub name: String,
    /// Bytes of a page.
    pub page_size: u64,
    /// Pages of the task.
    pub pages: Totals,
}

impl Mems {
    /// Lists the mappings of tasks.
    ///
    /// # Errors
    /// The errors of [`Task::memory`]; [`ErrorKind::TooMany`](crate::ErrorKind::TooMany) above
    /// [`VIEW`](crate::bounds::VIEW).
    pub fn new<'a>(tasks: impl IntoIterator<Item = Task<'a>>) -> Result<Self> {
        let (mut all, mut room) = (Vec::new(), Room::new());
        for task in tasks {
            let Some(memory) = task.memory()? else {
                continue;
            };
            let (mut mappings, mut fits) = (Vec::new(), Ok(()));
            memory.usage(|vma, pages| {
                let name = vma.name().unwrap_or_default();
                fits = std::mem::replace(&mut fits, Ok(())).and_then(|()| room.take(name.len()));
                if fits.is_err() {
                    return;
                }
                mappings.push(Mapping {
                    start: vma.start(),
                    end: vma.end(),
                    permissions: vma.permissions(),
                    offset: vma.entry().pgoff,
                    name,
                    pages,
                });
            });
            fits?;
            let (pid, name) = (task.pid(), task.name().to_string());
            all.push(TaskMems { pid, name, page_size: memory.page_bytes(), mappings });
        }
        Ok(Self { tasks: all })
    }
}

impl Rss {
    /// Counts the pages of tasks.
    ///
    /// # Errors
    /// The errors of [`Task::memory`].
    pub fn new<'a>(tasks: impl IntoIterator<Item = Task<'a>>) -> Result<Self> {
        let mut all = Vec::new();
        for task in tasks {
            if let Some(memory) = task.memory()? {
                let (page_size, pages) = (memory.page_bytes(), memory.totals());
                let name = task.name().to_string();
                all.push(TaskRss { pid: task.pid(), name, page_size, pages });
            }
        }
        Ok(Self { tasks: all })
    }
}

impl fmt::Display for Mems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, task) in self.tasks.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n\n" };
            writeln!(f, "{gap}{}: {}", task.pid, task.name)?;
            let head = &[">ADDRESS", ">KIB", ">OWN", "PERM", ">OFFSET", "MAPPING"];
            let mut table = Table::new(head);
            for mapping in &task.mappings {
                table.row(vec![
                    format!("{:016x}", mapping.start),
                    kib(mapping.pages.mapped, task.page_size),
                    kib(mapping.pages.own(), task.page_size),
                    mapping.permissions.clone(),
                    format!("{:08x}", mapping.offset),
                    mapping.name.clone(),
                ]);
            }
            table.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = &[
            ">PID", ">MAPPED", ">OWN", ">STORED", ">PARENT", ">LAZY", ">ZERO", ">FILE", ">SHARED",
            "COMMAND",
        ];
        let mut table = Table::new(head);
        for task in &self.tasks {
            let Totals { mapped, present, parent, lazy, zero, file, shared, .. } = task.pages;
            let pages = [mapped, task.pages.own(), present, parent, lazy, zero, file, shared];
            let mut row = vec![task.pid.to_string()];
            row.extend(pages.iter().map(|pages| kib(*pages, task.page_size)));
            row.push(task.name.clone());
            table.row(row);
        }
        table.fmt(f)
    }
}
