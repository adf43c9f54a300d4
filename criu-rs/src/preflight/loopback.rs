//! A check of the interface `lo`. A criu that starts connects to itself over it.

use super::finding::{Finding, Severity};
use super::look::Look;
use crate::diagnosis::Cause;
use crate::host::loopback;
use crate::transport::Transport;

pub(super) fn look(look: &Look<'_>) -> Option<Finding> {
    // The network namespace of a service is not known.
    let is_ours = !matches!(look.criu.transport(), Transport::Service(_) | Transport::Connected(_));
    if !is_ours || !loopback::is_down() {
        return None;
    }
    // The findings that an earlier criu has kept spare the connection.
    let Some(kept) = loopback::findings(look.opts.unprivileged()) else {
        return Some(Finding::blocks(Cause::LoopbackDown));
    };
    let detail = format!("unless criu uses what it has kept in {}", kept.display());
    Some(Finding::of(Severity::Loses, Cause::LoopbackDown).detail(detail))
}
