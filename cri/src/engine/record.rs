//! The parts of a record that engines read.

use std::fmt;

/// The tool that made a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tool {
    /// The kind: `criu` or `runsc`.
    pub kind: String,
    /// The version, as the tool says it.
    pub version: String,
    /// The options of the tool that were used.
    pub arguments: Vec<String>,
    /// Features of the tool.
    pub features: Vec<String>,
}

/// A record of a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The containers: the name and the tool of each.
    pub containers: Vec<(String, Tool)>,
}

/// Facts about this machine.
#[derive(Clone, Debug, Default)]
pub struct Host {}

/// A reason why a checkpoint does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The reason.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
