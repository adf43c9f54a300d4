//! The CPU's features, recorded and compared.

use super::methods::operation;
use super::places::{Socket, Staged, Writes};
use super::prepared::Prepared;
use crate::criu::Criu;
use crate::drive::{Driver, Job};
use crate::error::Result;
use crate::options::Common;
use crate::rpc::CriuReqType;
use crate::transport::{Handed, Launch, Subject};
use crate::value::Dir;

/// Records the CPU's features in an image, or compares them with one: what `criu cpuinfo` does.
///
/// ```no_run
/// use criu_rs::{CpuInfo, Criu};
///
/// CpuInfo::new("/ckpt").dump(&Criu::new())?;
/// // … on the machine to restore on:
/// CpuInfo::new("/ckpt").check(&Criu::new())?;
/// # Ok::<(), criu_rs::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operation does nothing until it is run"]
pub struct CpuInfo<'a> {
    pub(crate) common: Common<'a>,
}

operation!(CpuInfo);

impl<'a> CpuInfo<'a> {
    /// Makes the operation on `cpuinfo.img` in the directory `images`.
    pub fn new(images: impl Into<Dir<'a>>) -> Self {
        Self { common: Common::new(images.into(), "cpuinfo.log") }
    }

    /// Writes the image (CPUINFO_DUMP).
    ///
    /// # Errors
    /// See [`Error`](crate::Error).
    pub fn dump(&self, criu: &Criu) -> Result<()> {
        self.run(criu, CriuReqType::CpuinfoDump, "cpuinfo dump")
    }

    /// Compares the image with this machine (CPUINFO_CHECK).
    ///
    /// # Errors
    /// See [`Error`](crate::Error). The errno is `ENOTSUP` if CRIU cannot compare CPUs on this
    /// platform.
    pub fn check(&self, criu: &Criu) -> Result<()> {
        self.run(criu, CriuReqType::CpuinfoCheck, "cpuinfo check")
    }

    fn run(&self, criu: &Criu, kind: CriuReqType, operation: &'static str) -> Result<()> {
        let (job, handed, staged) = self.job(criu, kind, operation)?;
        let link = criu.link_for(&job, &Launch::default(), handed)?;
        Driver::new(link, job, self.common.limits.clone())?.finish(&mut ())?;
        staged.deliver()
    }

    pub(crate) fn job(
        &self,
        criu: &Criu,
        kind: CriuReqType,
        operation: &'static str,
    ) -> Result<(Job, Handed, Staged)> {
        let mut prepared = Prepared::new(&self.common, criu)?;
        let writes = match kind {
            CriuReqType::CpuinfoDump => Writes::Images,
            _ => Writes::Log,
        };
        prepared.look(&self.common, writes)?;
        let staged = prepared.stage(&self.common, criu, writes, Socket::Found)?;
        let (job, handed, _) = prepared.into_job(kind, operation, Subject::None);
        Ok((job, handed, staged))
    }
}
