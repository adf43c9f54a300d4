//! The known causes of failures, each with a description and advice.

use std::fmt;

use super::phrase::{On, Phrase};

macro_rules! causes {
    ($(
        $(#[$doc:meta])*
        $cause:ident: $what:literal, $hint:literal
        $(, $($on:ident)+ [$($message:literal),+ $(,)?])*;
    )*) => {
        /// A known cause of a failure.
        ///
        /// `Display` describes the cause, [`Cause::hint`] advises what to do.
        /// [`Failure::seen`](crate::Failure::seen) names the file, process or address that the
        /// cause of a failure is about. `docs/causes.md` lists all causes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
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

        /// CRIU's messages, each with its cause and with the operations for which it counts.
        pub(super) const SAID: &[Phrase] = &[$($(Phrase {
            cause: Cause::$cause,
            on: &[$(on!($on)),+],
            messages: &[$($message),+],
        },)*)*];
    };
}

macro_rules! on {
    (any) => {
        On::Any
    };
    (dump) => {
        On::Dump
    };
    (restore) => {
        On::Restore
    };
    (check) => {
        On::Check
    };
    (cpuinfo) => {
        On::Cpuinfo
    };
    (pages) => {
        On::Pages
    };
}

// A row: the cause, its description, advice in the library's words, and the messages of CRIU that
// tell it, each after the operations for which it counts. A message is compared as a whole: `{}`
// stands for any text, `{name}`, `{pid}`, `{mount}` and others for text that `Failure::seen` shows.
// Of two rows that fit one message, the first wins; a general one stands last.
causes! {
    /// The criu program lacks a capability that it needs.
    MissingCapability: "criu lacks a capability",
        "run criu as root, or give it CAP_CHECKPOINT_RESTORE and CAP_SYS_PTRACE and set \
         .unprivileged(true)",
        any [
            "CRIU needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability{}",
            "Can't open dir /proc/{}: Permission denied",
            "-1 reported by netlink: Operation not permitted",
            "Unable create a network namespace: Operation not permitted",
        ];

    /// This CRIU does not know a change in this kernel: the layout of the vDSO (before CRIU 4.1 on
    /// Linux 6.13), options of sockets (before CRIU 4.2 on Linux 6.16), or guard regions in memory
    /// (before CRIU 4.2).
    CriuTooOld: "this CRIU is too old for this kernel", "install a newer CRIU",
        any [
            "Unexpected rt vDSO area bounds",
            "Can't get 1:16 opt: Operation not supported",
            "Can't get 1:34 opt: Operation not supported",
            "Can't splice all pages to pipe ({})",
        ];

    /// The kernel does not track changed memory.
    NoSoftDirty: "this kernel does not track changed memory (soft-dirty)",
        "dump without .track_mem(true) and pre-dumps, or on a kernel with CONFIG_MEM_SOFT_DIRTY",
        dump ["Tracking memory is not available{}", "BUG at criu/mem.c:{}"];

    /// CRIU was built without LZ4.
    NoCompression: "this CRIU was built without LZ4", "dump without .compress",
        dump ["{}requires CRIU built with LZ4 support{}"];

    /// A connected TCP socket.
    ConnectedTcp: "a process has a connected TCP socket",
        "set .tcp(Tcp::Established) to save the connection, or .tcp(Tcp::Close) to drop it",
        dump ["Connected TCP socket{}"],
        restore ["Connected TCP socket in image"];

    /// A unix socket whose peer is not in the tree.
    ExternalUnixSocket: "a process has a unix socket whose peer is outside the tree",
        "set .ext_unix_sk(true), or name the socket with .external(External::UnixSocket(inode))",
        dump ["External socket is used{}", "Can't dump half of stream unix connection{}"],
        restore ["External socket found in image{}"];

    /// A terminal that belongs to a session outside the tree, or whose master is outside the tree.
    ForeignTerminal: "a process uses a terminal from outside the tree",
        "set .shell_job(true) or .orphan_pts_master(true) on dump and restore",
        dump [
            "Found slave peer index {} without correspond master peer{}",
            "Task attached to shell terminal{}",
        ],
        restore ["Found slave peer index {} without correspond master peer{}"];

    /// The root of the tree does not lead its session.
    ForeignSession: "the leader of a process's session is outside the tree",
        "dump the session leader's tree, or set .shell_job(true) on dump and restore",
        dump [
            "{} is not a session leader{}",
            "A session leader of {} is outside of its pid namespace",
        ];

    /// A file lock.
    FileLocks: "a process holds a file lock",
        "set .file_locks(true) on dump and restore, if nobody outside the tree takes the same lock",
        dump ["Some file locks are hold by dumping tasks{}"];

    /// An unlinked file larger than the limit.
    GhostTooLarge: "a process has an unlinked file open that is larger than the limit",
        "raise .ghost_limit(bytes), or have the program close the file",
        dump ["Can't dump ghost file {name} of {} size{}"];

    /// An open file that the tree's mount namespace does not show.
    FileOutsideMounts: "a process has a file open that its mount namespace does not show",
        "name it with .external(External::File { .. }) and pass it to the restore with \
         .inherit_fd, or have the program close it",
        dump ["Can't lookup mount={} for fd={} path={name}"];

    /// A task of another user, whose limits criu lacks the capability to read.
    NoResourceCapability: "criu may not read the limits of another user's process",
        "give criu CAP_SYS_RESOURCE; a container often lacks it, and then only root's tasks and \
         those in a user namespace of their own can be dumped",
        dump ["Can't get rlimit {}: Operation not permitted"];

    /// A bind mount from outside that the caller has not named.
    ExternalMount: "a mount comes from outside the tree's mount namespace",
        "name it with .external(External::mount(..)) on dump and restore, or set \
         .auto_ext_mnt(true)",
        dump [
            "{}:{mount} doesn't have a proper root mount",
            "Mount {} {mount} (master_id: {}) has unreachable sharing{}",
        ],
        restore ["No mapping for {}:{mount} mountpoint"];

    /// A process id of the tree belongs to another process.
    PidInUse: "a process id of the tree is in use",
        "end the process that has it (a zombie has to be reaped by its parent), or restore into \
         a pid namespace of its own",
        restore ["Can't fork for {pid}: File exists"];

    /// A cgroup controller of the tasks that this kernel lacks, or has only in another cgroup
    /// version.
    CgroupMissing: "a cgroup controller that the tasks used is missing on this machine",
        "restore on a machine that has it, or set .manage_cgroups(CgroupMode::Ignore)",
        restore ["Can't mount controller dir {controller}: {}"];

    /// Another program uses the address that a saved socket is bound to.
    AddressInUse: "an address that a socket of the tree is bound to is in use",
        "end the program that has it, or restore into a network namespace of its own",
        restore [
            "Can't bind inet socket (id {socket}): Address already in use",
            "Can't bind inet socket{}: Address already in use",
            "Can't bind id {} ino {} addr {name}: Address already in use",
        ];

    /// The images or the requested profile need a security module that this host does not run.
    LsmMismatch: "this host does not run the security module of the images or of the profile",
        "restore on a host that runs the module; on other hosts leave .lsm_profile out",
        any [
            "mismatched lsm types and lsm profile specified",
            "can't render profile {profile} for lsmtype {}",
            "{} LSM specified but {module} not supported by kernel",
        ];

    /// An SELinux profile or images with SELinux labels, with a CRIU that was built without
    /// SELinux.
    NoSelinux: "this CRIU was built without SELinux, which this machine runs",
        "use a CRIU built with libselinux, or leave .lsm_profile out and set \
         .accept_label_loss(true)";

    /// Images of a CRIU that is newer than this one.
    VersionSkew: "these images were made by a newer CRIU, and this one cannot read them",
        "restore with the CRIU that made them, or a newer one: images of 4.2 and later need 4.2",
        any ["ELF header magic mismatch{}", "Not supported images version {}"];

    /// There are no images.
    NotCheckpoint: "the images directory holds no checkpoint", "check the path",
        restore ["Unexpected EOF on (empty-image)"];

    /// A file that has changed since the dump.
    FileChanged: "a file has changed since the dump",
        "put the file back as it was; a changed mode is accepted with .skip_file_rwx_check(true)",
        restore [
            "File {name} has bad size {}",
            "File {name} has bad mode {}",
            "File {name} has bad build-ID{}",
        ];

    /// An external resource that the restore was not given.
    ExternalNotGiven: "an external resource of the images was not given to the restore",
        "give it back under its key: .inherit_fd for files, pipes, terminals and namespaces, \
         .external for mounts",
        restore [
            "Can't open file ile[{external}] on restore: No such file or directory",
            "External file {key} has no --inherit-fd mapping on restore",
            "Unable to find an external netns: {key}",
            "Unable to find an external pidns: {key}",
            "Unable to restore into an empty PID namespace",
        ];

    /// A file or directory that is missing since the dump.
    FileMissing: "a file or directory that a process used is missing", "put it back",
        restore [
            "Can't open file {name} on restore: No such file or directory",
            "Can't open fake fifo {} [{name}]: No such file or directory",
            "Can't bind id {} ino {} addr {name}: No such file or directory",
            "Unable to open inotify via path {name} (dev {}): No such file or directory",
            "fsnotify: Unable to open {name}: No such file or directory",
        ];

    /// A file in `/proc` or `/sys` whose process, thread or device is gone.
    ProcFileMissing: "a file that a process had open in /proc or /sys is not there any more",
        "such a file goes with its process, thread or device, and nobody can put it back: have the \
         program close it before the dump";

    /// A file that exists but cannot be opened as it was.
    FileRefused: "a file that a process had open cannot be opened again",
        "undo what keeps it from being opened: another kind of file in its place, a mount that is \
         read-only, permissions, a missing device",
        restore ["Can't open file {name} on restore: {why}"];

    /// The program of a task is open for writing.
    ProgramBusy: "the program file of a process is open for writing, or may not be executed",
        "close it where it is open (fuser -v FILE), or restore its permissions",
        restore [
            "sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed with -13",
            "sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed with -26",
        ];

    /// The link that a dump with `link_remap` made beside an unlinked file.
    LinkRemapMissing: "the link is gone that the dump kept for an unlinked file",
        "put link_remap.N back beside the file; a restore that went on removes it, so such images \
         can be restored once",
        restore ["Can't link {name} -> {}: No such file or directory"];

    /// A file that an earlier restore made for an unlinked file, and left behind.
    GhostExists: "a file of an earlier restore is in the way of an unlinked file",
        "try again: CRIU has removed the file by now; otherwise remove NAME.cr.N.ghost, which \
         lies where the unlinked file lay",
        restore ["Can't create ghost {}: File exists"];

    /// A file system that the restore writes to: unlinked files, contents of tmpfs.
    FileSystemFull: "a file system is full that the restore writes to",
        "make room where the processes' unlinked files lay, or give their tmpfs more space",
        restore [
            "Can't send data: No space left on device",
            "Can't create ghost {}: No space left on device",
            "tar: {name}: {}: No space left on device",
        ];

    /// The peer of a veth is in a network namespace that is not saved.
    VethPeer: "the peer of a saved veth is in a network namespace outside the tree",
        "name what is to be the peer with .external(External::Veth { .. })",
        restore ["Unknown peer net namespace"];

    /// A network interface of the saved name.
    InterfaceExists: "a network interface exists already that the restore makes",
        "remove the interface, or name another peer for the saved veth",
        restore ["-17 reported by netlink: File exists"];

    /// A network interface that a saved socket is bound to.
    InterfaceMissing: "a network interface that a socket of the tree is bound to is missing",
        "make the interface, or restore on a host that has it",
        restore [
            "Can't set 1:25 (len {}): No such device",
            "Can't bind packet socket: No such device",
            "couldn't find ifindex for {interface}",
        ];

    /// A job of a terminal is restored without a terminal.
    NoTerminal: "the saved processes use the terminal that the restore is started in, and there \
         is none",
        "start the restore in a terminal, with this terminal as standard input",
        restore ["Don't have tty to inherit session from, aborting"];

    /// The number of a saved pseudoterminal belongs to another one.
    TerminalInUse: "the number of a saved pseudoterminal is in use",
        "end the program that has the terminal, or restore into a mount namespace with its own \
         /dev/pts",
        restore ["Unable to open dev/ptmx with specified index {index}"];

    /// The session or process group of the restore has an id that the images need.
    SessionIdInUse: "a session or process group id of the tree is that of the restore itself",
        "start the restore in another session (setsid)",
        restore [
            "Current sid {session} intersects with {}",
            "Current gid {group} intersects with {}",
        ];

    /// The lazy-pages daemon is not there.
    NoLazyPagesDaemon: "no lazy-pages daemon answers",
        "start lazy-pages on these images first, with the work directory of the restore",
        restore ["connect to {name} failed: {}"];

    /// A saved address that no interface of this host has.
    AddressNotHere: "an address that a socket of the tree is bound to is not of this host",
        "add the address to an interface (ip addr add), or change it in the images: crit edit DIR \
         address:FROM=TO",
        restore [
            "Can't bind inet socket (id {socket}): Cannot assign requested address",
            "Can't bind inet socket{}: Cannot assign requested address",
            "Can't connect inet socket back: Cannot assign requested address",
        ];

    /// The network that a saved socket is connected to.
    Unreachable: "no route leads to an address that a socket of the tree is connected to",
        "bring the interface up, or add the route",
        restore ["Can't connect inet socket back: Network is unreachable"];

    /// A capability that a saved process has and that the restore may not give.
    CapabilityNotHeld: "a saved process has a capability that the restore does not hold",
        "run the restore with all capabilities of the saved processes; a container takes some \
         away unless it is privileged",
        restore [
            "Unable to restore capabilities: {}",
            "Unable to drop capability {capability}: {}",
            "Unable to raise ambient capability {capability}: {}",
        ];

    /// The user or group of a saved process.
    IdNotGiven: "the restore may not give a process its user or group",
        "run the restore as root with CAP_SETUID and CAP_SETGID, in a user namespace that maps \
         the saved ids",
        restore [
            "Unable to set real, effective and saved user ID: {}",
            "Unable to set real, effective and saved group ID: {}",
            "Can't setgroups([{} gids]): {}",
            "Unable to write into {name}: Operation not permitted",
            "Unable to write into {name}: Invalid argument",
        ];

    /// The loopback interface of the network namespace that criu runs in.
    LoopbackDown: "the loopback interface is down where criu runs, and CRIU probes the kernel \
         over it",
        "set it up: ip link set lo up",
        any [
            "Unable to connect a socket: Network is unreachable",
            "Unable to connect a socket: Connection timed out",
            "Unable to connect a socket: Cannot assign requested address",
        ];

    /// A cpuset cgroup without processors or memory.
    EmptyCpuset: "a cpuset cgroup has no processors or no memory",
        "fill cpuset.cpus and cpuset.mems of the cgroup, or delete the cgroup and let CRIU make it",
        restore ["Can't move {pid} into {cgroup} ({}): No space left on device"];

    /// A cgroup that the restore was told to expect.
    CgroupDirMissing: "a cgroup of the tasks is missing",
        "make the cgroup, or set another .manage_cgroups: CgroupMode::Soft makes it",
        restore ["Cgroup dir {cgroup} doesn't exist"];

    /// A cgroup that cannot be made, entered or configured.
    CgroupRefused: "a cgroup cannot be made, entered or set up as it was",
        "restore with cgroups that criu may write, or set .manage_cgroups(CgroupMode::Ignore)",
        restore [
            "Can't move {pid} into {cgroup} ({}): {why}",
            "Can't make cgroup dir {cgroup}: {why}",
            "Failed writing {} to {cgroup}: {why}",
            "Failed accessing cgroup dir {cgroup}: {why}",
            "Abort restore of existing cgroups",
        ];

    /// The kernel's limit of inotify watches or instances.
    InotifyLimit: "the limit of inotify watches or instances is reached",
        "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances",
        any ["Can't create inotify{}: Too many open files"],
        restore ["Can't add inotify watch for fd {}: No space left on device"];

    /// The kernel's limit of namespaces.
    NamespaceLimit: "the limit of namespaces is reached",
        "raise user.max_mnt_namespaces and the like (sysctl user)",
        restore [
            "Can't fork for {pid}: No space left on device",
            "Can't unshare net-namespace: No space left on device",
            "Unable to create a new time namespace: No space left on device",
        ];

    /// A limit of processes: `pids.max` of a cgroup, or `RLIMIT_NPROC`.
    TooManyProcesses: "a limit of processes is reached",
        "raise pids.max of the cgroup, or the user's limit (ulimit -u)",
        any [
            "fork() failed: Resource temporarily unavailable",
            "{}ork a process: Resource temporarily unavailable",
            "Can't fork for {pid}: Resource temporarily unavailable",
            "Unable to create a thread: -11",
        ];

    /// The limit of open files is lower than the saved descriptors need.
    TooFewDescriptors: "the limit of open files is too low for the saved descriptors",
        "raise the hard limit of open files (ulimit -Hn) of the program that starts criu",
        restore ["Can't chose service_fd_base: {}", "Too big FD number to restore {}"];

    /// The memory that is left, or the limit of a cgroup or an address space.
    NoMemory: "there is not enough memory, or a limit of memory or address space is reached",
        "free memory, or raise the limit of the cgroup or of the address space (ulimit -v)",
        any ["{}: Cannot allocate memory"];

    /// A process was killed while it was restored.
    KilledInRestore: "a process was killed while it was restored",
        "look for the out-of-memory killer in dmesg, and at the memory limit of its cgroup",
        restore ["{pid} killed by signal 9: Killed"];

    /// A namespace that the restore is to enter.
    JoinedNamespace: "a namespace that the restore is to enter is not there",
        "check the path or process id that .join_ns is given",
        any ["Can't access join-ns file {name}: {}", "Invalid join_ns pid{}"];

    /// The directory of the parent images.
    ParentMissing: "the images of the parent dump are missing",
        "put the parent's directory to where the link `parent` in the images directory leads",
        restore dump ["Can't open parent path: {}", "No parent image found{}"];

    /// An image that is missing, truncated or not an image.
    ImagesDamaged: "an image is missing or damaged",
        "run crit check on the images directory, and copy the whole directory again",
        restore [
            "Unexpected EOF reading pages data {}",
            "Can't read pages data {}",
            "Read {} bytes while {} expected from {name}: {}",
            "Read {} bytes while {} expected on {name}: {}",
            "Unexpected EOF",
            "Unexpected EOF on {name}",
            "Head magic doesn't match for {name}",
            "Magic doesn't match for {name}",
            "Unknown magic {} in {name}",
            "No IDS for root task.",
            "Can't open core data for {pid}",
            "Core {} data missed{}",
        ];

    /// An image that the user who restores may not read: root of the tree's own user namespace is
    /// another user outside.
    ImageUnreadable: "the user as whom CRIU restores the tree may not read an image",
        "let everybody read the images (chmod a+r DIR/*.img) and enter their directories (chmod \
         a+x DIR), and close the directory above",
        restore ["Unable to open {name}.img: Permission denied"];

    /// A process that died of CRIU's code, most often for an image that is missing or damaged.
    DiedInRestore: "a process died while it was restored",
        "run crit check on the images directory: a missing or damaged image is the likely reason",
        restore ["{pid} killed by signal {signal}", "{pid} exited, status={}"];

    /// The root directory of a saved mount namespace.
    RootNeeded: "the images hold a mount namespace, and the restore was given no root directory",
        "name a mount point that is to be the new root with .root(path)",
        restore ["The --root option is required to restore a mount namespace"];

    /// A directory, file or device outside that a saved mount is made of.
    MountSourceMissing: "what a saved mount shows is missing outside",
        "make it, or name another path for the key with .external(External::mount(..))",
        restore [
            "Failed to open_tree {name}: No such file or directory",
            "Can't bind-mount at {mount}: No such file or directory",
        ];

    /// A mount point that the new root directory lacks.
    MountPointMissing: "a mount point of the saved mount namespace is missing in the root directory",
        "make the directory or file in the root directory of the restore",
        restore [
            "Can't stat mountpoint {place}: No such file or directory",
            "Can't mount at {place}: No such file or directory",
        ];

    /// A file system that cannot be mounted as it was.
    MountRefused: "a saved file system cannot be mounted again",
        "see the reason: a kernel without this file system, a missing device, or missing rights",
        restore [
            "Can't mount at {place}: {why}",
            "Unable to mount {} {place} (id={}): {why}",
            "Failed to open_tree {place}: {why}",
        ];

    /// A process that does not stop: it sleeps in the kernel.
    Unseizable: "a process does not stop: it sleeps in the kernel, as in vfork or on a dead disk",
        "try again later; in a frozen cgroup a process inside vfork never stops: dump without \
         .freeze_cgroup(path)",
        dump ["Unseizable non-zombie {pid} found, state {state}, {}"];

    /// A file system that has to be written to.
    ReadOnly: "a file system is read-only that has to be written to",
        "mount it writable", any ["{}: Read-only file system"];

    /// A user namespace without a mount namespace. CRIU 4.3 mounts binfmt_misc to save its entries,
    /// which is allowed only if the mount namespace of the tree belongs to the user namespace. A
    /// criu without `CAP_SYS_ADMIN` fails in the same way.
    NoBinfmtMisc: "criu may not mount binfmt_misc, to save what the tree has registered there",
        "start a tree that has a user namespace in a mount namespace as well (unshare --user \
         --mount), or run criu with CAP_SYS_ADMIN",
        dump [
            "Unable to open the binfmt_misc file system: {}",
            "Failed to dump binfmt_misc contents{}",
        ];

    /// A system call that the kernel refused criu.
    NotPermitted: "the kernel does not permit criu something that it needs",
        "run criu as root with all capabilities; in a container, a seccomp filter or a security \
         module may refuse it too, unless the container is privileged",
        any [
            "{}: Operation not permitted",
            "{}: Permission denied",
        ];

    /// The program or library that locks the network does not work.
    NetworkLockFailed: "the network cannot be locked",
        "install iptables (and iproute2 for a network namespace of the tree's own), or set \
         .network_lock(NetworkLock::Nftables) or .network_lock(NetworkLock::Skip)",
        dump [
            "Iptables configuration failed",
            "Locking network failed{}",
            "Locking connection failed{}",
            "execvp(\"sh\", ...) failed: {}",
            "execvp(\"iptables-restore\", ...) failed: {}",
            "execvp(\"ip6tables-restore\", ...) failed: {}",
        ];

    /// A program that CRIU calls is not installed.
    MissingProgram: "a program that CRIU calls is missing",
        "install it and look at PATH: ip is in the package iproute2, iptables-restore in iptables",
        any ["execvp(\"{program}\", ...) failed: {}"];

    /// A program that CRIU calls reports a failure.
    ProgramFailed: "a program that CRIU calls failed",
        "look at the lines that it printed, here or in criu's log",
        any ["{program} exited, status={}", "exited, status={}", "{program} -V failed", "Script {name} exited with {}"];

    /// The images directory's file system is full.
    NoSpace: "there is no space left for the images", "make room, or use another directory",
        dump pages ["{}: No space left on device"];

    /// TCP connections that nobody has accepted yet.
    TcpInFlight: "a listening socket has connections that nobody has accepted yet",
        "set .tcp_skip_in_flight(true) to leave them out, or wait until they are accepted",
        dump ["In-flight connection (l){}"];

    /// A socket of a protocol or family that CRIU does not save.
    UnsupportedSocket: "a process has a socket of a kind that CRIU cannot save",
        "have the program close it, or run the program without it",
        dump [
            "Unsupported proto {}",
            "{}Unknown socket collected{}",
            "{}inet socket{}Only stream{}",
            "Can't dump corked dgram socket {}",
        ];

    /// A netlink socket with unread messages.
    UnreadNetlink: "a netlink socket holds unread messages",
        "try again when the program has read them",
        dump ["The socket has data to read"];

    /// A pidfd of a process outside the tree.
    PidfdOutside: "a process has a pidfd of a process outside the tree",
        "dump both processes in one tree, or have the program close it",
        dump ["pidfd pid {pid} is not a part of process tree{}"];

    /// An open file of a kind that CRIU does not save: devices, io_uring, perf events.
    UnsupportedFile: "a process has a file open of a kind that CRIU cannot save",
        "have the program close it, or run the program without it; CRIU may have a plugin for a \
         device",
        dump [
            "Can't dump file {} of that type {} ({})",
            "send_fds failed (-22)",
            "The packetized mode for pipes is not supported yet",
            "PIDFD_THREAD flag is currently not supported",
            "Unknown clock type {} for {}",
            "Net namespace is required to dump tun link",
            "Can't get 1:39 opt: Bad file descriptor",
            "No NS ID with kid {}",
        ];

    /// A mapping of a device, or of another file that is not in a file system.
    UnsupportedMapping: "a process maps a device, or a file that CRIU cannot map again",
        "have the program unmap it; CRIU may have a plugin for a GPU",
        dump ["Can't handle non-regular mapping{}", "Unknown shit {} ({name})"];

    /// A file that was unlinked but still has other names.
    LinkRemap: "a process has a file open that was unlinked but still has other names",
        "set .link_remap(true) on dump, which keeps a link beside the file until the restore",
        dump ["Can't create link remap for {name}. Use {}"];

    /// A file whose name now belongs to another file.
    PathTaken: "a process has a file open whose name now belongs to another file",
        "move the other file away",
        dump ["Unaccessible path opened {}"];

    /// An open file below a mount that hides it.
    Overmounted: "a process has a file open on a mount that another mount hides",
        "unmount the upper one, or have the program close the file",
        dump ["Open files on overmounted mounts {} path={name}"];

    /// A mounted file system that CRIU does not know.
    UnsupportedMount: "the tree's mount namespace has a file system that CRIU does not know",
        "name it with .external(External::mount(..)), or leave it out with .skip_mnt",
        dump ["FS mnt {mount} dev {} root {} unsupported id {}"];

    /// System V shared memory in a tree without an IPC namespace of its own.
    SysvShm: "a process has System V shared memory, but no IPC namespace of its own",
        "start the tree in an IPC namespace of its own (unshare --ipc)",
        dump ["Task {pid} with SysVIPC shmem map {} doesn't live in IPC ns"];

    /// A namespace that the root of the tree is not in.
    NestedNamespace: "a process is in a namespace that the root of the tree is not in",
        "dump that process's tree, or start the whole tree in one set of namespaces",
        dump ["Can't dump nested {namespace} namespace for {pid}"],
        restore ["Can't restore sub-task in NS (cflags {})"];

    /// A socket of a network namespace that no process of the tree is in.
    ForeignNetwork: "a process has a socket of a network namespace that no process of the tree is in",
        "have the program close the socket, or open it in the namespace that it is in itself",
        dump ["Unix socket {} not found"],
        restore ["Unable to find a network namespace"];

    /// More pipes or FIFOs than CRIU's tables hold: 1,024 each whose reading end the tree has.
    TooManyPipes: "the tree has more pipes or FIFOs than CRIU can save",
        "have the programs close some: CRIU saves 1,024 pipes and as many FIFOs",
        dump ["OOM storing pipe"];

    /// An epoll with a file that the process has closed, and which somebody else has open.
    EpollTarget: "an epoll watches a file that its process has closed",
        "have the program take the file out of the epoll (EPOLL_CTL_DEL) before it closes it",
        dump ["Dump eventpoll (pid: {pid}) failed with -1"];

    /// A watch on a file that CRIU cannot find again: the file system gives no handle for it.
    FileWatch: "a file watch is on a file that CRIU cannot find again",
        "have the program take the watch away; a file on overlayfs is found by CRIU 4.3, or in the \
         directories of .irmap_scan_path",
        dump ["{}Can't dump that handle"];

    /// A network interface of a kind that CRIU does not save.
    UnsupportedLink: "a network interface is of a kind that CRIU cannot save",
        "take the interface away, or leave the network out with .empty_net_ns(true)",
        dump ["Unsupported link {} (type {} kind {name})"];

    /// A thread that is scheduled by deadlines.
    DeadlineScheduling: "a thread is scheduled by deadlines, which CRIU does not restore",
        "have the program take another scheduling policy (chrt)",
        restore ["Inconsistent sched params received {}"];

    /// A process whose first thread has ended while others run on.
    DeadLeader: "the first thread of a process has ended, and others run on",
        "start the program so that its first thread waits for the others",
        dump ["Zombies with threads are not supported"];

    /// A tree that lacks the first process of its pid namespace.
    NoInit: "the tree lacks the first process of its pid namespace",
        "dump the tree of the namespace's first process",
        dump ["Can't dump a pid namespace without the process init"];

    /// More than one terminal whose master is outside the tree.
    SeveralTerminals: "the tree uses several terminals from outside",
        "start it with one terminal at most",
        dump ["Only one slave external peer{}"];

    /// A root task that is a zombie.
    DeadRoot: "the process has ended, and its parent has not reaped it", "check the process id",
        dump ["A root task is dead", "zombie {} found while seizing"];

    /// criu or the program that starts it is part of the tree.
    InsideTree: "criu, or the program that starts it, is itself in the tree",
        "start it from outside the tree",
        dump ["The criu itself is within dumped tree{}"];

    /// A CPU that lacks features that the images record.
    CpuMismatch: "this CPU lacks features of the CPU that the images were made on",
        "restore on a machine that has them, or set .cpu_cap to compare less",
        restore cpuinfo [
            "CPU instruction capabilities do not match{}",
            "CPU capabilities do not match{}",
            "FPU feature required by image{}",
            "CPU xfeatures has unsupported bits{}",
            "Image carries unknown vendor{}",
        ];

    /// Another process traces the process.
    Traced: "another process traces the process", "end the debugger or strace that traces it",
        dump ["Unable to interrupt task: {pid} (Operation not permitted)"];

    /// A process holds a capability that criu lacks, or is in a user namespace that criu is not
    /// above.
    NotTraceable: "criu may not trace the process",
        "run criu as root in the process's user namespace or above it, with all capabilities \
         that the process has";

    /// Nobody listens at the page server's address, or it has no address.
    NoPageServer: "the page server cannot be reached",
        "check that it listens at this address and port; CRIU's own page server takes one dump \
         and ends",
        dump ["Failed to resolve hostname: {host}: {}", "Failed to resolve hostname: {host}"];

    /// There is no such process.
    NoSuchProcess: "there is no such process", "check the process id",
        dump ["Unable to interrupt task: {pid} (No such process)"];
}

/// The names of the operations that fail with a cause: all of them if only `/proc` or the end of an
/// operation tells the cause.
#[cfg(test)]
pub(crate) fn operations(cause: Cause) -> Vec<&'static str> {
    let all = [
        (On::Dump, "dump"),
        (On::Restore, "restore"),
        (On::Check, "check"),
        (On::Cpuinfo, "cpuinfo"),
        (On::Pages, "page server"),
    ];
    let ons: Vec<On> =
        SAID.iter().filter(|p| p.cause == cause).flat_map(|p| p.on).copied().collect();
    let is_any = ons.is_empty() || ons.contains(&On::Any);
    all.into_iter().filter(|(on, _)| is_any || ons.contains(on)).map(|(_, name)| name).collect()
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Causes whose messages stand in CRIU's source, and that nobody has provoked here.
    const FROM_SOURCE: &[Cause] =
        &[Cause::Unreachable, Cause::IdNotGiven, Cause::NamespaceLimit, Cause::MountRefused];

    /// Returns a cause's row in docs/causes.md.
    fn row(cause: Cause) -> String {
        let operations = operations(cause);
        let operations =
            if operations.len() == 5 { "all".to_owned() } else { operations.join(", ") };
        let mark = if FROM_SOURCE.contains(&cause) { " (from CRIU's source)" } else { "" };
        format!("| `{cause:?}`{mark} | {operations} | {cause} | {} |\n", cause.hint())
    }

    #[test]
    fn the_page_of_causes_is_complete() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/causes.md");
        let text = std::fs::read_to_string(file).unwrap();
        let rows: String = Cause::ALL.iter().copied().map(row).collect();
        assert!(text.contains(&rows), "docs/causes.md should have\n{rows}");
    }

    #[test]
    fn causes_have_words_of_their_own() {
        for (place, cause) in Cause::ALL.iter().enumerate() {
            let text = cause.to_string();
            assert!(!text.ends_with('.') && !text.contains('|') && !cause.hint().contains('|'));
            let same = Cause::ALL.iter().position(|other| other.to_string() == text);
            assert_eq!(same, Some(place), "{text}");
        }
    }
}
