//! Several containers dumped as one: at one moment, and all or none.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use super::error::PodError;
use super::freezer;
use super::gate::{self, Operation, connections};
use super::hooks::PodHooks;
use crate::criu::Criu;
use crate::error::Error;
use crate::hooks::{Action, Hooks};
use crate::host::tree;
use crate::operation::{Dump, Dumped};
use crate::undo::{Frozen, frozen_above};
use crate::value::{Cancel, InvalidValue, Pid};

pub(super) type Container<'a> = gate::Container<'a, Dump<'a>>;

/// Containers to be dumped as one, such as those of a Kubernetes pod.
///
/// First all containers are frozen by their cgroups, and they stay frozen until the last is saved:
/// data that one has sent, another has got or will get. They are saved side by side. After that
/// each container is treated as its [`after_dump`](Dump::after_dump) says. If a dump fails, all
/// containers run on, and the images of this run are removed.
///
/// ```no_run
/// use criu_rs::{AfterDump, Criu, Dump, Pid, Pod, Sandbox};
/// use std::path::Path;
///
/// let (sandbox, web, log): (Pid, Pid, Pid) = ("4710".parse()?, "4711".parse()?, "4720".parse()?);
/// let shared = Sandbox::of_process(sandbox)?;
/// let container = |name: &str, pid| {
///     let dump = Dump::new(pid, Path::new("/ckpt").join(name))
///         .after_dump(AfterDump::LeaveRunning)
///         .freeze_cgroup(format!("/sys/fs/cgroup/pod7/{name}"));
///     shared.leave_out(dump)
/// };
/// let dumped = Pod::new()
///     .freeze_cgroup("/sys/fs/cgroup/pod7")
///     .container("web", container("web", web)?)
///     .container("log", container("log", log)?)
///     .dump(&Criu::new(), &mut ())?;
/// println!("{} containers, frozen for {:?}", dumped.containers.len(), dumped.frozen);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Each dump needs a freezer cgroup of its own ([`Dump::freeze_cgroup`]), of version 1 or 2, which
/// holds the tasks of this container and no others. A frozen cgroup above it is refused unless it
/// is the pod's: CRIU would wait in vain.
#[derive(Default)]
#[must_use = "nothing is dumped before `dump`"]
pub struct Pod<'a> {
    cgroup: Option<PathBuf>,
    containers: Vec<Container<'a>>,
}

/// The names and outcomes of the containers, and the time for which all stood still.
type Ran<T> = (Vec<(String, T)>, Duration);

/// A dumped pod.
#[derive(Debug)]
#[non_exhaustive]
pub struct PodDumped {
    /// The names and dumps of the containers, in the order in which they were added.
    pub containers: Vec<(String, Dumped)>,
    /// Time for which all containers stood still.
    pub frozen: Duration,
}

impl<'a> Pod<'a> {
    /// A pod without containers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a container: its name, for errors and results, and how it is dumped.
    pub fn container(mut self, name: impl Into<String>, dump: Dump<'a>) -> Self {
        self.containers.push(Container { name: name.into(), operation: dump, hooks: None });
        self
    }

    /// Adds a container with hooks, which are called in another thread.
    pub fn container_with(
        mut self,
        name: impl Into<String>,
        dump: Dump<'a>,
        hooks: &'a mut (dyn Hooks + Send),
    ) -> Self {
        self.containers.push(Container { name: name.into(), operation: dump, hooks: Some(hooks) });
        self
    }

    /// Names a cgroup above those of all containers, which freezes them at one stroke. By default
    /// they are frozen one after another, before the first is saved. The cgroup is thawed while
    /// CRIU works, and in the end as it was before.
    pub fn freeze_cgroup(mut self, cgroup: impl Into<PathBuf>) -> Self {
        self.cgroup = Some(cgroup.into());
        self
    }

    /// Ends all dumps if one of them takes longer than `limit`: see [`Dump::deadline`].
    pub fn deadline(mut self, limit: Duration) -> Self {
        gate::set(&mut self.containers, |dump| dump.deadline(limit));
        self
    }

