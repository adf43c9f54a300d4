//! An operation that is stopped before its time.

use std::time::{Duration, Instant};

use crate::diagnosis::{StopMethod, StopReason};
use crate::transport::{Endable, Ending, Next};

/// The stopping of an operation: CRIU is refused at its next action; without one in time, its worker
/// is ended.
#[derive(Debug)]
pub(super) struct Stopping {
    pub(super) why: StopReason,
    /// The time until which an action is waited for.
    until: Instant,
    ending: Ending,
}

impl Stopping {
    pub(super) fn new(why: StopReason, until: Instant) -> Self {
        Self { why, until, ending: Ending::default() }
    }

    /// Takes the next step. Without a worker of ours, `hang_up` tells the service that nothing more
    /// will come.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        worker: Option<&mut impl Endable>,
        hang_up: impl FnOnce(),
    ) -> Next {
        if now < self.until {
            return Next::Wait(self.until);
        }
        if let Some(worker) = worker {
            return self.ending.advance(now, worker);
        }
        hang_up();
        let limit = self.until + HANG_UP_TIME;
        if now < limit { Next::Wait(limit) } else { Next::Over(StopMethod::Disconnected) }
    }

    /// Returns how the operation was stopped, now that CRIU has gone.
    pub(super) fn method(&self, has_worker: bool) -> StopMethod {
        match self.ending.method() {
            Some(how) => how,
            None if has_worker => StopMethod::Refused,
            None => StopMethod::Disconnected,
        }
    }
}

/// The time that a service may take to notice that it has been left.
const HANG_UP_TIME: Duration = Duration::from_secs(5);
