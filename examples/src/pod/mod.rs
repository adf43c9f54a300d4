//! `pod`: checkpoints of pods and their records. Each subcommand has a file.

mod inspect;
mod opened;
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
    /// Show what the record of a checkpoint says: pod, tools, containers, files, machine
    Inspect(inspect::Inspect),
    /// Compare a record with this machine and with its files
    Verify(verify::Verify),
}

impl Tool for PodWord {
    const WORD: &'static str = "pod";
    const ABOUT: &'static str = "Looks into checkpoints of pods.";
    const MORE: &'static str = "\
Examples:
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

    fn run(self, _: &str, _: &Table) -> Fallible<ExitCode> {
        self.keys.hold()?;
        self.registry.hold();
        match self.word {
            Word::Inspect(inspect) => inspect.run(),
            Word::Verify(verify) => verify.run(),
        }
    }
}
