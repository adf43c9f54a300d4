//! Facts about this machine that CRIU does not test.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use criu_rs::instant::{InstantError, find_plugin};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use procfs::process::all_processes;
use procfs::sys::kernel::Version as Kernel;
use serde_json::{Value, json};

use crate::hints;

/// A reason why no instant dump is possible here.
#[derive(Debug)]
pub(super) enum NoInstant {
    /// The processor's architecture.
    Architecture,
    /// The kernel is older than Linux 6.7, and does not tell which pages a process has.
    Kernel,
    /// There is no plugin, or it cannot be used.
    Plugin(InstantError),
}

/// Facts about this machine.
pub(super) struct Machine {
    /// Release and architecture.
    pub(super) kernel: String,
    /// The release as numbers.
    pub(super) version: Option<Kernel>,
    /// Security modules that are active.
    pub(super) lsms: Vec<String>,
    pub(super) iptables: Option<PathBuf>,
    pub(super) nft: Option<PathBuf>,
    pub(super) has_userfaultfd: bool,
    /// Tells if CRIU keeps what it finds out about the kernel.
    pub(super) run_is_tmpfs: bool,
    /// The plugin of instant dumps, or the reason why there are none.
    pub(super) instant: Result<PathBuf, NoInstant>,
    /// Yama's limit on who may trace whom, if Yama is active.
    pub(super) ptrace_scope: Option<u8>,
    /// The number of ended processes that process 1 has not waited for.
    pub(super) zombies_of_init: usize,
}

impl Machine {
    pub(super) fn look() -> Self {
        let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let version = Kernel::current().ok();
        let release = line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
        Self {
            kernel: format!("Linux {release} {}", std::env::consts::ARCH),
            instant: instant(version.as_ref()),
            version,
            lsms: lsms(),
            iptables: find("iptables-restore"),
            nft: find("nft"),
            // The call exists since Linux 4.3; a kernel without it has neither file.
            has_userfaultfd: Path::new("/proc/sys/vm/unprivileged_userfaultfd").exists()
                || Path::new("/dev/userfaultfd").exists(),
            run_is_tmpfs: statfs("/run").is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC),
            ptrace_scope: line("/proc/sys/kernel/yama/ptrace_scope")
                .and_then(|text| text.parse().ok()),
            zombies_of_init: zombies_of_init(),
        }
    }

    /// Adds the rows about the machine to a report.
    pub(super) fn report(&self, row: &mut dyn FnMut(&str, String)) {
        let yes = |there: bool| if there { "yes" } else { "no" };
        row("userfaultfd", yes(self.has_userfaultfd).into());
        row(
            "instant dumps",
            match &self.instant {
                Ok(plugin) => format!("yes, with {}", plugin.display()),
                Err(why) => format!("no: {why}"),
            },
        );
        row(
            "network lock",
            format!("iptables {}, nft {}", yes(self.iptables.is_some()), yes(self.nft.is_some())),
        );
        row(
            "security",
            match self.lsms.as_slice() {
                [] => "neither SELinux nor AppArmor".into(),
                lsms => lsms.join(", "),
            },
        );
        row(
            "/run",
            if self.run_is_tmpfs {
                "tmpfs: CRIU keeps what it finds out about the kernel".into()
            } else {
                "no tmpfs: CRIU tests the kernel anew each time, some 25 ms".into()
            },
        );
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "security_modules": self.lsms,
            "iptables": self.iptables.as_ref().map(|path| path.to_string_lossy()),
            "nft": self.nft.as_ref().map(|path| path.to_string_lossy()),
            "instant": {
                "plugin": self.instant.as_ref().ok().map(|path| path.to_string_lossy()),
                "why_not": self.instant.as_ref().err().map(ToString::to_string),
            },
            "userfaultfd": self.has_userfaultfd,
            "run_is_tmpfs": self.run_is_tmpfs,
            "ptrace_scope": self.ptrace_scope,
            "zombies_of_init": self.zombies_of_init,
        })
    }
}

/// Looks for the plugin of instant dumps, and at what it needs.
fn instant(version: Option<&Kernel>) -> Result<PathBuf, NoInstant> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(NoInstant::Architecture);
    }
    if version.is_some_and(|version| *version < Kernel::new(6, 7, 0)) {
        return Err(NoInstant::Kernel);
    }
    find_plugin(None).map_err(NoInstant::Plugin)
}

impl NoInstant {
    /// Returns the advice.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Plugin(error) => hints::instant::of(error).unwrap_or(CAPTURE),
            _ => CAPTURE,
        }
    }
}

/// The advice if an instant dump cannot be had.
const CAPTURE: &str = "dump without it, or with --capture";

impl fmt::Display for NoInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Architecture => f.write_str("they need a processor of x86-64"),
            Self::Kernel => f.write_str("they need Linux 6.7"),
            Self::Plugin(error) => error.fmt(f),
        }
    }
}

/// Returns the security modules that give processes labels which CRIU saves.
fn lsms() -> Vec<String> {
    let selinux = Path::new("/sys/fs/selinux/enforce").exists();
    let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let apparmor = apparmor.is_ok_and(|text| text.starts_with('Y'));
    let active = [("SELinux", selinux), ("AppArmor", apparmor)];
    active.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()).collect()
}

/// Returns the path of a program, searched as criu searches it.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn zombies_of_init() -> usize {
    let stats =
        all_processes().into_iter().flatten().filter_map(|process| process.ok()?.stat().ok());
    stats.filter(|stat| stat.ppid == 1 && stat.state == 'Z').count()
}
