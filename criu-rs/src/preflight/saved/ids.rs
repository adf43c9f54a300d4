//! Checks that the ids of processes, threads, sessions and groups are free.

use criu_images::requirements::{Id, IdUse, Requirement};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::Finding;
use crate::preflight::proc;
use crate::value::Pid;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let ids = saved.requirements.iter().filter_map(|requirement| match requirement {
        Requirement::Id(id) => Some(*id),
        _ => None,
    });
    let ids: Vec<Id> = ids.collect();
    // The ids of a namespace of the tree's own are free.
    let wanted = ids.iter().filter(|id| id.used != IdUse::Foreign && !id.own_namespace);
    let pids = wanted.filter_map(|id| Some((Pid::try_from(id.id).ok()?, id.used)));
    let used =
        pids.filter_map(|(pid, of)| Some((pid, of, proc::text(proc::of(pid, "status")).ok()?)));
    let mut found: Vec<Finding> = used.map(|(pid, of, status)| in_use(pid, of, &status)).collect();
    found.extend(session(saved, &ids));
    found
}

fn in_use(pid: Pid, of: IdUse, status: &str) -> Finding {
    let name = proc::value(status, "Name").unwrap_or_default().to_owned();
    let state = proc::value(status, "State").unwrap_or_default();
    let zombie = if state.starts_with('Z') { ", a zombie that was not reaped" } else { "" };
    let wanted = match of {
        IdUse::Session => "; the tree wants the id for a session",
        IdUse::Group => "; the tree wants the id for a process group",
        _ => "",
    };
    let detail = format!("it is {}{zombie}{wanted}", name.escape_debug());
    Finding::blocks(Cause::PidInUse).pid(pid).detail(detail)
}

/// Checks the session and group that the tree takes in place of its own with `shell_job`.
fn session(saved: &Saved<'_>, ids: &[Id]) -> Option<Finding> {
    let root = saved.checkpoint.root();
    if !saved.look.opts.shell_job() || root.sid() == root.pid() || !saved.is_ours() {
        return None;
    }
    // A criu for a shell job stays in the session and group of this process.
    let session = u32::try_from(nix::unistd::getsid(None).ok()?.as_raw()).ok()?;
    let group = u32::try_from(nix::unistd::getpgrp().as_raw()).ok()?;
    let is_taken = |id: u32| ids.iter().any(|of| of.id == id);
    let clash = if session != root.sid() && is_taken(session) {
        ("session", session)
    } else if root.pgid() != root.pid() && group != root.pgid() && is_taken(group) {
        ("process group", group)
    } else {
        return None;
    };
    let detail = format!("this {} is {}, which the tree wants too", clash.0, clash.1);
    Some(Finding::blocks(Cause::SessionIdInUse).detail(detail))
}
