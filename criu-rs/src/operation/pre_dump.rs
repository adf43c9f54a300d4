//! Saving memory ahead of a dump.

use super::dump::{Dump, Dumped};
use super::holders::refuse_holders;
use super::methods::operation;
use super::prepared::{Prepared, Watched};
use super::session::Session;
use crate::criu::Criu;
use crate::drive::{Driver, Job};
use crate::error::{Misuse, Result};
use crate::hooks::Hooks;
use crate::options::Common;
use crate::rpc::CriuReqType;
use crate::transport::{Handed, Launch, Link, Subject};
use crate::value::{Dir, Pid, Version};

/// Saves the memory of a process tree ahead of its dump: what `criu pre-dump` does. The tasks are
/// frozen only for a moment and run on.
///
/// The kernel has to track changed memory (soft-dirty); see
/// [`Features::mem_track`](crate::Features::mem_track).
///
/// ```no_run
/// use criu_rs::{Criu, Dump, Pid, PreDump};
///
/// let (criu, pid): (Criu, Pid) = (Criu::new(), "4711".parse()?);
/// PreDump::new(pid, "/ckpt/0").run(&criu)?;
/// Dump::new(pid, "/ckpt/1").parent_img("../0").track_mem(true).run(&criu)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operation does nothing until it is run"]
pub struct PreDump<'a> {
    pub(crate) common: Common<'a>,
    pid: Pid,
    overwrite: bool,
}

operation!(PreDump);

impl<'a> PreDump<'a> {
    /// Makes a pre-dump of the tree rooted at `pid` into the directory `images`.
    pub fn new(pid: Pid, images: impl Into<Dir<'a>>) -> Self {
        let mut common = Common::with_actions(images.into(), "pre-dump.log");
        common.opts.raw(|opts| opts.pid = Some(pid.as_raw()));
        Self { common, pid, overwrite: false }
    }

    /// Allows the pre-dump to replace a checkpoint in the directory. The earlier checkpoint comes
    /// back if the pre-dump fails.
    pub fn overwrite(mut self, on: bool) -> Self {
        self.overwrite = on;
        self
    }

    /// Runs the pre-dump (SINGLE_PRE_DUMP). CRIU 3.17.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). The tasks run on.
    pub fn run(&self, criu: &Criu) -> Result<()> {
        self.run_with(criu, &mut ())
    }

    /// Runs the pre-dump, and answers CRIU's actions with `hooks`. CRIU 3.17.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). The tasks run on.
    pub fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<()> {
        self.start(criu)?.finish(hooks)
    }

    /// Starts or reaches a criu, and does not send the request yet.
    ///
    /// # Errors
    /// An option is not valid or is newer than this CRIU; the directory holds a checkpoint; criu
    /// does not start.
    pub fn start(&self, criu: &Criu) -> Result<Session<()>> {
        let mut prepared = Prepared::new(&self.common, criu)?;
        let watched = prepared.watch(&self.common, criu, self.overwrite)?;
        let subject = Subject::Tasks { root: self.pid, end: false };
        let (mut job, handed, _) =
            prepared.into_job(CriuReqType::SinglePreDump, "pre-dump", subject);
        job.needs("a single pre-dump", Version::new(3, 17, 0));
        let link = criu.link_for(&job, &Launch::default(), handed)?;
        if link.numbers_processes_as_here() {
            refuse_holders(self.pid, &[])?;
        }
        let driver = Driver::new(link, job, self.common.limits.clone())?;
        Ok(Session::new(driver, move |_, _| {
            watched.deliver()?;
            watched.keep();
            Ok(())
        }))
    }
}

