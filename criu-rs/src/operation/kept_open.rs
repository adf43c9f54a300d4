//! Several requests to one criu.

use super::cpuinfo::CpuInfo;
use crate::criu::{Criu, Features, ask_build, ask_features};
use crate::drive::{Driver, Job};
use crate::error::{Misuse, Result};
use crate::rpc::CriuReqType;
use crate::transport::{Handed, Launch, Link};
use crate::value::{Build, Pid};

/// One criu that several requests are put to: the ones CRIU allows that for (`keep_open`).
///
/// An error ends it: CRIU closes the connection then.
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

    /// The criu process, where it is one of ours.
    pub fn pid(&self) -> Option<Pid> {
        self.link.as_ref().and_then(Link::pid)
    }

    /// As [`Criu::build`].
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn build(&mut self) -> Result<Build> {
        let (build, link) = ask_build(self.take()?, true)?;
        self.link = Some(link);
        Ok(build)
    }

    /// As [`Criu::features`].
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn features(&mut self) -> Result<Features> {
        let (features, link) = ask_features(self.take()?, true)?;
        self.link = Some(link);
        Ok(features)
    }

    /// As [`CpuInfo::dump`].
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn cpuinfo_dump(&mut self, info: &CpuInfo<'_>) -> Result<()> {
        let (job, handed) = info.job(&self.criu, CriuReqType::CpuinfoDump, "cpuinfo dump")?;
        self.ask(info, job, handed)
    }

    /// As [`CpuInfo::check`].
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn cpuinfo_check(&mut self, info: &CpuInfo<'_>) -> Result<()> {
        let (job, handed) = info.job(&self.criu, CriuReqType::CpuinfoCheck, "cpuinfo check")?;
        self.ask(info, job, handed)
    }

    fn ask(&mut self, info: &CpuInfo<'_>, mut job: Job, handed: Handed) -> Result<()> {
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
    /// One criu for several requests, those it allows several of.
    ///
    /// It is not faster: CRIU probes the kernel for each request.
    ///
    /// # Errors
    /// When criu does not start or cannot be reached.
    pub fn keep_open(&self) -> Result<KeptOpen> {
        KeptOpen::new(self)
    }
}
