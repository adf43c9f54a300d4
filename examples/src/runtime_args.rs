//! Options that `container` has as runtimes have them.

use clap::Args;
use criu_rs::oci::RuntimeOptions;

use crate::fault::Fault;

/// Options of runc and crun on both words.
#[derive(Args)]
#[command(next_help_heading = "Options of runc and crun")]
pub(crate) struct BothArgs {
    /// Make names for unlinked files that have other links
    #[arg(long)]
    link_remap: bool,
    /// Remove memory from parent images, or from images that are restored
    #[arg(long)]
    auto_dedup: bool,
    /// soft, full, strict, ignore, none or props: what of cgroups is saved and made
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// network: the same as --empty-network
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Option<String>,
}

/// Options of runc and crun on a checkpoint.
#[derive(Args)]
#[command(next_help_heading = "Options of runc and crun")]
pub(crate) struct OnlyCheckpointArgs {
    /// Leave out TCP connections that are not accepted yet
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Save only memory that has changed since the pre-dump in DIR, relative to the images
    #[arg(long, value_name = "DIR")]
    parent_path: Option<String>,
    /// Send the memory to the page server there
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Keep the memory back, and serve it at the address of --page-server
    #[arg(long, requires = "page_server")]
    lazy_pages: bool,
    /// Write a zero byte to this descriptor when --lazy-pages serves the memory
    #[arg(long, value_name = "FD")]
    status_fd: Option<String>,
    /// iptables, nftables or skip: how packets are kept away meanwhile
    #[arg(long, value_name = "METHOD")]
    network_lock: Option<String>,
}

/// Options of runc and crun on a restore.
#[derive(Args)]
#[command(next_help_heading = "Options of runc and crun")]
pub(crate) struct OnlyRestoreArgs {
    /// Fetch memory on demand from a lazy-pages daemon in the work directory
    #[arg(long)]
    lazy_pages: bool,
    /// TYPE:NAME: the label or profile of the tasks
    #[arg(long, value_name = "PROFILE")]
    lsm_profile: Option<String>,
    /// The SELinux context of the mounts
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
}

/// A switch of a command line, or an option with a value.
enum Word<'a> {
    Switch(&'static str, bool),
    Value(&'static str, &'a Option<String>),
}

use Word::{Switch, Value};

impl OnlyCheckpointArgs {
    /// The options of a checkpoint.
    pub(crate) fn options(&self, both: &BothArgs) -> Result<RuntimeOptions, Fault> {
        parse(&[
            &both.words()[..],
            &[
                Switch("tcp-skip-in-flight", self.tcp_skip_in_flight),
                Switch("lazy-pages", self.lazy_pages),
                Value("parent-path", &self.parent_path),
                Value("page-server", &self.page_server),
                Value("status-fd", &self.status_fd),
                Value("network-lock", &self.network_lock),
            ],
        ])
    }
}

impl OnlyRestoreArgs {
    /// The options of a restore.
    pub(crate) fn options(&self, both: &BothArgs) -> Result<RuntimeOptions, Fault> {
        parse(&[
            &both.words()[..],
            &[
                Switch("lazy-pages", self.lazy_pages),
                Value("lsm-profile", &self.lsm_profile),
                Value("lsm-mount-context", &self.lsm_mount_context),
            ],
        ])
    }
}

impl BothArgs {
    fn words(&self) -> [Word<'_>; 4] {
        [
            Switch("link-remap", self.link_remap),
            Switch("auto-dedup", self.auto_dedup),
            Value("manage-cgroups-mode", &self.manage_cgroups_mode),
            Value("empty-ns", &self.empty_ns),
        ]
    }
}

/// Reads the words as a runtime does.
fn parse(words: &[&[Word<'_>]]) -> Result<RuntimeOptions, Fault> {
    let words = words.iter().flat_map(|words| words.iter());
    let words = words.filter_map(|word| match word {
        Switch(name, is_on) => is_on.then(|| format!("--{name}")),
        Value(name, value) => value.as_ref().map(|value| format!("--{name}={value}")),
    });
    let parsed = RuntimeOptions::parse(words);
    parsed.map(|(options, _)| options).map_err(|error| Fault::usage(error.to_string()))
}
