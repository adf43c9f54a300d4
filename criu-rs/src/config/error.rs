//! The reason why a configuration file cannot be used.

use std::fmt;
use std::path::PathBuf;

/// A line of a configuration file of CRIU's that CRIU refuses, or that says something which cannot
/// be true for an operation. Nothing was asked of CRIU.
///
/// `Display` is `FILE:LINE: OPTION: REASON`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The number of the line, from 1; `None` if the whole file is meant.
    pub line: Option<usize>,
    /// The option without dashes, if the line can be read.
    pub option: Option<String>,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(option) = &self.option {
            write!(f, ": {option}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for ConfigError {}