/// A series of pre-dumps and the dump that ends it, with one criu (PRE_DUMP).
///
/// ```no_run
/// use criu_rs::{Criu, Dump, Pid, PreDump, PreDumpSession};
///
/// let pid: Pid = "4711".parse()?;
/// let mut series = PreDumpSession::new(&Criu::new());
/// series.pre_dump(&PreDump::new(pid, "/ckpt/0"), &mut ())?;
/// series.pre_dump(&PreDump::new(pid, "/ckpt/1").parent_img("../0"), &mut ())?;
/// let last = Dump::new(pid, "/ckpt/2").parent_img("../1").track_mem(true);
/// series.dump(&last, &mut ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping the series before the dump keeps the pre-dumps made so far. A later dump can build on
/// them.
#[derive(Debug)]
pub struct PreDumpSession {
    criu: Criu,
    link: Option<Link>,
    failed: bool,
}

impl PreDumpSession {
    /// Makes a series with this criu. The first pre-dump starts or reaches the criu.
    pub fn new(criu: &Criu) -> Self {
        Self { criu: criu.clone(), link: None, failed: false }
    }

    /// Returns the criu process, if this crate has started one.
    pub fn pid(&self) -> Option<Pid> {
        self.link.as_ref().and_then(Link::pid)
    }

    /// Runs a pre-dump.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). The tasks run on; CRIU ends a series with the first failure.
    pub fn pre_dump(&mut self, pre_dump: &PreDump<'_>, hooks: &mut dyn Hooks) -> Result<()> {
        let PreDump { common, pid, overwrite } = pre_dump;
        let (watched, prepared) = self.prepare(common, *overwrite)?;
        let subject = Subject::Tasks { root: *pid, end: false };
        let (mut job, handed, _) = prepared.into_job(CriuReqType::PreDump, "pre-dump", subject);
        job.worker_ends = false;
        let guard = |_: &Criu, link: &mut Link, _: &mut Job| {
            if link.numbers_processes_as_here() { refuse_holders(*pid, &[]) } else { Ok(()) }
        };
        self.link = Some(self.exchange(job, handed, common, guard, hooks)?);
        watched.deliver()?;
        watched.keep();
        Ok(())
    }

    /// Runs the dump that ends the series.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). The tasks run on, and the pre-dumps made so far stay.
    pub fn dump(mut self, dump: &Dump<'_>, hooks: &mut dyn Hooks) -> Result<Dumped> {
        let (mut watched, prepared) = self.prepare(&dump.common, dump.overwrites())?;
        let images = dump.compared(&prepared)?;
        let subject = dump.subject(&prepared.message);
        let (job, handed, work) = prepared.into_job(CriuReqType::Dump, "dump", subject);
        let guard = |criu: &Criu, link: &mut Link, job: &mut Job| {
            watched.look_after(dump.pid(), job, link);
            job.watch(dump.guard(criu, link, images)?);
            job.watch(watched.delivery());
            Ok(())
        };
        self.exchange(job, handed, &dump.common, guard, hooks)?;
        let dumped = Dumped::read(work);
        watched.deliver()?;
        watched.keep();
        Ok(dumped)
    }

    fn prepare(&mut self, common: &Common<'_>, overwrite: bool) -> Result<(Watched, Prepared)> {
        if self.failed {
            return Err(Misuse::SeriesOver.into());
        }
        let mut prepared = Prepared::new(common, &self.criu)?;
        let watched = prepared.watch(common, &self.criu, overwrite)?;
        Ok((watched, prepared))
    }

    fn exchange(
        &mut self,
        mut job: Job,
        handed: Handed,
        common: &Common<'_>,
        guard: impl FnOnce(&Criu, &mut Link, &mut Job) -> Result<()>,
        hooks: &mut dyn Hooks,
    ) -> Result<Link> {
        let mut link = match self.link.take() {
            Some(mut link) => {
                self.criu.require_for(&job)?;
                link.hand(handed)?;
                link
            }
            None => self.criu.link_for(&job, &Launch::default(), handed)?,
        };
        self.failed = true;
        guard(&self.criu, &mut link, &mut job)?;
        let (_, link) = Driver::new(link, job, common.limits.clone())?.finish(hooks)?;
        self.failed = false;
        Ok(link)
    }
}
