//! Findings: reasons why a checkpoint cannot be restored on a machine, or may lose something.

use std::fmt;

use criu_images::{Severity, Text};
use serde::{Serialize, Serializer};

/// A fact that matters for a restore. Displays as one line: severity, place, text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Severity of the finding.
    #[serde(serialize_with = "shown")]
    pub severity: Severity,
    /// Subject of the finding.
    #[serde(serialize_with = "shown")]
    pub about: About,
    /// The container, as `container NAME`, or the path of the file; empty for the whole checkpoint.
    pub place: String,
    /// The finding, in words: what was found, and what is wanted.
    pub text: String,
    /// Advice; empty if there is none.
    pub hint: String,
}

/// Subject of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum About {
    /// The record itself, and the state of the checkpoint.
    Record,
    /// The program that made the checkpoint: its presence, its version, its features.
    Tool,
    /// The processor.
    Cpu,
    /// The kernel.
    Kernel,
    /// Control groups.
    Cgroups,
    /// Security modules and labels.
    Labels,
    /// Files and their digests.
    Files,
    /// GPUs.
    Gpus,
}

impl Finding {
    /// Makes a finding on the whole checkpoint, without advice.
    pub fn new(severity: Severity, about: About, text: impl Into<String>) -> Self {
        let (place, hint) = (String::new(), String::new());
        Self { severity, about, place, text: text.into(), hint }
    }

    /// Names the container or the file. Strangers choose names: what could steer a terminal is
    /// taken out.
    #[must_use]
    pub fn at(mut self, place: impl AsRef<str>) -> Self {
        self.place = Text(place.as_ref().as_bytes()).to_string();
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Returns true if a restore fails.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.text)
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "record",
            Self::Tool => "tool",
            Self::Cpu => "cpu",
            Self::Kernel => "kernel",
            Self::Cgroups => "cgroups",
            Self::Labels => "labels",
            Self::Files => "files",
            Self::Gpus => "gpus",
        })
    }
}

fn shown<T: fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}
