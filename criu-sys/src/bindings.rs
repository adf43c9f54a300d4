// Made by `cargo xtask bindings` from criu.h and prose.txt. Do not edit.

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::marker::{PhantomData, PhantomPinned};

/// Leaves the level open: CRIU logs as by default.
pub const CRIU_LOG_UNSET: c_int = -1;

/// Logs only messages that are printed at every level.
pub const CRIU_LOG_MSG: c_int = 0;

/// Logs errors.
pub const CRIU_LOG_ERROR: c_int = 1;

/// Logs errors and warnings. This is CRIU's default.
pub const CRIU_LOG_WARN: c_int = 2;

/// Logs errors, warnings and the steps of CRIU.
pub const CRIU_LOG_INFO: c_int = 3;

/// Logs everything.
pub const CRIU_LOG_DEBUG: c_int = 4;

/// The ways in which libcriu reaches a CRIU. The header has this type, but no function takes
/// it.
pub type criu_service_comm = c_uint;
/// Connects to the address of a service: [`criu_set_service_address`].
pub const CRIU_COMM_SK: criu_service_comm = 0;
/// Uses a connected socket: [`criu_set_service_fd`].
pub const CRIU_COMM_FD: criu_service_comm = 1;
/// Starts a program: [`criu_set_service_binary`].
pub const CRIU_COMM_BIN: criu_service_comm = 2;

/// The treatment of cgroups. See [`criu_set_manage_cgroups_mode`].
pub type criu_cg_mode = c_uint;
/// Leaves cgroups alone.
pub const CRIU_CG_MODE_IGNORE: criu_cg_mode = 0;
/// Puts tasks into cgroups that must exist.
pub const CRIU_CG_MODE_NONE: criu_cg_mode = 1;
/// Puts tasks into cgroups that must exist, and restores the properties of these cgroups.
pub const CRIU_CG_MODE_PROPS: criu_cg_mode = 2;
/// Makes missing cgroups, with their properties. Existing cgroups stay as they are.
pub const CRIU_CG_MODE_SOFT: criu_cg_mode = 3;
/// Makes missing cgroups, and restores the properties of all cgroups.
pub const CRIU_CG_MODE_FULL: criu_cg_mode = 4;
/// Makes all cgroups. None of them may exist before.
pub const CRIU_CG_MODE_STRICT: criu_cg_mode = 5;
/// CRIU's default, [`CRIU_CG_MODE_SOFT`].
pub const CRIU_CG_MODE_DEFAULT: criu_cg_mode = 6;

/// The ways in which CRIU keeps packets away from connections that it saves. See
/// [`criu_set_network_lock`].
pub type criu_network_lock_method = c_uint;
/// Locks with iptables rules. This is CRIU's default.
pub const CRIU_NETWORK_LOCK_IPTABLES: criu_network_lock_method = 1;
/// Locks with nftables rules.
pub const CRIU_NETWORK_LOCK_NFTABLES: criu_network_lock_method = 2;
/// Does not lock: the caller keeps packets away.
///
/// Since libcriu 3.19.
pub const CRIU_NETWORK_LOCK_SKIP: criu_network_lock_method = 3;

/// The ways in which a pre-dump reads memory. See [`criu_set_pre_dump_mode`].
pub type criu_pre_dump_mode = c_uint;
/// Reads memory into pipes, with code that runs in the tasks. The tasks stand still only for
/// that.
pub const CRIU_PRE_DUMP_SPLICE: criu_pre_dump_mode = 1;
/// Reads memory with `process_vm_readv` while the tasks run.
pub const CRIU_PRE_DUMP_READ: criu_pre_dump_mode = 2;

/// The ways in which CRIU reads and writes images of pages. See [`criu_set_image_io_mode`].
///
/// Since libcriu 4.3.
pub type criu_image_io_mode = c_uint;
/// Goes through the page cache. This is the default.
///
/// Since libcriu 4.3.
pub const CRIU_IMAGE_IO_WRITEBACK: criu_image_io_mode = 0;
/// Bypasses the page cache, with `O_DIRECT`.
///
/// Since libcriu 4.3.
pub const CRIU_IMAGE_IO_DIRECT: criu_image_io_mode = 1;

/// The compression of saved pages. See [`criu_set_compress`].
///
/// Since libcriu 4.3.
pub type criu_compress_mode = c_uint;
/// Saves pages as they are.
///
/// Since libcriu 4.3.
pub const CRIU_COMPRESS_OFF: criu_compress_mode = 0;
/// Saves pages in blocks of LZ4.
///
/// Since libcriu 4.3.
pub const CRIU_COMPRESS_BLOCK: criu_compress_mode = 1;

/// The largest value for [`criu_set_compress_acceleration`].
///
/// Since libcriu 4.3.
pub const CRIU_COMPRESS_MAX_ACCELERATION: c_uint = 65537;

