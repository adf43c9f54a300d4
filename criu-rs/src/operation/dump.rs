//! Saving a process tree.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use criu_images::DumpStats;

use super::copy_notice;
use super::holders::{Hidden, refuse_holders};
use super::labels::DumpGuard;
use super::methods::operation;
use super::session::Session;
use crate::criu::Criu;
use crate::drive::Driver;
use crate::error::Result;
use crate::hooks::Hooks;
use crate::host::NestedNamespace;
use crate::operation::prepared::{Prepared, Watched, clone};
use crate::options::Common;
use crate::rpc::{CriuOpts, CriuReqType};
use crate::transport::{Launch, Link, Subject};
use crate::value::{CopyNotice, Dir, Pid, read_file};

/// Saves a process tree: what `criu dump` does.
///
/// ```no_run
/// use criu_rs::{AfterDump, Criu, Dump, Pid, Tcp};
///
/// let pid: Pid = "4711".parse()?;
/// let dumped = Dump::new(pid, "/var/lib/ckpt")
///     .after_dump(AfterDump::LeaveRunning)
///     .tcp(Tcp::Established)
///     .run(&Criu::new())?;
/// println!("frozen for {:?}", dumped.stats?.frozen);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The images directory must exist. A directory that holds a checkpoint is refused, unless
/// [`overwrite`](Self::overwrite) allows it. After a failure the directory holds logs, and no
/// images of this dump. Running a dump does not change the value: the same call again is a retry.
#[derive(Clone, Debug)]
#[must_use = "an operation does nothing until it is run"]
pub struct Dump<'a> {
    pub(crate) common: Common<'a>,
    pid: Pid,
    overwrite: bool,
    accept_label_loss: bool,
    notice: CopyNotice,
    hidden: Vec<Hidden>,
}

operation!(Dump);

impl<'a> Dump<'a> {
    /// Makes a dump of the tree rooted at `pid` into the directory `images`.
    pub fn new(pid: Pid, images: impl Into<Dir<'a>>) -> Self {
        let mut common = Common::with_actions(images.into(), "dump.log");
        common.opts.raw(|opts| opts.pid = Some(pid.as_raw()));
        let notice = CopyNotice::new();
        Self { common, pid, overwrite: false, accept_label_loss: false, notice, hidden: Vec::new() }
    }

    /// Allows the dump even if CRIU cannot save a task's security label, or has not saved it. By
    /// default such a dump is refused: see [`labels`](crate::labels).
    pub fn accept_label_loss(mut self, on: bool) -> Self {
        self.accept_label_loss = on;
        self
    }

    pub(crate) fn accepts_label_loss(&self) -> bool {
        self.accept_label_loss
    }

    /// Allows the dump to replace a checkpoint in the directory. The earlier checkpoint comes back
    /// if the dump fails.
    pub fn overwrite(mut self, on: bool) -> Self {
        self.overwrite = on;
        self
    }

    /// Keeps beside the images how the program learns that it is a copy, for whoever restores
    /// several: see [`copies`](crate::copies).
    pub fn copy_notice(mut self, notice: CopyNotice) -> Self {
        self.notice = notice;
        self
    }

    /// Dumps a tree with these holders, which the plugin hides from CRIU.
    #[cfg(feature = "instant")]
    pub(crate) fn hide_holders(mut self, hidden: Vec<Hidden>) -> Self {
        self.hidden = hidden;
        self
    }

    /// Runs the dump.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). The tasks run on.
    pub fn run(&self, criu: &Criu) -> Result<Dumped> {
        self.begin(criu, self.common.limits.exist())?.finish(&mut ())
    }

    /// Runs the dump, and answers CRIU's actions with `hooks`.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). The tasks run on.
    pub fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<Dumped> {
        self.start(criu)?.finish(hooks)
    }

    /// Says whether the tasks are there after the dump.
    pub(crate) fn leaves_tasks(&self) -> bool {
        self.common.opts.leaves_tasks()
    }

    /// Starts or reaches a criu, and does not send the request yet.
    ///
    /// # Errors
    /// An option is not valid or is newer than this CRIU; the directory holds a checkpoint; a
    /// security label cannot be saved; a process is in a namespace that no restore gives back;
    /// criu does not start.
    pub fn start(&self, criu: &Criu) -> Result<Session<Dumped>> {
        self.begin(criu, true)
    }

    /// Starts a criu. With `actions` CRIU stops at its actions. Each stop costs a dump a tenth of a
    /// millisecond, so CRIU does not stop if nobody needs that.
    fn begin(&self, criu: &Criu, actions: bool) -> Result<Session<Dumped>> {
        self.begin_and(criu, actions, Watched::keep)
    }