    /// Ends all dumps when `cancel` is cancelled.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        gate::set(&mut self.containers, |dump| dump.cancel(cancel));
        self
    }

    /// Freezes the containers, dumps them and lets them go.
    ///
    /// # Errors
    /// See [`PodError`]. Except after [`PodError::Torn`], all containers run on, their freezers are
    /// as they were, and no image of this run is left.
    pub fn dump(self, criu: &Criu, hooks: &mut dyn PodHooks) -> Result<PodDumped, PodError> {
        let (containers, frozen) = self.run(criu, hooks, Ok, || ())?;
        Ok(PodDumped { containers, frozen })
    }

    /// Freezes the containers, runs the operations that `make` makes of their dumps, and lets the
    /// containers go. Then calls `let_go`. Returns the outcomes, and the time for which all stood
    /// still.
    pub(super) fn run<O: Operation + 'a>(
        self,
        criu: &Criu,
        hooks: &mut dyn PodHooks,
        make: impl FnOnce(Vec<Container<'a>>) -> Result<Vec<gate::Container<'a, O>>, PodError>,
        let_go: impl FnOnce(),
    ) -> Result<Ran<O::Outcome>, PodError> {
        connections(criu)?;
        let cgroups = self.check()?;
        if matches!(criu.program(), Ok(Some(_))) {
            self.refuse_trees()?;
        }
        let dumps: Vec<(String, Dump<'a>)> =
            self.containers.iter().map(|c| (c.name.clone(), c.operation.clone())).collect();
        let operations = make(self.containers)?;
        let since = Instant::now();
        let above = self.cgroup.as_deref().map(freeze).transpose()?;
        let held: Vec<Frozen> = cgroups.iter().map(freeze).collect::<Result<_, _>>()?;
        if let (Some(above), Some(cgroup)) = (&above, &self.cgroup) {
            // CRIU thaws the tasks that it has seized. Frozen from above, they would stay frozen.
            let failed = |source| PodError::Freeze { cgroup: cgroup.clone(), source };
            above.release().map_err(failed)?;
        }
        if let Some(above) = cgroups.iter().find_map(|cgroup| frozen_above(cgroup)) {
            let why = "it is frozen already, and CRIU would wait in vain: \
                       name it by Pod::freeze_cgroup, or thaw it";
            let source = io::Error::other(why);
            return Err(PodError::Freeze { cgroup: above.into(), source });
        }
        hooks.frozen().map_err(PodError::Hook)?;
        let is_killed: Vec<bool> = dumps.iter().map(|(_, dump)| !dump.leaves_tasks()).collect();
        let roots: Vec<Pid> = dumps.iter().map(|(_, dump)| dump.pid()).collect();
        // Their images are to say what was before this pod was frozen.
        let thawed = dumps.into_iter().zip(&held).filter(|(_, held)| !held.was_frozen());
        let thawed: Vec<(String, Dump<'_>)> = thawed.map(|(container, _)| container).collect();
        let mut unwritten = None;
        let ended = gate::run(operations, criu, || {
            for (name, dump) in thawed {
                if let Err(source) = freezer::forget(&dump) {
                    let why = source.to_string();
                    unwritten = Some(PodError::Container { name, source: source.into() });
                    return Err(why.into());
                }
            }
            hooks.saved()
        });
        wait_for_others(&roots);
        // This comes first, so that tasks that were frozen from above do not run in between.
        drop(above);
        for (held, is_killed) in held.into_iter().zip(is_killed) {
            if is_killed && ended.is_let_go {
                // Tasks cannot be restored into a frozen cgroup.
                let _ = held.thaw();
            }
        }
        let frozen = since.elapsed();
        let_go();
        match unwritten {
            Some(error) => Err(error),
            None => ended.conclude().map(|containers| (containers, frozen)),
        }
    }

    /// Refuses containers that are not to be dumped, before anything is frozen.
    fn refuse_trees(&self) -> Result<(), PodError> {
        self.containers.iter().try_for_each(|Container { name, operation: dump, .. }| {
            dump.refuse_tree(Pid::this())
                .map_err(|error| PodError::Container { name: name.clone(), source: error.into() })
        })
    }

    /// The containers' cgroups, if the pod makes sense.
    fn check(&self) -> Result<Vec<PathBuf>, PodError> {
        if self.containers.is_empty() {
            return Err(InvalidValue::new("a pod", "no container", "one container or more").into());
        }
        let mut names = HashSet::new();
        let mut cgroups: Vec<PathBuf> = Vec::new();
        for Container { name, operation: dump, .. } in &self.containers {
            if !names.insert(name) {
                let want = "one that no other container of the pod has";
                return Err(InvalidValue::new("a container's name", name, want).into());
            }
            let cgroup = dump.freezer().ok_or_else(|| {
                let what = "a pod's container";
                InvalidValue::new(what, name, "one whose dump has a freeze_cgroup")
            })?;
            let is_nested =
                |other: &PathBuf| cgroup.starts_with(other) || other.starts_with(&cgroup);
            if cgroups.iter().any(is_nested) {
                let want = "one that holds no other container of the pod";
                return Err(InvalidValue::new("a freezer cgroup", cgroup.display(), want).into());
            }
            cgroups.push(cgroup);
        }
        if let Some(above) = &self.cgroup {
            let is_below = |cgroup: &PathBuf| cgroup.starts_with(above) && cgroup != above;
            if let Some(cgroup) = cgroups.iter().find(|cgroup| !is_below(cgroup)) {
                let want = "one below the pod's";
                return Err(
                    InvalidValue::new("a container's cgroup", cgroup.display(), want).into()
                );
            }
        }
        Ok(cgroups)
    }
}

impl fmt::Debug for Pod<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let containers: Vec<_> = self.containers.iter().map(|c| (&c.name, &c.operation)).collect();
        f.debug_struct("Pod")
            .field("cgroup", &self.cgroup)
            .field("containers", &containers)
            .finish()
    }
}

impl Operation for Dump<'_> {
    type Outcome = Dumped;

    const AT: Action = Action::PostDump;

    fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<Dumped, Error> {
        Dump::run_with(self, criu, hooks)
    }
}

fn freeze(cgroup: impl AsRef<Path>) -> Result<Frozen, PodError> {
    let cgroup = cgroup.as_ref();
    let failed = |source| PodError::Freeze { cgroup: cgroup.into(), source };
    Frozen::freeze(cgroup, FREEZE_TIME).map_err(failed)
}

/// Waits until no criu holds a task any more. The criu of a service, which we may not end, goes on
/// for a while after its connection has ended, and freezes again the tasks that it found frozen
/// before it lets go of them.
fn wait_for_others(roots: &[Pid]) {
    let end = Instant::now() + FREEZE_TIME;
    let is_held = || roots.iter().flat_map(|&root| tree::descendants(root)).any(tree::is_traced);
    while is_held() && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Time that a cgroup may take to freeze: as long as CRIU gives itself.
const FREEZE_TIME: Duration = Duration::from_secs(10);