/// The largest block for [`criu_set_compress_block_size`], in bytes.
///
/// Since libcriu 4.3.
pub const CRIU_COMPRESS_MAX_BLOCK_SIZE: c_uint = 4194304;

/// The largest value for [`criu_set_decompress_threads`].
///
/// Since libcriu 4.3.
pub const CRIU_DECOMPRESS_MAX_THREADS: c_uint = 1024;

/// The data that CRIU sends with an action. Only functions look into it.
#[repr(C)]
#[derive(Debug)]
pub struct CriuNotify {
    _bytes: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// The argument of a callback for an action, for [`criu_notify_pid`]. It is valid until the
/// callback returns.
pub type criu_notify_arg_t = *mut CriuNotify;

/// The argument of the callback of [`criu_dump_iters`]: always null so far.
pub type criu_predump_info = *mut c_void;

/// Options, and the way to a CRIU. Only functions look into them. [`criu_local_init_opts`]
/// makes them.
#[repr(C)]
#[derive(Debug)]
pub struct criu_opts {
    _bytes: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Features to ask CRIU for, and CRIU's answer. See
/// [`criu_feature_check`](fn@criu_feature_check).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct criu_feature_check {
    /// The kernel tracks changed memory: [`criu_set_track_mem`], [`criu_pre_dump`].
    pub mem_track: bool,
    /// The kernel serves memory of restored tasks on demand.
    pub lazy_pages: bool,
    /// The kernel lets CRIU notice that a process id was used again: [`criu_set_pidfd_store_sk`].
    pub pidfd_store: bool,
    /// This CRIU compresses memory: [`criu_set_compress`].
    ///
    /// Since libcriu 4.3.
    pub mem_compression: bool,
}

unsafe extern "C" {
    /// Sends requests to the `criu service` at this address, a path. Null means
    /// `criu_service.socket` in the current directory. Returns 0 or `-ENOMEM`.
    pub fn criu_set_service_address(path: *const c_char) -> c_int;

    /// Sends requests over this connected `SOCK_SEQPACKET` socket. Each request closes the socket
    /// at its end.
    pub fn criu_set_service_fd(fd: c_int);

    /// Starts this program for each request. A name without a slash is looked up in `PATH`. Null
    /// means `criu`, which is the default. Returns 0 or `-ENOMEM`.
    pub fn criu_set_service_binary(path: *const c_char) -> c_int;

    /// Makes the options that all functions without `local_` in their name share, with default
    /// values. Call it before any of these functions. Another call starts anew. Returns 0, or -1
    /// if there is no memory.
    pub fn criu_init_opts() -> c_int;

    /// Frees the shared options.
    pub fn criu_free_opts();

    /// Sets the process to dump, together with all its descendants. A dump without a process dumps
    /// the caller.
    pub fn criu_set_pid(pid: c_int);

    /// Sets the directory of the images, as a descriptor. CRIU opens the directory through
    /// `/proc`: the descriptor may be close-on-exec, and must stay open until the request has
    /// ended. A dump and a restore need this directory.
    pub fn criu_set_images_dir_fd(fd: c_int);

    /// Sets the images of the previous dump, as a path from the images directory. Pages that have
    /// not changed since then are left to those images. Returns 0 or `-ENOMEM`.
    pub fn criu_set_parent_images(path: *const c_char) -> c_int;

    /// Sets the directory for logs and statistics, as a descriptor. The default is the images
    /// directory.
    pub fn criu_set_work_dir_fd(fd: c_int);

    /// Lets the tasks run on after a dump. By default a dump kills them.
    pub fn criu_set_leave_running(leave_running: bool);

    /// Leaves the tasks stopped after a dump or a restore.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_leave_stopped(leave_stopped: bool);

    /// Accepts unix sockets whose peer is outside the tree.
    pub fn criu_set_ext_unix_sk(ext_unix_sk: bool);

    /// Accepts a unix socket whose peer is outside the tree, by the inode number of the peer, and
    /// turns [`criu_set_ext_unix_sk`] on. Returns 0, `-ENOMEM`, or -1 if that was turned off
    /// before.
    pub fn criu_add_unix_sk(inode: c_uint) -> c_int;

    /// Saves and restores connected TCP sockets.
    pub fn criu_set_tcp_established(tcp_established: bool);

    /// Sets how images of pages are read and written. Returns 0, or -1 if the mode does not exist.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_image_io_mode(mode: criu_image_io_mode) -> c_int;

    /// Leaves half-open TCP connections out instead of failing.
    pub fn criu_set_tcp_skip_in_flight(tcp_skip_in_flight: bool);

    /// Saves or restores connected TCP sockets as closed ones.
    pub fn criu_set_tcp_close(tcp_close: bool);

    /// Goes on when a saved sysctl does not exist.
    pub fn criu_set_weak_sysctls(val: bool);

    /// Accepts a device file that is found under another path than at the dump.
    pub fn criu_set_evasive_devices(evasive_devices: bool);

    /// Accepts tasks whose session or terminal belongs to a process outside the tree, such as the
    /// jobs of a shell.
    pub fn criu_set_shell_job(shell_job: bool);

    /// Does not compare the permissions of files with those at the dump.
    ///
    /// Since libcriu 3.18.
    pub fn criu_set_skip_file_rwx_check(skip_file_rwx_check: bool);

    /// Works without root, with `CAP_CHECKPOINT_RESTORE`. The header does not declare the function
    /// with `local_` in its name.
    ///
    /// Since libcriu 3.18.
    pub fn criu_set_unprivileged(unprivileged: bool);

    /// Accepts pseudo terminals whose master is outside the tree. A restore makes new terminals
    /// and hands their masters over: [`criu_get_orphan_pts_master_fd`].
    pub fn criu_set_orphan_pts_master(orphan_pts_master: bool);

    /// Saves and restores file locks.
    pub fn criu_set_file_locks(file_locks: bool);

    /// Tracks from this dump on which memory changes, for the next dump.
    pub fn criu_set_track_mem(track_mem: bool);

    /// Keeps memory back at a dump and serves the memory on demand. At a restore, has memory
    /// served on demand.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_lazy_pages(lazy_pages: bool);

    /// Sets the compression of pages. Returns 0, or `-EINVAL` if the mode does not exist.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_compress(mode: criu_compress_mode) -> c_int;

    /// Sets the acceleration of LZ4, from 1 to [`CRIU_COMPRESS_MAX_ACCELERATION`]. A larger value
    /// is faster and compresses less. Returns 0 or `-EINVAL`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_compress_acceleration(acceleration: c_uint) -> c_int;

    /// Sets how many bytes are compressed at once: whole pages, at most
    /// [`CRIU_COMPRESS_MAX_BLOCK_SIZE`]. Returns 0 or `-EINVAL`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_compress_block_size(bytes: c_uint) -> c_int;

    /// Sets how many threads decompress, at most [`CRIU_DECOMPRESS_MAX_THREADS`]. With 0 CRIU
    /// chooses. The default is 1. Returns 0 or `-EINVAL`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_decompress_threads(threads: c_uint) -> c_int;

    /// Frees pages of older images that newer images have replaced. A restore frees each page that
    /// it has read.
    pub fn criu_set_auto_dedup(auto_dedup: bool);

    /// Exchanges images with an image streamer that listens in the images directory.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_stream(stream: bool);

    /// Finds the paths of inotify and fanotify watches by a scan, always.
    pub fn criu_set_force_irmap(force_irmap: bool);

    /// Accepts files that were unlinked but still have other names. CRIU links such files back for
    /// a while.
    pub fn criu_set_link_remap(link_remap: bool);

    /// Sets how much CRIU logs, from [`CRIU_LOG_MSG`] to [`CRIU_LOG_DEBUG`].
    pub fn criu_set_log_level(log_level: c_int);

    /// Sets the name of CRIU's log in the work directory, without a slash. Returns 0 or `-ENOMEM`.
    pub fn criu_set_log_file(log_file: *const c_char) -> c_int;

    /// Logs to the standard error of CRIU instead of a file.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_log_to_stderr(log_to_stderr: bool);

    /// Prints statistics to the log of CRIU.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_display_stats(display_stats: bool);

    /// Sets the CPU features to record at a dump and to compare at a restore, as bits.
    pub fn criu_set_cpu_cap(cap: c_uint);

    /// Sets a new root directory for the restored mounts. Returns 0 or `-ENOMEM`.
    pub fn criu_set_root(root: *const c_char) -> c_int;

    /// Turns the restore of cgroups on or off: [`CRIU_CG_MODE_SOFT`] or [`CRIU_CG_MODE_IGNORE`].
    pub fn criu_set_manage_cgroups(manage: bool);

    /// Sets the treatment of cgroups. It wins over [`criu_set_manage_cgroups`].
    pub fn criu_set_manage_cgroups_mode(mode: criu_cg_mode);

    /// Sets the directory of a freezer cgroup with which to stop the tasks. Returns 0 or
    /// `-ENOMEM`.
    pub fn criu_set_freeze_cgroup(name: *const c_char) -> c_int;

    /// Sets the security profile of the restored tasks in place of the saved profile, as
    /// `selinux:LABEL` or `apparmor:PROFILE`. Returns 0 or `-ENOMEM`.
    pub fn criu_set_lsm_profile(name: *const c_char) -> c_int;

    /// Sets the SELinux context of restored mounts that were saved with a context. Returns 0 or
    /// `-ENOMEM`.
    pub fn criu_set_lsm_mount_context(name: *const c_char) -> c_int;

    /// Sets how long a dump may take to stop the tasks, in seconds. The call has no effect: up to
    /// 4.3 libcriu never sends the value.
    pub fn criu_set_timeout(timeout: c_uint);

    /// Finds external bind mounts by itself, without being told of each.
    pub fn criu_set_auto_ext_mnt(val: bool);

    /// Accepts external mounts that are shared.
    pub fn criu_set_ext_sharing(val: bool);

    /// Accepts external mounts that are slaves.
    pub fn criu_set_ext_masters(val: bool);

    /// Sets a program with its arguments, `argc` strings at `argv`. CRIU becomes this program
    /// after a restore, and so the parent of the restored tree. Returns 0 or `-ENOMEM`.
    pub fn criu_set_exec_cmd(argc: c_int, argv: *mut *mut c_char) -> c_int;

    /// Adds an external mount. At a dump `key` is its mount point and `val` a name to save. At a
    /// restore `key` is that name and `val` the path to mount from. Returns 0 or `-ENOMEM`.
    pub fn criu_add_ext_mount(key: *const c_char, val: *const c_char) -> c_int;

    /// Sets the outer name, `out`, of a restored virtual network device called `in_` inside.
    /// Returns 0 or `-ENOMEM`.
    pub fn criu_add_veth_pair(in_: *const c_char, out: *const c_char) -> c_int;

    /// Adds a new root for the cgroups of a controller. A null controller stands for all
    /// controllers that have no root of their own. Returns 0 or `-ENOMEM`.
    pub fn criu_add_cg_root(ctrl: *const c_char, path: *const c_char) -> c_int;

    /// Adds a file system, or `all`, that CRIU is to handle although it does not know it. Returns
    /// 0 or `-ENOMEM`.
    pub fn criu_add_enable_fs(fs: *const c_char) -> c_int;

    /// Adds a mount point to leave out. Returns 0 or `-ENOMEM`.
    pub fn criu_add_skip_mnt(mnt: *const c_char) -> c_int;

    /// Sets the size of the largest unlinked file whose content is saved, in bytes. The default is
    /// 1 MiB.
    pub fn criu_set_ghost_limit(limit: c_uint);

    /// Adds a directory to scan for the paths of watches. Returns 0 or `-ENOMEM`.
    pub fn criu_add_irmap_path(path: *const c_char) -> c_int;

    /// Adds cgroup controllers and properties to save, in a simplified YAML. Returns 0 or
    /// `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_cg_props(stream: *const c_char) -> c_int;

    /// Adds a file with cgroup controllers and properties to save, in a simplified YAML. Returns 0
    /// or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_cg_props_file(path: *const c_char) -> c_int;

    /// Adds a cgroup controller to save; other controllers are left out. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_cg_dump_controller(name: *const c_char) -> c_int;

    /// Sets a directory in which the cgroup controllers are mounted already. Returns 0 or
    /// `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_cg_yard(path: *const c_char) -> c_int;

    /// Hands over a descriptor of this process that takes the place of a saved resource. `key`
    /// names the resource, as `pipe:[123]`. The descriptor must not be close-on-exec, and CRIU
    /// must be a program that libcriu starts. Returns 0, `-ENOMEM`, or -1 if libcriu does not
    /// start CRIU.
    pub fn criu_add_inherit_fd(fd: c_int, key: *const c_char) -> c_int;

    /// Adds a resource outside the tree, as `mnt[PATH]:NAME` or `unix[INODE]`. Returns 0 or
    /// `-ENOMEM`.
    pub fn criu_add_external(key: *const c_char) -> c_int;

    /// Adds an option of a plugin, as `PLUGIN.NAME` or `PLUGIN.NAME=VALUE`. Returns 0, `-ENOMEM`,
    /// or `-EINVAL` for anything else.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_plugin_option(option: *const c_char) -> c_int;

    /// Sends memory to the page server at this address instead of writing it to images. Up to 4.2
    /// the function returns `-ENOMEM` even when it has worked.
    pub fn criu_set_page_server_address_port(address: *const c_char, port: c_int) -> c_int;

    /// Speaks TLS with the page server.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls(tls: bool);

    /// Accepts any name in the certificate of the page server.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_no_cn_verify(no_cn_verify: bool);

    /// Sets the file with the certificate of the authority that both ends trust. Returns 0 or
    /// `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_cacert(cacert: *const c_char) -> c_int;

    /// Sets the file with the certificates that the authority has revoked. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_cacrl(cacrl: *const c_char) -> c_int;

    /// Sets the file with the certificate of this end. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_cert(cert: *const c_char) -> c_int;

    /// Sets the file with the private key of this end. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_key(key: *const c_char) -> c_int;

    /// Sets how a pre-dump reads memory. Returns 0, or -1 if the mode does not exist.
    pub fn criu_set_pre_dump_mode(mode: criu_pre_dump_mode) -> c_int;

    /// Sets a connected unix socket in which CRIU keeps pidfds from one pre-dump to the next, to
    /// notice process ids that are used again. Both ends of the socket must stay open between the
    /// pre-dumps.
    pub fn criu_set_pidfd_store_sk(sk: c_int);

    /// Sets how packets are kept away from saved connections. Returns 0, or -1 if the method does
    /// not exist.
    pub fn criu_set_network_lock(method: criu_network_lock_method) -> c_int;

    /// Adds a namespace that restored tasks join: its kind, as `net`, and its file or the id of a
    /// process in it. `extra_opt` may be null; for a user namespace it is `UID,GID`. Returns 0 or
    /// -1.
    pub fn criu_join_ns_add(
        ns: *const c_char,
        ns_file: *const c_char,
        extra_opt: *const c_char,
    ) -> c_int;

    /// Restores mounts as CRIU did before 3.17.
    pub fn criu_set_mntns_compat_mode(val: bool);

    /// Sets a configuration file that CRIU reads after these options, and whose values win.
    /// Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.2.
    pub fn criu_set_config_file(path: *const c_char) -> c_int;

    /// Sets a function to call with each of CRIU's actions, such as `pre-dump`. If the function
    /// does not return 0, the action fails, and in most cases the request fails and returns the
    /// same value. The function must not unwind and must not make requests.
    pub fn criu_set_notify_cb(
        cb: Option<unsafe extern "C" fn(action: *mut c_char, na: criu_notify_arg_t) -> c_int>,
    );

    /// Returns the process id of the restored root task, with the actions that have it, and
    /// otherwise 0.
    pub fn criu_notify_pid(na: criu_notify_arg_t) -> c_int;

    /// Returns the descriptor that came with the last action `orphan-pts-master`, or -1 before the
    /// first. The caller owns the descriptor. The function returns the same number until the next
    /// action comes.
    pub fn criu_get_orphan_pts_master_fd() -> c_int;

    /// Asks CRIU whether this kernel has what CRIU needs.
    pub fn criu_check() -> c_int;

    /// Dumps the tree of [`criu_set_pid`]. Without a process it dumps the caller, and then returns
    /// twice: 0 at the dump if the caller is left running, and 1 in the restored process.
    pub fn criu_dump() -> c_int;

    /// Saves memory alone, while the tasks run on.
    pub fn criu_pre_dump() -> c_int;

    /// Restores the tree. Returns the process id of its root.
    pub fn criu_restore() -> c_int;

    /// Restores the tree as a child of the caller, which needs `SIGCHLD` blocked meanwhile. CRIU
    /// is always a program that libcriu starts, even if another way was chosen. Returns the
    /// process id of the root.
    pub fn criu_restore_child() -> c_int;

    /// Dumps the tree of [`criu_set_pid`] after any number of pre-dumps. `more` is called after
    /// each pre-dump. A positive value asks for another pre-dump, 0 for the dump. A negative value
    /// ends everything and is returned. Returns `-EINVAL` without a process or without `more`.
    pub fn criu_dump_iters(
        more: Option<unsafe extern "C" fn(pi: criu_predump_info) -> c_int>,
    ) -> c_int;

    /// Returns the version of the CRIU that answers requests, as 40101 for 4.1.1. A CRIU built
    /// from a git checkout counts as the next minor version.
    pub fn criu_get_version() -> c_int;

    /// Returns 1 if the version of CRIU is at least `minimum`, and otherwise 0.
    pub fn criu_check_version(minimum: c_int) -> c_int;

    /// Makes options and stores a pointer to them. It first frees the options that the pointer
    /// leads to: the pointer must be null, or stored by this function before. Returns 0, or -1 if
    /// there is no memory.
    pub fn criu_local_init_opts(opts: *mut *mut criu_opts) -> c_int;

    /// Frees options. Null is fine.
    pub fn criu_local_free_opts(opts: *mut criu_opts);

    /// [`criu_set_service_address()`] for these options alone.
    pub fn criu_local_set_service_address(opts: *mut criu_opts, path: *const c_char) -> c_int;

    /// [`criu_set_service_fd()`] for these options alone.
    pub fn criu_local_set_service_fd(opts: *mut criu_opts, fd: c_int);

    /// [`criu_set_pid()`] for these options alone.
    pub fn criu_local_set_pid(opts: *mut criu_opts, pid: c_int);

    /// [`criu_set_images_dir_fd()`] for these options alone.
    pub fn criu_local_set_images_dir_fd(opts: *mut criu_opts, fd: c_int);

    /// [`criu_set_parent_images()`] for these options alone.
    pub fn criu_local_set_parent_images(opts: *mut criu_opts, path: *const c_char) -> c_int;

    /// [`criu_set_service_binary()`] for these options alone.
    pub fn criu_local_set_service_binary(opts: *mut criu_opts, path: *const c_char) -> c_int;

    /// [`criu_set_work_dir_fd()`] for these options alone.
    pub fn criu_local_set_work_dir_fd(opts: *mut criu_opts, fd: c_int);

    /// [`criu_set_leave_running()`] for these options alone.
    pub fn criu_local_set_leave_running(opts: *mut criu_opts, leave_running: bool);

    /// [`criu_set_leave_stopped()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_leave_stopped(opts: *mut criu_opts, leave_stopped: bool);

    /// [`criu_set_ext_unix_sk()`] for these options alone.
    pub fn criu_local_set_ext_unix_sk(opts: *mut criu_opts, ext_unix_sk: bool);

    /// [`criu_add_unix_sk()`] for these options alone.
    pub fn criu_local_add_unix_sk(opts: *mut criu_opts, inode: c_uint) -> c_int;

    /// [`criu_set_tcp_established()`] for these options alone.
    pub fn criu_local_set_tcp_established(opts: *mut criu_opts, tcp_established: bool);

    /// [`criu_set_image_io_mode()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_image_io_mode(opts: *mut criu_opts, mode: criu_image_io_mode) -> c_int;

    /// [`criu_set_tcp_skip_in_flight()`] for these options alone.
    pub fn criu_local_set_tcp_skip_in_flight(opts: *mut criu_opts, tcp_skip_in_flight: bool);

    /// [`criu_set_tcp_close()`] for these options alone.
    pub fn criu_local_set_tcp_close(opts: *mut criu_opts, tcp_close: bool);

    /// [`criu_set_weak_sysctls()`] for these options alone.
    pub fn criu_local_set_weak_sysctls(opts: *mut criu_opts, val: bool);

    /// [`criu_set_evasive_devices()`] for these options alone.
    pub fn criu_local_set_evasive_devices(opts: *mut criu_opts, evasive_devices: bool);

    /// [`criu_set_shell_job()`] for these options alone.
    pub fn criu_local_set_shell_job(opts: *mut criu_opts, shell_job: bool);

    /// [`criu_set_skip_file_rwx_check()`] for these options alone.
    ///
    /// Since libcriu 3.18.
    pub fn criu_local_set_skip_file_rwx_check(opts: *mut criu_opts, skip_file_rwx_check: bool);

    /// [`criu_set_orphan_pts_master()`] for these options alone.
    pub fn criu_local_set_orphan_pts_master(opts: *mut criu_opts, orphan_pts_master: bool);

    /// [`criu_set_file_locks()`] for these options alone.
    pub fn criu_local_set_file_locks(opts: *mut criu_opts, file_locks: bool);

    /// [`criu_set_track_mem()`] for these options alone.
    pub fn criu_local_set_track_mem(opts: *mut criu_opts, track_mem: bool);

    /// [`criu_set_lazy_pages()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_lazy_pages(opts: *mut criu_opts, lazy_pages: bool);

    /// [`criu_set_compress()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_compress(opts: *mut criu_opts, mode: criu_compress_mode) -> c_int;

    /// [`criu_set_compress_acceleration()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_compress_acceleration(
        opts: *mut criu_opts,
        acceleration: c_uint,
    ) -> c_int;

