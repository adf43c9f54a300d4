//! `coordinator join`: comes to one step as a member.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use criu_cri::coordinator::{Client, CoordinatorError, Script, Step, ids};

use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::options::{TIMEOUT, coordinator_client, seconds};
use crate::tool::Fallible;

/// Options of `coordinator join`.
#[derive(Args, Default)]
pub(super) struct Join {
    /// The step: pre-dump, network-lock, post-dump, pre-restore, post-restore, network-unlock or
    /// post-resume
    #[arg(long, requires = "id")]
    action: Option<String>,
    /// The id of this member
    #[arg(short, long, requires = "action")]
    id: Option<String>,
    /// The ids of the members to wait for, with colons between; by default those of the
    /// coordinator's list. Each member names another one, or the list has it: a member that comes
    /// first and names nobody goes on at once
    #[arg(short, long, value_name = "IDS", requires = "action")]
    deps: Option<String>,
    /// The coordinator; 127.0.0.1:8080 unless given here or in criu-coordinator.json
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: Option<String>,
    /// Speak TLS, with ca.crt, tls.crt and tls.key in this directory
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Seconds that the step may take; 60 unless given
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Ask a coordinator on another machine without TLS: whoever is between can read and forge what
    /// is said
    #[arg(long)]
    expose: bool,
    /// Trust a coordinator that any user of this machine runs
    #[arg(long)]
    other_users: bool,
    /// Go on if the coordinator cannot be reached, as a client of criu-coordinator does
    #[arg(long)]
    or_alone: bool,
}

impl Join {
    pub(super) fn run(self) -> Fallible<ExitCode> {
        let drive = Drive::new()?;
        let (step, id, needs, address, certs) = match (&self.action, &self.id) {
            (Some(action), Some(id)) => {
                let step = Step::of_name(action);
                let step = step.ok_or_else(|| Fault::usage(format!("unknown step `{action}`")))?;
                let needs = self.deps.as_deref().unwrap_or_default();
                let needs = ids(needs).map_err(|error| Fault::usage(format!("--deps: {error}")))?;
                (step, id.clone(), needs, None, None)
            }
            _ => match Script::from_environment()? {
                Some(script) => {
                    (script.step, script.id, script.needs, Some(script.address), script.certs)
                }
                // An action at which nobody waits.
                None => return Ok(Exit::Done.into()),
            },
        };
        let address = self.coordinator.or(address).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
        let client: Client = coordinator_client(&address, self.certs.or(certs).as_deref())?;
        let client = client.other_users(self.other_users).exposed(self.expose);
        let client = client.limit(self.timeout.unwrap_or(TIMEOUT)).cancel(drive.cancel());
        match drive.watch(|| client.step(&id, step, &needs))? {
            Err(CoordinatorError::Connect { .. }) if self.or_alone => {}
            Err(error @ CoordinatorError::Unprotected(_)) => {
                let advice = if self.id.is_some() {
                    "give --certs here and to the coordinator, or give --expose"
                } else {
                    "name a directory with certificates as `certs` in criu-coordinator.json"
                };
                return Err(Fault::Failed(format!("{error}; {advice}")).into());
            }
            other => other?,
        }
        Ok(Exit::Done.into())
    }
}
