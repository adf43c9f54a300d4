//! The dump of a container, and what completes its checkpoint.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::ContainerCheckpoint;
use super::descriptors::{Descriptors, hold};
use super::error::{Error, Result};
use super::replaced;
use crate::criu::Criu;
use crate::diagnosis::Cause;
#[cfg(feature = "instant")]
use crate::error::Misuse;
use crate::hooks::{Action, Call, HookResult, Hooks, Wrap};
#[cfg(feature = "instant")]
use crate::instant::{InstantCapture, InstantOptions};
use crate::operation::{Dump, Dumped};
#[cfg(feature = "instant")]
use crate::pages::Client;
use crate::value::{CgroupMode, Dir, External};

/// The dump of a container: a [`Dump`] that completes the container's checkpoint.
///
/// The options of a [`Dump`] are methods here. [`run`](Self::run) does three things more than a
/// dump: it refuses to end a container in which `exec` has added processes, leaves [`Descriptors`]
/// beside the images while the tasks still stand, and makes external mounts forget that their
/// sources were replaced.
///
/// ```no_run
/// use criu_rs::oci::Container;
/// use criu_rs::{AfterDump, Criu, Tcp};
///
/// let container = Container::open("/run/bundles/web")?;
/// let checkpoint = container.checkpoint("4711".parse()?)?;
/// let dump = checkpoint.dump("/ckpt/web").after_dump(AfterDump::LeaveRunning);
/// dump.tcp(Tcp::Established).run(&Criu::new())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// These steps cannot be left out by mistake, because the value is not a [`Dump`]:
///
/// ```compile_fail,E0308
/// use criu_rs::oci::Container;
/// use criu_rs::{AfterDump, Criu, Dump, Tcp};
///
/// let container = Container::open("/run/bundles/web")?;
/// let checkpoint = container.checkpoint("4711".parse()?)?;
/// let dump: Dump<'_> = checkpoint.dump("/ckpt/web").after_dump(AfterDump::LeaveRunning);
/// dump.tcp(Tcp::Established).run(&Criu::new())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The value is not changed by running it: the same call again is a retry.
#[derive(Clone, Debug)]
#[must_use = "nothing is dumped before `run`"]
pub struct ContainerDump<'a> {
    pub(super) operation: Dump<'a>,
    checkpoint: ContainerCheckpoint,
    /// Set if a dump that the freezer stands in the way of is repeated without it.
    retries: bool,
}

impl ContainerCheckpoint {
    /// A dump of the container into the directory `images`.
    pub fn dump<'a>(&self, images: impl Into<Dir<'a>>) -> ContainerDump<'a> {
        let mut dump =
            Dump::new(self.pid, images).manage_cgroups(CgroupMode::Soft).orphan_pts_master(true);
        for external in &self.external {
            dump = dump.external(external.clone());
        }
        if let Some(freezer) = &self.freezer {
            dump = dump.freeze_cgroup(freezer);
        }
        if let Some(file) = &self.config_file {
            dump = dump.config_file(file);
        }
        ContainerDump { operation: dump, checkpoint: self.clone(), retries: true }
    }
}

impl<'a> ContainerDump<'a> {
    /// Sets if a dump that did not stop all tasks with the freezer cgroup in time is repeated
    /// without it: see [`run`](Self::run). The default is to repeat it.
    pub fn retry_without_freezer(mut self, on: bool) -> Self {
        self.retries = on;
        self
    }

    /// Dumps, and completes the checkpoint.
    ///
    /// A task inside vfork(2) cannot be stopped while the freezer cgroup holds its child. CRIU then
    /// waits until its [`timeout`](Self::timeout), with the container frozen, and fails with
    /// [`Cause::Unseizable`](crate::Cause::Unseizable). This method repeats such a dump without
    /// the freezer, once, and the result says so ([`Dumped::freezer_left_out`]). CRIU waits 3
    /// seconds in the first try and 10 in the second, unless the caller sets a time limit. Hooks
    /// see a second pre-dump then, and a deadline holds for each try.
    ///
    /// # Errors
    /// See [`crate::Error`]; [`crate::Error::Hook`] also when the checkpoint cannot be completed.
    /// [`Error::Beside`] for a dump that would end processes
    /// [`beside`](ContainerCheckpoint::beside) the tree of the first one: CRIU would freeze them,
    /// too, and wait for ever for the container to end. The container runs on.
    pub fn run(&self, criu: &Criu) -> Result<Dumped> {
        self.run_with(criu, &mut ())
    }