    /// [`criu_set_compress_block_size()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_compress_block_size(opts: *mut criu_opts, bytes: c_uint) -> c_int;

    /// [`criu_set_decompress_threads()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_decompress_threads(opts: *mut criu_opts, threads: c_uint) -> c_int;

    /// [`criu_set_auto_dedup()`] for these options alone.
    pub fn criu_local_set_auto_dedup(opts: *mut criu_opts, auto_dedup: bool);

    /// [`criu_set_stream()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_stream(opts: *mut criu_opts, stream: bool);

    /// [`criu_set_force_irmap()`] for these options alone.
    pub fn criu_local_set_force_irmap(opts: *mut criu_opts, force_irmap: bool);

    /// [`criu_set_link_remap()`] for these options alone.
    pub fn criu_local_set_link_remap(opts: *mut criu_opts, link_remap: bool);

    /// [`criu_set_log_level()`] for these options alone.
    pub fn criu_local_set_log_level(opts: *mut criu_opts, log_level: c_int);

    /// [`criu_set_log_file()`] for these options alone.
    pub fn criu_local_set_log_file(opts: *mut criu_opts, log_file: *const c_char) -> c_int;

    /// [`criu_set_log_to_stderr()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_log_to_stderr(opts: *mut criu_opts, log_to_stderr: bool);

