//! Advice after a failure, in the options of the command line.

use criu_rs::labels::{LabelError, LabelProblem, SecurityModule};
use criu_rs::{Cause, Error, LockProblem};

/// The advice if there is no criu.
pub(crate) const NO_CRIU: &str = "\
install the package criu, or name the program with --criu PATH or the variable CRIU";

/// Returns the advice for an error, if there is any.
pub(crate) fn of(error: &Error) -> Option<&'static str> {
    match error {
        Error::Start { .. } => Some(NO_CRIU),
        Error::CheckpointExists { .. } => Some("use another directory, or --overwrite"),
        Error::TooOld { .. } => {
            Some("leave the option away, or name a newer criu with --criu PATH")
        }
        Error::Label(error) => Some(about_label(error)),
        Error::Lock(error) => Some(about_locks(error.problem)),
        _ => error.cause().map(about),
    }
}

/// Returns the advice for an error of `container`, which has fewer options than criu.
///
/// The others reach CRIU in its configuration file: the one that the annotation org.criu.config
/// names, or /etc/criu/runc.conf.
pub(crate) fn of_container(error: &Error) -> Option<&'static str> {
    match error {
        Error::TooOld { .. } => Some("name a newer criu with --criu PATH"),
        Error::Label(_) => Some(
            "name a criu that saves labels with --criu PATH; for AppArmor mount securityfs where \
             criu runs and remove /run/criu.kdat",
        ),
        Error::Start { .. } | Error::CheckpointExists { .. } | Error::Lock(_) => of(error),
        _ => error.cause().map(about_container),
    }
}

/// Returns the advice for a cause, in the options of `container` and of CRIU's configuration file.
fn about_container(cause: Cause) -> &'static str {
    match cause {
        Cause::MissingCapability => "run it as root",
        Cause::NoSoftDirty => "leave track-mem out of CRIU's configuration file",
        Cause::NoCompression => "leave compress out of CRIU's configuration file",
        Cause::ExternalUnixSocket => {
            "add --ext-unix-sk for datagram sockets; have the program close a stream to the outside"
        }
        Cause::FileOutsideMounts => {
            "start the container with a pipe or a log driver in place of the file, or have the \
             program close it"
        }
        Cause::ExternalMount => {
            "describe the mount in config.json; on restore --source KEY=PATH names what to mount"
        }
        Cause::CgroupMissing => {
            "restore where it is, or write manage-cgroups ignore into CRIU's configuration file"
        }
        Cause::TcpInFlight => {
            "wait until they are accepted, or write skip-in-flight into CRIU's configuration file"
        }
        Cause::LinkRemap => "write link-remap into CRIU's configuration file",
        Cause::UnsupportedMount => {
            "describe the mount in config.json, or write skip-mnt PATH into CRIU's configuration \
             file"
        }
        Cause::CpuMismatch => {
            "restore on a machine that has them, or write cpu-cap none into CRIU's configuration \
             file"
        }
        Cause::LsmMismatch => "restore where that module is active",
        Cause::NoSelinux => "name a criu built with libselinux with --criu PATH",
        Cause::FileChanged => {
            "put the file back as it was; skip-file-rwx-check in CRIU's configuration file accepts \
             a changed mode"
        }
        Cause::NetworkLockFailed => {
            "install iptables, or write network-lock nftables into CRIU's configuration file"
        }
        cause => about(cause),
    }
}

/// Returns the advice for lost file locks. The options are those of `restore` and of `container
/// restore`.
fn about_locks(problem: LockProblem) -> &'static str {
    match problem {
        LockProblem::NotAsked => "add --file-locks, or accept the loss with --accept-lock-loss",
        _ => {
            "CRIU loses a POSIX lock on a file that its process has also mapped (SQLite in WAL mode \
             does so); accept the loss with --accept-lock-loss"
        }
    }
}

/// Returns the advice for a lost label.
fn about_label(error: &LabelError) -> &'static str {
    match &error.problem {
        LabelProblem::NoPlace | LabelProblem::Unknown(_) | LabelProblem::NotInImages(Some(_)) => {
            error.hint()
        }
        LabelProblem::NotRestored(_) if error.thread.is_none() => {
            "leave --lsm-profile away: CRIU gives a label only to tasks that were saved with one"
        }
        _ if error.label.module() == SecurityModule::Selinux => {
            "name a criu built with libselinux with --criu PATH, or accept the loss with \
             --accept-label-loss"
        }
        _ => {
            "mount securityfs where criu runs and remove /run/criu.kdat, or accept the loss with \
             --accept-label-loss"
        }
    }
}

