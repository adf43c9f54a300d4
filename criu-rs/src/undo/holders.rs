//! The end of processes that hold memory for instant captures.

use std::io;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::host::holders::{Found, below};
use crate::host::{LiveHolder, OwnerState, in_a_thread};
use crate::sys::holders::{Bond, Kept};
use crate::value::Pid;

/// A holder that was killed and that its task has not reaped. It holds no memory any more: only its
/// number is taken.
#[derive(Debug, thiserror::Error)]
#[error("process {task} has not reaped its holder {holder}: {why}")]
pub(crate) struct Unreaped {
    pub(crate) task: i32,
    pub(crate) holder: i32,
    pub(crate) why: Kept,
}

/// Kills holders, and has their tasks reap them. Waits at most so long for all of them. Returns
/// those that are left.
///
/// All are killed first: the kernel takes their memory back at one time.
pub(crate) fn end(bonds: &[Bond], patience: Duration) -> Vec<Unreaped> {
    if bonds.is_empty() {
        return Vec::new();
    }
    bonds.iter().for_each(Bond::kill);
    // A thread of a task that does not stop in time stays traced until the tracing thread ends.
    let reaped = in_a_thread(|| Ok(reap(bonds, patience)));
    // The system has no thread left.
    reaped.unwrap_or_else(|_| reap(bonds, patience))
}

fn reap(bonds: &[Bond], patience: Duration) -> Vec<Unreaped> {
    let until = Instant::now() + patience;
    let mut left: Vec<&Bond> = bonds.iter().collect();
    loop {
        let mut why = Vec::new();
        left.retain(|bond| match bond.reap(until.min(Instant::now() + TURN)) {
            Ok(_) => false,
            Err(kept) => {
                why.push(kept);
                true
            }
        });
        if left.is_empty() || Instant::now() >= until {
            let unreaped = |(bond, why): (&Bond, Kept)| Unreaped {
                task: bond.task(),
                holder: bond.holder(),
                why,
            };
            return left.into_iter().zip(why).map(unreaped).collect();
        }
    }
}

/// Ends the holders of a tree that nobody reads any more, and removes the remains of others.
/// Returns the holders that were ended. Holders whose reader may be out of sight are orphans only
/// if the caller says so.
///
/// # Errors
/// A holder cannot be ended, or its task does not reap it.
pub(crate) fn clear_orphans(root: Pid, unseen_too: bool) -> Result<Vec<LiveHolder>> {
    let (mut orphans, mut bonds, mut remains) = (Vec::new(), Vec::new(), Vec::new());
    for found in below(root) {
        let alive = found.alive();
        let is_orphan = match alive.as_ref().map(|holder| holder.state) {
            None | Some(OwnerState::Gone) => true,
            Some(OwnerState::Unseen) => unseen_too,
            Some(_) => false,
        };
        let Some(bond) = bond(&found).filter(|_| is_orphan) else { continue };
        match alive {
            Some(orphan) => {
                orphans.push(orphan);
                bonds.push(bond);
            }
            None => remains.push(bond),
        }
    }
    let left = end(&bonds, PATIENCE);
    // Remains do no harm: the next run tries again.
    end(&remains, TURN);
    match left.into_iter().next() {
        None => Ok(orphans),
        Some(unreaped) => {
            let doing = format!("clear up after an instant capture of process {}", unreaped.task);
            Err(Error::system(doing, io::Error::other(unreaped.to_string())))
        }
    }
}

/// Opens a holder that was found. `None` if it is gone.
fn bond(found: &Found) -> Option<Bond> {
    let bond = Bond::open(found.task.as_raw(), found.holder.as_raw()).ok()?;
    // Another process may have got the number before it was opened.
    let is_same = below(found.task).contains(found) && bond.is_there();
    is_same.then_some(bond)
}

/// The longest time for the end of orphans.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time for one holder before the next has its turn.
const TURN: Duration = Duration::from_millis(500);

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;
    use crate::sys::holders::Owner;
    use crate::sys::holders::lab::{Task, children, ended, hold};

    fn pid(number: i32) -> Pid {
        Pid::new(number).unwrap()
    }

    #[test]
    fn orphans_are_ended_and_holders_with_a_reader_stay() {
        let (task, own) = (Task::sleeping(), Owner::this().unwrap());
        let (root, gone) = (pid(task.pid()), ended());
        let read = hold(task.pid(), own);
        let orphans = [hold(task.pid(), gone), hold(task.pid(), gone)];
        let dead = hold(task.pid(), gone);
        nix::sys::signal::kill(pid(dead).nix(), Signal::SIGKILL).unwrap();
        assert!(criu_lab::soon(|| criu_lab::process::has_ended(dead)));
        let found = below(root);
        assert_eq!(found.len(), 4);
        assert!(found.contains(&Found { task: root, holder: pid(dead), owner: None }));
        let ended = clear_orphans(root, false).unwrap();
        let ended: Vec<i32> = ended.iter().map(|holder| holder.holder.as_raw()).collect();
        assert_eq!(ended, orphans);
        assert_eq!(children(task.pid()), [read]);
        let left = below(root)[0].alive().unwrap();
        assert_eq!(
            (left.holder, left.owner, left.state),
            (pid(read), Pid::this(), OwnerState::Lives)
        );
        assert!(end(&[Bond::open(task.pid(), read).unwrap()], PATIENCE).is_empty());
        task.is_unharmed();
        assert_eq!(clear_orphans(root, true).unwrap(), []);
    }

    #[test]
    fn the_end_of_many_tasks_includes_some_that_have_died() {
        let own = Owner::this().unwrap();
        let mut tasks: Vec<Task> = (0..6).map(|_| Task::sleeping()).collect();
        let bond = |task: &Task| Bond::open(task.pid(), hold(task.pid(), own)).unwrap();
        let bonds: Vec<Bond> = tasks.iter().map(bond).collect();
        tasks.truncate(4);
        assert!(end(&bonds, PATIENCE).is_empty());
        tasks.iter().for_each(Task::is_unharmed);
    }
}
