//! The time an operation may take.

use std::time::Duration;

use crate::value::Cancel;

/// How long an operation may take, and who may end it.
#[derive(Clone, Debug)]
pub(crate) struct RunLimits {
    pub(crate) deadline: Option<Duration>,
    pub(crate) cancel: Option<Cancel>,
    pub(crate) grace: Duration,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { deadline: None, cancel: None, grace: Duration::from_secs(2) }
    }
}

impl RunLimits {
    /// Whether the operation can be ended before its time.
    pub(crate) fn exist(&self) -> bool {
        self.deadline.is_some() || self.cancel.is_some()
    }
}
