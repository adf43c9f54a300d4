//! Options that findings ask for.

use std::fmt;

use crate::operation::{Dump, Restore};
use crate::value::{CgroupMode, External, NetworkLock, Tcp};

/// An option that lets an operation go on. If a finding lists several options, one of them is
/// enough.
///
/// `Display` is the method that sets the option, [`Need::argument`] its name on criu's command
/// line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// `.file_locks(true)`.
    FileLocks,
    /// `.ghost_limit(bytes)`.
    GhostLimit(u32),
    /// `.ext_unix_sk(true)`.
    ExtUnixSk,
    /// `.external(..)`.
    External(External),
    /// `.tcp(Tcp::Established)`.
    TcpEstablished,
    /// `.tcp(Tcp::Close)`.
    TcpClose,
    /// `.tcp_skip_in_flight(true)`.
    TcpSkipInFlight,
    /// `.network_lock(..)`.
    NetworkLock(NetworkLock),
    /// `.shell_job(true)`.
    ShellJob,
    /// `.orphan_pts_master(true)`.
    OrphanPtsMaster,
    /// `.link_remap(true)`.
    LinkRemap,
    /// `.auto_ext_mnt(true)`.
    AutoExtMnt,
    /// `.ext_masters(true)`.
    ExtMasters,
    /// `.unprivileged(true)`.
    Unprivileged,
    /// `.overwrite(true)`.
    Overwrite,
    /// `.inherit_fd(..)` with this key, on a restore.
    InheritFd(String),
    /// `.root(..)`, on a restore.
    Root,
    /// `.skip_file_rwx_check(true)`, on a restore.
    SkipFileRwxCheck,
    /// `.manage_cgroups(CgroupMode::Ignore)`, on a restore.
    IgnoreCgroups,
    /// `.lazy_pages(true)`, on a restore.
    LazyPages,
    /// An option of criu(8) that only its command line or a configuration file accepts.
    Line(String),
}

impl Need {
    /// The option as criu's command line spells it.
    pub fn argument(&self) -> String {
        match self {
            Self::FileLocks => "--file-locks".into(),
            Self::GhostLimit(bytes) => format!("--ghost-limit {bytes}"),
            Self::ExtUnixSk => "--ext-unix-sk".into(),
            Self::External(external) => format!("--external '{external}'"),
            Self::TcpEstablished => "--tcp-established".into(),
            Self::TcpClose => "--tcp-close".into(),
            Self::TcpSkipInFlight => "--skip-in-flight".into(),
            Self::NetworkLock(lock) => format!("--network-lock {}", word(*lock)),
            Self::ShellJob => "--shell-job".into(),
            // Only CRIU's RPC has this option.
            Self::OrphanPtsMaster => "(the library's orphan_pts_master)".into(),
            Self::LinkRemap => "--link-remap".into(),
            Self::AutoExtMnt => "--external 'mnt[]'".into(),
            Self::ExtMasters => "--external 'mnt[]:m'".into(),
            Self::Unprivileged => "--unprivileged".into(),
            Self::Overwrite => "--overwrite".into(),
            Self::InheritFd(key) => format!("--inherit-fd 'fd[FD]:{key}'"),
            Self::Root => "--root DIR".into(),
            Self::SkipFileRwxCheck => "--skip-file-rwx-check".into(),
            Self::IgnoreCgroups => "--manage-cgroups=ignore".into(),
            Self::LazyPages => "--lazy-pages".into(),
            Self::Line(line) => line.clone(),
        }
    }

    /// Returns true if a dump with this option has to be restored with it too.
    pub fn on_restore(&self) -> bool {
        matches!(
            self,
            Self::FileLocks
                | Self::ExtUnixSk
                | Self::TcpEstablished
                | Self::TcpClose
                | Self::ShellJob
                | Self::OrphanPtsMaster
                | Self::AutoExtMnt
                | Self::ExtMasters
                | Self::Unprivileged
                | Self::InheritFd(_)
                | Self::Root
                | Self::SkipFileRwxCheck
                | Self::IgnoreCgroups
                | Self::LazyPages
        )
    }

