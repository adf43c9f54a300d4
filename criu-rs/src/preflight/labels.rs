//! Checks for security labels that would be lost.

use super::finding::{Finding, Severity};
use crate::criu::Criu;
use crate::diagnosis::Cause;
use crate::error::Error;
use crate::labels::{LabelError, LabelProblem, SecurityModule};
use crate::operation::labels::{RestoreGuard, foresee};
use crate::operation::{Dump, Restore};
use crate::options::RunLimits;

pub(super) fn of_dump(dump: &Dump<'_>, criu: &Criu) -> Option<Finding> {
    found(foresee(criu, dump.pid()), dump.accepts_label_loss())
}

pub(super) fn of_restore(restore: &Restore<'_>, criu: &Criu) -> Option<Finding> {
    // Look::new has already reported a directory that cannot be opened.
    let images = restore.common.opts.images.open().ok()?;
    let message = restore.common.opts.message();
    let guard = RestoreGuard::before(criu, images.as_ref(), message, &RunLimits::default());
    found(guard.map(drop), restore.accepts_label_loss())
}

fn found(result: Result<(), Error>, is_accepted: bool) -> Option<Finding> {
    match result {
        Ok(()) => None,
        Err(Error::Label(error)) => Some(finding(&error, is_accepted)),
        Err(Error::InvalidValue(error)) => {
            let severity = if is_accepted { Severity::Loses } else { Severity::Blocks };
            let what = "the context of mounts is not known here";
            Some(Finding::new(severity, what).detail(error.to_string()))
        }
        Err(error) => {
            let what = "security labels cannot be read";
            Some(Finding::new(Severity::Info, what).detail(error.to_string()))
        }
    }
}

fn finding(error: &LabelError, is_accepted: bool) -> Finding {
    let severity = if is_accepted { Severity::Loses } else { Severity::Blocks };
    let mut finding = Finding::new(severity, "a security label would be lost");
    let is_of_criu = !matches!(
        error.problem,
        LabelProblem::Unknown(_) | LabelProblem::Forbidden(_) | LabelProblem::Sockets { .. }
    );
    if is_of_criu && error.label.module() == SecurityModule::Selinux {
        finding.cause = Some(Cause::NoSelinux);
    }
    let pid = error.thread.filter(|_| error.operation == "dump");
    if let Some(pid) = pid.and_then(|id| i32::try_from(id).ok()?.try_into().ok()) {
        finding = finding.pid(pid);
    }
    finding.detail(error.what().to_string()).hint(error.hint())
}
