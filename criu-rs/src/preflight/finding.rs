//! One thing that a look found.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use super::need::Need;
use crate::diagnosis::Cause;
use crate::value::Pid;

/// How much a finding weighs. The heaviest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The operation fails, whatever the options.
    Blocks,
    /// The operation fails without an option, which [`Finding`] names.
    Needs,
    /// The operation works, and something is lost, changed or uncertain.
    Loses,
    /// Good to know.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocks => "blocks",
            Self::Needs => "needs",
            Self::Loses => "loses",
            Self::Info => "info",
        })
    }
}

/// What a finding is about; whichever of it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Subject {
    /// The process, by the id it has here.
    pub pid: Option<Pid>,
    /// Its descriptor.
    pub fd: Option<i32>,
    /// The file, or what /proc calls it.
    pub path: Option<PathBuf>,
    /// The inode, of a socket or a namespace too.
    pub inode: Option<u64>,
}

impl Subject {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.pid.map(|pid| format!("process {pid}")));
        parts.extend(self.fd.map(|fd| format!("descriptor {fd}")));
        // Names are a stranger's: nothing in them may steer a terminal.
        let shown = |path: &PathBuf| path.to_string_lossy().escape_debug().to_string();
        match (&self.path, self.inode) {
            (Some(path), _) => parts.push(shown(path)),
            (None, Some(inode)) => parts.push(format!("inode {inode}")),
            (None, None) => {}
        }
        f.write_str(&parts.join(", "))
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// The cause CRIU's failure would have, where that is a known one.
    pub cause: Option<Cause>,
    /// What it is: the same words for all findings of a kind.
    pub what: Cow<'static, str>,
    /// What is particular to this one; empty where there is nothing.
    pub detail: String,
    /// What it is about.
    pub subject: Subject,
    /// Options any one of which lets the operation go on, the likeliest first. Where there is also
    /// a [`cause`](Self::cause), [`Cause::hint`] says more.
    pub needs: Vec<Need>,
    /// Whether a person has to choose: the option changes something outside the tree, or loses something.
    pub is_choice: bool,
    /// What to do where no option helps.
    pub hint: Option<&'static str>,
}

impl Finding {
    pub(super) fn new(severity: Severity, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            severity,
            cause: None,
            what: what.into(),
            detail: String::new(),
            subject: Subject::default(),
            needs: Vec::new(),
            is_choice: true,
            hint: None,
        }
    }

    /// One whose cause says what it is.
    pub(super) fn of(severity: Severity, cause: Cause) -> Self {
        Self { cause: Some(cause), ..Self::new(severity, cause.to_string()) }
    }

    /// One that blocks.
    pub(super) fn blocks(cause: Cause) -> Self {
        Self::of(Severity::Blocks, cause)
    }

    /// One that needs any of these options, or only tells where one of them is set.
    pub(super) fn needs(cause: Cause, needs: Vec<Need>, is_set: bool) -> Self {
        let severity = if is_set { Severity::Info } else { Severity::Needs };
        Self { needs, ..Self::of(severity, cause) }
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(super) fn pid(mut self, pid: Pid) -> Self {
        self.subject.pid = Some(pid);
        self
    }

    pub(super) fn fd(mut self, fd: i32) -> Self {
        self.subject.fd = Some(fd);
        self
    }

    pub(super) fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.subject.path = Some(path.into());
        self
    }

    pub(super) fn inode(mut self, inode: u64) -> Self {
        self.subject.inode = Some(inode);
        self
    }

    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The option can be set without asking anybody.
    pub(super) fn safe(mut self) -> Self {
        self.is_choice = false;
        self
    }
}
