// Made by `cargo xtask bindings` from criu.h and prose.txt. Do not edit.

use core::ffi::{c_char, c_int, c_uint, c_void};
use core::marker::{PhantomData, PhantomPinned};

/// No level is chosen: CRIU logs as by default.
pub const CRIU_LOG_UNSET: c_int = -1;

/// Logs only what is printed at any level.
pub const CRIU_LOG_MSG: c_int = 0;

/// Logs errors.
pub const CRIU_LOG_ERROR: c_int = 1;

/// Logs errors and warnings, which is CRIU's default.
pub const CRIU_LOG_WARN: c_int = 2;

/// Logs what CRIU does as well.
pub const CRIU_LOG_INFO: c_int = 3;

/// Logs everything.
pub const CRIU_LOG_DEBUG: c_int = 4;

/// How libcriu reaches a CRIU. The header has it, no function takes it.
pub type criu_service_comm = c_uint;
/// By the address of a service: [`criu_set_service_address`].
pub const CRIU_COMM_SK: criu_service_comm = 0;
/// By a connected socket: [`criu_set_service_fd`].
pub const CRIU_COMM_FD: criu_service_comm = 1;
/// By starting a program: [`criu_set_service_binary`].
pub const CRIU_COMM_BIN: criu_service_comm = 2;

/// What to do with cgroups. See [`criu_set_manage_cgroups_mode`].
pub type criu_cg_mode = c_uint;
/// Leaves cgroups alone.
pub const CRIU_CG_MODE_IGNORE: criu_cg_mode = 0;
/// Puts tasks into cgroups that must exist.
pub const CRIU_CG_MODE_NONE: criu_cg_mode = 1;
/// Restores properties, into cgroups that must exist.
pub const CRIU_CG_MODE_PROPS: criu_cg_mode = 2;
/// Makes cgroups that are missing, with their properties; those that exist stay as they are.
pub const CRIU_CG_MODE_SOFT: criu_cg_mode = 3;
/// Makes cgroups that are missing, and restores the properties of all.
pub const CRIU_CG_MODE_FULL: criu_cg_mode = 4;
/// Makes all cgroups; none of them may exist.
pub const CRIU_CG_MODE_STRICT: criu_cg_mode = 5;
/// CRIU's default, [`CRIU_CG_MODE_SOFT`].
pub const CRIU_CG_MODE_DEFAULT: criu_cg_mode = 6;

/// How CRIU keeps packets away from connections that it saves. See [`criu_set_network_lock`].
pub type criu_network_lock_method = c_uint;
/// With rules of iptables, CRIU's default.
pub const CRIU_NETWORK_LOCK_IPTABLES: criu_network_lock_method = 1;
/// With rules of nftables.
pub const CRIU_NETWORK_LOCK_NFTABLES: criu_network_lock_method = 2;
/// Not at all: somebody else does.
///
/// Since libcriu 3.19.
pub const CRIU_NETWORK_LOCK_SKIP: criu_network_lock_method = 3;

/// How a pre-dump reads memory. See [`criu_set_pre_dump_mode`].
pub type criu_pre_dump_mode = c_uint;
/// Into pipes, by code that runs in the tasks: they stand still only for that.
pub const CRIU_PRE_DUMP_SPLICE: criu_pre_dump_mode = 1;
/// With `process_vm_readv`, while the tasks run.
pub const CRIU_PRE_DUMP_READ: criu_pre_dump_mode = 2;

/// How CRIU reads and writes images of pages. See [`criu_set_image_io_mode`].
///
/// Since libcriu 4.3.
pub type criu_image_io_mode = c_uint;
/// Through the page cache, the default.
///
/// Since libcriu 4.3.
pub const CRIU_IMAGE_IO_WRITEBACK: criu_image_io_mode = 0;
/// Past it, with `O_DIRECT`.
///
/// Since libcriu 4.3.
pub const CRIU_IMAGE_IO_DIRECT: criu_image_io_mode = 1;

/// Whether CRIU compresses pages. See [`criu_set_compress`].
///
/// Since libcriu 4.3.
pub type criu_compress_mode = c_uint;
/// Pages are saved as they are.
///
/// Since libcriu 4.3.
pub const CRIU_COMPRESS_OFF: criu_compress_mode = 0;
/// Pages are saved in blocks of LZ4.
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

