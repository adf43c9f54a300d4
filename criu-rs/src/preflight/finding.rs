//! A finding: a fact that a look found about a tree or about images.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use super::need::Need;
use crate::diagnosis::Cause;
use crate::value::Pid;

/// The weight of a finding. The heaviest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Severity {
    /// The operation fails, whatever the options are.
    Blocks,
    /// The operation fails without an option, which [`Finding`] names.
    Needs,
    /// The operation works, but something is lost, changed or uncertain.
    Loses,
    /// A remark. The operation works.
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

/// The object of a finding. Each field is set if it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Subject {
    /// The process, by its id in the pid namespace of this process.
    pub pid: Option<Pid>,
    /// The number of the descriptor in that process.
    pub fd: Option<i32>,
    /// The file, or the name that `/proc` gives it.
    pub path: Option<PathBuf>,
    /// The inode of a file, a socket or a namespace.
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
        // Strangers choose file names: escape control characters that would steer a terminal.
        let shown = |path: &PathBuf| path.to_string_lossy().escape_debug().to_string();
        match (&self.path, self.inode) {
            (Some(path), _) => parts.push(shown(path)),
            (None, Some(inode)) => parts.push(format!("inode {inode}")),
            (None, None) => {}
        }
        f.write_str(&parts.join(", "))
    }
}

/// A fact about the tree or the images that matters for the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// The weight.
    pub severity: Severity,
    /// The cause that CRIU's failure would have, if it is a known one.
    pub cause: Option<Cause>,
    /// A description, with the same words for all findings of a kind.
    pub what: Cow<'static, str>,
    /// Details of this finding. Empty if there are no details.
    pub detail: String,
    /// The process, file or inode that the finding is about.
    pub subject: Subject,
    /// Options, the likeliest first. Any one of them lets the operation go on. [`Cause::hint`] of
    /// the [`cause`](Self::cause) says more.
    pub needs: Vec<Need>,
    /// True if a person has to choose, because the option changes something outside the tree or
    /// loses something.
    pub is_choice: bool,
    /// Advice that is more specific than [`Cause::hint`].
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

    /// Makes a finding that is described by its cause.
    pub(super) fn of(severity: Severity, cause: Cause) -> Self {
        Self { cause: Some(cause), ..Self::new(severity, cause.to_string()) }
    }

    /// Makes a finding that blocks the operation.
    pub(super) fn blocks(cause: Cause) -> Self {
        Self::of(Severity::Blocks, cause)
    }

    /// Makes a finding that needs one of these options, or only informs if one of them is set.
    pub(super) fn needs(cause: Cause, needs: Vec<Need>, is_set: bool) -> Self {
        let severity = if is_set { Severity::Info } else { Severity::Needs };
        Self { needs, ..Self::of(severity, cause) }
    }

    /// The option with which a restore keeps the thing that this finding is about, and which the
    /// dump does not need.
    pub fn keeps(&self) -> Option<&Need> {
        let inherits = |need: &&Need| matches!(need, Need::InheritFd(_));
        self.needs.iter().find(inherits).filter(|_| self.severity == Severity::Loses)
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

    /// Marks the option as safe to set without asking anybody.
    pub(super) fn safe(mut self) -> Self {
        self.is_choice = false;
        self
    }
}
