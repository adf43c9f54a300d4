//! The question for the version, on the connection that does the work.

use std::sync::PoisonError;

use super::ask::ask_build;
use super::{Criu, Stamp};
use crate::drive::Job;
use crate::error::Result;
use crate::options::Needed;
use crate::rpc::CriuOpts;
use crate::transport::{Handed, Launch, Link};
use crate::value::Version;

impl Criu {
    /// Refuses options that this CRIU does not know. Does not ask for the version if even the
    /// oldest CRIU knows all options in the message.
    pub(crate) fn require(&self, message: &CriuOpts) -> Result<()> {
        match Needed::by(message) {
            Some(needed) => needed.check(self.known_version()?),
            None => Ok(()),
        }
    }

    /// Refuses a job that this CRIU does not know, before it is sent on a connection that is there.
    pub(crate) fn require_for(&self, job: &Job) -> Result<()> {
        match &job.needed {
            Some(needed) => needed.check(self.known_version()?),
            None => Ok(()),
        }
    }

    /// Starts or reaches a criu as [`link`](Self::link) does, and refuses it if it is too old. The
    /// version is asked for on the new connection: to start a second criu takes milliseconds.
    pub(crate) fn link_for(&self, job: &Job, launch: &Launch<'_>, handed: Handed) -> Result<Link> {
        let Some(needed) = &job.needed else {
            return self.link(launch, handed);
        };
        let stamp = self.stamp()?;
        let known = match self.remembered(stamp) {
            // libcriu starts a criu for each request.
            None if self.transport().is_libcriu() => Some(self.known_version()?),
            known => known,
        };
        if let Some(version) = known {
            needed.check(version)?;
            return self.link(launch, handed);
        }
        let (build, link) = ask_build(self.link(launch, handed)?, true)?;
        self.remember(stamp, build.version);
        needed.check(build.version)?;
        Ok(link)
    }

    /// Returns the version, asking only once for each program.
    pub(crate) fn known_version(&self) -> Result<Version> {
        let stamp = self.stamp()?;
        if let Some(version) = self.remembered(stamp) {
            return Ok(version);
        }
        let version = self.version()?;
        self.remember(stamp, version);
        Ok(version)
    }

    fn remembered(&self, program: Option<Stamp>) -> Option<Version> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(of, _)| Some(*of) == program).map(|(_, version)| version)
    }

    fn remember(&self, program: Option<Stamp>, version: Version) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = program.map(|program| (program, version));
    }
}
