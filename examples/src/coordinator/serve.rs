//! `coordinator serve`: runs the coordinator.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use criu_cri::coordinator::{CoordinatorError, Event, Limits, Server, graph_in};
use serde_json::json;

use crate::drive::Drive;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::options::{certificates, seconds};
use crate::output::Output;
use crate::serving::raise_descriptors;
use crate::tool::Fallible;

/// Options of `coordinator serve`.
#[derive(Args)]
pub(super) struct Serve {
    /// The address to listen on
    #[arg(short, long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The port to listen on; 0 for one that is free
    #[arg(short, long, default_value_t = 8080)]
    port: u16,
    /// Speak TLS, with ca.crt, tls.crt and tls.key in this directory
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Seconds that members wait for the others at a step
    #[arg(short, long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    wait_timeout: Duration,
    /// Seconds that an operation of a member may take in total
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    total_timeout: Duration,
    /// A JSON file with the dependencies of members: an object with a list of ids for each id
    #[arg(long, value_name = "FILE")]
    dependencies: Option<PathBuf>,
    /// Allow an address that other machines reach without TLS: anybody there can join
    #[arg(long)]
    expose: bool,
    /// Serve every user of this machine, and not only this user and root
    #[arg(long)]
    other_users: bool,
    /// Print one JSON object an event on standard output
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub(super) fn run(self, name: &str) -> Fallible<ExitCode> {
        let output = Output::new(name, "coordinator", self.json);
        let drive = Drive::new()?;
        let mut limits = Limits::default();
        limits.barrier = self.wait_timeout;
        limits.total = self.total_timeout;
        // A member has two connections while it waits.
        raise_descriptors();
        let mut server = Server::new().limits(limits);
        server = server.exposed(self.expose).other_users(self.other_users);
        if let Some(certs) = &self.certs {
            server = server.tls(&certificates(certs))?;
        }
        if let Some(path) = &self.dependencies {
            let failed = |error: CoordinatorError| Fault::usage(format!("--dependencies: {error}"));
            let graph = graph_in(path).map_err(failed)?;
            server = server.graph(graph).map_err(|error| {
                Fault::usage(format!("--dependencies: {}: {error}", path.display()))
            })?;
        }
        let listening = server.listen(SocketAddr::new(self.address, self.port))?;
        let address = listening.address();
        output.say(format!("listens on {address}"));
        output.object("listening", json!({ "address": address.to_string() }));
        drive.watch(|| listening.run(drive.cancel(), |event| tell(&output, event)))??;
        Ok(Exit::Done.into())
    }
}

fn tell(output: &Output, event: &Event) {
    match event {
        Event::Registered { id, step } => {
            output.say(format!("{id} has come to {step}"));
            output.object("registered", json!({ "id": id, "step": step.name() }));
        }
        Event::Alone { id } => {
            output.say(format!(
                "{id} waits for nobody: it names no member, and nobody who names it has come"
            ));
            output.object("alone", json!({ "id": id }));
        }
        Event::Came { id, step } => {
            output.say(format!("{id} has come to {step}"));
            output.object("came", json!({ "id": id, "step": step.name() }));
        }
        Event::Passed { step, ids } => {
            output.say(format!("all go on after {step}: {}", ids.join(", ")));
            output.object("passed", json!({ "ids": ids, "step": step.name() }));
        }
        Event::Failed { reason, ids } => {
            output.say(format!("the job of {} has failed: {reason}", ids.join(", ")));
            output.object("failed", json!({ "ids": ids, "reason": reason }));
        }
        _ => {}
    }
}
