//! Notices of a page server: connections that become no sessions, and shortages.

use std::time::{Duration, Instant};
use std::{fmt, io};

use super::error::PagesError;

/// An event of a page server that belongs to no session.
///
/// A server tells at most 10 a minute, and the number of the others afterwards.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A connection that became no session.
    TurnedAway {
        /// The client: its address, for TCP.
        peer: String,
        /// The reason.
        why: PagesError,
    },
    /// A shortage that the server waits out: no descriptors, memory or threads are left.
    Short {
        /// The attempt that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A number of events that were not told.
    Untold(u64),
}

/// The sink of a server's notices, which bounds their number.
pub(super) struct Notices<'n> {
    tell: &'n mut dyn FnMut(Notice),
    since: Instant,
    told: u32,
    untold: u64,
}

impl<'n> Notices<'n> {
    pub(super) fn new(tell: &'n mut dyn FnMut(Notice)) -> Self {
        Self { tell, since: Instant::now(), told: 0, untold: 0 }
    }

    pub(super) fn tell(&mut self, notice: Notice, now: Instant) {
        if now.saturating_duration_since(self.since) >= SPAN {
            self.tell_untold();
            (self.since, self.told) = (now, 0);
        }
        if self.told >= MOST {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        self.told += 1;
        (self.tell)(notice);
    }

    /// Tells how many events were not told.
    pub(super) fn tell_untold(&mut self) {
        if self.untold > 0 {
            (self.tell)(Notice::Untold(self.untold));
            self.untold = 0;
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TurnedAway { peer, why } => write!(f, "{peer}: no session: {why}"),
            Self::Short { what, source } => {
                write!(f, "cannot {what} now, and tries again: {source}")
            }
            Self::Untold(1) => f.write_str("1 more connection without a session"),
            Self::Untold(number) => write!(f, "{number} more connections without a session"),
        }
    }
}

/// The time in which so many notices are told.
const SPAN: Duration = Duration::from_secs(60);
/// The most notices that are told in [`SPAN`].
const MOST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_beyond_ten_a_minute_are_a_number() {
        let mut said = Vec::new();
        let mut tell = |notice: Notice| said.push(notice.to_string());
        let mut notices = Notices::new(&mut tell);
        let begun = Instant::now();
        let turned = || Notice::TurnedAway { peer: "it".to_owned(), why: PagesError::Displaced };
        for _ in 0..1000 {
            notices.tell(turned(), begun);
        }
        notices.tell(turned(), begun + 2 * SPAN);
        notices.tell_untold();
        assert_eq!(said.len(), 12);
        assert_eq!(said[10], "990 more connections without a session");
        assert_eq!(said[11], "it: no session: the connection was silent and gave way to others");
    }
}
