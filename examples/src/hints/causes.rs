//! The advice about each cause whose library advice names methods.

use criu_rs::Cause;

use super::Word::{self, Checkpoint, ContainerRestore, Dump, Other, PreDump, Preflight, Restore};

/// Advice, and the words that give it.
type Row = (&'static [Word], &'static str);

const SAVES: &[Word] = &[Dump, PreDump, Preflight];
const RESTORES: &[Word] = &[Restore, Preflight];
const CRIU: &[Word] = &[Dump, PreDump, Restore, Preflight];
const CONTAINER: &[Word] = &[Checkpoint, ContainerRestore];
const ALL: &[Word] = &[Dump, PreDump, Restore, Preflight, Checkpoint, ContainerRestore, Other];

/// Returns the advice about a cause. The first row with a word is that word's. A word without a row
/// gives the library's advice, which names no method then.
pub(super) fn rows(cause: Cause) -> &'static [Row] {
    match cause {
        Cause::MissingCapability => &[
            (
                CRIU,
                "run it as root, or give criu CAP_CHECKPOINT_RESTORE and CAP_SYS_PTRACE and add \
                 --unprivileged",
            ),
            (ALL, "run it as root, with all capabilities"),
        ],
        Cause::NoSoftDirty => &[
            (
                &[Dump, Preflight],
                "dump without --track-mem and pre-dump, or on a kernel with CONFIG_MEM_SOFT_DIRTY",
            ),
            (CONTAINER, "leave track-mem out of CRIU's configuration file"),
            (ALL, "dump without pre-dump, or on a kernel with CONFIG_MEM_SOFT_DIRTY"),
        ],
        Cause::NoCompression => &[
            (SAVES, "leave --compress away"),
            (CONTAINER, "leave compress out of CRIU's configuration file"),
            (ALL, "leave compression away, or use a CRIU that was built with LZ4"),
        ],
        Cause::ConnectedTcp => &[
            (
                &[Dump, PreDump, Restore, Preflight, Checkpoint, ContainerRestore],
                "add --tcp-established to save or restore the connection, or --tcp-close to drop it",
            ),
            (ALL, "close the connection"),
        ],
        Cause::ExternalUnixSocket => &[
            (
                CRIU,
                "add --ext-unix-sk for datagram sockets; name a stream with --external unix[INODE]",
            ),
            (
                CONTAINER,
                "add --ext-unix-sk for datagram sockets; have the program close a stream to the \
                 outside",
            ),
            (ALL, "have the program close the socket"),
        ],
        Cause::ForeignTerminal => &[
            (
                &[Dump, PreDump, Restore, Preflight, Checkpoint, ContainerRestore],
                "add --shell-job, on dump and restore",
            ),
            (ALL, "start the program without a terminal"),
        ],
        Cause::ForeignSession => &[
            (
                &[Dump, PreDump, Restore, Preflight, Checkpoint, ContainerRestore],
                "dump from the session's leader on, or add --shell-job, on dump and restore",
            ),
            (ALL, "dump from the session's leader on"),
        ],
        Cause::FileLocks => &[
            (
                &[Dump, PreDump, Restore, Preflight, Checkpoint, ContainerRestore],
                "add --file-locks, on dump and restore, if nobody outside the tree takes the same \
                 lock",
            ),
            (ALL, "have the program release the lock"),
        ],
        Cause::GhostTooLarge => &[
            (
                &[Dump, PreDump, Preflight, Checkpoint],
                "raise --ghost-limit, or have the program close the file",
            ),
            (ALL, "have the program close the file"),
        ],
        Cause::FileOutsideMounts => &[
            (
                SAVES,
                "name it with --external file[MNT_ID:INODE] and give it back with restore \
                 --inherit-fd, or close it (a shell leaves descriptors open: see ls -l /proc/PID/fd)",
            ),
            (
                CONTAINER,
                "start the container with a pipe or a log driver in place of the file, or have the \
                 program close it",
            ),
            (ALL, "have the program close the file (see ls -l /proc/PID/fd)"),
        ],
        Cause::ExternalMount => &[
            (
                CRIU,
                "name it with --external mnt[PATH]:KEY, on restore --external mnt[KEY]:PATH, or add \
                 --external mnt[] on both",
            ),
            (&[Checkpoint], "describe the mount in config.json"),
            (
                &[ContainerRestore],
                "describe the mount in config.json, or name what to mount with --source KEY=PATH",
            ),
            (ALL, "leave the mount out of the mount namespace"),
        ],
        Cause::CgroupMissing => &[
            (&[Dump, Restore, Preflight], "restore where it is, or add --manage-cgroups=ignore"),
            (CONTAINER, "restore where it is, or add --manage-cgroups-mode ignore"),
            (ALL, "restore on a machine that has it"),
        ],
        Cause::CgroupDirMissing => &[
            (RESTORES, "make the cgroup, or add --manage-cgroups=soft, with which CRIU makes it"),
            (
                CONTAINER,
                "make the cgroup, or add --manage-cgroups-mode soft, with which CRIU makes it",
            ),
            (ALL, "make the cgroup"),
        ],
        Cause::CgroupRefused => &[
            (RESTORES, "restore with cgroups that criu may write, or add --manage-cgroups=ignore"),
            (
                CONTAINER,
                "restore with cgroups that criu may write, or add --manage-cgroups-mode ignore",
            ),
            (ALL, "restore with cgroups that criu may write"),
        ],
        Cause::TcpInFlight => &[
            (SAVES, "add --skip-in-flight to leave them out, or wait until they are accepted"),
            (&[Checkpoint], "wait until they are accepted, or add --tcp-skip-in-flight"),
            (ALL, "wait until they are accepted"),
        ],
        Cause::LinkRemap => &[
            (SAVES, "add --link-remap, which makes a link beside it until the restore"),
            (CONTAINER, "add --link-remap, on checkpoint and restore"),
            (ALL, "have the program close the file"),
        ],
        Cause::UnsupportedMount => &[
            (
                SAVES,
                "name it with --external mnt[PATH]:KEY, here and on restore, or leave it out with \
                 --skip-mnt",
            ),
            (
                CONTAINER,
                "describe the mount in config.json, or write skip-mnt PATH into CRIU's \
                 configuration file",
            ),
            (ALL, "unmount it"),
        ],
        Cause::CpuMismatch => &[
            (CRIU, "restore on a machine that has them, or with --cpu-cap=none"),
            (
                CONTAINER,
                "restore on a machine that has them, or write cpu-cap none into CRIU's \
                 configuration file",
            ),
            (ALL, "restore on a machine that has them"),
        ],
        Cause::LsmMismatch => &[
            (
                &[Dump, Restore, Preflight],
                "restore where that module is active, and without --lsm-profile where it is not",
            ),
            (ALL, "restore where that module is active"),
        ],
        Cause::NoSelinux => &[
            (
                &[Dump, Restore, Preflight],
                "name a criu built with libselinux with --criu PATH, or leave --lsm-profile away \
                 and add --accept-label-loss",
            ),
            (CONTAINER, "name a criu built with libselinux with --criu PATH"),
            (ALL, "use a criu built with libselinux"),
        ],
        Cause::FileChanged => &[
            (
                RESTORES,
                "put the file back as it was; a changed mode is accepted with --skip-file-rwx-check",
            ),
            (
                CONTAINER,
                "put the file back as it was; skip-file-rwx-check in CRIU's configuration file \
                 accepts a changed mode",
            ),
            (ALL, "put the file back as it was"),
        ],
        Cause::NetworkLockFailed => &[
            (
                SAVES,
                "install iptables (and iproute2 for a network namespace of the tree's own), or add \
                 --network-lock nftables or --network-lock skip",
            ),
            (&[Checkpoint], "install iptables, or add --network-lock nftables"),
            (ALL, "install iptables"),
        ],
        Cause::ExternalNotGiven => &[
            (
                RESTORES,
                "give it back under its key: --inherit-fd fd[FD]:KEY for files, pipes, terminals \
                 and namespaces, --external mnt[KEY]:PATH for mounts",
            ),
            (
                &[ContainerRestore],
                "restore the container as its bundle describes it; --source KEY=PATH names what to \
                 mount",
            ),
            (ALL, "give it back under its key"),
        ],
        Cause::VethPeer => &[
            (RESTORES, "name what is to be the peer with --external veth[INNER]:OUTER"),
            (
                CONTAINER,
                "write external veth[INNER]:OUTER into CRIU's configuration file, or save the \
                 network namespace with --empty-network and let the network's owner fill it",
            ),
            (ALL, "name what is to be the peer"),
        ],
        Cause::JoinedNamespace => &[
            (&[Restore], "check the path or process id that --join-ns is given"),
            (ALL, "check the path or process id of the namespace"),
        ],
        Cause::RootNeeded => &[
            (RESTORES, "name a mount point that is to be the new root with --root PATH"),
            (ALL, "name a mount point that is to be the new root"),
        ],
        Cause::MountSourceMissing => &[
            (RESTORES, "make it, or name another path for the key with --external mnt[KEY]:PATH"),
            (&[ContainerRestore], "make it, or name another path with --source KEY=PATH"),
            (ALL, "make it"),
        ],
        Cause::Unseizable => &[
            (
                &[Dump, PreDump],
                "try again later; in a frozen cgroup a process inside vfork never stops: leave \
                 --freeze-cgroup away",
            ),
            (
                ALL,
                "try again later; in a frozen cgroup a process inside vfork never stops: thaw it",
            ),
        ],
        Cause::FileWatch => &[
            (
                &[Dump, PreDump],
                "have the program take the watch away; a file on overlayfs is found by CRIU 4.3, \
                 or in a directory of --irmap-scan-path",
            ),
            (ALL, "have the program take the watch away; CRIU 4.3 finds a file on overlayfs"),
        ],
        Cause::UnsupportedLink => &[
            (
                &[Dump, Preflight],
                "take the interface away, or leave the network out with --empty-ns net",
            ),
            (&[Checkpoint], "take the interface away, or add --empty-network"),
            (ALL, "take the interface away"),
        ],
        _ => &[],
    }
}