/// What CRIU says with an action; seen only through functions.
#[repr(C)]
#[derive(Debug)]
pub struct CriuNotify {
    _bytes: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// What a callback is handed with an action, for [`criu_notify_pid`]. It is valid until the
/// callback returns.
pub type criu_notify_arg_t = *mut CriuNotify;

/// What the callback of [`criu_dump_iters`] is handed: always null so far.
pub type criu_predump_info = *mut c_void;

/// Options, and the way to a CRIU; seen only through functions. [`criu_local_init_opts`] makes
/// them.
#[repr(C)]
#[derive(Debug)]
pub struct criu_opts {
    _bytes: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Features to ask CRIU for, and its answer. See
/// [`criu_feature_check`](fn@criu_feature_check).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct criu_feature_check {
    /// The kernel tracks changed memory: [`criu_set_track_mem`], [`criu_pre_dump`].
    pub mem_track: bool,
    /// The kernel serves memory of restored tasks on demand.
    pub lazy_pages: bool,
    /// The kernel lets CRIU tell whether a process id was used again: [`criu_set_pidfd_store_sk`].
    pub pidfd_store: bool,
    /// This CRIU compresses memory: [`criu_set_compress`].
    ///
    /// Since libcriu 4.3.
    pub mem_compression: bool,
}

unsafe extern "C" {
    /// Sends requests to the `criu service` at this address, a path. Null is `criu_service.socket`
    /// in the current directory. Returns 0 or `-ENOMEM`.
    pub fn criu_set_service_address(path: *const c_char) -> c_int;

    /// Sends requests over this connected `SOCK_SEQPACKET` socket. Each request closes it at its
    /// end.
    pub fn criu_set_service_fd(fd: c_int);

    /// Starts this program for each request, looked up in `PATH` unless there is a slash in it.
    /// Null is `criu`, as is the default. Returns 0 or `-ENOMEM`.
    pub fn criu_set_service_binary(path: *const c_char) -> c_int;

    /// Makes the options that all functions without `local_` in their name share, and sets them to
    /// defaults. Every such function needs it to have been called; called again it starts anew.
    /// Returns 0, or -1 if there is no memory.
    pub fn criu_init_opts() -> c_int;

    /// Frees the shared options.
    pub fn criu_free_opts();

    /// The process to dump, with all its descendants. A dump without one dumps the caller itself.
    pub fn criu_set_pid(pid: c_int);

    /// A descriptor of the directory with the images. CRIU opens it through `/proc`, so that it
    /// may be close-on-exec, and must stay open until the request has ended. A dump and a restore
    /// need it.
    pub fn criu_set_images_dir_fd(fd: c_int);

    /// Images of the previous dump, as a path from the images directory: pages that have not
    /// changed since are left to them. Returns 0 or `-ENOMEM`.
    pub fn criu_set_parent_images(path: *const c_char) -> c_int;

    /// A descriptor of the directory for logs and statistics; the images directory unless set.
    pub fn criu_set_work_dir_fd(fd: c_int);

    /// Lets the tasks run on after a dump, which kills them otherwise.
    pub fn criu_set_leave_running(leave_running: bool);

    /// Leaves the tasks stopped after a dump or a restore.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_leave_stopped(leave_stopped: bool);

    /// Accepts unix sockets whose peer is outside the tree.
    pub fn criu_set_ext_unix_sk(ext_unix_sk: bool);

    /// Accepts a unix socket whose peer is outside the tree, by the peer's inode number, and turns
    /// [`criu_set_ext_unix_sk`] on. Returns 0, `-ENOMEM`, or -1 if that was turned off before.
    pub fn criu_add_unix_sk(inode: c_uint) -> c_int;

    /// Saves and restores connected TCP sockets.
    pub fn criu_set_tcp_established(tcp_established: bool);

    /// How images of pages are read and written. Returns 0, or -1 if there is no such mode.
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

    /// Accepts tasks whose session or terminal belongs to somebody outside the tree, as a shell's
    /// jobs.
    pub fn criu_set_shell_job(shell_job: bool);

    /// Does not compare the permissions of files with those at the dump.
    ///
    /// Since libcriu 3.18.
    pub fn criu_set_skip_file_rwx_check(skip_file_rwx_check: bool);

    /// Works without root, with `CAP_CHECKPOINT_RESTORE`. The header lacks its sibling for options
    /// of one's own.
    ///
    /// Since libcriu 3.18.
    pub fn criu_set_unprivileged(unprivileged: bool);

    /// Accepts pseudo terminals whose master is outside the tree. A restore makes new ones and
    /// hands their masters over: [`criu_get_orphan_pts_master_fd`].
    pub fn criu_set_orphan_pts_master(orphan_pts_master: bool);

    /// Saves and restores file locks.
    pub fn criu_set_file_locks(file_locks: bool);

    /// Tracks from this dump on which memory changes, for the next one.
    pub fn criu_set_track_mem(track_mem: bool);

    /// Keeps memory back at a dump and serves it on demand, or has it served at a restore.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_lazy_pages(lazy_pages: bool);

    /// Whether to compress pages. Returns 0, or `-EINVAL` if there is no such mode.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_compress(mode: criu_compress_mode) -> c_int;

    /// LZ4's acceleration, from 1 to [`CRIU_COMPRESS_MAX_ACCELERATION`]: more is faster and
    /// larger. Returns 0 or `-EINVAL`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_compress_acceleration(acceleration: c_uint) -> c_int;

    /// Bytes to compress at once: whole pages, at most [`CRIU_COMPRESS_MAX_BLOCK_SIZE`]. Returns 0
    /// or `-EINVAL`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_compress_block_size(bytes: c_uint) -> c_int;

    /// Threads that decompress, at most [`CRIU_DECOMPRESS_MAX_THREADS`]; 0 lets CRIU choose, and
    /// it is 1 unless set. Returns 0 or `-EINVAL`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_decompress_threads(threads: c_uint) -> c_int;

    /// Frees pages of older images that newer ones have replaced; a restore frees each page it has
    /// read.
    pub fn criu_set_auto_dedup(auto_dedup: bool);

    /// Exchanges images with an image streamer that listens in the images directory.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_stream(stream: bool);

    /// Finds the paths of inotify and fanotify watches by scanning, always.
    pub fn criu_set_force_irmap(force_irmap: bool);

    /// Accepts files that were unlinked but have other names still, by linking them back for a
    /// while.
    pub fn criu_set_link_remap(link_remap: bool);

    /// How much CRIU logs, from [`CRIU_LOG_MSG`] to [`CRIU_LOG_DEBUG`].
    pub fn criu_set_log_level(log_level: c_int);

    /// The name of CRIU's log in the work directory, without a slash. Returns 0 or `-ENOMEM`.
    pub fn criu_set_log_file(log_file: *const c_char) -> c_int;

    /// Logs to CRIU's standard error instead of a file.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_log_to_stderr(log_to_stderr: bool);

    /// Prints statistics to CRIU's log.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_display_stats(display_stats: bool);

    /// CPU features to record at a dump, and to compare at a restore, as bits.
    pub fn criu_set_cpu_cap(cap: c_uint);

    /// A new root directory for the restored mounts. Returns 0 or `-ENOMEM`.
    pub fn criu_set_root(root: *const c_char) -> c_int;

    /// Whether to restore cgroups: [`CRIU_CG_MODE_SOFT`] or [`CRIU_CG_MODE_IGNORE`].
    pub fn criu_set_manage_cgroups(manage: bool);

    /// What to do with cgroups. It goes before [`criu_set_manage_cgroups`].
    pub fn criu_set_manage_cgroups_mode(mode: criu_cg_mode);

    /// The directory of a freezer cgroup with which to stop the tasks. Returns 0 or `-ENOMEM`.
    pub fn criu_set_freeze_cgroup(name: *const c_char) -> c_int;

    /// The security profile of the restored tasks instead of the saved one, as `selinux:LABEL` or
    /// `apparmor:PROFILE`. Returns 0 or `-ENOMEM`.
    pub fn criu_set_lsm_profile(name: *const c_char) -> c_int;

    /// The SELinux context of restored mounts that were saved with one. Returns 0 or `-ENOMEM`.
    pub fn criu_set_lsm_mount_context(name: *const c_char) -> c_int;

    /// How long a dump may take to stop the tasks, in seconds. It has no effect: up to 4.3 libcriu
    /// never sends it.
    pub fn criu_set_timeout(timeout: c_uint);

    /// Finds external bind mounts without being told of each.
    pub fn criu_set_auto_ext_mnt(val: bool);

    /// Accepts external mounts that are shared.
    pub fn criu_set_ext_sharing(val: bool);

    /// Accepts external mounts that are slaves.
    pub fn criu_set_ext_masters(val: bool);

    /// A program with its arguments, `argc` strings at `argv`, that CRIU becomes after a restore:
    /// the parent of the restored tree. Returns 0 or `-ENOMEM`.
    pub fn criu_set_exec_cmd(argc: c_int, argv: *mut *mut c_char) -> c_int;

    /// An external mount. At a dump `key` is its mount point and `val` a name to save; at a
    /// restore `key` is that name and `val` where to mount from. Returns 0 or `-ENOMEM`.
    pub fn criu_add_ext_mount(key: *const c_char, val: *const c_char) -> c_int;

    /// The name outside, `out`, of a restored virtual network device called `in_` inside. Returns
    /// 0 or `-ENOMEM`.
    pub fn criu_add_veth_pair(in_: *const c_char, out: *const c_char) -> c_int;

    /// A new root for the cgroups of a controller, or of all that have none of their own if it is
    /// null. Returns 0 or `-ENOMEM`.
    pub fn criu_add_cg_root(ctrl: *const c_char, path: *const c_char) -> c_int;

    /// A file system that CRIU is to handle although it does not know it, or `all`. Returns 0 or
    /// `-ENOMEM`.
    pub fn criu_add_enable_fs(fs: *const c_char) -> c_int;

    /// A mount point to leave out. Returns 0 or `-ENOMEM`.
    pub fn criu_add_skip_mnt(mnt: *const c_char) -> c_int;

    /// The largest unlinked file whose content is saved, in bytes; 1 MiB unless set.
    pub fn criu_set_ghost_limit(limit: c_uint);

    /// A further directory to scan for the paths of watches. Returns 0 or `-ENOMEM`.
    pub fn criu_add_irmap_path(path: *const c_char) -> c_int;

    /// Cgroup controllers and properties to save, in a simplified YAML. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_cg_props(stream: *const c_char) -> c_int;

    /// A file with the same. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_cg_props_file(path: *const c_char) -> c_int;

    /// A cgroup controller to save; the others are left out. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_cg_dump_controller(name: *const c_char) -> c_int;

    /// A directory with the cgroup controllers already mounted. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_cg_yard(path: *const c_char) -> c_int;

    /// A descriptor of this process that takes the place of a saved resource, named by `key` as
    /// `pipe:[123]`. It must not be close-on-exec, and CRIU must be a program that libcriu starts.
    /// Returns 0, `-ENOMEM`, or -1 if it is not.
    pub fn criu_add_inherit_fd(fd: c_int, key: *const c_char) -> c_int;

    /// A resource outside the tree, as `mnt[PATH]:NAME` or `unix[INODE]`. Returns 0 or `-ENOMEM`.
    pub fn criu_add_external(key: *const c_char) -> c_int;

    /// An option of a plugin, `PLUGIN.NAME` or `PLUGIN.NAME=VALUE`. Returns 0, `-ENOMEM`, or
    /// `-EINVAL` for anything else.
    ///
    /// Since libcriu 4.3.
    pub fn criu_add_plugin_option(option: *const c_char) -> c_int;

    /// Sends memory to the page server there instead of writing it. Up to 4.2 it returns `-ENOMEM`
    /// even when it has worked.
    pub fn criu_set_page_server_address_port(address: *const c_char, port: c_int) -> c_int;

    /// Speaks TLS with the page server.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls(tls: bool);

    /// Accepts any name in the page server's certificate.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_no_cn_verify(no_cn_verify: bool);

    /// The file with the certificate of the authority that both ends trust. Returns 0 or
    /// `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_cacert(cacert: *const c_char) -> c_int;

    /// The file with the certificates that it has revoked. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_cacrl(cacrl: *const c_char) -> c_int;

    /// The file with our own certificate. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_cert(cert: *const c_char) -> c_int;

    /// The file with its private key. Returns 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.3.
    pub fn criu_set_tls_key(key: *const c_char) -> c_int;

    /// How a pre-dump reads memory. Returns 0, or -1 if there is no such mode.
    pub fn criu_set_pre_dump_mode(mode: criu_pre_dump_mode) -> c_int;

    /// A connected unix socket in which CRIU keeps pidfds from one pre-dump to the next, to notice
    /// process ids that are used again. Both of its ends must stay open meanwhile.
    pub fn criu_set_pidfd_store_sk(sk: c_int);

    /// How packets are kept away from saved connections. Returns 0, or -1 if there is no such
    /// method.
    pub fn criu_set_network_lock(method: criu_network_lock_method) -> c_int;

    /// A namespace that restored tasks join: its kind as `net`, and its file or the id of a
    /// process in it. `extra_opt` may be null; for a user namespace it is `UID,GID`. Returns 0 or
    /// -1.
    pub fn criu_join_ns_add(
        ns: *const c_char,
        ns_file: *const c_char,
        extra_opt: *const c_char,
    ) -> c_int;

    /// Restores mounts as CRIU did before 3.17.
    pub fn criu_set_mntns_compat_mode(val: bool);

    /// A configuration file of CRIU's that is read after these options and wins over them. Returns
    /// 0 or `-ENOMEM`.
    ///
    /// Since libcriu 4.2.
    pub fn criu_set_config_file(path: *const c_char) -> c_int;

    /// A function that is called with each of CRIU's actions, as `pre-dump`. Unless it returns 0
    /// the action fails, and the request in most cases with what it returned. It must not unwind,
    /// nor make requests.
    pub fn criu_set_notify_cb(
        cb: Option<unsafe extern "C" fn(action: *mut c_char, na: criu_notify_arg_t) -> c_int>,
    );

    /// The process id of the restored root task, with the actions that have it; else 0.
    pub fn criu_notify_pid(na: criu_notify_arg_t) -> c_int;

    /// The descriptor that came with the last action `orphan-pts-master`, or -1 before there was
    /// any. The caller owns it, and is handed the same number until the next one comes.
    pub fn criu_get_orphan_pts_master_fd() -> c_int;

    /// Asks CRIU whether this kernel has what it needs.
    pub fn criu_check() -> c_int;

    /// Dumps the tree of [`criu_set_pid`]. Without one it dumps the caller, and then returns
    /// twice: 0 at the dump if it is left running, and 1 in the restored process.
    pub fn criu_dump() -> c_int;

    /// Saves memory alone while the tasks run on.
    pub fn criu_pre_dump() -> c_int;

    /// Restores the tree. Returns the process id of its root.
    pub fn criu_restore() -> c_int;

    /// Restores the tree as a child of the caller, which needs `SIGCHLD` blocked meanwhile. CRIU
    /// is a program that libcriu starts, whatever was chosen. Returns the process id of its root.
    pub fn criu_restore_child() -> c_int;

    /// Dumps the tree of [`criu_set_pid`] after any number of pre-dumps. `more` is called after
    /// each: with a positive value it asks for another one, with 0 for the dump, and a negative
    /// one ends it all and is returned. Returns `-EINVAL` without a process or without `more`.
    pub fn criu_dump_iters(
        more: Option<unsafe extern "C" fn(pi: criu_predump_info) -> c_int>,
    ) -> c_int;

    /// The version of the CRIU that answers requests, as 40101 for 4.1.1. A CRIU built from a git
    /// checkout counts as its next minor version.
    pub fn criu_get_version() -> c_int;

    /// Returns 1 if that version is at least `minimum`, else 0.
    pub fn criu_check_version(minimum: c_int) -> c_int;

    /// Makes options and stores a pointer to them. What was there is freed first: it must be null
    /// or a pointer stored here before. Returns 0, or -1 if there is no memory.
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

    /// Asks CRIU for each feature that is true, and makes those false that are not there. `size`
    /// is that of the structure; an older libcriu, which knows less of it, returns -1.
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

    /// Namespaces that CRIU is to leave empty, as `CLONE_` bits; only `CLONE_NEWNET` can be.
    ///
    /// Since libcriu 3.19.
    pub fn criu_set_empty_ns(namespaces: c_int);
}
