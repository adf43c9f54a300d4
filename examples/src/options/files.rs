//! Files, mounts, and resources outside the tree.

use std::ffi::OsString;

use clap::Args;
use criu_rs::External;

use crate::options::applies;
use crate::options::values::{external, file_validation, mount_map};

/// Options of dump, pre-dump and restore.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Files and mounts")]
pub(crate) struct Files {
    /// A resource outside the tree, such as mnt[/data]:data or unix[4711]
    #[arg(long, value_name = "TYPE[ID]:VALUE", value_parser = external())]
    external: Vec<External>,
    /// Save and restore file locks
    #[arg(short = 'l', long)]
    file_locks: Option<bool>,
    /// Link unlinked files that have other names back for a while
    #[arg(long)]
    link_remap: Option<bool>,
    /// Accept a device file under another path
    #[arg(long)]
    evasive_devices: Option<bool>,
    /// File systems to handle even if CRIU does not know them, or all
    #[arg(long, value_name = "FS,FS...")]
    enable_fs: Vec<OsString>,
    /// The way to see that a file is still the same: filesize or buildid
    #[arg(long, value_name = "HOW", value_parser = file_validation)]
    file_validation: Option<OsString>,
    /// Older spelling of --external mnt[KEY]:VALUE and mnt[]
    #[arg(short = 'M', long, value_name = "KEY:VALUE", value_parser = mount_map())]
    ext_mount_map: Vec<External>,
    /// Accept external mounts that are shared; the same as --external mnt[]:s
    #[arg(long = "enable-external-sharing")]
    sharing: bool,
    /// Accept external mounts that are slaves; the same as --external mnt[]:m
    #[arg(long = "enable-external-masters")]
    masters: bool,
}

applies! {
    Files to Dump PreDump Restore;
    one [file_locks link_remap evasive_devices];
    each [external enable_fs];
    with |self, operation, config| {
        for mount in &self.ext_mount_map {
            operation = match mount {
                External::FoundMounts(_) => operation.auto_ext_mnt(true),
                mount => operation.external(mount.clone()),
            };
        }
        if self.sharing {
            operation = operation.ext_sharing(true);
        }
        if self.masters {
            operation = operation.ext_masters(true);
        }
        if let Some(how) = &self.file_validation {
            config.value("file-validation", how)?;
        }
    }
}
