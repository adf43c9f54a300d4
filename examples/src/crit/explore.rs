//! `crit x`: shows a set of images as tools show live processes.

use clap::ValueEnum;
use criu_images::view::{Fds, Mems, Mounts, Namespaces, Ps, Rss, Security, Sockets};
use criu_images::{Checkpoint, Task};

use crate::images::show;
use crate::tool::Fallible;

/// A view of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// The processes, as ps shows them
    Ps,
    /// Their open files, as lsof shows them
    Fds,
    /// Their mappings, as pmap shows them
    Mems,
    /// Their memory: how much, and where it is
    Rss,
    /// Their sockets, as ss shows them
    Sk,
    /// Their mounts, as findmnt shows them
    Mounts,
    /// Their namespaces, as lsns shows them
    Ns,
    /// Their users, groups and capabilities
    Security,
}

/// Prints a view, of all tasks unless some are named.
pub(crate) fn explore(
    checkpoint: Checkpoint<'_>,
    what: What,
    pids: &[u32],
    env: bool,
    json: bool,
) -> Fallible<()> {
    let tasks: Vec<Task<'_>> = match pids {
        [] => checkpoint.tasks().collect(),
        pids => {
            let find = |pid: &u32| checkpoint.task(*pid).ok_or_else(|| format!("no task {pid}"));
            pids.iter().map(find).collect::<Result<_, _>>()?
        }
    };
    let listed = |pid: &u32| pids.is_empty() || pids.contains(pid);
    match what {
        What::Ps => show(&Ps::with_arguments(tasks, env)?, json),
        What::Fds => show(&Fds::new(tasks)?, json),
        What::Mems => show(&Mems::new(tasks)?, json),
        What::Rss => show(&Rss::new(tasks)?, json),
        What::Sk => {
            let mut all = Sockets::new(checkpoint)?;
            let held = |at: &criu_images::view::Holder| listed(&at.pid);
            all.sockets.retain(|socket| pids.is_empty() || socket.holders.iter().any(held));
            show(&all, json)
        }
        What::Mounts => {
            let mut all = Mounts::new(checkpoint)?;
            all.namespaces.retain(|namespace| namespace.pids.iter().any(listed));
            show(&all, json)
        }
        What::Ns => {
            let mut all = Namespaces::new(checkpoint)?;
            all.namespaces.retain(|namespace| namespace.pids.iter().any(listed));
            show(&all, json)
        }
        What::Security => show(&Security::new(tasks)?, json),
    }?;
    Ok(())
}