    /// [`criu_set_display_stats()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_display_stats(opts: *mut criu_opts, display_stats: bool);

    /// [`criu_set_cpu_cap()`] for these options alone.
    pub fn criu_local_set_cpu_cap(opts: *mut criu_opts, cap: c_uint);

    /// [`criu_set_root()`] for these options alone.
    pub fn criu_local_set_root(opts: *mut criu_opts, root: *const c_char) -> c_int;

    /// [`criu_set_manage_cgroups()`] for these options alone.
    pub fn criu_local_set_manage_cgroups(opts: *mut criu_opts, manage: bool);

    /// [`criu_set_manage_cgroups_mode()`] for these options alone.
    pub fn criu_local_set_manage_cgroups_mode(opts: *mut criu_opts, mode: criu_cg_mode);

    /// [`criu_set_freeze_cgroup()`] for these options alone.
    pub fn criu_local_set_freeze_cgroup(opts: *mut criu_opts, name: *const c_char) -> c_int;

    /// [`criu_set_lsm_profile()`] for these options alone.
    pub fn criu_local_set_lsm_profile(opts: *mut criu_opts, name: *const c_char) -> c_int;

    /// [`criu_set_lsm_mount_context()`] for these options alone.
    pub fn criu_local_set_lsm_mount_context(opts: *mut criu_opts, name: *const c_char) -> c_int;

