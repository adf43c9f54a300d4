//! `pod`: checkpoints of pods and their records. Each subcommand has a file.

mod checkpoint;
mod engine;
mod inspect;
mod opened;
mod restore;
mod told;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::keys::KeyArgs;
use crate::remote::RegistryArgs;
use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// The command line of `pod`.
#[derive(Args)]
pub(crate) struct PodWord {
    #[command(subcommand)]
    word: Word,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Subcommand)]
enum Word {
    /// Save running containers at one moment, all or none
    Checkpoint(Box<checkpoint::Checkpoint>),
    /// Bring back the containers of a checkpoint, all or none
    Restore(Box<restore::Restore>),
    /// Show what the record of a checkpoint says: pod, tools, containers, files, machine
    Inspect(inspect::Inspect),
    /// Compare a record with this machine and with its files
    Verify(verify::Verify),
}

impl Tool for PodWord {
    const WORD: &'static str = "pod";
    const ABOUT: &'static str =
        "Saves and brings back the containers of pods, and looks into their checkpoints.";
    const MORE: &'static str = "\
Examples:
  criu-rs pod checkpoint shop --container web=4f1e --container db=77a0 --option tcp=established
  criu-rs pod checkpoint shop --container web=4f1e --container db=77a0 --instant
  criu-rs pod restore shop --container web=/b/web --container db=/b/db --option tcp=established
  criu-rs pod checkpoint vm --engine runsc --sandbox 9c2d --container web=4f1e
  criu-rs pod inspect /var/lib/checkpoints/shop
  criu-rs pod inspect shop.tar --json | jq -r '.record.containers[].tool'
  criu-rs pod verify /var/lib/checkpoints/shop
  criu-rs pod verify shop.tar.zst --tool runsc=/opt/bin/runsc
  criu-rs pod verify registry.example.org/shop:v1

The checkpoint is a directory, an archive of one, or an archive in a registry. Its record is
criu-record.json. Without one, the manifests of CRI-O and containerd are read.

Exit status:
  0  done; verify: nothing stands against a restore here
  1  the record cannot be read; verify: a restore here would fail or lose something
  2  wrong usage
  4  stopped by Ctrl-C or SIGTERM";

    fn run(self, name: &str, _: &Table) -> Fallible<ExitCode> {
        self.keys.hold()?;
        self.registry.hold();
        match self.word {
            Word::Checkpoint(checkpoint) => checkpoint.run(name),
            Word::Restore(restore) => restore.run(name),
            Word::Inspect(inspect) => inspect.run(),
            Word::Verify(verify) => verify.run(),
        }
    }
}
