//! Several requests to one criu.

use super::check::Check;
use super::cpuinfo::CpuInfo;
use crate::criu::{Criu, Features, ask_build, ask_features};
use crate::drive::{Driver, Job};
use crate::error::{Misuse, Result};
use crate::rpc::CriuReqType;
use crate::transport::{Handed, Launch, Link};
use crate::value::{Build, Pid};

/// A criu that stays connected and answers several requests: version, features, CPU checks
/// (`keep_open`).
///
/// After an error CRIU closes the connection, and every further request fails.
///
/// ```no_run
/// use criu_rs::Criu;
///
/// let mut criu = Criu::new().keep_open()?;
/// println!("{} {:?}", criu.build()?.version, criu.features()?);
/// # Ok::<(), criu_rs::Error>(())
/// ```
#[derive(Debug)]
pub struct KeptOpen {
    criu: Criu,
    link: Option<Link>,
}

impl KeptOpen {
    pub(crate) fn new(criu: &Criu) -> Result<Self> {
        let link = criu.link(&Launch::default(), Handed::default())?;
        Ok(Self { criu: criu.clone(), link: Some(link) })
    }

    /// Returns the criu process, if this crate has started it.
    pub fn pid(&self) -> Option<Pid> {
        self.link.as_ref().and_then(Link::pid)
    }

    /// Asks as [`Criu::build`] does.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn build(&mut self) -> Result<Build> {
        let (build, link) = ask_build(self.take()?, true)?;
        self.link = Some(link);
        Ok(build)
    }

    /// Asks as [`Criu::features`] does.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn features(&mut self) -> Result<Features> {
        let (features, link) = ask_features(self.take()?, true)?;
        self.link = Some(link);
        Ok(features)
    }

    /// Writes the image as [`CpuInfo::dump`] does.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn cpuinfo_dump(&mut self, info: &CpuInfo<'_>) -> Result<()> {
        let (job, handed, staged) =
            info.job(&self.criu, CriuReqType::CpuinfoDump, "cpuinfo dump")?;
        self.ask(info, job, handed)?;
        staged.deliver()
    }

    /// Compares the image as [`CpuInfo::check`] does.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn cpuinfo_check(&mut self, info: &CpuInfo<'_>) -> Result<()> {
        let (job, handed, _staged) =
            info.job(&self.criu, CriuReqType::CpuinfoCheck, "cpuinfo check")?;
        self.ask(info, job, handed)
    }

    /// Tests the kernel as [`Check::run`] does. CRIU closes the connection afterwards.
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn check(mut self, check: &Check<'_>) -> Result<()> {
        let (job, handed, _scratch) = check.job(&self.criu)?;
        self.criu.require_for(&job)?;
        let mut link = self.take()?;
        link.hand(handed)?;
        Driver::new(link, job, check.common.limits.clone())?.finish(&mut ())?;
        Ok(())
    }

    fn ask(&mut self, info: &CpuInfo<'_>, mut job: Job, handed: Handed) -> Result<()> {
        self.criu.require_for(&job)?;
        let mut link = self.take()?;
        link.hand(handed)?;
        job.keep_open();
        let (_, link) = Driver::new(link, job, info.common.limits.clone())?.finish(&mut ())?;
        self.link = Some(link);
        Ok(())
    }

    fn take(&mut self) -> Result<Link> {
        Ok(self.link.take().ok_or(Misuse::ConnectionClosed)?)
    }
}

impl Criu {
    /// Starts or reaches a criu that answers several requests. CRIU allows that for some requests.
    ///
    /// That saves the start of a criu for each further request, some 3 ms. CRIU probes the kernel
    /// for each request all the same.
    ///
    /// # Errors
    /// Criu does not start or cannot be reached.
    pub fn keep_open(&self) -> Result<KeptOpen> {
        KeptOpen::new(self)
    }
}
