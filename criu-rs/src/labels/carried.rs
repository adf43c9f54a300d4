//! The labels that threads carry.

use std::fmt;

use super::label::Label;
use crate::value::Pid;

/// The purpose of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attribute {
    /// Confines the thread itself (`attr/current`).
    Current,
    /// Labels the sockets that the thread creates (`attr/sockcreate`).
    Sockcreate,
    /// Labels the next program that the thread executes (`attr/exec`). No CRIU saves it.
    Exec,
    /// Labels the files that the thread creates (`attr/fscreate`). No CRIU saves it.
    Fscreate,
    /// Labels the keys that the thread creates (`attr/keycreate`). No CRIU saves it.
    Keycreate,
}

impl Attribute {
    /// The name of the file in `/proc/PID/attr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Sockcreate => "sockcreate",
            Self::Exec => "exec",
            Self::Fscreate => "fscreate",
            Self::Keycreate => "keycreate",
        }
    }

    /// Returns true if CRIU's images have a place for it.
    pub(crate) fn has_a_place(self) -> bool {
        matches!(self, Self::Current | Self::Sockcreate)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A label that a thread carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Carried {
    /// The process.
    pub pid: Pid,
    /// The thread. For the first thread it is the process's id.
    pub tid: Pid,
    /// The purpose of the label.
    pub attribute: Attribute,
    /// The label.
    pub label: Label,
}
