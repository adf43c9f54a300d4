//! Notes on what became of the members of an archive.

use std::fmt;

use criu_images::Text;
use serde::Serialize;

/// Fate of a member in a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Effect {
    /// The new archive does not have it.
    Lost,
    /// The new archive has it, but its engine does not restore it.
    Ignored,
    /// The engine reads it, and there was nothing to make it of.
    Missing,
    /// A restore succeeds if whoever asks for it provides what the reason names.
    Needs,
    /// A member that was made up of others.
    Made,
    /// A member with other content.
    Changed,
    /// A member with another name.
    Renamed,
    /// The new archive has it for the way back. A restore does not need it.
    Kept,
}

impl Effect {
    /// Returns true if a restore lacks something, or fails because of that.
    pub fn is_loss(self) -> bool {
        matches!(self, Self::Lost | Self::Ignored | Self::Missing)
    }

    /// Word for the fate, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Ignored => "ignored",
            Self::Missing => "missing",
            Self::Needs => "needs",
            Self::Made => "made",
            Self::Changed => "changed",
            Self::Renamed => "renamed",
            Self::Kept => "kept",
        }
    }
}

/// A member that was lost, changed or made up. Displays as a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    effect: Effect,
    member: String,
    reason: String,
    /// Field of the member that is missing, if the note is about one.
    #[serde(skip)]
    field: Option<&'static str>,
}

impl Note {
    pub(crate) fn new(
        effect: Effect,
        member: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { effect, member: member.into(), reason: reason.into(), field: None }
    }

    /// Makes the note on a field that there was nothing to make of.
    pub(crate) fn missing(member: &str, field: &'static str, reason: &str) -> Self {
        let note = Self::new(Effect::Missing, member, format!("{field}: {reason}"));
        Self { field: Some(field), ..note }
    }

    /// Returns true for the note that a field of a member is missing.
    pub(crate) fn misses(&self, member: &str, field: &str) -> bool {
        self.member == member && self.field == Some(field)
    }

    /// Fate of the member.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Path of the member in the old archive, or in the new one if it was made up.
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
        let (member, reason) = (Text(self.member.as_bytes()), Text(self.reason.as_bytes()));
        write!(f, "{}: {member}: {reason}", self.effect.word())
    }
}
