//! Checks of pipes and FIFOs by their number and mode.

use std::collections::HashSet;

use super::finding::Finding;
use super::live::Tree;
use super::proc::Kind;
use crate::diagnosis::Cause;

pub(super) fn look(tree: &Tree) -> Vec<Finding> {
    let (mut pipes, mut fifos) = (HashSet::new(), HashSet::new());
    let mut found = Vec::new();
    for (task, fd) in tree.fds().filter(|(_, fd)| fd.meta.kind == Kind::Fifo) {
        let Some(flags) = fd.flags().filter(|flags| flags & nix::libc::O_PATH == 0) else {
            continue;
        };
        if flags & nix::libc::O_DIRECT != 0 {
            let finding = Finding::blocks(Cause::UnsupportedFile).pid(task.pid).fd(fd.number);
            let finding = finding.path(&fd.link).detail("a pipe in packet mode (O_DIRECT)");
            found.push(finding);
        }
        // CRIU has a table of pipes and one of FIFOs. Ends that only write are not in them.
        if flags & nix::libc::O_ACCMODE != nix::libc::O_WRONLY {
            let is_pipe = fd.name().starts_with("pipe:[");
            let table = if is_pipe { &mut pipes } else { &mut fifos };
            table.insert((fd.meta.dev, fd.meta.inode));
        }
    }
    for (table, name) in [(pipes, "pipes"), (fifos, "FIFOs")] {
        if table.len() > MOST {
            let detail = format!("{} {name} with a reading end in the tree", table.len());
            found.push(Finding::blocks(Cause::TooManyPipes).detail(detail));
        }
    }
    found
}

/// CRIU's `NR_PIPES_WITH_DATA`.
const MOST: usize = 1024;
