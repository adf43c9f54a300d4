//! Levels of CRIU's log.

use super::invalid::InvalidValue;

/// The most detailed kind of message that CRIU logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Only messages without a level (`-v0`).
    Messages,
    /// Errors too (`-v1`).
    Errors,
    /// Warnings too (`-v2`): CRIU's default.
    #[default]
    Warnings,
    /// Information too, with timestamps (`-v3`).
    Information,
    /// Debugging messages too (`-v4`).
    Debug,
}

impl LogLevel {
    /// Returns CRIU's number for the level, 0 to 4.
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
