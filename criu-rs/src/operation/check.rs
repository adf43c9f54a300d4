//! Testing what CRIU needs of the kernel.

use super::methods::operation;
use super::places::{Socket, Staged, Writes};
use super::prepared::Prepared;
use crate::criu::Criu;
use crate::drive::{Driver, Job};
use crate::error::Result;
use crate::operation::scratch::Scratch;
use crate::options::Common;
use crate::rpc::CriuReqType;
use crate::transport::{Handed, Launch, Subject};
use crate::value::Dir;

/// A test of the kernel: does it have what CRIU needs at least? This is what `criu check` does.
///
/// ```no_run
/// use criu_rs::{Check, Criu};
///
/// Check::new().run(&Criu::new())?;
/// println!("looks good");
/// # Ok::<(), criu_rs::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operation does nothing until it is run"]
pub struct Check<'a> {
    pub(crate) common: Common<'a>,
}

operation!(Check);

impl<'a> Check<'a> {
    /// Makes a check. Its log goes into a temporary directory, unless [`work_dir`](Self::work_dir)
    /// names another.
    pub fn new() -> Self {
        Self { common: Common::new(Dir::from("/"), "check.log") }
    }

    /// Runs the check (CHECK).
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) with what is missing.
    pub fn run(&self, criu: &Criu) -> Result<()> {
        let (job, handed, _scratch) = self.job(criu)?;
        let link = criu.link_for(&job, &Launch::default(), handed)?;
        Driver::new(link, job, self.common.limits.clone())?.finish(&mut ())?;
        Ok(())
    }

    /// Returns the job, and the directories for its log: a temporary one unless the caller has
    /// named one, and a private one inside of a directory that others can write.
    pub(crate) fn job(&self, criu: &Criu) -> Result<(Job, Handed, (Option<Scratch>, Staged))> {
        // CRIU 4.1 wants an images directory as well, and writes nothing but the log there.
        let scratch = if self.common.opts.work.is_none() { Some(Scratch::new()?) } else { None };
        let mut common = self.common.clone();
        if let Some(scratch) = &scratch {
            common.opts.work = Some(Dir::from(scratch.path()));
        }
        if let Some(work) = &common.opts.work {
            common.opts.images = work.clone();
        }
        // A file that names another log would send it out of the directory that is removed.
        let log = common.opts.default_log.take();
        common.opts.raw(|opts| opts.log_file = opts.log_file.take().or(log));
        let mut prepared = Prepared::new(&common, criu)?;
        prepared.look(&common, Writes::Log)?;
        let staged = prepared.stage(&common, criu, Writes::Log, Socket::Found)?;
        let (job, handed, _) = prepared.into_job(CriuReqType::Check, "check", Subject::None);
        Ok((job, handed, (scratch, staged)))
    }
}

impl Criu {
    /// Tests whether the kernel has what CRIU needs at least (CHECK). [`Check`] does the same with
    /// options.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed) with what is missing.
    pub fn check(&self) -> Result<()> {
        Check::new().run(self)
    }
}

impl Default for Check<'_> {
    fn default() -> Self {
        Self::new()
    }
}
