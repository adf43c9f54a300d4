//! The known causes of failures, each with a description and advice.

use std::fmt;

macro_rules! causes {
    ($(
        $(#[$doc:meta])*
        $cause:ident: $what:literal, $hint:literal
        $(, said as $([$($part:literal),+])+)?;
    )*) => {
        /// A known cause of a failure.
        ///
        /// `Display` describes the cause, [`Cause::hint`] advises what to do. Each cause was seen
        /// with a real CRIU.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Cause {
            $($(#[$doc])* $cause,)*
        }

        impl Cause {
            /// Every known cause.
            pub const ALL: &[Self] = &[$(Self::$cause,)*];

            /// Advises what to do.
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

        /// CRIU's messages: each row is a cause and the parts that one line must all contain.
        pub(super) const SAID: &[(Cause, &[&str])] = &[$($($((Cause::$cause, &[$($part),+]),)+)?)*];
    };
}

// The order matters: the first row that fits any of the lines wins.
causes! {
    /// The criu program lacks a capability that it needs.
    MissingCapability: "criu lacks a capability",
        "run criu as root, or give it CAP_CHECKPOINT_RESTORE and CAP_SYS_PTRACE and set \
         .unprivileged(true)",
        said as
        ["CRIU needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability"]
        ["Can't open dir /proc/", "Permission denied"];

    /// This CRIU does not know a change in this kernel: the layout of the vDSO (before CRIU 4.1 on
    /// Linux 6.13), or options of sockets (before CRIU 4.2 on Linux 6.16).
    CriuTooOld: "this CRIU is too old for this kernel", "install a newer CRIU",
        said as
        ["Unexpected rt vDSO area bounds"]
        ["Can't get 1:16 opt: Operation not supported"]
        ["Can't get 1:34 opt: Operation not supported"];

    /// The kernel does not track changed memory.
    NoSoftDirty: "this kernel does not track changed memory (soft-dirty)",
        "dump without .track_mem(true) and pre-dumps, or on a kernel with CONFIG_MEM_SOFT_DIRTY",
        said as
        ["Tracking memory is not available"]
        ["BUG at criu/mem.c:"];

    /// CRIU was built without LZ4.
    NoCompression: "this CRIU was built without LZ4", "dump without .compress",
        said as ["requires CRIU built with LZ4 support"];

    /// A connected TCP socket.
    ConnectedTcp: "a process has a connected TCP socket",
        "set .tcp(Tcp::Established) to save the connection, or .tcp(Tcp::Close) to drop it",
        said as ["Connected TCP socket"];

    /// A unix socket whose peer is not in the tree.
    ExternalUnixSocket: "a process has a unix socket whose peer is outside the tree",
        "set .ext_unix_sk(true), or name the socket with .external(External::UnixSocket(inode))",
        said as ["External socket is used"] ["Can't dump half of stream unix connection"];

    /// A terminal that belongs to a session outside the tree, or whose master is outside the tree.
    ForeignTerminal: "a process uses a terminal from outside the tree",
        "set .shell_job(true) or .orphan_pts_master(true) on dump and restore",
        said as
        ["Found slave peer index", "without correspond master peer"]
        ["Task attached to shell terminal"]
        ["Unable to open dev/ptmx with specified index"];

    /// The root of the tree does not lead its session.
    ForeignSession: "the leader of a process's session is outside the tree",
        "dump the session leader's tree, or set .shell_job(true) on dump and restore",
        said as
        ["is not a session leader"]
        ["A session leader of", "is outside of its pid namespace"];

    /// A file lock.
    FileLocks: "a process holds a file lock",
        "set .file_locks(true) on dump and restore, if nobody outside the tree takes the same lock",
        said as ["Some file locks are hold by dumping tasks"];

    /// An unlinked file larger than the limit.
    GhostTooLarge: "a process has an unlinked file open that is larger than the limit",
        "raise .ghost_limit(bytes), or have the program close the file",
        said as ["Can't dump ghost file"];

    /// An open file that the tree's mount namespace does not show.
    FileOutsideMounts: "a process has a file open that its mount namespace does not show",
        "name it with .external(External::File { .. }) and pass it to the restore with \
         .inherit_fd, or have the program close it",
        said as ["Can't lookup mount="];

    /// A task of another user, whose limits criu lacks the capability to read.
    NoResourceCapability: "criu may not read the limits of another user's process",
        "give criu CAP_SYS_RESOURCE; a container often lacks it, and then only root's tasks and \
         those in a user namespace of their own can be dumped",
        said as ["Can't get rlimit", "Operation not permitted"];

    /// A bind mount from outside that the caller has not named.
    ExternalMount: "a mount comes from outside the tree's mount namespace",
        "name it with .external(External::mount(..)) on dump and restore, or set \
         .auto_ext_mnt(true)",
        said as
        ["doesn't have a proper root mount"]
        ["has unreachable sharing"]
        ["No mapping for", "mountpoint"];

    /// A process id of the tree belongs to another process.
    PidInUse: "a process id of the tree is in use",
        "end the process that has it (a zombie has to be reaped by its parent), or restore into \
         a pid namespace of its own",
        said as ["Can't fork for", "File exists"];

    /// A cgroup controller of the tasks that this kernel lacks, or has only in another cgroup
    /// version.
    CgroupMissing: "a cgroup controller that the tasks used is missing on this machine",
        "restore on a machine that has it, or set .manage_cgroups(CgroupMode::Ignore)",
        said as ["Can't mount controller dir"];

    /// Another program uses the address that a saved socket is bound to.
    AddressInUse: "an address that a socket of the tree is bound to is in use",
        "end the program that has it, or restore into a network namespace of its own",
        said as ["Can't bind inet socket", "Address already in use"];

    /// The images or the requested profile need a security module that this host does not run.
    LsmMismatch: "this host does not run the security module of the images or of the profile",
        "restore on a host that runs the module; on other hosts leave .lsm_profile out",
        said as
        ["mismatched lsm types"]
        ["can't render profile"]
        ["LSM specified but", "not supported by kernel"];

    /// An SELinux profile or images with SELinux labels, with a CRIU that was built without
    /// SELinux.
    NoSelinux: "this CRIU was built without SELinux, which this machine runs",
        "use a CRIU built with libselinux, or leave .lsm_profile out and set \
         .accept_label_loss(true)";

    /// Images of a CRIU that is newer than this one.
    VersionSkew: "these images were made by a newer CRIU, and this one cannot read them",
        "restore with the CRIU that made them, or a newer one: images of 4.2 and later need 4.2",
        said as ["vdso: ELF header magic mismatch"] ["Not supported images version"];

    /// There are no images.
    NotCheckpoint: "the images directory holds no checkpoint", "check the path",
        said as ["Unexpected EOF on (empty-image)"];

    /// A file that has changed since the dump.
    FileChanged: "a file has changed since the dump",
        "put the file back as it was; a changed mode is accepted with .skip_file_rwx_check(true)",
        said as
        ["has bad size"]
        ["has bad mode"]
        ["has bad build-ID"];

    /// A file that is missing since the dump.
    FileMissing: "a file that a process had open is missing", "put the file back",
        said as ["Can't open file", "on restore: No such file or directory"];

    /// The program or library that locks the network does not work.
    NetworkLockFailed: "the network cannot be locked",
        "install iptables, or set .network_lock(NetworkLock::Nftables) or \
         .network_lock(NetworkLock::Skip)",
        said as ["Iptables configuration failed"] ["Locking network failed"];

    /// The images directory's file system is full.
    NoSpace: "there is no space left for the images", "make room, or use another directory",
        said as ["No space left on device"];

    /// TCP connections that nobody has accepted yet.
    TcpInFlight: "a listening socket has connections that nobody has accepted yet",
        "set .tcp_skip_in_flight(true) to leave them out, or wait until they are accepted",
        said as ["In-flight connection (l)"];

    /// A socket of a protocol or family that CRIU does not save.
    UnsupportedSocket: "a process has a socket of a kind that CRIU cannot save",
        "have the program close it, or run the program without it",
        said as ["Unsupported proto"] ["Unknown socket collected"] ["inet socket", "Only stream"];

    /// A netlink socket with unread messages.
    UnreadNetlink: "a netlink socket holds unread messages",
        "try again when the program has read them",
        said as ["The socket has data to read"];

    /// A pidfd of a process outside the tree.
    PidfdOutside: "a process has a pidfd of a process outside the tree",
        "dump both processes in one tree, or have the program close it",
        said as ["is not a part of process tree"];

    /// An open file of a kind that CRIU does not save: devices, io_uring, perf events.
    UnsupportedFile: "a process has a file open of a kind that CRIU cannot save",
        "have the program close it, or run the program without it; CRIU may have a plugin for a \
         device",
        said as
        ["Can't dump file", "of that type"]
        // A file that cannot be sent over a socket, such as an io_uring.
        ["send_fds failed (-22)"]
        // A descriptor of a namespace that is not one of the tree.
        ["No NS ID with kid"];

    /// A mapping of a device, or of another file that is not in a file system.
    UnsupportedMapping: "a process maps a device, or a file that CRIU cannot map again",
        "have the program unmap it; CRIU may have a plugin for a GPU",
        said as ["Can't handle non-regular mapping"] ["Unknown shit"];

    /// A file that was unlinked but still has other names.
    LinkRemap: "a process has a file open that was unlinked but still has other names",
        "set .link_remap(true) on dump, which keeps a link beside the file until the restore",
        said as ["Can't create link remap"] ["Use --link-remap option"];

    /// A file whose name now belongs to another file.
    PathTaken: "a process has a file open whose name now belongs to another file",
        "move the other file away", said as ["Unaccessible path opened"];

    /// An open file below a mount that hides it.
    Overmounted: "a process has a file open on a mount that another mount hides",
        "unmount the upper one, or have the program close the file",
        said as ["Open files on overmounted mounts"];

    /// A mounted file system that CRIU does not know.
    UnsupportedMount: "the tree's mount namespace has a file system that CRIU does not know",
        "name it with .external(External::mount(..)), or leave it out with .skip_mnt",
        said as ["FS mnt", "unsupported id"];

    /// System V shared memory in a tree without an IPC namespace of its own.
    SysvShm: "a process has System V shared memory, but no IPC namespace of its own",
        "start the tree in an IPC namespace of its own (unshare --ipc)",
        said as ["with SysVIPC shmem map", "doesn't live in IPC ns"];

    /// A namespace that the root of the tree is not in.
    NestedNamespace: "a process is in a namespace that the root of the tree is not in",
        "dump that process's tree, or start the whole tree in one set of namespaces",
        said as ["Can't dump nested"] ["Can't restore sub-task in NS"];

    /// A tree that lacks the first process of its pid namespace.
    NoInit: "the tree lacks the first process of its pid namespace",
        "dump the tree of the namespace's first process",
        said as ["Can't dump a pid namespace without the process init"];

    /// More than one terminal whose master is outside the tree.
    SeveralTerminals: "the tree uses several terminals from outside",
        "start it with one terminal at most",
        said as ["Only one slave external peer"];

    /// A user namespace without a mount namespace. CRIU 4.3 mounts binfmt_misc to save its entries,
    /// which is allowed only if the mount namespace of the tree belongs to the user namespace.
    NoBinfmtMisc: "the tree has a user namespace of its own, but no mount namespace",
        "start it in a mount namespace as well (unshare --user --mount)",
        said as ["Failed to dump binfmt_misc contents"];

    /// A root task that is a zombie.
    DeadRoot: "the process has ended, and its parent has not reaped it", "check the process id",
        said as ["A root task is dead"] ["found while seizing"];

    /// criu or the program that starts it is part of the tree.
    InsideTree: "criu, or the program that starts it, is itself in the tree",
        "start it from outside the tree", said as ["The criu itself is within dumped tree"];

    /// A CPU that lacks features that the images record.
    CpuMismatch: "this CPU lacks features of the CPU that the images were made on",
        "restore on a machine that has them, or set .cpu_cap to compare less",
        said as
        ["CPU instruction capabilities do not match"]
        ["CPU capabilities do not match"]
        ["FPU feature required by image"]
        ["CPU xfeatures has unsupported bits"]
        ["Image carries unknown vendor"];

    /// Another process traces the process.
    Traced: "another process traces the process", "end the debugger or strace that traces it",
        said as ["Unable to interrupt task", "Operation not permitted"];

    /// A process holds a capability that criu lacks, or is in a user namespace that criu is not
    /// above.
    NotTraceable: "criu may not trace the process",
        "run criu as root in the process's user namespace or above it, with all capabilities \
         that the process has";

    /// Nobody listens at the page server's address, or it has no address.
    NoPageServer: "the page server cannot be reached",
        "check that it listens at this address and port; CRIU's own page server takes one dump \
         and ends",
        said as ["Failed to resolve hostname"];

    /// There is no such process.
    NoSuchProcess: "there is no such process", "check the process id",
        said as ["Unable to interrupt task", "No such process"];
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}