    /// [`criu_set_timeout()`] for these options alone.
    pub fn criu_local_set_timeout(opts: *mut criu_opts, timeout: c_uint);

    /// [`criu_set_auto_ext_mnt()`] for these options alone.
    pub fn criu_local_set_auto_ext_mnt(opts: *mut criu_opts, val: bool);

    /// [`criu_set_ext_sharing()`] for these options alone.
    pub fn criu_local_set_ext_sharing(opts: *mut criu_opts, val: bool);

    /// [`criu_set_ext_masters()`] for these options alone.
    pub fn criu_local_set_ext_masters(opts: *mut criu_opts, val: bool);

    /// [`criu_set_exec_cmd()`] for these options alone.
    pub fn criu_local_set_exec_cmd(
        opts: *mut criu_opts,
        argc: c_int,
        argv: *mut *mut c_char,
    ) -> c_int;

    /// [`criu_add_ext_mount()`] for these options alone.
    pub fn criu_local_add_ext_mount(
        opts: *mut criu_opts,
        key: *const c_char,
        val: *const c_char,
    ) -> c_int;

    /// [`criu_add_veth_pair()`] for these options alone.
    pub fn criu_local_add_veth_pair(
        opts: *mut criu_opts,
        in_: *const c_char,
        out: *const c_char,
    ) -> c_int;

