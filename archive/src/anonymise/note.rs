//! Notes on what is not in a copy.

use std::fmt;

use criu_images::Text;
use serde::Serialize;

/// Fate of a member that is not copied with its content replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fate {
    /// The copy does not have it.
    LeftOut,
    /// The copy has it without content.
    Emptied,
}

/// A member that is not in a copy, or not with its content. Displays as a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    fate: Fate,
    member: String,
    reason: String,
}

impl Note {
    pub(super) fn new(fate: Fate, member: &str, reason: impl Into<String>) -> Self {
        Self { fate, member: member.to_owned(), reason: reason.into() }
    }

    /// Fate of the member.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// Path of the member in the original.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// Reason, for people.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::LeftOut => "left out",
            Fate::Emptied => "emptied",
        };
        let (member, reason) = (Text(self.member.as_bytes()), Text(self.reason.as_bytes()));
        write!(f, "{fate}: {member}: {reason}")
    }
}
