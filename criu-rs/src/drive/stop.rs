//! Ending an operation before its time.

use std::time::{Duration, Instant};

use crate::diagnosis::{StopMethod, StopReason};
use crate::transport::{Ending, Link, Next};

/// An operation that is being stopped.
#[derive(Debug)]
pub(crate) struct Stopping {
    pub(crate) why: StopReason,
    /// Until when an action is waited for, at which CRIU can be refused.
    until: Instant,
    ending: Ending,
}

impl Stopping {
    pub(crate) fn new(why: StopReason, grace: Duration) -> Self {
        Self { why, until: Instant::now() + grace, ending: Ending::default() }
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, link: &mut Link) -> Next {
        let now = Instant::now();
        if now < self.until {
            return Next::Wait(self.until);
        }
        match &mut link.worker {
            Some(worker) => self.ending.advance(worker),
            None => {
                link.hang_up();
                let limit = self.until + HANG_UP_TIME;
                if now < limit { Next::Wait(limit) } else { Next::Over(StopMethod::Disconnected) }
            }
        }
    }

    /// How it has been stopped, CRIU having gone.
    pub(crate) fn method(&self, link: &Link) -> StopMethod {
        match (self.ending.method(), &link.worker) {
            (Some(how), _) => how,
            (None, Some(_)) => StopMethod::Refused,
            (None, None) => StopMethod::Disconnected,
        }
    }
}

/// How long a service may take to notice that it has been left.
const HANG_UP_TIME: Duration = Duration::from_secs(5);
