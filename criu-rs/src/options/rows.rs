//! Every option of CRIU's RPC, one row each: its documentation, the operations that have it, the
//! method that sets it, its fields in `criu_opts`, and values to test it with.
//!
//! The rows are a macro that hands them to another macro: `table` makes the setters and [`OPTIONS`]
//! of them, the operations make their methods.
//!
//! [`OPTIONS`]: crate::OPTIONS

macro_rules! option_rows {
    ($then:ident) => {
        $then! {
            options {
                /// How much CRIU logs. [`LogLevel::Warnings`] unless set.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn log_level(o, level: LogLevel) { o.message.log_level = Some(level.number()); }
                sets 9 "log_level" "-v" (0, 8); such as (LogLevel::Debug);

                /// Name of the log in the work directory; a slash in it is an error. `dump.log`,
                /// `restore.log` and so on unless set.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn log_file(o, name: impl AsRef<OsStr>) {
                    let name = o.text("a log file", name);
                    if name.is_empty() || name.contains(&b'/') {
                        let found = String::from_utf8_lossy(&name);
                        o.fault.get_or_insert(InvalidValue::new("a log file", found, "a name without slash"));
                    }
                    o.message.log_file = Some(name);
                }
                sets 10 "log_file" "-o, --log-file" (0, 8); such as ("x.log");

                /// Logs to criu's standard error instead of a file. This crate keeps the last 16 KiB of it
                /// for [`Failure::output`](crate::Failure::output).
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn log_to_stderr(o) {
                    o.message.log_file = None;
                    o.message.log_to_stderr = Some(true);
                }
                sets 71 "log_to_stderr" "-" (3, 19); such as ();

                /// Directory for logs and statistics; the images directory unless set.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn work_dir(o, directory: impl Into<Dir<'a>>) { o.work = Some(directory.into()); }
                sets 17 "work_dir_fd" "-W, --work-dir" (1, 2); such as ("/");

                /// A configuration file of CRIU's that is read after these options and wins over them. It can
                /// hold command-line options that the RPC lacks, a line each, without dashes.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn config_file(o, path: impl AsRef<Path>) {
                    o.message.config_file = Some(o.text("a configuration file", path.as_ref()));
                }
                sets 51 "config_file" "-" (3, 11); such as ("/dev/null");

                /// Runs without root, with `CAP_CHECKPOINT_RESTORE`, and accepts what that cannot save.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn unprivileged(o, on: bool) { o.message.unprivileged = Some(on); }
                sets 67 "unprivileged" "--unprivileged" (3, 18); such as (true);

                /// What becomes of the tasks once they are saved. Unless set they are killed.
                on [Dump]
                fn after_dump(o, after: AfterDump) {
                    o.message.leave_running = (after == AfterDump::LeaveRunning).then_some(true);
                    o.message.leave_stopped = (after == AfterDump::LeaveStopped).then_some(true);
                }
                sets 3 "leave_running" "-R, --leave-running" (0, 8),
                     69 "leave_stopped" "-s, --leave-stopped" (3, 19);
                such as (AfterDump::LeaveRunning), (AfterDump::LeaveStopped);

                /// Leaves the restored tasks stopped.
                on [Restore]
                fn leave_stopped(o, on: bool) { o.message.leave_stopped = Some(on); }
                sets 69 "leave_stopped" "-s, --leave-stopped" (3, 19); such as (true);

                /// Accepts unix sockets whose peer is outside the tree. They come back unconnected or, for
                /// datagram sockets, connected again by name.
                on [Dump PreDump Restore]
                fn ext_unix_sk(o, on: bool) { o.message.ext_unix_sk = Some(on); }
                sets 4 "ext_unix_sk" "-x, --ext-unix-sk" (0, 8); such as (true);

                /// What to do with connected TCP sockets. Unless set, one makes the dump fail.
                on [Dump PreDump Restore]
                fn tcp(o, tcp: Tcp) {
                    o.message.tcp_established = (tcp == Tcp::Established).then_some(true);
                    o.message.tcp_close = (tcp == Tcp::Close).then_some(true);
                }
                sets 5 "tcp_established" "--tcp-established" (0, 8),
                     52 "tcp_close" "--tcp-close" (3, 12);
                such as (Tcp::Established), (Tcp::Close);

                /// Leaves half-open TCP connections out instead of failing.
                on [Dump PreDump]
                fn tcp_skip_in_flight(o, on: bool) { o.message.tcp_skip_in_flight = Some(on); }
                sets 46 "tcp_skip_in_flight" "--skip-in-flight" (2, 4); such as (true);

                /// How CRIU keeps packets away from saved connections. A restore takes it from the images.
                on [Dump PreDump]
                fn network_lock(o, lock: NetworkLock) {
                    o.message.network_lock = Some(CriuNetworkLockMethod::from(lock).into());
                }
                sets 64 "network_lock" "--network-lock" (3, 16); such as (NetworkLock::Nftables);

                /// Accepts a device file that is found under another path than at the dump.
                on [Dump PreDump Restore]
                fn evasive_devices(o, on: bool) { o.message.evasive_devices = Some(on); }
                sets 6 "evasive_devices" "--evasive-devices" (0, 8); such as (true);

                /// Accepts tasks whose session or terminal belongs to the shell that started them. The
                /// restored tasks join the caller's session and process group, and get its terminal.
                on [Dump PreDump Restore]
                fn shell_job(o, on: bool) { o.message.shell_job = Some(on); }
                sets 7 "shell_job" "-j, --shell-job" (0, 8); such as (true);

                /// Saves and restores file locks. Safe where nobody outside the tree holds one of them.
                on [Dump PreDump Restore]
                fn file_locks(o, on: bool) { o.message.file_locks = Some(on); }
                sets 8 "file_locks" "-l, --file-locks" (0, 8); such as (true);

                /// Accepts files that were unlinked but have other names still, by linking them back for a
                /// while; this changes the file system.
                on [Dump PreDump Restore]
                fn link_remap(o, on: bool) { o.message.link_remap = Some(on); }
                sets 18 "link_remap" "--link-remap" (1, 2); such as (true);

                /// Largest unlinked file whose content is saved, in bytes. 1 MiB unless set.
                on [Dump PreDump]
                fn ghost_limit(o, bytes: u32) { o.message.ghost_limit = Some(bytes); }
                sets 35 "ghost_limit" "--ghost-limit" (1, 7); such as (4096);

                /// A resource outside the tree; call it once for each.
                on [Dump PreDump Restore]
                fn external(o, resource: External) {
                    let bytes = resource.to_bytes();
                    let text = o.text("an external resource", OsStr::from_bytes(&bytes));
                    o.message.external.push(text);
                }
                sets 37 "external" "--external" (2, 0); such as (External::UnixSocket(1));

                /// A descriptor that takes the place of a saved resource; call it once for each. Needs a criu
                /// started by this process.
                on [Restore]
                fn inherit_fd(o, fd: InheritFd<'a>) { o.inherit.push(fd); }
                sets 27 "inherit_fd" "--inherit-fd" (1, 5);
                such as (InheritFd::numbered("pipe:[1]", 2));

                /// An existing namespace to enter; call it once for each.
                on [Restore]
                fn join_ns(o, namespace: JoinNs) {
                    let place = o.text("a namespace to join", namespace.place());
                    o.message.join_ns.push(JoinNamespace {
                        ns: namespace.kind().name().into(),
                        ns_file: place,
                        extra_opt: namespace.extra().map(String::into_bytes),
                    });
                }
                sets 39 "join_ns" "-J, --join-ns" (2, 3);
                such as (JoinNs::path(crate::value::JoinableNs::Net, "/x"));

                /// Creates network namespaces empty, for the caller's hooks to fill.
                on [Dump Restore]
                fn empty_net_ns(o, on: bool) {
                    o.message.empty_ns = Some(if on { CLONE_NEWNET } else { 0 });
                }
                sets 38 "empty_ns" "--empty-ns" (2, 0); such as (true);

                /// New root directory of the restored mount tree: a mount point whose parent is not
                /// overmounted.
                on [Restore]
                fn root(o, path: impl AsRef<Path>) {
                    o.message.root = Some(o.text("a root directory", path.as_ref()));
                }
                sets 13 "root" "-r, --root" (1, 2); such as ("/mnt");

                /// Finds external bind mounts without being told of each.
                on [Dump PreDump Restore]
                fn auto_ext_mnt(o, on: bool) { o.message.auto_ext_mnt = Some(on); }
                sets 28 "auto_ext_mnt" "--external mnt[]" (1, 6); such as (true);

                /// Accepts external mounts that are shared.
                on [Dump PreDump Restore]
                fn ext_sharing(o, on: bool) { o.message.ext_sharing = Some(on); }
                sets 29 "ext_sharing" "--external mnt[]:s" (1, 6); such as (true);

                /// Accepts external mounts that are slaves.
                on [Dump PreDump Restore]
                fn ext_masters(o, on: bool) { o.message.ext_masters = Some(on); }
                sets 30 "ext_masters" "--external mnt[]:m" (1, 6); such as (true);

                /// A mount point to leave out; call it once for each.
                on [Dump PreDump]
                fn skip_mnt(o, mount_point: impl AsRef<Path>) {
                    let text = o.text("a mount point", mount_point.as_ref());
                    o.message.skip_mnt.push(text);
                }
                sets 31 "skip_mnt" "--skip-mnt" (1, 6); such as ("/x");

                /// A file system CRIU is to handle although it does not know it, or `all`; call it once for
                /// each.
                on [Dump PreDump Restore]
                fn enable_fs(o, name: impl AsRef<OsStr>) {
                    let text = o.text("a file system", name);
                    o.message.enable_fs.push(text);
                }
                sets 32 "enable_fs" "--enable-fs" (1, 6); such as ("all");

                /// Restores mounts the way CRIU did before move_mount(2) could set peer groups.
                on [Restore]
                fn mntns_compat_mode(o, on: bool) { o.message.mntns_compat_mode = Some(on); }
                sets 65 "mntns_compat_mode" "--mntns-compat-mode" (3, 17); such as (true);

                /// Finds the paths of inotify and fanotify watches by scanning, always.
                on [Dump PreDump]
                fn force_irmap(o, on: bool) { o.message.force_irmap = Some(on); }
                sets 21 "force_irmap" "--force-irmap" (1, 3); such as (true);

                /// A further directory to scan for watched paths; call it once for each.
                on [Dump PreDump]
                fn irmap_scan_path(o, path: impl AsRef<Path>) {
                    let text = o.text("a path to scan", path.as_ref());
                    o.message.irmap_scan_paths.push(text);
                }
                sets 36 "irmap_scan_paths" "--irmap-scan-path" (1, 8); such as ("/etc");

                /// What to do with cgroups.
                on [Dump Restore]
                fn manage_cgroups(o, mode: CgroupMode) {
                    o.message.manage_cgroups_mode = Some(CriuCgMode::from(mode).into());
                }
                sets 34 "manage_cgroups_mode" "--manage-cgroups" (1, 7); such as (CgroupMode::Full);

                /// A new root for the cgroups of one controller, or of all that have none of their own (`None`).
                on [Dump Restore]
                fn cgroup_root(o, controller: Option<&str>, path: impl AsRef<Path>) {
                    let path = o.text("a cgroup root", path.as_ref());
                    let ctrl = controller.map(|name| o.text("a cgroup controller", name));
                    o.message.cg_root.push(CgroupRoot { ctrl, path });
                }
                sets 25 "cg_root" "--cgroup-root" (1, 3); such as (Some("memory"), "/x");

                /// Controllers and properties to save, in CRIU's simplified YAML.
                on [Dump]
                fn cgroup_props(o, description: impl AsRef<OsStr>) {
                    o.message.cgroup_props = Some(o.text("a description of cgroups", description));
                }
                sets 41 "cgroup_props" "--cgroup-props" (2, 4); such as ("x");

                /// A file with the same.
                on [Dump]
                fn cgroup_props_file(o, path: impl AsRef<Path>) {
                    o.message.cgroup_props_file = Some(o.text("a description of cgroups", path.as_ref()));
                }
                sets 42 "cgroup_props_file" "--cgroup-props-file" (2, 4); such as ("/x");

                /// The only controllers to save; call it once for each.
                on [Dump]
                fn cgroup_dump_controller(o, name: impl AsRef<OsStr>) {
                    let text = o.text("a cgroup controller", name);
                    o.message.cgroup_dump_controller.push(text);
                }
                sets 43 "cgroup_dump_controller" "--cgroup-dump-controller" (2, 4); such as ("memory");

                /// A directory with the cgroup controllers already mounted, for a CRIU that may not mount.
                on [Dump Restore]
                fn cgroup_yard(o, path: impl AsRef<Path>) {
                    o.message.cgroup_yard = Some(o.text("a cgroup yard", path.as_ref()));
                }
                sets 60 "cgroup_yard" "--cgroup-yard" (3, 14); such as ("/x");

                /// Stops the tasks with this freezer cgroup (its directory) instead of one by one.
                on [Dump PreDump]
                fn freeze_cgroup(o, path: impl AsRef<Path>) {
                    o.message.freeze_cgroup = Some(o.text("a freezer cgroup", path.as_ref()));
                }
                sets 44 "freeze_cgroup" "--freeze-cgroup" (2, 4); such as ("/x");

                /// How long collecting and freezing the tasks may take, in whole seconds, rounded up; 10 unless
                /// set, and zero for no limit. CRIU gives up by itself then. For a limit on the whole operation
                /// see `deadline`.
                on [Dump PreDump]
                fn timeout(o, limit: Duration) {
                    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
                    o.message.timeout = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
                }
                sets 45 "timeout" "--timeout" (2, 4); such as (Duration::from_secs(1));

                /// Images of the previous dump, as a path from the images directory. With
                /// [`track_mem`](Self::track_mem) pages that have not changed since are left to it; without,
                /// a dump writes them all again.
                on [Dump PreDump]
                fn parent_img(o, path: impl AsRef<Path>) {
                    o.message.parent_img = Some(o.text("a parent directory", path.as_ref()));
                }
                sets 14 "parent_img" "--prev-images-dir" (1, 2); such as ("../0");

                /// Heeds what memory has changed since the previous dump, and tracks what changes after this
                /// one. A pre-dump always does. Needs soft-dirty tracking in the kernel.
                on [Dump PreDump]
                fn track_mem(o, on: bool) { o.message.track_mem = Some(on); }
                sets 15 "track_mem" "--track-mem" (1, 2); such as (true);

                /// Frees pages of older images that newer ones have replaced; a restore frees each page it has
                /// read.
                on [Dump PreDump Restore PageServer]
                fn auto_dedup(o, on: bool) { o.message.auto_dedup = Some(on); }
                sets 16 "auto_dedup" "--auto-dedup" (1, 2); such as (true);

                /// How memory is read.
                on [PreDump]
                fn pre_dump_mode(o, mode: PreDumpMode) {
                    o.message.pre_dump_mode = Some(CriuPreDumpMode::from(mode).into());
                }
                sets 61 "pre_dump_mode" "--pre-dump-mode" (3, 14); such as (PreDumpMode::Read);

                /// A connected unix socket in which CRIU keeps pidfds from one pre-dump to the next, to notice
                /// ids used again. Both ends must stay open meanwhile.
                on [Dump PreDump]
                fn pidfd_store(o, socket: &'a impl AsFd) { o.pidfd_store = Some(socket.as_fd()); }
                sets 62 "pidfd_store_sk" "-" (3, 16); such as (sample_fd());

                /// Sends memory to the page server at this address instead of writing it.
                on [Dump PreDump]
                fn page_server(o, host: &str, port: u16) {
                    o.message.ps = Some(o.server(host, port));
                    o.page_server_socket = None;
                }
                sets 11 "ps" "--page-server --address --port" (1, 2); such as ("127.0.0.1", 7);

                /// Speaks to the page server over this connected stream socket: a dump sends memory into it, a
                /// page server reads from it. Needs a criu started by this process.
                on [Dump PreDump PageServer]
                fn page_server_socket(o, socket: &'a impl AsFd) {
                    o.message.ps = None;
                    o.page_server_socket = Some(socket.as_fd());
                }
                sets 11 "ps" "--ps-socket" (1, 2); such as (sample_fd());

                /// Speaks TLS with the page server.
                on [Dump PreDump PageServer]
                fn tls(o, tls: Tls) {
                    let files = [&tls.ca, &tls.revoked, &tls.certificate, &tls.key];
                    let [ca, crl, cert, key] =
                        files.map(|file| file.as_ref().map(|path| o.text("a TLS file", path)));
                    o.message.tls = Some(true);
                    o.message.tls_cacert = ca;
                    o.message.tls_cacrl = crl;
                    o.message.tls_cert = cert;
                    o.message.tls_key = key;
                    o.message.tls_no_cn_verify = tls.any_name.then_some(true);
                }
                sets 54 "tls_cacert" "--tls-cacert" (3, 13),
                     55 "tls_cacrl" "--tls-cacrl" (3, 13),
                     56 "tls_cert" "--tls-cert" (3, 13),
                     57 "tls_key" "--tls-key" (3, 13),
                     58 "tls" "--tls" (3, 13),
                     59 "tls_no_cn_verify" "--tls-no-cn-verify" (3, 13);
                such as (Tls::new().ca("/a").revoked("/b").certificate("/c").key("/d").any_name());

                /// Keeps memory back and serves it on demand on this address; the dump ends when a lazy-pages
                /// daemon has fetched all. [`Hooks::status_ready`](crate::Hooks::status_ready) tells when it
                /// listens.
                on [Dump]
                fn lazy_pages_at(o, address: &str, port: u16) {
                    o.message.ps = Some(o.server(address, port));
                    o.message.lazy_pages = Some(true);
                }
                sets 48 "lazy_pages" "--lazy-pages" (3, 5), 11 "ps" "--address --port" (1, 2);
                such as ("127.0.0.1", 7);

                /// Fetches memory on demand from a lazy-pages daemon that runs in the work directory.
                on [Restore]
                fn lazy_pages(o, on: bool) { o.message.lazy_pages = Some(on); }
                sets 48 "lazy_pages" "--lazy-pages" (3, 5); such as (true);

                /// Exchanges images with a criu-image-streamer that listens in the images directory.
                on [Dump Restore]
                fn stream(o, on: bool) { o.message.stream = Some(on); }
                sets 78 "stream" "--stream" (4, 3); such as (true);

                /// How pages images are read and written.
                on [Dump PreDump Restore]
                fn image_io(o, mode: ImageIo) {
                    o.message.image_io_mode = Some(CriuImageIoMode::from(mode).into());
                }
                sets 72 "image_io_mode" "--image-io-mode" (4, 3); such as (ImageIo::Direct);

                /// Compresses pages images.
                on [Dump PreDump]
                fn compress(o, compression: Compression) {
                    o.message.compress = Some(1);
                    o.message.compress_acceleration = compression.acceleration;
                    o.message.compress_block_size = compression.block_size;
                }
                sets 73 "compress" "-c, --compress" (4, 3),
                     74 "compress_acceleration" "--compress-acceleration" (4, 3),
                     75 "compress_block_size" "--compress-block" (4, 3);
                such as (Compression::new().acceleration(2).block_size(4096));

                /// Threads that decompress, at most 1024; 0 lets CRIU choose. 1 unless set.
                on [Restore]
                fn decompress_threads(o, count: u32) { o.message.decompress_threads = Some(count); }
                sets 76 "decompress_threads" "--decompress-threads" (4, 3); such as (2);

                /// An option of a plugin, `PLUGIN.NAME` or `PLUGIN.NAME=VALUE`; call it once for each.
                on [Dump PreDump Restore]
                fn plugin_option(o, option: impl AsRef<OsStr>) {
                    let text = o.text("a plugin option", option);
                    o.message.plugin_options.push(text);
                }
                sets 77 "plugin_options" "--plugin-option" (4, 3); such as ("x.y=z");

                /// CPU features to record on a dump, and to compare on a restore.
                on [Dump PreDump Restore CpuInfo]
                fn cpu_cap(o, features: CpuCap) { o.message.cpu_cap = Some(features.bits()); }
                sets 20 "cpu_cap" "--cpu-cap" (1, 3); such as (CpuCap::FPU);

                /// Prints statistics to CRIU's log. They come back as a value either way.
                on [Dump PreDump Restore]
                fn display_stats(o, on: bool) { o.message.display_stats = Some(on); }
                sets 70 "display_stats" "--display-stats" (3, 19); such as (true);

                /// The security profile of the restored tasks, instead of the saved one. Tasks that were saved
                /// without one get none, which makes the restore fail; where profiles are stacked it takes the place
                /// of the outer ones.
                on [Dump Restore]
                fn lsm_profile(o, profile: LsmProfile) {
                    o.message.lsm_profile = Some(o.text("a security profile", profile.to_string()));
                }
                sets 53 "lsm_profile" "--lsm-profile" (3, 12);
                such as (LsmProfile::Apparmor("x".into()));

                /// The SELinux context of restored mounts that were saved with one.
                on [Restore]
                fn lsm_mount_context(o, context: MountContext) {
                    o.message.lsm_mount_context = Some(o.text("a mount context", context.to_string()));
                }
                sets 63 "lsm_mount_context" "--lsm-mount-context" (3, 16);
                such as ("a:b:c".parse().unwrap());

                /// Goes on when a saved sysctl does not exist.
                on [Restore]
                fn weak_sysctls(o, on: bool) { o.message.weak_sysctls = Some(on); }
                sets 47 "weak_sysctls" "--weak-sysctls" (2, 9); such as (true);

                /// Does not compare the permissions of files with those at the dump.
                on [Restore]
                fn skip_file_rwx_check(o, on: bool) { o.message.skip_file_rwx_check = Some(on); }
                sets 66 "skip_file_rwx_check" "--skip-file-rwx-check" (3, 18); such as (true);

                /// Makes the restored root a child of this process. Needs a criu started by this process.
                on [Restore]
                fn rst_sibling(o, on: bool) { o.message.rst_sibling = Some(on); }
                sets 26 "rst_sibling" "-S, --restore-sibling" (1, 3); such as (true);

                /// Accepts, on a dump, pseudo terminals whose master is outside the tree; on a restore, makes
                /// new ones and hands their masters to
                /// [`Hooks::orphan_pts_master`](crate::Hooks::orphan_pts_master).
                on [Dump Restore]
                fn orphan_pts_master(o, on: bool) {
                    o.message.orphan_pts_master = Some(on);
                }
                sets 50 "orphan_pts_master" "-" (2, 12); such as (true);

                /// A program, with its arguments, that criu becomes after the restore: the parent of the
                /// restored tree. Its output goes to the log. See
                /// [`Restored::parent`](crate::Restored::parent).
                on [Restore]
                fn exec_cmd(o, command: impl IntoIterator<Item = impl AsRef<OsStr>>) {
                    let command = command.into_iter().map(|word| o.text("a command", word)).collect();
                    o.message.exec_cmd = command;
                }
                sets 22 "exec_cmd" "--exec-cmd" (1, 3); such as (["true"]);
            }
            elsewhere {
                on [Dump PreDump Restore PageServer CpuInfo] 1 "images_dir_fd" "-D, --images-dir" (0, 8)
                    by "new", false;
                on [Dump PreDump Restore PageServer CpuInfo] 68 "images_dir" "-D, --images-dir" (3, 19)
                    by "new with Dir::opened_by_criu", false;
                on [Dump PreDump] 2 "pid" "-t, --tree" (0, 8) by "new", false;
                on [Dump PreDump Restore] 12 "notify_scripts" "-" (1, 2) by "run_with and start", false;
                on [PageServer] 11 "ps" "--address --port" (1, 2) by "new", false;
                on [Restore] 19 "veths" "--veth-pair" (1, 2) by "external with External::Veth", true;
                on [Dump Restore] 23 "ext_mnt" "--ext-mount-map" (1, 3) by "external with External::Mount", true;
                on [Dump Restore] 24 "manage_cgroups" "--manage-cgroups" (1, 3) by "manage_cgroups", true;
                on [Dump] 33 "unix_sk_ino" "--ext-unix-sk" (1, 7) by "external with External::UnixSocket", true;
                on [Dump Restore] 49 "status_fd" "--status-fd" (2, 11) by "Hooks::status_ready", true;
            }
        }
    };
}

pub(crate) use option_rows;
