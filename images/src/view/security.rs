//! Credentials of threads, and what restricts them.

use std::fmt;

use crate::bpf;
use crate::error::{Error, ErrorKind, Result};
use crate::kind;
use crate::seccomp::{Filter, Seccomp};
use crate::task::{Task, Thread};
use crate::text::count;
use crate::view::Room;

/// Credentials, labels and seccomp filters of threads. Displays as one block for each task. Threads
/// that equal the first one are only named.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Security {
    /// Threads, by task; zombies are left out.
    pub threads: Vec<ThreadSecurity>,
}

/// Credentials of a thread, and what restricts it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ThreadSecurity {
    /// Id of the task.
    pub pid: u32,
    /// Id of the thread.
    pub tid: u32,
    /// Name of the thread.
    pub name: String,
    /// Real, effective, saved and file system user.
    pub users: [u32; 4],
    /// Real, effective, saved and file system group.
    pub groups: [u32; 4],
    /// Supplementary groups.
    pub other_groups: Vec<u32>,
    /// Capabilities of the thread.
    pub capabilities: CapabilitySets,
    /// Names of the secure bits.
    pub secure_bits: Vec<&'static str>,
    /// AppArmor profile or SELinux context. A CRIU built without SELinux does not save contexts.
    pub label: Option<String>,
    /// Programs that the thread executes get no more privileges.
    pub no_new_privs: bool,
    /// Mode of seccomp: "off", "strict" or "filters".
    pub seccomp: &'static str,
    /// Seccomp filters, in the order in which they were installed.
    pub filters: Vec<FilterRow>,
    /// Cgroups, as in /proc/PID/cgroup; empty if they were CRIU's own.
    pub cgroups: Vec<String>,
}

/// Capabilities as [`Capabilities`](crate::Capabilities) displays them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CapabilitySets {
    /// Capabilities that the thread acts with.
    pub effective: String,
    /// Capabilities that the thread may act with.
    pub permitted: String,
    /// Capabilities kept at execve(2) if the program's file says so.
    pub inheritable: String,
    /// Capabilities that the thread can ever get.
    pub bounding: String,
    /// Capabilities kept at execve(2) whatever the program's file says.
    pub ambient: String,
}

/// A seccomp filter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FilterRow {
    /// Place of the filter in `seccomp.img`.
    pub index: u32,
    /// Names of the flags.
    pub flags: Vec<&'static str>,
    /// Number of instructions.
    pub instructions: usize,
    /// Summary of the filter, in one line.
    pub summary: String,
}

impl Security {
    /// Lists the threads of tasks.
    ///
    /// # Errors
    /// The errors of reading the threads' core images, `seccomp.img` and `cgroup.img`;
    /// [`ErrorKind::Malformed`] for a thread without credentials; [`ErrorKind::TooMany`] above
    /// [`VIEW`](crate::bounds::VIEW).
    pub fn new<'a>(tasks: impl IntoIterator<Item = Task<'a>>) -> Result<Self> {
        let (mut threads, mut room) = (Vec::new(), Room::new());
        for task in tasks {
            for thread in task.threads_in_brief()? {
                threads.push(ThreadSecurity::new(&thread, &mut room)?);
            }
        }
        Ok(Self { threads })
    }
}

impl ThreadSecurity {
    fn new(thread: &Thread<'_>, room: &mut Room) -> Result<Self> {
        let task = thread.task();
        // In old sets, threads have the credentials of their task.
        let creds = thread.creds().or_else(|| task.creds()).ok_or_else(|| {
            let name = kind::CORE.file_name(thread.tid().into());
            Error::new(name, ErrorKind::Malformed("has no credentials"))
        })?;
        let seccomp = thread.seccomp()?;
        let mut shown = Vec::new();
        for cgroup in thread.cgroups()?.unwrap_or_default() {
            let line = cgroup.to_string();
            room.take(line.len())?;
            shown.push(line);
        }
        Ok(Self {
            pid: task.pid(),
            tid: thread.tid(),
            name: thread.name().to_string(),
            users: [creds.uid, creds.euid, creds.suid, creds.fsuid],
            groups: [creds.gid, creds.egid, creds.sgid, creds.fsgid],
            other_groups: creds.groups.clone(),
            capabilities: CapabilitySets {
                effective: creds.effective().to_string(),
                permitted: creds.permitted().to_string(),
                inheritable: creds.inheritable().to_string(),
                bounding: creds.bounding().to_string(),
                ambient: creds.ambient().to_string(),
            },
            secure_bits: creds.secure_bits().collect(),
            label: creds.label().map(|label| label.to_string()),
            no_new_privs: creds.no_new_privs.is_some_and(|on| on != 0),
            seccomp: match seccomp {
                Seccomp::Off => "off",
                Seccomp::Strict => "strict",
                Seccomp::Filters(_) => "filters",
            },
            filters: match &seccomp {
                Seccomp::Filters(filters) => {
                    let rows = filters.iter().map(|filter| FilterRow::new(filter, room));
                    rows.collect::<Result<_>>()?
                }
                _ => Vec::new(),
            },
            cgroups: shown,
        })
    }