    pub(crate) fn begin_and(
        &self,
        criu: &Criu,
        actions: bool,
        keep: impl FnOnce(Watched) + Send + 'static,
    ) -> Result<Session<Dumped>> {
        let mut prepared = Prepared::new(&self.common, criu)?;
        prepared.message.notify_scripts = actions.then_some(true);
        let mut watched = prepared.watch(&self.common, criu, self.overwrite)?;
        copy_notice::write(prepared.images.as_ref(), &self.notice)?;
        let images = self.compared(&prepared)?;
        let subject = self.subject(&prepared.message);
        let (mut job, handed, work) = prepared.into_job(CriuReqType::Dump, "dump", subject);
        let mut link = criu.link_for(&job, &Launch::default(), handed)?;
        watched.look_after(self.pid, &job, &mut link);
        job.watch(self.guard(criu, &link, images)?);
        // After the labels are compared, which is done where criu writes.
        job.watch(watched.delivery());
        let driver = Driver::new(link, job, self.common.limits.clone())?;
        Ok(Session::new(driver, move |_, _| {
            let dumped = Dumped::read(work);
            watched.deliver()?;
            keep(watched);
            Ok(dumped)
        }))
    }

    /// Refuses a tree that is not to be dumped. A tree that no restore could bring back: CRIU would
    /// save images that nobody can restore, and end the tree unless it is told not to. And a tree
    /// with a process that holds memory for an instant capture.
    ///
    /// # Errors
    /// [`Error::Nested`] for a process in a namespace that a criu like `criu` does not give back,
    /// and [`Error::Holder`].
    pub(crate) fn refuse_tree(&self, criu: Pid) -> Result<()> {
        refuse_holders(self.pid, &self.hidden)?;
        NestedNamespace::find(self.pid, criu).map_or(Ok(()), |nested| Err(nested.into()))
    }

    /// Returns what a request works on. The memory of a lazy dump is saved last, so its tasks are
    /// not known to end with it.
    pub(crate) fn subject(&self, message: &CriuOpts) -> Subject {
        let leaves = message.leave_running() || message.leave_stopped();
        let end = !leaves && !message.lazy_pages();
        Subject::Tasks { root: self.pid, end }
    }

    /// Returns a name for the images directory: a path that leads to it, if there is such a path.
    #[cfg(feature = "oci")]
    pub(crate) fn images_path(&self) -> std::path::PathBuf {
        self.common.opts.images.path()
    }

    /// Returns the directory whose images are compared with the tasks' labels.
    pub(crate) fn compared(&self, prepared: &Prepared) -> Result<Option<OwnedFd>> {
        let streamed = prepared.message.stream();
        let images = prepared.images.as_ref().filter(|_| !streamed && !self.accept_label_loss);
        images.map(clone).transpose()
    }

    /// Returns the guard of the tasks' labels, if there are labels to guard.
    ///
    /// # Errors
    /// [`Error::Nested`] for a tree that no restore could bring back, [`Error::Holder`] for a tree
    /// with a holder, [`Error::Label`] for a label that CRIU cannot save.
    pub(crate) fn guard(
        &self,
        criu: &Criu,
        link: &Link,
        images: Option<OwnedFd>,
    ) -> Result<Option<DumpGuard>> {
        if link.numbers_processes_as_here() {
            self.refuse_tree(link.criu())?;
        }
        if self.accept_label_loss {
            return Ok(None);
        }
        DumpGuard::before(criu, link, self.pid, images, &self.common.limits)
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the cgroup that stops the tasks.
    pub(crate) fn freezer(&self) -> Option<PathBuf> {
        let path = self.common.opts.freezer()?;
        Some(OsStr::from_bytes(path).into())
    }

    /// Returns the configuration file that the request names.
    #[cfg(feature = "instant")]
    pub(crate) fn named_config(&self) -> Option<PathBuf> {
        let path = self.common.opts.message().config_file.as_deref()?;
        Some(OsStr::from_bytes(path).into())
    }

    pub(crate) fn overwrites(&self) -> bool {
        self.overwrite
    }
}

/// A completed dump.
#[derive(Debug)]
#[non_exhaustive]
pub struct Dumped {
    /// CRIU's measurements. They cannot be read from a directory that only CRIU sees: then this is
    /// an error, and the checkpoint is complete all the same.
    pub stats: Result<DumpStats, criu_images::Error>,
    /// True if the dump of a container was repeated without its freezer cgroup, because the first
    /// try did not stop all tasks in time. `oci::ContainerDump::run` does that.
    pub freezer_left_out: bool,
}

impl Dumped {
    pub(crate) fn read(work: Option<OwnedFd>) -> Self {
        let bytes = work.and_then(|work| read_file(&work, "stats-dump"));
        Self { stats: DumpStats::parse(&bytes.unwrap_or_default()), freezer_left_out: false }
    }
}
