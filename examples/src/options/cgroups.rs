//! Cgroups and other options that dump and restore take, but not pre-dump.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use criu_rs::{CgroupMode, LsmProfile};

use crate::options::applies;
use crate::options::values::{CgroupRoot, NetOnly};

/// Options of dump and restore.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cgroups")]
pub(crate) struct Cgroups {
    /// The way to handle cgroups: ignore, none, props, soft (what no mode means), full, strict
    #[arg(
        long, value_name = "MODE", num_args = 0..=1, default_missing_value = "soft",
        require_equals = true
    )]
    manage_cgroups: Option<CgroupMode>,
    /// A new root for the cgroups of a controller, or of all
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup_root: Vec<CgroupRoot>,
    /// A directory with the controllers mounted
    #[arg(long, value_name = "DIR")]
    cgroup_yard: Option<PathBuf>,
    /// The security profile to restore with, selinux:LABEL or apparmor:PROFILE
    #[arg(long, value_name = "TYPE:NAME", help_heading = "Security")]
    lsm_profile: Option<LsmProfile>,
    /// Let tasks lose security labels that CRIU cannot save or set
    #[arg(long, help_heading = "Security")]
    accept_label_loss: bool,
    /// Make this namespace empty; only net can be
    #[arg(long, value_name = "NS", help_heading = "Network")]
    empty_ns: Option<NetOnly>,
    /// Exchange images with a criu-image-streamer in the images directory
    #[arg(long, help_heading = "CRIU itself")]
    stream: Option<bool>,
}

applies! {
    Cgroups to Dump Restore;
    one [manage_cgroups cgroup_yard lsm_profile stream];
    each [];
    with |self, operation, _config| {
        if self.accept_label_loss {
            operation = operation.accept_label_loss(true);
        }
        for CgroupRoot { controller, path } in &self.cgroup_root {
            operation = operation.cgroup_root(controller.as_deref(), path);
        }
        if let Some(NetOnly) = self.empty_ns {
            operation = operation.empty_net_ns(true);
        }
    }
}

/// Options of dump alone.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cgroups")]
pub(crate) struct CgroupsSaved {
    /// Controllers and properties to save, in CRIU's YAML
    #[arg(long, value_name = "SPEC")]
    cgroup_props: Option<OsString>,
    /// A file with such a specification
    #[arg(long, value_name = "FILE")]
    cgroup_props_file: Option<PathBuf>,
    /// The only controller to save
    #[arg(long, value_name = "NAME")]
    cgroup_dump_controller: Vec<OsString>,
}

applies! {
    CgroupsSaved to Dump;
    one [cgroup_props cgroup_props_file];
    each [cgroup_dump_controller];
    with |self, operation, _config| {}
}
