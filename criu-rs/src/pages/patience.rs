//! The patience with a peer that is silent or slow.

use std::time::Duration;

use super::error::PagesError;

/// The time that has been waited for the next message of a peer.
///
/// A message is a header or a page. The time that the messages before took does not count, and
/// neither does the time in which nothing was waited for. A peer that sends a byte now and then is
/// as slow as its messages.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Option<Duration>,
    waited: Duration,
    /// The bytes that have come since the last message.
    came: u64,
}

impl Patience {
    /// The patience with a peer that may take so long for a message.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, waited: Duration::ZERO, came: 0 }
    }

    /// Returns the time for which a call may wait, if limited.
    ///
    /// # Errors
    /// [`PagesError::TimedOut`] if the message has taken longer than allowed.
    pub(super) fn left(&self) -> Result<Option<Duration>, PagesError> {
        let Some(limit) = self.limit else { return Ok(None) };
        let left = limit.checked_sub(self.waited).filter(|left| !left.is_zero());
        left.map(Some).ok_or(NEXT)
    }

    /// Counts the time and the bytes of a call that waited.
    pub(super) fn waited(&mut self, time: Duration, bytes: u64) {
        self.waited = self.waited.saturating_add(time);
        self.came = self.came.saturating_add(bytes);
        if self.came >= PAGE {
            self.renew();
        }
    }

    /// Begins anew: a whole message has come.
    #[inline]
    pub(super) fn renew(&mut self) {
        (self.waited, self.came) = (Duration::ZERO, 0);
    }
}

/// The error of a message that takes too long.
pub(super) const NEXT: PagesError = PagesError::TimedOut("the next message");
/// The bytes of the smallest page.
const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_trickle_do_not_renew_the_patience_and_pages_do() {
        let second = Duration::from_secs(1);
        let mut patience = Patience::new(Some(60 * second));
        for _ in 0..59 {
            patience.waited(second, 1);
        }
        assert_eq!(patience.left().unwrap(), Some(second));
        patience.waited(second, 1);
        assert!(matches!(patience.left(), Err(PagesError::TimedOut("the next message"))));
        patience.renew();
        assert_eq!(patience.left().unwrap(), Some(60 * second));
        patience.waited(59 * second, 4095);
        assert_eq!(patience.left().unwrap(), Some(second));
        patience.waited(second / 2, 1);
        assert_eq!(patience.left().unwrap(), Some(60 * second));
        assert_eq!(Patience::new(None).left().unwrap(), None);
    }
}
