//! Findings of a check, each kept once.

use std::collections::HashSet;
use std::fmt;

use crate::bounds;
use crate::error::{Error, Result};

/// A fault of a set. Displays as one line: severity, place, fault.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// Severity of the fault.
    pub severity: Severity,
    /// The fault, and its place.
    pub error: Error,
}

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// A fact worth knowing.
    Note,
    /// A difference from what CRIU writes. A restore may still succeed.
    Warning,
    /// A fault that makes a restore fail, or lose something.
    Error,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.error)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

#[derive(Default)]
pub(super) struct Findings {
    all: Vec<Finding>,
    /// Texts of the findings so far: a fault in what tasks share is found more than once.
    known: HashSet<String>,
}

impl Findings {
    pub(super) fn worst_first(self) -> Vec<Finding> {
        let mut all = self.all;
        all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        all
    }

    pub(super) fn add(&mut self, severity: Severity, error: Error) {
        if self.all.len() < bounds::FINDINGS.length() && self.known.insert(error.to_string()) {
            self.all.push(Finding { severity, error });
        }
    }

    pub(super) fn error(&mut self, error: Error) {
        self.add(Severity::Error, error);
    }

    /// Returns the value, or records the error as a finding.
    pub(super) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.error(error)).ok()
    }
}
