//! Answers on the wire: a text each.

use std::fmt;

/// An answer of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// `ACK`: go on.
    Ack,
    /// `timeout`: not all came in time. This crate's coordinator says who is missing.
    Timeout(Option<String>),
    /// `not connected`: the member has not registered.
    NotConnected,
    /// `checkpoint is already created`: the member has been at post-dump before.
    CheckpointExists,
    /// `client already connected`: a member with this id is there already.
    AlreadyConnected,
    /// `failed`: another member has failed, with its name and the reason. criu-coordinator does not
    /// send it.
    Failed(String),
    /// `refused`: the coordinator does not take the request, with the reason. criu-coordinator does
    /// not send it.
    Refused(String),
}

impl Answer {
    /// Reads a whole answer, or returns `None` for text that is none.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if text.len() > MAX_ANSWER || text.contains(char::is_control) {
            return None;
        }
        let found = Self::PLAIN.iter().find(|answer| answer.word() == text);
        if let Some(answer) = found {
            return Some(answer.clone());
        }
        let (word, why) = text.split_once(": ").filter(|(_, why)| !why.is_empty())?;
        match word {
            "timeout" => Some(Self::Timeout(Some(why.to_owned()))),
            "failed" => Some(Self::Failed(why.to_owned())),
            "refused" => Some(Self::Refused(why.to_owned())),
            _ => None,
        }
    }

    /// The answers that are a word alone.
    const PLAIN: &[Self] = &[
        Self::Ack,
        Self::Timeout(None),
        Self::NotConnected,
        Self::CheckpointExists,
        Self::AlreadyConnected,
    ];

    fn word(&self) -> &'static str {
        match self {
            Self::Ack => "ACK",
            Self::Timeout(_) => "timeout",
            Self::NotConnected => "not connected",
            Self::CheckpointExists => "checkpoint is already created",
            Self::AlreadyConnected => "client already connected",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
        }
    }

    /// Returns the answer as it is sent: one line of at most [`MAX_ANSWER`] bytes.
    pub(super) fn to_line(&self) -> String {
        let line = self.to_string();
        let line = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
        let mut size = 0;
        line.take_while(|c| {
            size += c.len_utf8();
            size <= MAX_ANSWER
        })
        .collect()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Timeout(Some(why)) | Self::Failed(why) | Self::Refused(why) => {
                write!(f, ": {why}")
            }
            _ => Ok(()),
        }
    }
}

/// The largest answer, in bytes. The longest that this crate sends names five members.
pub(super) const MAX_ANSWER: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        for text in ["ACK", "timeout", "not connected", "timeout: B", "failed: B: it died"] {
            assert_eq!(Answer::parse(text.as_bytes()).unwrap().to_line(), text);
        }
        for text in ["", "AC", "ACK ", "ACK: well", "ack", "IMG_ACK", "failed", "failed: ", "n\n"] {
            assert_eq!(Answer::parse(text.as_bytes()), None, "{text}");
        }
        let long = Answer::Failed("é\n".repeat(MAX_ANSWER)).to_line();
        assert!(long.len() <= MAX_ANSWER && Answer::parse(long.as_bytes()).is_some());
    }
}
