//! Several containers restored as one: all or none, and all run from one moment on.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use super::error::PodError;
use super::gate::{self, Operation, connections};
use super::hooks::PodHooks;
use crate::criu::Criu;
use crate::error::Error;
use crate::hooks::{Action, Hooks};
use crate::operation::{Restore, Restored};
use crate::value::{Cancel, InvalidValue};

type Container<'a> = gate::Container<'a, Restore<'a>>;

/// Containers to be restored as one, as a [`Pod`](crate::Pod) was dumped.
///
/// The containers are restored side by side, and no container runs before all are complete. If a
/// restore fails, no container is left. Containers that are restored one by one may lose
/// connections: the first sends to another that does not exist yet.
///
/// ```no_run
/// use criu_rs::{Criu, Pid, PodRestore, Restore, Sandbox, Tcp};
///
/// let sandbox = Sandbox::of_process("5110".parse::<Pid>()?)?;
/// let container = |name| {
///     let images = std::path::Path::new("/ckpt").join(name);
///     sandbox.join(Restore::new(images).tcp(Tcp::Established))
/// };
/// let restored = PodRestore::new()
///     .container("web", container("web"))
///     .container("log", container("log"))
///     .restore(&Criu::new(), &mut ())?;
/// for (name, container) in restored.containers {
///     println!("{name} is process {}", container.pid);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
#[must_use = "nothing is restored before `restore`"]
pub struct PodRestore<'a> {
    containers: Vec<Container<'a>>,
}

/// A restored pod.
#[derive(Debug)]
#[non_exhaustive]
pub struct PodRestored {
    /// The names and restores of the containers, in the order in which they were added.
    pub containers: Vec<(String, Restored)>,
}

impl<'a> PodRestore<'a> {
    /// A pod without containers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a container: its name, for errors and results, and how it is restored.
    pub fn container(mut self, name: impl Into<String>, restore: Restore<'a>) -> Self {
        self.containers.push(Container { name: name.into(), operation: restore, hooks: None });
        self
    }

    /// Adds a container with hooks, which are called in another thread.
    pub fn container_with(
        mut self,
        name: impl Into<String>,
        restore: Restore<'a>,
        hooks: &'a mut (dyn Hooks + Send),
    ) -> Self {
        let hooks = Some(hooks);
        self.containers.push(Container { name: name.into(), operation: restore, hooks });
        self
    }

    /// Ends all restores if one of them takes longer than `limit`: see [`Restore::deadline`].
    pub fn deadline(mut self, limit: Duration) -> Self {
        gate::set(&mut self.containers, |restore| restore.deadline(limit));
        self
    }

    /// Ends all restores when `cancel` is cancelled.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        gate::set(&mut self.containers, |restore| restore.cancel(cancel));
        self
    }

    /// Restores the containers, and lets all run.
    ///
    /// # Errors
    /// See [`PodError`]. Except after [`PodError::Torn`], no process is left behind.
    pub fn restore(self, criu: &Criu, hooks: &mut dyn PodHooks) -> Result<PodRestored, PodError> {
        connections(criu)?;
        self.check(criu)?;
        let ended = gate::run(self.containers, criu, || hooks.restored());
        ended.conclude().map(|containers| PodRestored { containers })
    }

    fn check(&self, criu: &Criu) -> Result<(), PodError> {
        if self.containers.is_empty() {
            return Err(InvalidValue::new("a pod", "no container", "one container or more").into());
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.containers.iter().find(|container| !names.insert(&container.name))
        {
            let want = "one that no other container of the pod has";
            return Err(InvalidValue::new("a container's name", &twice.name, want).into());
        }
        let with_terminals = self.containers.iter().filter(|c| c.operation.wants_masters()).count();
        if with_terminals > 1 && criu.transport().is_libcriu() {
            // libcriu has one place for masters, so the second restore would wait for the first to
            // end.
            let want = "at most one that hands over the masters of terminals";
            return Err(InvalidValue::new("a pod over libcriu", with_terminals, want).into());
        }
        Ok(())
    }
}

impl fmt::Debug for PodRestore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let containers: Vec<_> = self.containers.iter().map(|c| (&c.name, &c.operation)).collect();
        f.debug_struct("PodRestore").field("containers", &containers).finish()
    }
}

impl Operation for Restore<'_> {
    type Outcome = Restored;

    const AT: Action = Action::PreResume;

    fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<Restored, Error> {
        Restore::run_with(self, criu, hooks)
    }
}
