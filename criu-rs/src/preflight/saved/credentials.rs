//! Checks that criu can give the tasks their credentials.

use std::collections::HashSet;

use caps::Capability as Cap;
use criu_images::Capabilities;
use criu_images::requirements::{Requirement, Rights};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::Finding;
use crate::preflight::rights::{self, Credentials};
use crate::value::Pid;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let (mine, mut found) = rights::of_criu(saved.look);
    let Some(mine) = mine.filter(|_| found.is_empty()) else { return found };
    let lacks = |cap: Cap| mine.effective & cap.bitmask() == 0;
    if rights::yama() == Some(3) {
        let detail = "Yama forbids tracing any process";
        found.push(Finding::blocks(Cause::NotTraceable).detail(detail));
    }
    // Without the option, CRIU makes sockets of rtnetlink and fails.
    if lacks(Cap::CAP_NET_ADMIN) && !saved.look.opts.unprivileged() {
        found.push(rights::missing(Cap::CAP_NET_ADMIN));
    }
    // Threads mostly have the credentials of their task.
    let mut told: HashSet<(u32, String)> = HashSet::new();
    for requirement in &saved.requirements {
        let Requirement::Rights(rights) = requirement else { continue };
        // In a user namespace of its own CRIU has every capability.
        if rights.own_namespace {
            continue;
        }
        let Some((cause, detail)) = denied(rights, &mine) else { continue };
        if told.insert((rights.pid, detail.clone())) {
            let finding = Finding::blocks(cause).detail(detail);
            found.push(match Pid::try_from(rights.pid) {
                Ok(pid) => finding.pid(pid),
                Err(_) => finding,
            });
        }
    }
    found
}

/// Returns what keeps criu from giving these credentials.
fn denied(rights: &Rights, mine: &Credentials) -> Option<(Cause, String)> {
    let cause = Cause::CapabilityNotHeld;
    let lacks = |cap: Cap| mine.effective & cap.bitmask() == 0;
    let missing = rights.permitted.0 & !mine.permitted;
    if missing != 0 {
        return Some((cause, format!("the task has {}", Capabilities(missing))));
    }
    let more = rights.inheritable.0 & !(mine.inheritable | mine.bounding);
    if more != 0 {
        return Some((cause, format!("the task can inherit {}", Capabilities(more))));
    }
    let drops = mine.bounding & !rights.bounding.0;
    if drops != 0 && lacks(Cap::CAP_SETPCAP) {
        let detail = format!("CAP_SETPCAP, to take {} from the task", Capabilities(drops));
        return Some((cause, detail));
    }
    let differ = |ids: [u32; 4], mine: &[u32]| ids.iter().any(|id| !mine.contains(id));
    let users = differ(rights.users, &mine.uids);
    if users && lacks(Cap::CAP_SETUID) {
        let users = rights.users.map(|id| id.to_string()).join(",");
        return Some((Cause::IdNotGiven, format!("CAP_SETUID, for user {users}")));
    }
    let more = !rights.more_groups.is_empty() && rights.more_groups != mine.groups;
    if (differ(rights.groups, &mine.gids) || more) && lacks(Cap::CAP_SETGID) {
        let groups = rights.groups.map(|id| id.to_string()).join(",");
        return Some((Cause::IdNotGiven, format!("CAP_SETGID, for group {groups}")));
    }
    if matches!(rights.policy, FIFO | ROUND_ROBIN) && lacks(Cap::CAP_SYS_NICE) {
        return Some((Cause::MissingCapability, "CAP_SYS_NICE, for a real-time task".to_owned()));
    }
    None
}

/// `SCHED_FIFO` and `SCHED_RR`.
const FIFO: u32 = 1;
const ROUND_ROBIN: u32 = 2;