    /// [`criu_add_cg_root()`] for these options alone.
    pub fn criu_local_add_cg_root(
        opts: *mut criu_opts,
        ctrl: *const c_char,
        path: *const c_char,
    ) -> c_int;

    /// [`criu_add_enable_fs()`] for these options alone.
    pub fn criu_local_add_enable_fs(opts: *mut criu_opts, fs: *const c_char) -> c_int;

    /// [`criu_add_skip_mnt()`] for these options alone.
    pub fn criu_local_add_skip_mnt(opts: *mut criu_opts, mnt: *const c_char) -> c_int;

    /// [`criu_set_ghost_limit()`] for these options alone.
    pub fn criu_local_set_ghost_limit(opts: *mut criu_opts, limit: c_uint);

    /// [`criu_add_irmap_path()`] for these options alone.
    pub fn criu_local_add_irmap_path(opts: *mut criu_opts, path: *const c_char) -> c_int;

    /// [`criu_add_cg_props()`] for these options alone.
    pub fn criu_local_add_cg_props(opts: *mut criu_opts, stream: *const c_char) -> c_int;

    /// [`criu_add_cg_props_file()`] for these options alone.
    pub fn criu_local_add_cg_props_file(opts: *mut criu_opts, path: *const c_char) -> c_int;

    /// [`criu_add_cg_dump_controller()`] for these options alone.
    pub fn criu_local_add_cg_dump_controller(opts: *mut criu_opts, name: *const c_char) -> c_int;

