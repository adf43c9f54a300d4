//! Checks of the processes: whether they can be stopped and saved at all.

use super::finding::{Finding, Severity};
use super::live::{KINDS, Tree};
use super::look::Look;
use super::need::Need;
use super::proc;
use crate::diagnosis::Cause;
use crate::value::{Pid, Version};

pub(super) fn look(tree: &Tree, root: Pid, look: &Look<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(task) = tree.root() else {
        return vec![Finding::blocks(Cause::NoSuchProcess).pid(root)];
    };
    if task.is_zombie() {
        return vec![Finding::blocks(Cause::DeadRoot).pid(root)];
    }
    if task.is_kernel {
        let what = Finding::new(Severity::Blocks, "a kernel thread cannot be saved");
        return vec![what.pid(root)];
    }
    if tree.is_cut {
        let what = "the tree is large, and only a part of it was checked";
        found.push(Finding::new(Severity::Loses, what));
    }
    if tree.has(Pid::this().as_raw()) {
        found.push(Finding::blocks(Cause::InsideTree).pid(Pid::this()));
    }
    sessions(tree, look, &mut found);
    namespaces(tree, look, &mut found);
    for task in tree.alive() {
        if let Some(tracer) = task.tracer() {
            let by = format!("by process {tracer}");
            found.push(Finding::blocks(Cause::Traced).pid(task.pid).detail(by));
        }
        if task.state == 'D' {
            let what = "a process waits in the kernel and cannot be stopped now";
            let hint = "wait until it goes on: CRIU gives up after 10 s, or after .timeout";
            found.push(Finding::new(Severity::Loses, what).pid(task.pid).hint(hint));
        }
    }
    let ended = tree.tasks.len() - tree.alive().count();
    if ended > 0 {
        let what = "processes that have ended but were not reaped are saved as zombies";
        found.push(Finding::new(Severity::Info, what).detail(format!("{ended} of them")));
    }
    found
}

fn sessions(tree: &Tree, look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(root) = tree.root() else { return };
    for task in tree.tasks.iter().filter(|task| task.inner_session() == Some(0)) {
        let detail = "its session leader is outside the pid namespace";
        let hint = "start it with setsid in the pid namespace, or dump the leader's tree";
        let finding = Finding::blocks(Cause::ForeignSession).pid(task.pid).detail(detail);
        found.push(finding.hint(hint));
    }
    if root.session != root.pid.as_raw() && root.inner_session() != Some(0) {
        let is_set = look.opts.shell_job();
        let finding = Finding::needs(Cause::ForeignSession, vec![Need::ShellJob], is_set);
        let detail = format!("it is in the session of process {}", root.session);
        found.push(finding.pid(root.pid).detail(detail));
    }
}

fn namespaces(tree: &Tree, look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(root) = tree.root() else { return };
    for kind in KINDS {
        // CRIU saves several namespaces of these kinds.
        if matches!(kind, "mnt" | "net") {
            continue;
        }
        for task in tree.one_of_each(kind) {
            let inode = task.namespaces.get(kind);
            let known = inode == root.namespaces.get(kind) || inode == tree.here.get(kind);
            if let (false, Some(inode)) = (known, inode) {
                let detail = format!("its {kind} namespace differs from the root's");
                let finding = Finding::blocks(Cause::NestedNamespace).pid(task.pid);
                found.push(finding.inode(*inode).detail(detail));
            }
        }
    }
    let wants = tree.saves("user") && !tree.saves("mnt") && look.version >= Version::new(4, 3, 0);
    let kernel = proc::text("/proc/filesystems").unwrap_or_default();
    if wants && kernel.lines().any(|line| line.ends_with("binfmt_misc")) {
        found.push(Finding::blocks(Cause::NoBinfmtMisc).pid(root.pid));
    }
    if tree.saves("pid") && root.inner_pid().is_some_and(|pid| pid != 1) {
        found.push(Finding::blocks(Cause::NoInit).pid(root.pid));
    }
}
