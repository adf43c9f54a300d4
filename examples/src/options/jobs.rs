//! Further options of dump, pre-dump and restore: terminals, CPUs, scripts, images.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use criu_rs::{CpuCap, ImageIo};

use crate::options::applies;
use crate::options::values::cpu_cap;

/// Options of dump, pre-dump and restore.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "CRIU itself")]
pub(crate) struct Jobs {
    /// Accept tasks that share the terminal or session of a shell; needed on restore too
    #[arg(short = 'j', long, help_heading = "Main options")]
    shell_job: Option<bool>,
    /// Print statistics
    #[arg(long, help_heading = "Logging")]
    pub(crate) display_stats: Option<bool>,
    /// CPU features to record or compare: cpu, fpu, ins, all, none, ^NAME to leave one out
    #[arg(
        long, value_name = "CAP,...", num_args = 0..=1, default_missing_value = "all",
        require_equals = true, value_parser = cpu_cap
    )]
    cpu_cap: Option<CpuCap>,
    /// A program to run at each of CRIU's actions
    #[arg(long, value_name = "FILE")]
    action_script: Vec<PathBuf>,
    /// An option for a plugin, PLUGIN.NAME or PLUGIN.NAME=VALUE
    #[arg(long, value_name = "OPTION")]
    plugin_option: Vec<OsString>,
    /// Accept mappings that the kernel made for uprobes; needed on restore too
    #[arg(long)]
    allow_uprobes: Option<bool>,
    /// The way to read and write pages images: writeback or direct
    #[arg(long, value_name = "MODE", help_heading = "Memory")]
    image_io_mode: Option<ImageIo>,
    /// Free pages of older images that newer ones replace, and on restore each page that was read
    #[arg(long, help_heading = "Memory")]
    auto_dedup: Option<bool>,
}

applies! {
    Jobs to Dump PreDump Restore;
    one [shell_job cpu_cap auto_dedup];
    each [plugin_option];
    with |self, operation, config| {
        if let Some(mode) = self.image_io_mode {
            operation = operation.image_io(mode);
        }
        for file in &self.action_script {
            config.value("action-script", file)?;
        }
        config.switch("allow-uprobes", self.allow_uprobes);
    }
}
