//! Advice for errors of instant dumps, in the options of dump.

use std::error::Error;

use criu_rs::OwnerState;
use criu_rs::instant::InstantError;
use criu_rs::pages::PagesError;

/// Returns what to do about an error of an instant dump.
pub(crate) fn of(error: &(dyn Error + Send + Sync + 'static)) -> Option<&'static str> {
    match error.downcast_ref()? {
        InstantError::NoPlugin { .. } => Some(
            "build the package criu-plugin in a checkout, and put its libcriu_plugin.so into \
             /usr/lib/criu-rs, or name it with --instant-plugin",
        ),
        InstantError::Plugin { .. } => Some("name another file with --instant-plugin"),
        InstantError::Pages(PagesError::Changed { .. } | PagesError::Holder { .. })
        | InstantError::Lost { .. } => Some(
            "free memory, because the kernel ends forks first when memory runs out; or dump without \
             --instant",
        ),
        InstantError::Flags { .. } => Some("dump again: the process has just replaced a mapping"),
        InstantError::Base { .. } | InstantError::SeriesEnded(_) => {
            Some("begin anew, without --prev-images-dir")
        }
        _ => None,
    }
}

/// Returns what to do about a fork of another instant dump, by what is known of its program.
pub(crate) fn about_holder(state: OwnerState) -> &'static str {
    match state {
        OwnerState::Lives => {
            "wait until that dump has read its memory, or end its program; after `pre-dump \
             --instant`, go on with the next round, or end the program with SIGTERM"
        }
        _ => {
            "wait until that dump has read its memory; if its program is gone, add \
             --clear-orphans, which ends the fork"
        }
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
        InstantError::Lost { task, holder, why: String::new() },
        InstantError::Flags { task, why: String::new() },
    ]
}