    /// Sets the option on a dump. An option that a dump does not have, or whose value only the
    /// caller knows, is skipped.
    pub fn set<'a>(&self, dump: Dump<'a>) -> Dump<'a> {
        match self {
            Self::FileLocks => dump.file_locks(true),
            Self::GhostLimit(bytes) => dump.ghost_limit(*bytes),
            Self::ExtUnixSk => dump.ext_unix_sk(true),
            Self::External(external) => dump.external(external.clone()),
            Self::TcpEstablished => dump.tcp(Tcp::Established),
            Self::TcpClose => dump.tcp(Tcp::Close),
            Self::TcpSkipInFlight => dump.tcp_skip_in_flight(true),
            Self::NetworkLock(lock) => dump.network_lock(*lock),
            Self::ShellJob => dump.shell_job(true),
            Self::OrphanPtsMaster => dump.orphan_pts_master(true),
            Self::LinkRemap => dump.link_remap(true),
            Self::AutoExtMnt => dump.auto_ext_mnt(true),
            Self::ExtMasters => dump.ext_masters(true),
            Self::Unprivileged => dump.unprivileged(true),
            Self::Overwrite => dump.overwrite(true),
            Self::InheritFd(_)
            | Self::Root
            | Self::SkipFileRwxCheck
            | Self::IgnoreCgroups
            | Self::LazyPages
            | Self::Line(_) => dump,
        }
    }

    /// Sets the option on a restore. An option that a restore does not have, or whose value only
    /// the caller knows, is skipped.
    pub fn set_on_restore<'a>(&self, restore: Restore<'a>) -> Restore<'a> {
        match self {
            Self::FileLocks => restore.file_locks(true),
            Self::ExtUnixSk => restore.ext_unix_sk(true),
            Self::TcpEstablished => restore.tcp(Tcp::Established),
            Self::TcpClose => restore.tcp(Tcp::Close),
            Self::ShellJob => restore.shell_job(true),
            Self::OrphanPtsMaster => restore.orphan_pts_master(true),
            Self::LinkRemap => restore.link_remap(true),
            Self::AutoExtMnt => restore.auto_ext_mnt(true),
            Self::ExtMasters => restore.ext_masters(true),
            Self::Unprivileged => restore.unprivileged(true),
            Self::SkipFileRwxCheck => restore.skip_file_rwx_check(true),
            Self::IgnoreCgroups => restore.manage_cgroups(CgroupMode::Ignore),
            Self::LazyPages => restore.lazy_pages(true),
            _ => restore,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GhostLimit(bytes) => write!(f, ".ghost_limit({bytes})"),
            Self::External(external) => write!(f, ".external({:?}.parse()?)", external.to_string()),
            Self::NetworkLock(lock) => write!(f, ".network_lock(NetworkLock::{lock:?})"),
            Self::InheritFd(key) => write!(f, ".inherit_fd(InheritFd::new({key:?}, ..))"),
            Self::Root => f.write_str(".root(..)"),
            Self::Line(line) => write!(f, ".config_file(..) with {line:?}"),
            Self::IgnoreCgroups => f.write_str(".manage_cgroups(CgroupMode::Ignore)"),
            Self::TcpEstablished => f.write_str(".tcp(Tcp::Established)"),
            Self::TcpClose => f.write_str(".tcp(Tcp::Close)"),
            other => write!(f, ".{}(true)", other.method()),
        }
    }
}

impl Need {
    /// The name of the method, for options that are on or off.
    fn method(&self) -> &'static str {
        match self {
            Self::FileLocks => "file_locks",
            Self::ExtUnixSk => "ext_unix_sk",
            Self::TcpSkipInFlight => "tcp_skip_in_flight",
            Self::ShellJob => "shell_job",
            Self::OrphanPtsMaster => "orphan_pts_master",
            Self::LinkRemap => "link_remap",
            Self::AutoExtMnt => "auto_ext_mnt",
            Self::ExtMasters => "ext_masters",
            Self::Unprivileged => "unprivileged",
            Self::Overwrite => "overwrite",
            Self::SkipFileRwxCheck => "skip_file_rwx_check",
            Self::LazyPages => "lazy_pages",
            _ => "raw",
        }
    }
}

/// The lock as criu's command line spells it.
fn word(lock: NetworkLock) -> &'static str {
    match lock {
        NetworkLock::Iptables => "iptables",
        NetworkLock::Nftables => "nftables",
        NetworkLock::Skip => "skip",
    }
}
