//! Labels that threads carry.

use std::fmt;

use super::label::Label;
use crate::value::Pid;

/// What a label is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attribute {
    /// The thread itself (`attr/current`).
    Current,
    /// Sockets that it makes (`attr/sockcreate`).
    Sockcreate,
    /// The next program that it executes (`attr/exec`). No CRIU saves it.
    Exec,
    /// Files that it makes (`attr/fscreate`). No CRIU saves it.
    Fscreate,
    /// Keys that it makes (`attr/keycreate`). No CRIU saves it.
    Keycreate,
}

impl Attribute {
    /// Its file in `/proc/PID/attr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Sockcreate => "sockcreate",
            Self::Exec => "exec",
            Self::Fscreate => "fscreate",
            Self::Keycreate => "keycreate",
        }
    }

    /// Whether CRIU has a place for it in its images.
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
    /// Its thread; the process's id for its first one.
    pub tid: Pid,
    /// What the label is for.
    pub attribute: Attribute,
    /// The label.
    pub label: Label,
}
