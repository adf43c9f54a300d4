//! Known causes of failures, and what to do about them.

use std::fmt;

use crate::Pid;
use crate::error::Failure;

macro_rules! causes {
    ($(
        $(#[$doc:meta])*
        $cause:ident: $what:literal, $hint:literal
        $(, said as $([$($part:literal),+])+)?;
    )*) => {
        /// A known cause of a failure.
        ///
        /// `Display` says what it is, [`Cause::hint`] what to do. Each was seen on a real CRIU.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Cause {
            $($(#[$doc])* $cause,)*
        }

        impl Cause {
            /// What to do about it.
            pub fn hint(self) -> &'static str {
                match self {
                    $(Self::$cause => $hint,)*
                }
            }

            fn what(self) -> &'static str {
                match self {
                    $(Self::$cause => $what,)*
                }
            }
        }

        /// What CRIU says: each row is a cause and parts that one line must have, all of them.
        const SAID: &[(Cause, &[&str])] = &[$($($((Cause::$cause, &[$($part),+]),)+)?)*];
    };
}

// The order counts: the first row that fits any of the lines wins.
causes! {
    /// The criu program has not the capabilities it needs.
    MissingCapability: "criu lacks a capability",
        "run it as root, or give it CAP_CHECKPOINT_RESTORE and CAP_SYS_PTRACE and set unprivileged",
        said as
        ["CRIU needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability"]
        ["Can't open dir /proc/", "Permission denied"];

    /// This CRIU does not know something that this kernel does otherwise than older ones: the layout
    /// of the vDSO (before CRIU 4.1 on Linux 6.13), options of sockets (before CRIU 4.2 on Linux 6.16).
    CriuTooOld: "this CRIU is too old for this kernel", "install a newer one",
        said as
        ["Unexpected rt vDSO area bounds"]
        ["Can't get 1:16 opt: Operation not supported"]
        ["Can't get 1:34 opt: Operation not supported"];

    /// The kernel does not track changed memory.
    NoSoftDirty: "this kernel does not track changed memory (soft-dirty)",
        "dump without track_mem and pre-dumps, or on a kernel with CONFIG_MEM_SOFT_DIRTY",
        said as
        ["Tracking memory is not available"]
        ["BUG at criu/mem.c:"];

    /// CRIU was built without LZ4.
    NoCompression: "this CRIU was built without LZ4", "dump without compress",
        said as ["requires CRIU built with LZ4 support"];

    /// A connected TCP socket.
    ConnectedTcp: "a process has a connected TCP socket",
        "set .tcp(Tcp::Established) to save the connection, or .tcp(Tcp::Close) to drop it",
        said as ["Connected TCP socket"];

    /// A unix socket whose peer is not in the tree.
    ExternalUnixSocket: "a process has a unix socket whose peer is outside the tree",
        "set .ext_unix_sk(true), or name the socket with .external(External::UnixSocket(inode))",
        said as ["External socket is used"] ["Can't dump half of stream unix connection"];

    /// A terminal that belongs to a session outside the tree, or whose master is outside.
    ForeignTerminal: "a process uses a terminal from outside the tree",
        "set .shell_job(true) or .orphan_pts_master(true) on dump and restore",
        said as
        ["Found slave peer index", "without correspond master peer"]
        ["Task attached to shell terminal"]
        ["Unable to open dev/ptmx with specified index"];

    /// The root of the tree does not lead its session.
    ForeignSession: "the session of a process is led from outside the tree",
        "dump from the session's leader on, or set .shell_job(true) on dump and restore",
        said as
        ["is not a session leader"]
        ["A session leader of", "is outside of its pid namespace"];

    /// A file lock.
    FileLocks: "a process holds a file lock",
        "set .file_locks(true) on dump and restore, if nobody outside the tree takes the same lock",
        said as ["Some file locks are hold by dumping tasks"];

    /// An unlinked file larger than the limit.
    GhostTooLarge: "a process has an unlinked file open that is larger than the limit",
        "raise .ghost_limit(bytes), or close the file",
        said as ["Can't dump ghost file"];

    /// An open file that the tree's mount namespace does not show.
    FileOutsideMounts: "a process has a file open that its mount namespace does not show",
        "name it with .external(External::File { .. }) and give it back with .inherit_fd, or close it",
        said as ["Can't lookup mount="];

    /// A task of another user, without the capability to read its limits.
    NoResourceCapability: "criu may not read the limits of another user's process",
        "give criu CAP_SYS_RESOURCE; a container often lacks it, and then only root's tasks and those \
         in a user namespace of their own can be dumped",
        said as ["Can't get rlimit", "Operation not permitted"];

    /// A bind mount from outside that nobody has named.
    ExternalMount: "a mount comes from outside the tree's mount namespace",
        "name it with .external(External::mount(..)) on dump and restore, or set .auto_ext_mnt(true)",
        said as
        ["doesn't have a proper root mount"]
        ["is unreachable sharing"]
        ["No mapping for", "mountpoint"];

    /// A process id of the tree belongs to somebody else.
    PidInUse: "a process id of the tree is in use",
        "end that process (a zombie counts, its parent has to reap it), or restore into a pid \
         namespace of its own",
        said as ["Can't fork for", "File exists"];

    /// The images, or the profile asked for, are of a security module that this host does not run.
    LsmMismatch: "this host does not run the security module of the images or of the profile",
        "restore where that module is active, and without lsm_profile where it is not",
        said as
        ["mismatched lsm types"]
        ["can't render profile"]
        ["LSM specified but", "not supported by kernel"];

    /// Images of a CRIU that is newer than this one.
    VersionSkew: "these images were made by a CRIU that this one does not understand",
        "restore with the CRIU that made them, or a newer one: images of 4.2 and later need 4.2",
        said as ["vdso: ELF header magic mismatch"] ["Not supported images version"];

    /// There are no images.
    NotCheckpoint: "the images directory holds no checkpoint", "check the path",
        said as ["Unexpected EOF on (empty-image)"];

    /// A file differs from what it was at the dump.
    FileChanged: "a file has changed since the dump",
        "put the file back as it was; a changed mode is accepted with .skip_file_rwx_check(true)",
        said as
        ["has bad size"]
        ["has bad mode"]
        ["has bad build-ID"];

    /// A file is gone.
    FileMissing: "a file that a process has open is not there any more", "put it back",
        said as ["Can't open file", "on restore: No such file or directory"];

    /// The program or library that keeps packets away does not work.
    NetworkLockFailed: "the network cannot be locked",
        "install iptables, or set .network_lock(NetworkLock::Nftables) or Skip",
        said as ["Iptables configuration failed"] ["Locking network failed"];

    /// The images directory's file system is full.
    NoSpace: "there is no space left for the images", "make room, or use another directory",
        said as ["No space left on device"];

    /// Somebody else traces the process.
    Traced: "the process is being traced by another", "end the debugger or strace that traces it",
        said as ["Unable to interrupt task", "Operation not permitted"];

    /// A process holds a capability that criu lacks, or is in a user namespace that criu is not above.
    NotTraceable: "criu may not trace the process",
        "run criu as root in the process's user namespace or above it, with each of its capabilities";

    /// There is no such process.
    NoSuchProcess: "there is no such process", "check the process id",
        said as ["Unable to interrupt task", "No such process"];
}