    /// Returns true for a thread of the same task that has the same credentials and restrictions.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self { pid: _, tid, name, .. } = other;
        *other == Self { tid: *tid, name: name.clone(), ..self.clone() }
    }
}

impl FilterRow {
    fn new(filter: &Filter<'_>, room: &mut Room) -> Result<Self> {
        let summary = filter.summary()?.to_string();
        room.take(summary.len())?;
        Ok(Self {
            index: filter.index(),
            flags: filter.flags().collect(),
            instructions: filter.entry().filter.len() / bpf::SIZE,
            summary,
        })
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first: Option<&ThreadSecurity> = None;
        for (i, thread) in self.threads.iter().enumerate() {
            let line = if i == 0 { "" } else { "\n" };
            match first.filter(|first| first.pid == thread.pid) {
                Some(first) if first.is_like(thread) => {
                    write!(f, "{line}  thread {} {}: the same", thread.tid, thread.name)?;
                }
                Some(_) => {
                    write!(f, "{line}  thread {} {}:", thread.tid, thread.name)?;
                    thread.write(f, "    ")?;
                }
                None => {
                    write!(f, "{line}{} {}", thread.pid, thread.name)?;
                    thread.write(f, "  ")?;
                    first = Some(thread);
                    continue;
                }
            }
        }
        Ok(())
    }
}

impl ThreadSecurity {
    fn write(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        let ids = |ids: [u32; 4]| {
            let [real, effective, saved, fs] = ids;
            if ids.iter().all(|id| *id == real) {
                real.to_string()
            } else {
                format!("{real}, effective {effective}, saved {saved}, files {fs}")
            }
        };
        write!(f, "\n{indent}user {}; group {}", ids(self.users), ids(self.groups))?;
        if !self.other_groups.is_empty() {
            let groups: Vec<_> = self.other_groups.iter().map(u32::to_string).collect();
            write!(f, "; also {}", groups.join(","))?;
        }
        let CapabilitySets { effective, permitted, inheritable, bounding, ambient } =
            &self.capabilities;
        write!(f, "\n{indent}capabilities {effective}")?;
        let others = [
            ("permitted", permitted, effective),
            ("bounding", bounding, effective),
            ("inheritable", inheritable, &"none".to_owned()),
            ("ambient", ambient, &"none".to_owned()),
        ];
        for (name, set, _) in others.iter().filter(|(_, set, usual)| set != usual) {
            write!(f, "; {name} {set}")?;
        }
        if !self.secure_bits.is_empty() {
            write!(f, "\n{indent}secure bits {}", self.secure_bits.join(","))?;
        }
        if let Some(label) = &self.label {
            write!(f, "\n{indent}label {label}")?;
        }
        if self.no_new_privs {
            write!(f, "\n{indent}no new privileges")?;
        }
        match self.filters.len() {
            0 => write!(f, "\n{indent}seccomp {}", self.seccomp)?,
            filters => write!(f, "\n{indent}seccomp: {}", count(filters, "filter"))?,
        }
        for filter in &self.filters {
            write!(f, "\n{indent}  {}: {}", filter.index, filter.summary)?;
        }
        for cgroup in &self.cgroups {
            write!(f, "\n{indent}cgroup {cgroup}")?;
        }
        Ok(())
    }
}
