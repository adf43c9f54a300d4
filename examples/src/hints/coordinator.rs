//! Advice for errors of members of a distributed job, in the options of dump and restore.

use std::error::Error;

use criu_cri::coordinator::CoordinatorError;

/// Returns what to do about an error that a hook returned, if it is one of a member.
pub(crate) fn of_hook(error: &(dyn Error + Send + Sync + 'static)) -> Option<&'static str> {
    match error.downcast_ref()? {
        CoordinatorError::Unprotected(_) => Some(
            "give --coordinator-certs, and --certs to the coordinator, or allow it with \
             --coordinator-expose",
        ),
        _ => None,
    }
}
