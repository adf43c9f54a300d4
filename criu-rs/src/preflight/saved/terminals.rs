//! Checks of terminals.

use std::io::IsTerminal;
use std::path::Path;

use criu_images::requirements::{Requirement, Terminal};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::Finding;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for requirement in &saved.requirements {
        let Requirement::Terminal(terminal) = requirement else { continue };
        found.extend(inherited(saved, terminal).or_else(|| pair(terminal)));
    }
    found
}

/// Checks that there is a terminal to give to a job. CRIU takes standard input.
fn inherited(saved: &Saved<'_>, terminal: &Terminal) -> Option<Finding> {
    let index = terminal.index?;
    let opts = &saved.look.opts;
    let takes = opts.shell_job() && !opts.orphan_pts_master() && saved.is_ours();
    let is_orphan = !terminal.has_master && !terminal.is_hung_up;
    (takes && is_orphan && !std::io::stdin().is_terminal())
        .then(|| Finding::blocks(Cause::NoTerminal).detail(format!("in the place of pts/{index}")))
}

/// Checks that the number of a pair is free, whose master the restore makes.
fn pair(terminal: &Terminal) -> Option<Finding> {
    let index = terminal.index.filter(|_| terminal.has_master && !terminal.own_namespace)?;
    let path = Path::new("/dev/pts").join(index.to_string());
    path.exists().then(|| Finding::blocks(Cause::TerminalInUse).path(path))
}