    /// Dumps and completes the checkpoint, answering CRIU's actions with `hooks`.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<Dumped> {
        let run = |dump: &Dump<'_>, hooks: &mut dyn Hooks| dump.run_with(criu, hooks);
        self.attempt(criu, hooks, run).map(|done| match done.freezer_left_out {
            true => Dumped { freezer_left_out: true, ..done.outcome },
            false => done.outcome,
        })
    }

    /// Dumps as [`run`](Self::run) does, and reads the memory from holders while the container runs
    /// on: see [`instant`](crate::instant). The checkpoint is complete when the
    /// [`reading`](InstantCapture::reading) is.
    ///
    /// # Errors
    /// See [`run`](Self::run) and [`Dump::instant`]. The container runs on.
    #[cfg(feature = "instant")]
    pub fn instant(
        &self,
        criu: &Criu,
        options: &InstantOptions,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        let run = |dump: &Dump<'_>, hooks: &mut dyn Hooks| dump.instant(criu, options, hooks);
        self.attempt(criu, hooks, run).map(Done::into_capture)
    }

    /// Dumps as [`instant`](Self::instant) does, and sends the memory to a page server. A dump that
    /// the freezer stands in the way of is not repeated.
    ///
    /// # Errors
    /// As [`instant`](Self::instant).
    #[cfg(feature = "instant")]
    pub fn instant_to(
        &self,
        criu: &Criu,
        options: &InstantOptions,
        server: Client,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        let mut server = Some(server);
        let run = |dump: &Dump<'_>, hooks: &mut dyn Hooks| {
            let server = server.take().ok_or(Misuse::SessionOver)?;
            dump.instant_to(criu, options, server, hooks)
        };
        self.clone().retry_without_freezer(false).attempt(criu, hooks, run).map(Done::into_capture)
    }

    /// Runs a dump, once more without the freezer if it stood in the way.
    fn attempt<T>(
        &self,
        criu: &Criu,
        hooks: &mut dyn Hooks,
        mut run: impl FnMut(&Dump<'_>, &mut dyn Hooks) -> crate::error::Result<T>,
    ) -> Result<Done<T>> {
        let (dump, mut hooks) = self.parts(hooks)?;
        let earlier = Descriptors::load_in(hooks.images.as_fd(), &hooks.path);
        let limit = if self.retries { first_limit(criu, &dump)? } else { None };
        let (outcome, freezer_left_out) = match limit {
            Some(limit) => {
                let first = run(&dump.clone().timeout(limit), &mut hooks);
                let took = hooks.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
                match first {
                    Err(error) if !hooks.has_stopped && is_not_stopped(&error, took, limit) => {
                        let dump = dump.raw(|message| message.freeze_cgroup = None);
                        (run(&dump, &mut hooks), true)
                    }
                    first => (first, false),
                }
            }
            None => (run(&dump, &mut hooks), false),
        };
        let earlier = Earlier { earlier, images: Arc::clone(&hooks.images), path: hooks.path };
        match outcome {
            Ok(outcome) => Ok(Done { outcome, freezer_left_out, earlier }),
            Err(error) => {
                if hooks.is_saved {
                    earlier.come_back();
                }
                Err(error.into())
            }
        }
    }

    /// The plain dump and the hooks that complete it, for whoever else runs a dump: a
    /// [`Pod`](crate::Pod), a [`PreDumpSession`](crate::PreDumpSession), [`Dump::capture`] or
    /// [`Dump::start`]. A dump without these hooks is not a complete checkpoint.
    ///
    /// ```no_run
    /// use criu_rs::oci::Container;
    /// use criu_rs::{Criu, PreDumpSession};
    ///
    /// let container = Container::open("/run/bundles/web")?;
    /// let checkpoint = container.checkpoint("4711".parse()?)?;
    /// let mut series = PreDumpSession::new(&Criu::new());
    /// series.pre_dump(&checkpoint.pre_dump("/ckpt/0"), &mut ())?;
    /// let last = checkpoint.dump("/ckpt/1").parent_img("../0").track_mem(true);
    /// let mut own = ();
    /// let (dump, mut hooks) = last.parts(&mut own)?;
    /// series.dump(&dump, &mut hooks)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// After a dump that fails, `descriptors.json` may be left in the directory.
    ///
    /// # Errors
    /// [`Error::Beside`], as [`run`](Self::run).
    pub fn parts<'h, H: Hooks + ?Sized>(
        &self,
        hooks: &'h mut H,
    ) -> Result<(Dump<'a>, DumpHooks<'h, H>)> {
        let mut dump = self.operation.clone();
        let beside = if dump.leaves_tasks() { Vec::new() } else { self.checkpoint.beside() };
        if !beside.is_empty() {
            return Err(Error::Beside { processes: beside });
        }
        let descriptors = self.checkpoint.descriptors().clone();
        let path = dump.images_path();
        let (held, images) = hold(&dump.common.opts.images)?;
        dump.common.opts.images = held;
        let hooks = DumpHooks {
            hooks,
            descriptors,
            images,
            path,
            is_saved: false,
            begun: None,
            has_stopped: false,
        };
        Ok((dump, hooks))
    }
}

