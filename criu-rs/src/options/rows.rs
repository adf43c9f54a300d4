//! Every option of CRIU's RPC, one row each: its documentation, the operations that have it, the
//! method that sets it, its fields in `criu_opts`, and values to test it with.
//!
//! The rows are a macro that hands them to another macro: `table` turns them into the setters and
//! [`OPTIONS`], and the operations turn them into their methods.
//!
//! [`OPTIONS`]: crate::OPTIONS

macro_rules! option_rows {
    ($then:ident) => {
        $then! {
            options {
                /// Sets the level of CRIU's log. The default is [`LogLevel::Warnings`].
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn log_level(o, level: LogLevel) { o.message.log_level = Some(level.number()); }
                sets 9 "log_level" "-v" (0, 8); such as (LogLevel::Debug);

                /// Sets the file name of the log in the work directory. The default depends on the
                /// operation: `dump.log`, `restore.log` and so on. A name with a slash is an error.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn log_file(o, name: impl AsRef<OsStr>) {
                    let name = o.text("a log file", name);
                    if name.is_empty() || name.contains(&b'/') {
                        let found = String::from_utf8_lossy(&name);
                        let fault = InvalidValue::new("a log file", found, "a name without slash");
                        o.fault.get_or_insert(fault);
                    }
                    o.message.log_file = Some(name);
                }
                sets 10 "log_file" "-o, --log-file" (0, 8); such as ("x.log");

                /// Logs to criu's standard error instead of a file. This crate keeps the last 16
                /// KiB for [`Failure::output`](crate::Failure::output).
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn log_to_stderr(o) {
                    o.message.log_file = None;
                    o.message.log_to_stderr = Some(true);
                }
                sets 71 "log_to_stderr" "-" (3, 19); such as ();

                /// Sets the directory for logs and statistics. The default is the images directory.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn work_dir(o, directory: impl Into<Dir<'a>>) { o.work = Some(directory.into()); }
                sets 17 "work_dir_fd" "-W, --work-dir" (1, 2); such as ("/");

                /// Names a configuration file for CRIU that is read after these options and wins
                /// over them. It can hold command-line options that the RPC lacks, one a line,
                /// without dashes.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn config_file(o, path: impl AsRef<Path>) {
                    o.message.config_file = Some(o.text("a configuration file", path.as_ref()));
                }
                sets 51 "config_file" "-" (3, 11); such as ("/dev/null");

                /// Runs CRIU without root but with `CAP_CHECKPOINT_RESTORE`, and accepts that some
                /// state cannot be saved.
                on [Dump PreDump Restore PageServer CpuInfo Check]
                fn unprivileged(o, on: bool) { o.message.unprivileged = Some(on); }
                sets 67 "unprivileged" "--unprivileged" (3, 18); such as (true);

                /// Sets the fate of the tasks after a successful dump. The default kills them.
                on [Dump]
                fn after_dump(o, after: AfterDump) {
                    o.after = Some(after);
                    o.message.leave_running = (after == AfterDump::LeaveRunning).then_some(true);
                    o.message.leave_stopped = (after == AfterDump::LeaveStopped).then_some(true);
                }
                sets 3 "leave_running" "-R, --leave-running" (0, 8),
                     69 "leave_stopped" "-s, --leave-stopped" (3, 19);
                such as (AfterDump::LeaveRunning), (AfterDump::LeaveStopped);

                /// Leaves the restored tasks stopped. By default they run.
                on [Restore]
                fn leave_stopped(o, on: bool) { o.message.leave_stopped = Some(on); }
                sets 69 "leave_stopped" "-s, --leave-stopped" (3, 19); such as (true);

                /// Accepts unix sockets whose peer is outside the tree. They come back unconnected
                /// or, for datagram sockets, connected again by name.
                on [Dump PreDump Restore]
                fn ext_unix_sk(o, on: bool) { o.message.ext_unix_sk = Some(on); }
                sets 4 "ext_unix_sk" "-x, --ext-unix-sk" (0, 8); such as (true);

                /// Sets the way connected TCP sockets are handled. By default a connected socket
                /// makes the dump fail.
                on [Dump PreDump Restore]
                fn tcp(o, tcp: Tcp) {
                    o.message.tcp_established = (tcp == Tcp::Established).then_some(true);
                    o.message.tcp_close = (tcp == Tcp::Close).then_some(true);
                }
                sets 5 "tcp_established" "--tcp-established" (0, 8),
                     52 "tcp_close" "--tcp-close" (3, 12);
                such as (Tcp::Established), (Tcp::Close);

                /// Leaves half-open TCP connections out of the dump. By default they make it fail.
                on [Dump PreDump]
                fn tcp_skip_in_flight(o, on: bool) { o.message.tcp_skip_in_flight = Some(on); }
                sets 46 "tcp_skip_in_flight" "--skip-in-flight" (2, 4); such as (true);

                /// Sets the way CRIU keeps packets away from saved connections. The default is
                /// [`NetworkLock::Iptables`]. A restore takes the setting from the images.
                on [Dump PreDump]
                fn network_lock(o, lock: NetworkLock) {
                    o.message.network_lock = Some(CriuNetworkLockMethod::from(lock).into());
                }
                sets 64 "network_lock" "--network-lock" (3, 16); such as (NetworkLock::Nftables);

                /// Accepts another path to a device file if the original path is inaccessible.
                on [Dump PreDump Restore]
                fn evasive_devices(o, on: bool) { o.message.evasive_devices = Some(on); }
                sets 6 "evasive_devices" "--evasive-devices" (0, 8); such as (true);

                /// Accepts tasks whose session or terminal belongs to the shell that started them.
                /// The restored tasks join the caller's session and process group, and get its
                /// terminal.
                on [Dump PreDump Restore]
                fn shell_job(o, on: bool) { o.message.shell_job = Some(on); }
                sets 7 "shell_job" "-j, --shell-job" (0, 8); such as (true);

                /// Saves and restores file locks. This is safe if nobody outside the tree holds one
                /// of them.
                on [Dump PreDump Restore]
                fn file_locks(o, on: bool) { o.message.file_locks = Some(on); }
                sets 8 "file_locks" "-l, --file-locks" (0, 8); such as (true);

                /// Accepts files that were unlinked but still have other names. CRIU links them
                /// back for a while, which changes the file system.
                on [Dump PreDump Restore]
                fn link_remap(o, on: bool) { o.message.link_remap = Some(on); }
                sets 18 "link_remap" "--link-remap" (1, 2); such as (true);

                /// Sets the size of the largest unlinked file whose content is saved, in bytes. The
                /// default is 1 MiB.
                on [Dump PreDump]
                fn ghost_limit(o, bytes: u32) { o.message.ghost_limit = Some(bytes); }
                sets 35 "ghost_limit" "--ghost-limit" (1, 7); such as (4096);

                /// Names a resource outside the tree. Call this once for each resource.
                on [Dump PreDump Restore]
                fn external(o, resource: External) {
                    let bytes = resource.to_bytes();
                    let text = o.text("an external resource", OsStr::from_bytes(&bytes));
                    o.message.external.push(text);
                }
                sets 37 "external" "--external" (2, 0); such as (External::UnixSocket(1));

                /// Gives the restored tasks a descriptor in the place of a saved resource. Call
                /// this once for each descriptor. Needs a criu started by this process.
                on [Restore]
                fn inherit_fd(o, fd: InheritFd<'a>) { o.inherit.push(fd); }
                sets 27 "inherit_fd" "--inherit-fd" (1, 5);
                such as (InheritFd::numbered("pipe:[1]", 2));

                /// Names an existing namespace for the restored tasks to enter. Call this once for
                /// each namespace.
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

                /// Leaves the content of network namespaces out: the caller's hooks fill the
                /// restored ones.
                on [Dump Restore]
                fn empty_net_ns(o, on: bool) {
                    o.message.empty_ns = Some(if on { CLONE_NEWNET } else { 0 });
                }
                sets 38 "empty_ns" "--empty-ns" (2, 0); such as (true);

                /// Sets the root directory of the restored mount tree: a mount point whose parent
                /// is not overmounted.
                on [Restore]
                fn root(o, path: impl AsRef<Path>) {
                    o.message.root = Some(o.text("a root directory", path.as_ref()));
                }
                sets 13 "root" "-r, --root" (1, 2); such as ("/mnt");

                /// Finds external bind mounts automatically, without an
                /// [`external`](Self::external) call for each.
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

                /// Names a mount point to leave out of the dump. Call this once for each mount
                /// point.
                on [Dump PreDump]
                fn skip_mnt(o, mount_point: impl AsRef<Path>) {
                    let text = o.text("a mount point", mount_point.as_ref());
                    o.message.skip_mnt.push(text);
                }
                sets 31 "skip_mnt" "--skip-mnt" (1, 6); such as ("/x");

                /// Names a file system that CRIU handles although it does not know it; `all` stands
                /// for every one. Call this once for each file system.
                on [Dump PreDump Restore]
                fn enable_fs(o, name: impl AsRef<OsStr>) {
                    let text = o.text("a file system", name);
                    o.message.enable_fs.push(text);
                }
                sets 32 "enable_fs" "--enable-fs" (1, 6); such as ("all");

                /// Restores mounts as CRIU did before move_mount(2) could set peer groups.
                on [Restore]
                fn mntns_compat_mode(o, on: bool) { o.message.mntns_compat_mode = Some(on); }
                sets 65 "mntns_compat_mode" "--mntns-compat-mode" (3, 17); such as (true);

                /// Finds the paths of inotify and fanotify watches by scanning directories, in
                /// every case.
                on [Dump PreDump]
                fn force_irmap(o, on: bool) { o.message.force_irmap = Some(on); }
                sets 21 "force_irmap" "--force-irmap" (1, 3); such as (true);

                /// Names a further directory to scan for watched paths. Call this once for each
                /// directory.
                on [Dump PreDump]
                fn irmap_scan_path(o, path: impl AsRef<Path>) {
                    let text = o.text("a path to scan", path.as_ref());
                    o.message.irmap_scan_paths.push(text);
                }
                sets 36 "irmap_scan_paths" "--irmap-scan-path" (1, 8); such as ("/etc");

                /// Sets the part of the cgroup hierarchy that is saved and rebuilt. The default is
                /// [`CgroupMode::Soft`].
                on [Dump Restore]
                fn manage_cgroups(o, mode: CgroupMode) {
                    o.message.manage_cgroups_mode = Some(CriuCgMode::from(mode).into());
                }
                sets 34 "manage_cgroups_mode" "--manage-cgroups" (1, 7); such as (CgroupMode::Full);

                /// Sets a new root for the cgroups of one controller. `None` stands for every
                /// controller without a root of its own.
                on [Dump Restore]
                fn cgroup_root(o, controller: Option<&str>, path: impl AsRef<Path>) {
                    let path = o.text("a cgroup root", path.as_ref());
                    let ctrl = controller.map(|name| o.text("a cgroup controller", name));
                    o.message.cg_root.push(CgroupRoot { ctrl, path });
                }
                sets 25 "cg_root" "--cgroup-root" (1, 3); such as (Some("memory"), "/x");

                /// Describes the cgroup controllers and properties to save, in CRIU's simplified
                /// YAML.
                on [Dump]
                fn cgroup_props(o, description: impl AsRef<OsStr>) {
                    o.message.cgroup_props = Some(o.text("a description of cgroups", description));
                }
                sets 41 "cgroup_props" "--cgroup-props" (2, 4); such as ("x");

                /// Names a file that describes the cgroup controllers and properties to save, in
                /// CRIU's simplified YAML.
                on [Dump]
                fn cgroup_props_file(o, path: impl AsRef<Path>) {
                    let path = o.text("a description of cgroups", path.as_ref());
                    o.message.cgroup_props_file = Some(path);
                }
                sets 42 "cgroup_props_file" "--cgroup-props-file" (2, 4); such as ("/x");

                /// Names a cgroup controller to save; all others are left out. Call this once for
                /// each controller.
                on [Dump]
                fn cgroup_dump_controller(o, name: impl AsRef<OsStr>) {
                    let text = o.text("a cgroup controller", name);
                    o.message.cgroup_dump_controller.push(text);
                }
                sets 43 "cgroup_dump_controller" "--cgroup-dump-controller" (2, 4);
                such as ("memory");

                /// Names a directory in which the cgroup controllers are mounted already, for a
                /// CRIU that may not mount.
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

                /// Limits the time for collecting and freezing the tasks, after which CRIU gives
                /// up. The time is in whole seconds, rounded up. The default is 10 seconds; zero
                /// means no limit. For a limit on the whole operation see `deadline`.
                on [Dump PreDump]
                fn timeout(o, limit: Duration) {
                    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
                    o.message.timeout = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
                }
                sets 45 "timeout" "--timeout" (2, 4); such as (Duration::from_secs(1));

                /// Names the images of the previous dump, as a path from the images directory. With
                /// [`track_mem`](Self::track_mem), unchanged pages stay in those images only;
                /// without it, a dump writes all pages again.
                on [Dump PreDump]
                fn parent_img(o, path: impl AsRef<Path>) {
                    o.message.parent_img = Some(o.text("a parent directory", path.as_ref()));
                }
                sets 14 "parent_img" "--prev-images-dir" (1, 2); such as ("../0");

                /// Saves only the memory that has changed since the previous dump, and tracks
                /// changes after this one. A pre-dump always does. Needs soft-dirty tracking in the
                /// kernel.
                on [Dump PreDump]
                fn track_mem(o, on: bool) { o.message.track_mem = Some(on); }
                sets 15 "track_mem" "--track-mem" (1, 2); such as (true);

                /// Frees pages of older images that newer ones have replaced. A restore frees each
                /// page that it has read.
                on [Dump PreDump Restore PageServer]
                fn auto_dedup(o, on: bool) { o.message.auto_dedup = Some(on); }
                sets 16 "auto_dedup" "--auto-dedup" (1, 2); such as (true);

                /// Sets the way memory is read. The default is [`PreDumpMode::Splice`].
                on [PreDump]
                fn pre_dump_mode(o, mode: PreDumpMode) {
                    o.message.pre_dump_mode = Some(CriuPreDumpMode::from(mode).into());
                }
                sets 61 "pre_dump_mode" "--pre-dump-mode" (3, 14); such as (PreDumpMode::Read);

                /// Sets a connected unix socket in which CRIU keeps pidfds from one pre-dump to the
                /// next, to notice reused process ids. Both ends must stay open meanwhile.
                on [Dump PreDump]
                fn pidfd_store(o, socket: &'a impl AsFd) { o.pidfd_store = Some(socket.as_fd()); }
                sets 62 "pidfd_store_sk" "-" (3, 16); such as (sample_fd());

                /// Sends memory to the page server at this address instead of writing it to the
                /// images directory.
                on [Dump PreDump]
                fn page_server(o, host: &str, port: u16) {
                    o.message.ps = Some(o.server(host, port));
                    o.page_server_socket = None;
                }
                sets 11 "ps" "--page-server --address --port" (1, 2); such as ("127.0.0.1", 7);

                /// Uses this connected stream socket for pages: a dump sends memory into it, a page
                /// server reads from it. Needs a criu started by this process.
                on [Dump PreDump PageServer]
                fn page_server_socket(o, socket: &'a impl AsFd) {
                    o.message.ps = None;
                    o.page_server_socket = Some(socket.as_fd());
                }
                sets 11 "ps" "--ps-socket" (1, 2); such as (sample_fd());

                /// Uses TLS with the page server.
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

                /// Keeps memory back and serves it on demand at this address. The dump ends when a
                /// lazy-pages daemon has fetched all of it.
                ///
                /// CRIU serves the first who connects, and looks at no user: on a loopback address
                /// any user of this machine can read the memory, unless the dump speaks
                /// [TLS](Self::tls). A dump to a directory that a
                /// [`Provider`](crate::pages::Provider) serves has no such gap.
                /// [`Hooks::status_ready`](crate::Hooks::status_ready) is called when the dump
                /// listens.
                on [Dump]
                fn lazy_pages_at(o, address: &str, port: u16) {
                    o.message.ps = Some(o.server(address, port));
                    o.message.lazy_pages = Some(true);
                }
                sets 48 "lazy_pages" "--lazy-pages" (3, 5), 11 "ps" "--address --port" (1, 2);
                such as ("127.0.0.1", 7);

                /// Fetches memory on demand from a lazy-pages daemon that runs in the work
                /// directory.
                on [Restore]
                fn lazy_pages(o, on: bool) { o.message.lazy_pages = Some(on); }
                sets 48 "lazy_pages" "--lazy-pages" (3, 5); such as (true);

                /// Exchanges images with a criu-image-streamer that listens in the images
                /// directory.
                on [Dump Restore]
                fn stream(o, on: bool) { o.message.stream = Some(on); }
                sets 78 "stream" "--stream" (4, 3); such as (true);

                /// Sets the way pages images are read and written. The default is
                /// [`ImageIo::Writeback`].
                on [Dump PreDump Restore]
                fn image_io(o, mode: ImageIo) {
                    o.message.image_io_mode = Some(CriuImageIoMode::from(mode).into());
                }
                sets 72 "image_io_mode" "--image-io-mode" (4, 3); such as (ImageIo::Direct);

                /// Compresses pages images with LZ4. By default they are not compressed.
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

                /// Sets the number of threads that decompress, at most 1024; 0 lets CRIU choose.
                /// The default is 1.
                on [Restore]
                fn decompress_threads(o, count: u32) { o.message.decompress_threads = Some(count); }
                sets 76 "decompress_threads" "--decompress-threads" (4, 3); such as (2);

                /// Sets an option of a plugin, `PLUGIN.NAME` or `PLUGIN.NAME=VALUE`. Call this once
                /// for each option.
                on [Dump PreDump Restore]
                fn plugin_option(o, option: impl AsRef<OsStr>) {
                    let text = o.text("a plugin option", option);
                    o.message.plugin_options.push(text);
                }
                sets 77 "plugin_options" "--plugin-option" (4, 3); such as ("x.y=z");

                /// Sets the CPU features that a dump records and a restore compares.
                on [Dump PreDump Restore CpuInfo]
                fn cpu_cap(o, features: CpuCap) { o.message.cpu_cap = Some(features.bits()); }
                sets 20 "cpu_cap" "--cpu-cap" (1, 3); such as (CpuCap::FPU);

                /// Prints statistics to CRIU's log. The operation returns them in any case.
                on [Dump PreDump Restore]
                fn display_stats(o, on: bool) { o.message.display_stats = Some(on); }
                sets 70 "display_stats" "--display-stats" (3, 19); such as (true);

                /// Sets the security profile of the restored tasks, instead of the saved one. A
                /// task that was saved without a profile makes the restore fail. If profiles are
                /// stacked, this one takes the place of the outer ones.
                on [Dump Restore]
                fn lsm_profile(o, profile: LsmProfile) {
                    o.message.lsm_profile = Some(o.text("a security profile", profile.to_string()));
                }
                sets 53 "lsm_profile" "--lsm-profile" (3, 12);
                such as (LsmProfile::Apparmor("x".into()));

                /// Sets the SELinux context of restored mounts that were saved with one.
                on [Restore]
                fn lsm_mount_context(o, context: MountContext) {
                    let context = o.text("a mount context", context.to_string());
                    o.message.lsm_mount_context = Some(context);
                }
                sets 63 "lsm_mount_context" "--lsm-mount-context" (3, 16);
                such as ("a:b:c".parse().unwrap());

                /// Continues the restore if a saved sysctl does not exist.
                on [Restore]
                fn weak_sysctls(o, on: bool) { o.message.weak_sysctls = Some(on); }
                sets 47 "weak_sysctls" "--weak-sysctls" (2, 9); such as (true);

                /// Skips the comparison of file permissions with those at the dump.
                on [Restore]
                fn skip_file_rwx_check(o, on: bool) { o.message.skip_file_rwx_check = Some(on); }
                sets 66 "skip_file_rwx_check" "--skip-file-rwx-check" (3, 18); such as (true);

                /// Makes the restored root a child of this process. Needs a criu started by this
                /// process.
                on [Restore]
                fn rst_sibling(o, on: bool) { o.message.rst_sibling = Some(on); }
                sets 26 "rst_sibling" "-S, --restore-sibling" (1, 3); such as (true);

                /// Handles pseudo terminals whose master is outside the tree. A dump accepts them.
                /// A restore makes new ones and passes their masters to
                /// [`Hooks::orphan_pts_master`](crate::Hooks::orphan_pts_master).
                on [Dump Restore]
                fn orphan_pts_master(o, on: bool) {
                    o.message.orphan_pts_master = Some(on);
                }
                sets 50 "orphan_pts_master" "-" (2, 12); such as (true);

                /// Names a program, with its arguments, that criu becomes after the restore: the
                /// parent of the restored tree. The program's output goes to the log. See
                /// [`Restored::parent`](crate::Restored::parent).
                on [Restore]
                fn exec_cmd(o, command: impl IntoIterator<Item = impl AsRef<OsStr>>) {
                    let words = command.into_iter().map(|word| o.text("a command", word));
                    o.message.exec_cmd = words.collect();
                }
                sets 22 "exec_cmd" "--exec-cmd" (1, 3); such as (["true"]);
            }
            elsewhere {
                on [Dump PreDump Restore PageServer CpuInfo]
                    1 "images_dir_fd" "-D, --images-dir" (0, 8)
                    by "new", false;
                on [Dump PreDump Restore PageServer CpuInfo]
                    68 "images_dir" "-D, --images-dir" (3, 19)
                    by "new with Dir::opened_by_criu", false;
                on [Dump PreDump]
                    2 "pid" "-t, --tree" (0, 8)
                    by "new", false;
                on [Dump PreDump Restore]
                    12 "notify_scripts" "-" (1, 2)
                    by "run_with and start", false;
                on [PageServer]
                    11 "ps" "--address --port" (1, 2)
                    by "new", false;
                on [Restore]
                    19 "veths" "--veth-pair" (1, 2)
                    by "external with External::Veth", true;
                on [Dump Restore]
                    23 "ext_mnt" "--ext-mount-map" (1, 3)
                    by "external with External::Mount", true;
                on [Dump Restore]
                    24 "manage_cgroups" "--manage-cgroups" (1, 3)
                    by "manage_cgroups", true;
                on [Dump]
                    33 "unix_sk_ino" "--ext-unix-sk" (1, 7)
                    by "external with External::UnixSocket", true;
                on [Dump Restore]
                    49 "status_fd" "--status-fd" (2, 11)
                    by "Hooks::status_ready", true;
            }
        }
    };
}

pub(crate) use option_rows;