    /// [`criu_add_cg_yard()`] for these options alone.
    pub fn criu_local_add_cg_yard(opts: *mut criu_opts, path: *const c_char) -> c_int;

    /// [`criu_add_inherit_fd()`] for these options alone.
    pub fn criu_local_add_inherit_fd(opts: *mut criu_opts, fd: c_int, key: *const c_char) -> c_int;

    /// [`criu_add_external()`] for these options alone.
    pub fn criu_local_add_external(opts: *mut criu_opts, key: *const c_char) -> c_int;

    /// [`criu_add_plugin_option()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_add_plugin_option(opts: *mut criu_opts, option: *const c_char) -> c_int;

    /// [`criu_set_page_server_address_port()`] for these options alone.
    pub fn criu_local_set_page_server_address_port(
        opts: *mut criu_opts,
        address: *const c_char,
        port: c_int,
    ) -> c_int;

    /// [`criu_set_tls()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_tls(opts: *mut criu_opts, tls: bool);

    /// [`criu_set_tls_no_cn_verify()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_tls_no_cn_verify(opts: *mut criu_opts, no_cn_verify: bool);

    /// [`criu_set_tls_cacert()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_tls_cacert(opts: *mut criu_opts, cacert: *const c_char) -> c_int;

    /// [`criu_set_tls_cacrl()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_tls_cacrl(opts: *mut criu_opts, cacrl: *const c_char) -> c_int;

