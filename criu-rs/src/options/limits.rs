//! The time an operation may take.

use std::time::Duration;

use crate::value::Cancel;

/// The time that an operation may take, and the handle that may end it.
#[derive(Clone, Debug)]
pub(crate) struct RunLimits {
    /// The time after which the operation is ended.
    pub(crate) deadline: Option<Duration>,
    /// The handle that cancels the operation.
    pub(crate) cancel: Option<Cancel>,
    /// The time that CRIU has to reach its next action once the operation is to end.
    pub(crate) grace: Duration,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { deadline: None, cancel: None, grace: Duration::from_secs(2) }
    }
}

impl RunLimits {
    /// Says whether the operation can be ended before its time.
    pub(crate) fn exist(&self) -> bool {
        self.deadline.is_some() || self.cancel.is_some()
    }
}
