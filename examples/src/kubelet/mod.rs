//! `kubelet`: checkpoints through a kubelet, and what becomes of them on the node.

mod access;
mod checkpoint;
mod prune;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// The command line of `kubelet`.
#[derive(Args)]
pub(crate) struct KubeletWord {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Have a kubelet checkpoint a container, which goes on running
    Checkpoint(checkpoint::Checkpoint),
    /// List a node's checkpoints that rules want to go; --apply deletes them
    Prune(prune::Prune),
}

impl Tool for KubeletWord {
    const WORD: &'static str = "kubelet";
    const ABOUT: &'static str = "Has a kubelet checkpoint a container, and prunes old checkpoints.";
    const MORE: &'static str = "\
A kubelet of Kubernetes 1.30 or later checkpoints a container of a pod on request, and leaves the
archive on the node. The caller needs the right `create` on `nodes/checkpoint`, or with --node on
`nodes/proxy`. With --check nothing is checkpointed: the kubelet is asked in a way that it refuses
at the last step.

A kubelet deletes no checkpoint. `prune` does, on the node, by rules. An archive belongs to the
container that its metadata names, whatever its file is called. Files that are no checkpoint of a
pod, links, files that were changed lately and files that are open stay, and so does ARCHIVE where
a file ARCHIVE.keep is. Without --apply nothing is deleted.

Examples:
  criu-rs kubelet checkpoint default/web/app --node worker-1
  criu-rs kubelet checkpoint default/web/app --node worker-1 --check
  criu-rs kubelet checkpoint default/web/app --kubelet 10.0.0.7 --ca kubelet-ca.crt \\
    --client-certificate admin.crt --client-key admin.key
  criu-rs kubelet checkpoint default/web/app --kubelet worker-1 --insecure-skip-tls-verify \\
    --token-file token --json | jq -r .path
  criu-rs kubelet prune --keep 10 --max-age 30d
  criu-rs kubelet prune --keep pod=20 --max-total 100G --orphans --apply
  criu-rs kubelet prune --namespace test --max-total namespace=10G --apply

Exit status:
  0  done
  1  refused or failed; prune: a file that should go is still there
  2  wrong usage";

    fn run(self, name: &str, _: &Table) -> Fallible<ExitCode> {
        match self.word {
            Word::Checkpoint(checkpoint) => checkpoint.run(name),
            Word::Prune(prune) => prune.run(name),
        }
    }
}
