//! `coordinator`: makes members of a distributed job wait for each other.

mod join;
mod serve;

use std::env;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::fault::Fault;
use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// The command line of `coordinator`.
#[derive(Args)]
pub(crate) struct Coordinator {
    #[command(subcommand)]
    word: Option<Word>,
}

#[derive(Subcommand)]
enum Word {
    /// Run the coordinator, until a signal stops it
    Serve(serve::Serve),
    /// Come to one step as a member; without --action, the step of CRIU's action script
    Join(join::Join),
}

impl Tool for Coordinator {
    const WORD: &'static str = "coordinator";
    const ABOUT: &'static str = "Saves a job on several nodes at one moment.";
    const MORE: &'static str = "\
The members of a job wait for each other at pre-dump, network-lock and post-dump, so that none is
saved before all stand still, and none goes on before all are saved. A restore waits at pre-restore,
post-restore and network-unlock. If a member fails, dies or does not come in time, no dump succeeds:
all processes run on. The protocol is that of criu-coordinator, whose clients are served, too.

Each member has to name another one, or the coordinator the dependencies of all with --dependencies:
a member that comes first and names nobody does not wait, and `serve` says so. A member that names
one which has just been saved without it is refused.

Without --certs the coordinator listens on loopback addresses, for this user and root. With --certs
both ends show a certificate. The names in a member's certificate are the ids that it may use.

Examples:
  criu-rs coordinator serve --address 192.0.2.1 --certs /etc/criu/certs
  criu-rs dump -t 4711 -D img --coordinator 192.0.2.1:8080 --coordinator-certs /etc/criu/certs \\
    --coordinator-id rank-0 --coordinator-deps rank-1:rank-2
  criu dump -t 4711 -D img --action-script /opt/links/coordinator
                                  with criu itself and criu-coordinator.json in img or /etc/criu;
                                  `criu-rs links /opt/links` makes the link

Exit status:
  0  done
  1  the coordinator cannot listen, or does not let the member go on
  2  wrong usage";

    fn run(self, name: &str, _: &Table) -> Fallible<ExitCode> {
        match self.word {
            Some(Word::Serve(serve)) => serve.run(name),
            Some(Word::Join(join)) => join.run(),
            // CRIU gives no arguments to an action script.
            None if env::var_os("CRTOOLS_SCRIPT_ACTION").is_some() => join::Join::default().run(),
            None => Err(Fault::usage("a word is missing: serve or join").into()),
        }
    }
}