    /// [`criu_set_tls_cert()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_tls_cert(opts: *mut criu_opts, cert: *const c_char) -> c_int;

    /// [`criu_set_tls_key()`] for these options alone.
    ///
    /// Since libcriu 4.3.
    pub fn criu_local_set_tls_key(opts: *mut criu_opts, key: *const c_char) -> c_int;

    /// [`criu_set_pre_dump_mode()`] for these options alone.
    pub fn criu_local_set_pre_dump_mode(opts: *mut criu_opts, mode: criu_pre_dump_mode) -> c_int;

    /// [`criu_set_pidfd_store_sk()`] for these options alone.
    pub fn criu_local_set_pidfd_store_sk(opts: *mut criu_opts, sk: c_int);

    /// [`criu_set_network_lock()`] for these options alone.
    pub fn criu_local_set_network_lock(
        opts: *mut criu_opts,
        method: criu_network_lock_method,
    ) -> c_int;

    /// [`criu_join_ns_add()`] for these options alone.
    pub fn criu_local_join_ns_add(
        opts: *mut criu_opts,
        ns: *const c_char,
        ns_file: *const c_char,
        extra_opt: *const c_char,
    ) -> c_int;

    /// [`criu_set_mntns_compat_mode()`] for these options alone.
    pub fn criu_local_set_mntns_compat_mode(opts: *mut criu_opts, val: bool);

    /// [`criu_set_config_file()`] for these options alone.
    ///
    /// Since libcriu 4.2.
    pub fn criu_local_set_config_file(opts: *mut criu_opts, path: *const c_char) -> c_int;

    /// [`criu_set_notify_cb()`] for these options alone.
    pub fn criu_local_set_notify_cb(
        opts: *mut criu_opts,
        cb: Option<unsafe extern "C" fn(action: *mut c_char, na: criu_notify_arg_t) -> c_int>,
    );

    /// [`criu_check()`] for these options alone.
    pub fn criu_local_check(opts: *mut criu_opts) -> c_int;

    /// [`criu_dump()`] for these options alone.
    pub fn criu_local_dump(opts: *mut criu_opts) -> c_int;

    /// [`criu_pre_dump()`] for these options alone.
    pub fn criu_local_pre_dump(opts: *mut criu_opts) -> c_int;

    /// [`criu_restore()`] for these options alone.
    pub fn criu_local_restore(opts: *mut criu_opts) -> c_int;

    /// [`criu_restore_child()`] for these options alone.
    pub fn criu_local_restore_child(opts: *mut criu_opts) -> c_int;

    /// [`criu_dump_iters()`] for these options alone.
    pub fn criu_local_dump_iters(
        opts: *mut criu_opts,
        more: Option<unsafe extern "C" fn(pi: criu_predump_info) -> c_int>,
    ) -> c_int;

    /// [`criu_get_version()`] for these options alone.
    pub fn criu_local_get_version(opts: *mut criu_opts) -> c_int;

    /// [`criu_check_version()`] for these options alone.
    pub fn criu_local_check_version(opts: *mut criu_opts, minimum: c_int) -> c_int;

    /// Asks CRIU for each feature that is true, and makes false the features that CRIU does not
    /// have. `size` is the size of the structure. An older libcriu, which knows a smaller
    /// structure, returns -1.
    pub fn criu_feature_check(features: *mut criu_feature_check, size: usize) -> c_int;

    /// [`criu_feature_check()`] for these options alone.
    pub fn criu_local_feature_check(
        opts: *mut criu_opts,
        features: *mut criu_feature_check,
        size: usize,
    ) -> c_int;

    /// [`criu_set_empty_ns()`] for these options alone.
    ///
    /// Since libcriu 3.19.
    pub fn criu_local_set_empty_ns(opts: *mut criu_opts, namespaces: c_int);

    /// Sets the namespaces that CRIU is to leave empty, as `CLONE_` bits. Only `CLONE_NEWNET` is
    /// possible.
    ///
    /// Since libcriu 3.19.
    pub fn criu_set_empty_ns(namespaces: c_int);
}
