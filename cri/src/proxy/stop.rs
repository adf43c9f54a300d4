//! The reason for which an answer is not waited for any more.

use std::fmt;
use std::future::Future;
use std::time::Instant;

use tokio::sync::watch;

/// A reason to come to an end. Clones tell of the same.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<Why>>);

/// The reason for which nobody waits for an answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The client has given up the call, or is gone.
    Gone,
    /// The time that the client gave has passed.
    Deadline,
    /// The proxy ends.
    Ending,
}

impl Stop {
    /// Returns a sender of a reason, and the receiver. A sender that is dropped tells that the
    /// client is gone.
    pub(super) fn pair() -> (Sender, Self) {
        let (sender, receiver) = watch::channel(None);
        (Sender(sender), Self(receiver))
    }

    /// The reason, if there is one by now.
    pub fn why(&self) -> Option<Why> {
        *self.0.borrow()
    }

    /// Waits for a reason.
    pub fn wait(&self) -> impl Future<Output = Why> + Send + 'static + use<> {
        let mut receiver = self.0.clone();
        async move {
            let found = receiver.wait_for(Option::is_some).await;
            found.ok().and_then(|why| *why).unwrap_or(Why::Gone)
        }
    }
}

/// The side that tells a reason.
#[derive(Debug)]
pub(super) struct Sender(watch::Sender<Option<Why>>);

impl Sender {
    /// Tells a reason. The first one stays.
    pub(super) fn tell(&self, why: Why) {
        self.0.send_if_modified(|told| {
            let is_first = told.is_none();
            told.get_or_insert(why);
            is_first
        });
    }

    /// Tells the reason [`Why::Deadline`] at a time. Never returns before that.
    pub(super) async fn tell_at(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
        self.tell(Why::Deadline);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.tell(Why::Gone);
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the client is gone",
            Self::Deadline => "the client's deadline has passed",
            Self::Ending => "the proxy ends",
        })
    }
}
