//! Options of dumps and restores, also of pods, that make them members of a distributed job.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use criu_cri::coordinator::{Client, CoordinatorError, Member, ids};
use criu_rs::{Cancel, Tls};

use crate::fault::Fault;
use crate::options::values::seconds;

/// Options of a member of a distributed job.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "A job on several nodes")]
pub(crate) struct Coordinated {
    /// Wait at each step for the other members of a job, at this coordinator
    #[arg(long, value_name = "HOST:PORT", requires = "coordinator_id")]
    coordinator: Option<String>,
    /// The id of this member
    #[arg(long, value_name = "ID", requires = "coordinator")]
    coordinator_id: Option<String>,
    /// The ids of the members to wait for, with colons between; by default those of the
    /// coordinator's list. Each member names another one, or the list has it: a member that comes
    /// first and names nobody goes on at once
    #[arg(long, value_name = "IDS", requires = "coordinator")]
    coordinator_deps: Option<String>,
    /// Seconds that a step may take; 60 unless given, and no longer than the operation
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "coordinator")]
    coordinator_timeout: Option<Duration>,
    /// Speak TLS, with ca.crt, tls.crt and tls.key in this directory
    #[arg(long, value_name = "DIR", requires = "coordinator")]
    coordinator_certs: Option<PathBuf>,
    /// Ask a coordinator on another machine without TLS: whoever is between can read and forge what
    /// is said
    #[arg(long, requires = "coordinator")]
    coordinator_expose: bool,
}

impl Coordinated {
    /// Tells if there is a job.
    pub(crate) fn is_given(&self) -> bool {
        self.coordinator.is_some()
    }

    /// Returns the member of the job, if there is a job.
    pub(crate) fn member(
        &self,
        cancel: &Cancel,
        deadline: Option<Duration>,
    ) -> Result<Option<Member>, Fault> {
        let (Some(address), Some(id)) = (&self.coordinator, &self.coordinator_id) else {
            return Ok(None);
        };
        let client = client(address, self.coordinator_certs.as_deref()).map_err(refused)?;
        let limit = self.coordinator_timeout.unwrap_or(TIMEOUT);
        let client = client.limit(limit.min(deadline.unwrap_or(limit)));
        let client = client.exposed(self.coordinator_expose);
        let needs = self.coordinator_deps.as_deref().unwrap_or_default();
        let needs =
            ids(needs).map_err(|error| Fault::usage(format!("--coordinator-deps: {error}")))?;
        let member = Member::new(client, id, needs).map_err(refused)?;
        Ok(Some(member.cancel(cancel)))
    }
}

/// The network of a restore that is a member of a distributed job.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "A job on several nodes")]
pub(crate) struct ShutNetwork {
    /// Drop all packets in this network namespace, into which the restore goes, until all
    /// members are restored: an end of a connection that is there first would be reset
    #[arg(long, value_name = "FILE", requires = "coordinator")]
    coordinator_net: Option<PathBuf>,
}

impl ShutNetwork {
    /// Gives the network to the member.
    pub(crate) fn given_to(&self, member: Option<Member>) -> Result<Option<Member>, Fault> {
        let Some(path) = &self.coordinator_net else { return Ok(member) };
        let file = File::open(path).map_err(|error| {
            Fault::usage(format!("--coordinator-net: {}: {error}", path.display()))
        })?;
        Ok(member.map(|member| member.shut_network(file)))
    }
}

/// Returns the way to a coordinator, with TLS if there is a directory with certificates.
pub(crate) fn client(address: &str, certs: Option<&Path>) -> Result<Client, CoordinatorError> {
    let client = Client::new(address);
    match certs {
        Some(certs) => client.tls(&tls(certs)),
        None => Ok(client),
    }
}

/// Returns the certificates in a directory, by the names that they have in a secret of Kubernetes.
pub(crate) fn tls(certs: &Path) -> Tls {
    let tls = Tls::new()
        .ca(certs.join("ca.crt"))
        .certificate(certs.join("tls.crt"))
        .key(certs.join("tls.key"));
    let revoked = certs.join("ca.crl");
    if revoked.exists() { tls.revoked(revoked) } else { tls }
}

fn refused(error: CoordinatorError) -> Fault {
    Fault::usage(format!("--coordinator: {error}"))
}

/// Time that a step may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
