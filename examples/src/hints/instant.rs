//! Advice for errors of instant dumps, in the options of dump.

use std::error::Error;

use criu_rs::instant::InstantError;

/// Returns what to do about an error of an instant dump.
pub(crate) fn of(error: &(dyn Error + Send + Sync + 'static)) -> Option<&'static str> {
    match error.downcast_ref()? {
        InstantError::NoPlugin { .. } => Some(
            "build it in a checkout with `cargo build --release -p criu-plugin`, and put \
             target/release/libcriu_plugin.so into /usr/lib/criu-rs, or name it with --instant-plugin",
        ),
        InstantError::Plugin { .. } => Some("name another file with --instant-plugin"),
        InstantError::Busy { .. } => Some(
            "wait until the program that holds the memory has read it, or end that program: the \
             next instant dump clears up what it leaves",
        ),
        InstantError::Lost { .. } => Some(
            "free memory, because the kernel ends forks first when memory runs out; or dump without \
             --instant",
        ),
        _ => None,
    }
}

/// Tells if an instant dump was stopped from outside.
pub(crate) fn is_stopped(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(InstantError::Cancelled))
}

/// Errors with advice, one of each kind.
#[cfg(test)]
pub(super) fn samples() -> [InstantError; 4] {
    let (task, holder) = (criu_rs::Pid::this(), criu_rs::Pid::this());
    [
        InstantError::NoPlugin { looked: Vec::new() },
        InstantError::Plugin { path: "x".into(), why: String::new() },
        InstantError::Busy { task, holder, owner: 1 },
        InstantError::Lost { task, holder, why: String::new() },
    ]
}
