//! How much CRIU logs.

use super::invalid::InvalidValue;

/// How much CRIU logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Only what has no level (`-v0`).
    Messages,
    /// Errors (`-v1`).
    Errors,
    /// And warnings (`-v2`): what CRIU does by default.
    #[default]
    Warnings,
    /// And information, with timestamps (`-v3`).
    Information,
    /// And debugging (`-v4`).
    Debug,
}

impl LogLevel {
    /// CRIU's number for it, 0 to 4.
    pub fn number(self) -> i32 {
        self as i32
    }
}

impl TryFrom<i32> for LogLevel {
    type Error = InvalidValue;

    fn try_from(number: i32) -> Result<Self, InvalidValue> {
        [Self::Messages, Self::Errors, Self::Warnings, Self::Information, Self::Debug]
            .into_iter()
            .find(|level| level.number() == number)
            .ok_or_else(|| InvalidValue::new("a log level", number, "a number from 0 to 4"))
    }
}