impl Cause {
    /// The cause of a failure, found in what CRIU said. `root` is the process that was to be dumped.
    pub(crate) fn of(failure: &Failure, root: Option<Pid>) -> Option<Self> {
        let log = failure.excerpt().into_iter().flat_map(|log| {
            [&log.error].into_iter().chain(&log.more).chain(&log.before).map(String::as_str)
        });
        let lines: Vec<&str> =
            log.chain(failure.output.lines()).chain(failure.message.as_deref()).collect();
        let fits = |parts: &[&str]| lines.iter().any(|line| has_all(line, parts));
        let said = SAID.iter().find(|(_, parts)| fits(parts)).map(|&(cause, _)| cause);
        // CRIU says the same of both.
        let said = match said {
            Some(Self::Traced) if !lines.iter().any(|line| names_traced(line)) => {
                Some(Self::NotTraceable)
            }
            said => said,
        };
        // The line that tells is a warning, which a low log level leaves out.
        let gone = || root.is_some_and(|pid| procfs::process::Process::new(pid.as_raw()).is_err());
        said.or_else(|| {
            (failure.errno == Some(libc::ESRCH) && gone()).then_some(Self::NoSuchProcess)
        })
    }
}

/// Whether a line names a process that somebody traces, as far as can be seen.
fn names_traced(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("Unable to interrupt task: ") else { return false };
    let pid = rest.split(' ').next().and_then(|pid| pid.parse().ok());
    let status = pid.map(|pid| procfs::process::Process::new(pid).and_then(|p| p.status()));
    !matches!(status, Some(Ok(status)) if status.tracerpid == 0)
}

fn has_all(line: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| line.contains(part))
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}
