//! A check of the interface `lo`. A criu that starts connects to itself over it.

use std::path::Path;

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
    // What an earlier criu has learned about the kernel spares the connection.
    let is_known = Path::new(LEARNED).exists();
    let severity = if is_known { Severity::Loses } else { Severity::Blocks };
    let finding = Finding::of(severity, Cause::LoopbackDown);
    Some(if is_known { finding.detail(format!("unless it believes {LEARNED}")) } else { finding })
}

/// CRIU's record of the kernel's features.
const LEARNED: &str = "/run/criu.kdat";