/// A dump that has succeeded.
struct Done<T> {
    outcome: T,
    freezer_left_out: bool,
    #[cfg_attr(not(feature = "instant"), expect(dead_code))]
    earlier: Earlier,
}

#[cfg(feature = "instant")]
impl Done<InstantCapture> {
    fn into_capture(self) -> InstantCapture {
        let Self { outcome: InstantCapture { mut dumped, tasks, reading }, .. } = self;
        dumped.freezer_left_out = self.freezer_left_out;
        let reading = reading.or_else(move || self.earlier.come_back());
        InstantCapture { dumped, tasks, reading }
    }
}

/// The descriptors of an earlier checkpoint in the directory.
struct Earlier {
    earlier: Result<Descriptors>,
    images: Arc<OwnedFd>,
    path: PathBuf,
}

impl Earlier {
    /// An earlier checkpoint that is still there keeps its descriptors.
    fn come_back(self) {
        let images = self.images.as_fd();
        match self.earlier {
            Ok(earlier) => drop(earlier.save_in(images, &self.path)),
            Err(_) => Descriptors::remove_in(images),
        }
    }
}

/// Hooks that complete a container's checkpoint at post-dump, after the caller's own have agreed.
/// Made by [`ContainerDump::parts`].
#[must_use = "a container's dump needs these hooks"]
pub struct DumpHooks<'h, H: ?Sized> {
    hooks: &'h mut H,
    descriptors: Descriptors,
    images: Arc<OwnedFd>,
    /// The path of the images directory, for messages.
    path: PathBuf,
    /// Set once the descriptors have been written.
    is_saved: bool,
    /// The time from which on CRIU stops the tasks.
    begun: Option<Instant>,
    /// Set once CRIU has stopped the tasks, where it tells.
    has_stopped: bool,
}

impl<H: Hooks + ?Sized> Wrap for DumpHooks<'_, H> {
    fn wrap(&mut self, call: Call) -> HookResult<Vec<External>> {
        let action = call.action;
        self.has_stopped |= action != Action::PreDump;
        let externals = call.answer(self.hooks)?;
        self.begun.get_or_insert_with(Instant::now);
        if action == Action::PostDump {
            self.is_saved = true;
            complete(&self.descriptors, self.images.as_fd(), &self.path)?;
        }
        Ok(externals)
    }
}

impl<H: ?Sized> fmt::Debug for DumpHooks<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DumpHooks").field("images", &self.path).finish_non_exhaustive()
    }
}

/// Returns the time in which a first try has to stop all tasks, if a freezer cgroup is to stop
/// them. Zero for no limit.
fn first_limit(criu: &Criu, dump: &Dump<'_>) -> Result<Option<Duration>> {
    if dump.common.opts.message().freeze_cgroup.is_none() {
        return Ok(None);
    }
    let set = criu.configure(&dump.common)?.opts.message().timeout;
    Ok(Some(set.map_or(FIRST_TRY, |seconds| Duration::from_secs(seconds.into()))))
}

/// Says whether a dump that failed after `took` may have failed because of the freezer cgroup: its
/// time to stop the tasks ran out, and nothing else is known to be wrong.
fn is_not_stopped(error: &crate::error::Error, took: Duration, limit: Duration) -> bool {
    let ran_out = !limit.is_zero() && took >= limit && took < limit.saturating_add(AFTER);
    match error.cause() {
        Some(cause) => cause == Cause::Unseizable,
        None => error.failure().is_some() && ran_out,
    }
}

/// Time that CRIU takes to give up: it interrupts itself five more times, a second apart.
const AFTER: Duration = Duration::from_secs(7);

/// The time limit of a first try, where CRIU's own is 10 seconds. A freezer takes milliseconds, and
/// the container stands still meanwhile.
const FIRST_TRY: Duration = Duration::from_secs(3);

/// Adds to fresh images what a container's restore needs.
fn complete(descriptors: &Descriptors, images: BorrowedFd<'_>, path: &Path) -> Result<()> {
    descriptors.save_in(images, path)?;
    replaced::forget(images).map_err(|error| error.of_images_in(path))
}
