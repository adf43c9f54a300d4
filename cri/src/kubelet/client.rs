//! A client of a kubelet.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use criu_archive::metadata::Time;

use super::access::Access;
use super::answer;
use super::container::Container;
use super::endpoint::Endpoint;
use super::error::{Error, ErrorKind, Result};
use super::{http, tls};

/// A kubelet that can be asked for checkpoints, directly or by way of the API server.
#[derive(Clone, Debug)]
pub struct Kubelet {
    endpoint: Endpoint,
    access: Access,
    patience: Option<Duration>,
}

/// A checkpoint that a kubelet has made.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Saved {
    /// The container.
    pub container: Container,
    /// Path of the archive on the node. The runtime has written it as root, with mode 0600.
    pub path: PathBuf,
    /// Time before the request was sent, by this machine's clock.
    pub asked: SystemTime,
    /// Time that the request took.
    pub took: Duration,
}

impl Kubelet {
    /// Makes a client. Nothing is asked yet.
    pub fn new(endpoint: Endpoint, access: Access) -> Self {
        Self { endpoint, access, patience: None }
    }

    /// Sets the longest time to wait for an answer, connection included. By default that is the
    /// kubelet's time and a minute, and 30 seconds for a check.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Returns the place that is asked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the trust and the credentials.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the end of validity of the client certificate; `None` without one.
    ///
    /// # Errors
    /// [`ErrorKind::File`] and [`ErrorKind::Malformed`].
    pub fn certificate_end(&self) -> Result<Option<Time>> {
        tls::end_of_client(&self.access).map_err(|kind| self.fail(kind))
    }

    /// Checkpoints a container, which goes on running. The archive stays on the node.
    ///
    /// The kubelet gives the runtime so much time: its own limit, 2 minutes by default, or
    /// `timeout` if that is longer. A request that is given up here may go on there.
    ///
    /// # Errors
    /// Every [`ErrorKind`].
    pub fn checkpoint(&self, container: &Container, timeout: Option<Duration>) -> Result<Saved> {
        // A part of a second more is better than none at all.
        let seconds = |time: Duration| {
            time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
        };
        let asked_for = timeout.map(|time| seconds(time).min(LONGEST).to_string());
        let patience = timeout
            .map_or(USUAL, |time| Duration::from_secs(seconds(time).min(LONGEST)).max(USUAL));
        let patience = patience.saturating_add(MORE);
        let asked = SystemTime::now();
        let path = self.ask(container, asked_for.as_deref(), patience)?;
        let took = asked.elapsed().unwrap_or_default();
        Ok(Saved { container: container.clone(), path, asked, took })
    }

    /// Asks for a checkpoint with a time-out that is no number, which a kubelet refuses last: after
    /// it has found the caller authorised, the endpoint turned on, and the container in the pod.
    /// No checkpoint is made. That the container runs, and that its runtime has checkpoints, is
    /// not known then.
    ///
    /// # Errors
    /// Every [`ErrorKind`] but those of the runtime.
    pub fn check(&self, container: &Container) -> Result<()> {
        match self.ask(container, Some(NO_NUMBER), CHECK) {
            Ok(_) => Err(self.fail(ErrorKind::Garbled(
                "the time-out was no number: this is no kubelet, or it has made a checkpoint",
            ))),
            Err(error) if matches!(error.kind(), ErrorKind::Timeout) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, of: &Container, timeout: Option<&str>, patience: Duration) -> Result<PathBuf> {
        let path = self.endpoint.path(of, timeout);
        let patience = self.patience.unwrap_or(patience);
        let reply = http::post(&self.endpoint, &self.access, &path, patience);
        let reply = reply.map_err(|kind| self.fail(kind))?;
        answer::read(&self.endpoint, of, &reply).map_err(|kind| match kind {
            ErrorKind::Unauthenticated { by, said, .. } => {
                let now = Time::from(SystemTime::now());
                let end = tls::end_of_client(&self.access).ok().flatten();
                let expired = end.filter(|end| *end < now);
                self.fail(ErrorKind::Unauthenticated { by, said, expired })
            }
            kind => self.fail(kind),
        })
    }

    fn fail(&self, kind: ErrorKind) -> Error {
        Error::new(&self.endpoint, kind)
    }
}

/// A time-out that no kubelet understands.
const NO_NUMBER: &str = "check";
/// The time that a kubelet gives a runtime by default.
const USUAL: Duration = Duration::from_secs(120);
/// Time for an answer after the runtime's time is over.
const MORE: Duration = Duration::from_secs(60);
/// Time for an answer to a check.
const CHECK: Duration = Duration::from_secs(30);
/// The longest time-out: a week, in seconds.
const LONGEST: u64 = 7 * 24 * 3600;
