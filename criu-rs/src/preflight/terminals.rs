//! Checks of terminals: their sessions, and the masters of pseudoterminals.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::finding::Finding;
use super::live::{Task, Tree};
use super::look::Look;
use super::need::Need;
use super::proc::{self, Fd, Kind};
use crate::diagnosis::Cause;
use crate::value::{External, Pid};

/// Returns true if a character device with this major number is a terminal.
pub(super) fn is_terminal(major: u64) -> bool {
    matches!(major, 4 | 5 | 188 | 204) || is_slave(major) || is_master(major)
}

/// Returns true if CRIU saves a terminal with this device number: consoles and pseudoterminals, and
/// serial lines over USB, but no serial lines of the machine.
pub(super) fn is_saved(major: u64, minor: u64) -> bool {
    match major {
        4 if cfg!(target_arch = "s390x") => matches!(minor, 1..=65),
        4 => matches!(minor, 1..=63),
        5 => minor <= 2,
        major => is_terminal(major),
    }
}

fn is_slave(major: u64) -> bool {
    (136..=143).contains(&major)
}

fn is_master(major: u64) -> bool {
    (128..=135).contains(&major)
}

pub(super) fn look(tree: &Tree, look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut slaves: BTreeMap<u64, (Pid, &Fd)> = BTreeMap::new();
    let mut masters = BTreeSet::new();
    let mut told = HashSet::new();
    let mounts = tree.mounts();
    for (task, fd) in tree.fds().filter(|(_, fd)| fd.meta.kind == Kind::Character) {
        let (major, minor) = fd.meta.device();
        if !is_saved(major, minor) || is_named(look, fd) {
            continue;
        }
        let invisible = fd.mount.is_some_and(|mount| !mounts.contains_key(&mount));
        if invisible && !look.opts.shell_job() {
            let external = External::Tty { rdev: fd.meta.rdev, dev: fd.meta.dev };
            let needs = vec![Need::ShellJob, Need::External(external)];
            let finding = Finding::needs(Cause::FileOutsideMounts, needs, false);
            found.push(finding.pid(task.pid).fd(fd.number).path(&fd.link));
        }
        // A terminal whose master is closed has hung up: nothing is left to lose.
        let is_hung_up = fd.name().ends_with(" (deleted)");
        if is_hung_up {
            continue;
        }
        if is_slave(major) {
            slaves.entry((major - 136) * 256 + minor).or_insert((task.pid, fd));
        } else if (major, minor) == (5, 2) || is_master(major) {
            masters.extend(proc::numbers::<u64>(&fd.info, "tty-index"));
        }
        // CRIU asks the terminal for its session, which answers only for a controlling terminal.
        let is_own = task.terminal() == Some((major, minor)) || (major, minor) == (5, 0);
        if is_own && !has_leader(tree, task) && told.insert(task.session) {
            let is_set = look.opts.shell_job();
            let finding = Finding::needs(Cause::ForeignTerminal, vec![Need::ShellJob], is_set);
            let detail = format!("process {} outside the tree leads its session", task.session);
            found.push(finding.pid(task.pid).fd(fd.number).path(&fd.link).detail(detail));
        }
    }
    let orphans: Vec<_> = slaves.iter().filter(|(index, _)| !masters.contains(index)).collect();
    for (n, (_, (pid, fd))) in orphans.iter().enumerate() {
        let finding = if n == 0 {
            let is_set = look.opts.shell_job() || look.opts.orphan_pts_master();
            let needs = vec![Need::ShellJob, Need::OrphanPtsMaster];
            Finding::needs(Cause::ForeignTerminal, needs, is_set)
        } else {
            Finding::blocks(Cause::SeveralTerminals)
        };
        let detail = "its master is outside the tree";
        found.push(finding.pid(*pid).fd(fd.number).path(&fd.link).detail(detail));
    }
    found
}

/// Returns true if the leader of the task's session is in the tree.
fn has_leader(tree: &Tree, task: &Task) -> bool {
    tree.has(task.session)
}

/// Returns true if the caller has named the terminal as external.
fn is_named(look: &Look<'_>, fd: &Fd) -> bool {
    look.is_external(&format!("tty[{:x}:{:x}]", fd.meta.rdev, fd.meta.dev))
}