/// Returns the advice for a cause, in the options of the words that are criu's.
///
/// The hints of the library name its methods.
pub(crate) fn about(cause: Cause) -> &'static str {
    match cause {
        Cause::MissingCapability => {
            "run it as root, or give criu CAP_CHECKPOINT_RESTORE and CAP_SYS_PTRACE and add \
             --unprivileged"
        }
        Cause::NoSoftDirty => {
            "dump without --track-mem and pre-dump, or on a kernel with CONFIG_MEM_SOFT_DIRTY"
        }
        Cause::NoCompression => "dump without --compress",
        Cause::ConnectedTcp => {
            "add --tcp-established to save the connection, or --tcp-close to drop it"
        }
        Cause::ExternalUnixSocket => {
            "add --ext-unix-sk for datagram sockets; name a stream with --external unix[INODE]"
        }
        Cause::ForeignTerminal => "add --shell-job, here and on restore",
        Cause::ForeignSession => {
            "dump from the session's leader on, or add --shell-job, here and on restore"
        }
        Cause::FileLocks => {
            "add --file-locks, here and on restore, if nobody outside the tree takes the same lock"
        }
        Cause::GhostTooLarge => "raise --ghost-limit, or close the file",
        Cause::FileOutsideMounts => {
            "name it with --external file[MNT_ID:INODE] and give it back with --inherit-fd, or \
             close it (a shell leaves descriptors open: see ls -l /proc/PID/fd)"
        }
        Cause::ExternalMount => {
            "name it with --external mnt[PATH]:KEY, here and on restore, or add --external mnt[]"
        }
        Cause::CgroupMissing => "restore where it is, or add --manage-cgroups=ignore",
        Cause::TcpInFlight => {
            "add --skip-in-flight to leave them out, or wait until they are accepted"
        }
        Cause::LinkRemap => "add --link-remap, which makes a link beside it until the restore",
        Cause::UnsupportedMount => {
            "name it with --external mnt[PATH]:KEY, here and on restore, or leave it out with \
             --skip-mnt"
        }
        Cause::CpuMismatch => "restore on a machine that has them, or with --cpu-cap=none",
        Cause::LsmMismatch => {
            "restore where that module is active, and without --lsm-profile where it is not"
        }
        Cause::NoSelinux => {
            "name a criu built with libselinux with --criu PATH, or leave --lsm-profile away and \
             add --accept-label-loss"
        }
        Cause::FileChanged => {
            "put the file back as it was; a changed mode is accepted with --skip-file-rwx-check"
        }
        Cause::NetworkLockFailed => {
            "install iptables, or add --network-lock nftables or --network-lock skip"
        }
        cause => cause.hint(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::TABLE;

    /// Returns the long names of options in a text, without dashes. Options of `(unshare ...)` are
    /// not this program's.
    fn options(text: &str) -> impl Iterator<Item = &str> {
        let mut is_foreign = false;
        let own = text.split_whitespace().filter(move |word| {
            is_foreign |= word.starts_with("(unshare");
            let is_own = !is_foreign;
            is_foreign &= !word.ends_with(')');
            is_own
        });
        own.filter_map(|word| {
            let name = word.trim_start_matches(['(', '`']).strip_prefix("--")?;
            Some(name.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or(name))
        })
    }

    #[test]
    fn advice_names_options_that_the_word_has() {
        let container = (TABLE.find("container").unwrap().read)();
        let in_container = |name: &str| {
            let has =
                |word: &clap::Command| word.get_arguments().any(|arg| arg.get_long() == Some(name));
            container.get_subcommands().any(has)
        };
        let in_criu = |name: &str| {
            let has = |word: &str| {
                let command = (TABLE.find(word).unwrap().read)();
                command.get_arguments().any(|arg| arg.get_long() == Some(name))
            };
            has("dump") || has("restore")
        };
        let mut named = 0;
        for &cause in Cause::ALL {
            for name in options(about_container(cause)) {
                assert!(in_container(name), "{cause:?}: container has no --{name}");
            }
            for name in options(about(cause)) {
                assert!(in_criu(name), "{cause:?}: nobody has --{name}");
                named += 1;
            }
        }
        assert!(named > 20, "{named}");
    }

    /// Returns the words of a text that name something of the library: a method or a path.
    fn rust(text: &str) -> Vec<&str> {
        let is_method = |word: &str| {
            let name = word.trim_start_matches(['(', '`', '\'', '"']).strip_prefix('.');
            name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
        };
        let names_rust =
            |word: &&str| is_method(word) || word.contains("::") || word.contains("()");
        text.split_whitespace().filter(names_rust).collect()
    }

    #[test]
    fn advice_names_no_method_of_the_library() {
        assert_eq!(
            rust("set .tcp(Tcp::Close) or leave `.skip_mnt` out"),
            [".tcp(Tcp::Close)", "`.skip_mnt`"]
        );
        for &cause in Cause::ALL {
            for advice in [about(cause), about_container(cause)] {
                assert_eq!(rust(advice), [""; 0], "{cause:?}: {advice}");
            }
        }
    }
}
