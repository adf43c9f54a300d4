//! `cri`: lists, saves and restores pods and containers of an engine that Kubernetes uses.

mod archives;
mod checkpoint;
mod derive;
mod engine;
mod find;
mod list;
mod restore;
mod steps;
mod whole;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// The command line of `cri`.
#[derive(Args)]
pub(crate) struct CriWord {
    #[command(subcommand)]
    word: Word,
    #[command(flatten)]
    engine: engine::EngineArgs,
}

#[derive(Subcommand)]
enum Word {
    /// List the pods and containers that run
    List(list::List),
    /// Save a container, or a pod, while it runs on
    Checkpoint(checkpoint::Checkpoint),
    /// Bring a container, or a pod, back in a new sandbox
    Restore(restore::Restore),
}

impl Tool for CriWord {
    const WORD: &'static str = "cri";
    const ABOUT: &'static str = "Saves and restores pods and containers of containerd or CRI-O.";
    const MORE: &'static str = "\
The words speak Kubernetes' container runtime interface (CRI) with the engine of this node, as root.
A container is named NAMESPACE/POD/CONTAINER, POD/CONTAINER, CONTAINER, or by the beginning of an
id; a pod is named NAMESPACE/POD, POD, or by the beginning of its sandbox's id.

Engines answer for containers: containerd since 2.0, CRI-O with enable_criu_support. No released
engine answers for pods: `criu-cri-proxy` in front of the engine does.

After Ctrl-C or SIGTERM the program waits for the engine's answer to a call that saves a container
or makes a pod or a container, and removes what was made. After a deadline there is no answer to
that call: `criu-rs cri list --all` shows what the engine has.

Examples:
  criu-rs cri list
  criu-rs cri checkpoint shop/web/nginx nginx.tar
  criu-rs cri checkpoint shop/web/nginx registry.example.org/nginx:v1
  criu-rs cri restore registry.example.org/nginx:v1
  criu-rs cri restore nginx.tar --pod-config pod.json --container-config container.json
  criu-rs cri checkpoint shop/web web/ --endpoint /run/criu-cri-proxy/cri.sock

Exit status:
  0  done
  1  the engine refused or cannot be reached, or an archive cannot be read or written
  2  wrong usage; nothing was begun
  4  stopped by a deadline, Ctrl-C or SIGTERM; what the engine has answered for is undone";

    fn run(self, name: &str, _: &Table) -> Fallible<ExitCode> {
        match self.word {
            Word::List(list) => list.run(&self.engine),
            Word::Checkpoint(checkpoint) => checkpoint.run(name, &self.engine),
            Word::Restore(restore) => restore.run(name, &self.engine),
        }
    }
}
