//! libcriu in the place of a socket: a thread that takes requests as criu does, and puts them to libcriu's functions.
//!
//! ```text
//! Driver ◀── packets ──▶ this thread ── criu_local_*() ──▶ libcriu ◀──▶ criu swrk
//! ```
//!
//! libcriu keeps what an operation is told in an object of its own, and calls back in the thread that asked. So
//! operations in several threads do not meet, but for the master of an orphaned terminal, which it has one place for.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::io;
use std::mem::transmute;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::Current;
use prost::Message;

use crate::rpc::{CriuNotify, CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp};
use crate::sys::seqpacket::{self, Received};

/// libcriu's functions, by name.
#[derive(Clone)]
pub(crate) struct Library(Arc<Symbols>);

enum Symbols {
    #[cfg(feature = "libcriu-link")]
    Linked,
    Loaded(Loaded),
}

/// A library that was loaded, and stays so.
struct Loaded {
    path: PathBuf,
    handle: *mut c_void,
}

// SAFETY: dlsym takes a handle in any thread, and nobody closes it.
unsafe impl Send for Loaded {}

// SAFETY: as above; the handle is never changed.
unsafe impl Sync for Loaded {}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Why libcriu is not asked.
type Refusal = String;

/// The thread behind a connection.
#[derive(Debug)]
pub(crate) struct Served {
    library: Library,
    thread: Option<JoinHandle<()>>,
    asked: AtomicBool,
    answered: Arc<AtomicBool>,
    /// When it began, in the kernel's ticks.
    pub(crate) since: Option<u64>,
}

impl Served {
    /// A packet is about to be sent: refuses what libcriu cannot carry.
    pub(crate) fn check(&self, packet: &[u8]) -> Result<(), Refusal> {
        self.library.check(packet)?;
        self.asked.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// The connection has been closed: a thread that has nothing to do any more is waited for. One that is in the middle of
/// an operation, which nobody can end, goes on alone.
impl Drop for Served {
    fn drop(&mut self) {
        let is_busy = self.asked.load(Ordering::SeqCst) && !self.answered.load(Ordering::SeqCst);
        if let Some(thread) = self.thread.take().filter(|_| !is_busy) {
            let _ = thread.join();
        }
    }
}

/// The time in the kernel's ticks, in which it says when processes were started.
fn ticks() -> Option<u64> {
    let uptime = procfs::Uptime::current().ok()?.uptime_duration();
    let ticks = u128::from(procfs::ticks_per_second()) * uptime.as_millis() / 1000;
    u64::try_from(ticks).ok()
}

/// libcriu's object with the options of an operation.
struct Options<'l> {
    library: &'l Library,
    opts: *mut c_void,
}

impl Library {
    /// The library that this program is linked with.
    #[cfg(feature = "libcriu-link")]
    pub(crate) fn linked() -> Self {
        Self(Arc::new(Symbols::Linked))
    }

    /// Loads a library: `libcriu.so.2`, or a path.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut flags = libc::RTLD_NOW | libc::RTLD_LOCAL;
        if cfg!(all(feature = "libcriu-link", target_env = "gnu")) {
            // Or its own calls would go to the library that the program is linked with.
            flags |= libc::RTLD_DEEPBIND;
        }
        // SAFETY: the name ends with a NUL, and what runs when libcriu is loaded touches nothing of ours.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        if handle.is_null() {
            // SAFETY: without conditions.
            let why = unsafe { libc::dlerror() };
            if why.is_null() {
                return Err(io::ErrorKind::NotFound.into());
            }
            // SAFETY: dlerror's text ends with a NUL and stays until this thread's next call.
            let why = unsafe { CStr::from_ptr(why) };
            return Err(io::Error::other(why.to_string_lossy()));
        }
        let library = Self(Arc::new(Symbols::Loaded(Loaded { path: path.into(), handle })));
        for name in NEEDED {
            library.symbol(name).map_err(io::Error::other)?;
        }
        Ok(library)
    }

    fn name(&self) -> String {
        match &*self.0 {
            #[cfg(feature = "libcriu-link")]
            Symbols::Linked => "libcriu".to_owned(),
            Symbols::Loaded(loaded) => loaded.path.display().to_string(),
        }
    }

    /// A function of this name.
    fn symbol(&self, name: &CStr) -> Result<*const c_void, Refusal> {
        let found = match &*self.0 {
            #[cfg(feature = "libcriu-link")]
            Symbols::Linked => super::linked::find(name),
            Symbols::Loaded(loaded) => {
                // SAFETY: the library stays loaded, and the name ends with a NUL.
                let found = unsafe { libc::dlsym(loaded.handle, name.as_ptr()) };
                Some(found.cast_const()).filter(|found| !found.is_null())
            }
        };
        found.ok_or_else(|| format!("{} has no {}", self.name(), name.to_string_lossy()))
    }

    /// Takes one request from a socket.
    pub(crate) fn serve(&self, program: PathBuf, socket: OwnedFd) -> io::Result<Served> {
        let (library, answered) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let (replied, since) = (Arc::clone(&answered), ticks());
        let serve = move || {
            let Some(request) = next(&socket) else { return };
            let reply = library.answer(&program, &request, &socket);
            let reply = reply.unwrap_or_else(|why| CriuResp {
                r#type: request.r#type,
                success: false,
                cr_errmsg: Some(why.into_bytes()),
                ..Default::default()
            });
            replied.store(true, Ordering::SeqCst);
            // Whoever asked may have gone.
            let _ = seqpacket::send(&socket, &reply.encode_to_vec());
        };
        let thread = thread::Builder::new().name("libcriu".into()).spawn(serve)?;
        let (library, asked) = (self.clone(), AtomicBool::new(false));
        Ok(Served { library, thread: Some(thread), asked, answered, since })
    }

    /// Refuses what libcriu cannot carry, before it is asked.
    fn check(&self, packet: &[u8]) -> Result<(), Refusal> {
        let Ok(request) = CriuReq::decode(packet) else { return Ok(()) };
        if request.r#type == CriuReqType::Check as i32 {
            return Err("libcriu's criu_local_check sends no options: not where to log".to_owned());
        }
        if let Some(opts) = &request.opts {
            self.options()?.fill(opts)?;
        }
        match CriuReqType::try_from(request.r#type) {
            Ok(
                CriuReqType::Dump
                | CriuReqType::PreDump
                | CriuReqType::SinglePreDump
                | CriuReqType::Restore
                | CriuReqType::Notify,
            ) if !request.keep_open() => Ok(()),
            Ok(kind) if request.keep_open() => {
                Err(format!("libcriu keeps no connection open after {}", kind.as_str_name()))
            }
            Ok(kind) => Err(format!("libcriu has no function for {}", kind.as_str_name())),
            Err(_) => Err("libcriu has no function for this request".to_owned()),
        }
    }

    fn options(&self) -> Result<Options<'_>, Refusal> {
        type Init = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
        let init = self.symbol(c"criu_local_init_opts")?;
        // SAFETY: this is how criu.h declares it.
        let init = unsafe { transmute::<*const c_void, Init>(init) };
        let mut opts = ptr::null_mut();
        // SAFETY: it writes a pointer to where this one is.
        let failed = unsafe { init(&mut opts) };
        match failed == 0 && !opts.is_null() {
            true => Ok(Options { library: self, opts }),
            false => Err("libcriu has no memory for options".to_owned()),
        }
    }

    fn answer(
        &self,
        program: &Path,
        request: &CriuReq,
        socket: &OwnedFd,
    ) -> Result<CriuResp, Refusal> {
        let options = self.options()?;
        options.text(c"criu_local_set_service_binary", program.as_os_str().as_bytes())?;
        let mut reply = CriuResp { r#type: request.r#type, ..Default::default() };
        let kind = CriuReqType::try_from(request.r#type).unwrap_or(CriuReqType::Empty);
        if let Some(opts) = &request.opts {
            options.fill(opts)?;
            options.listen()?;
            let forward = opts.notify_scripts();
            let bridge = Bridge::new(self, socket.as_fd(), forward)?;
            BRIDGE.set(Some(bridge));
        }
        let status = match kind {
            CriuReqType::Dump => options.run(c"criu_local_dump"),
            CriuReqType::PreDump | CriuReqType::SinglePreDump => {
                options.run(c"criu_local_pre_dump")
            }
            CriuReqType::Restore => {
                let sibling = request.opts.as_ref().is_some_and(CriuOpts::rst_sibling);
                let name = match sibling {
                    true => c"criu_local_restore_child",
                    false => c"criu_local_restore",
                };
                options.run(name).inspect(|pid| reply.restore = Some(CriuRestoreResp { pid: *pid }))
            }
            _ => Err("libcriu has no function for this request".to_owned()),
        };
        let refusal = BRIDGE.take().and_then(|bridge| bridge.refusal);
        let status = status?;
        reply.success = status >= 0 && refusal.is_none();
        if status < 0 {
            // It says what went wrong between it and criu in place of criu's own errno, which it keeps.
            let own = nix::errno::Errno::last_raw();
            reply.cr_errno = Some(if status == -libc::EBADE && own != 0 { own } else { -status });
        }
        reply.cr_errmsg = refusal.map(String::into_bytes);
        Ok(reply)
    }
}

/// The next request; `None` when there are no more.
fn next(socket: &OwnedFd) -> Option<CriuReq> {
    CriuReq::decode(hear(socket.as_fd())?.as_slice()).ok()
}

/// Waits for a packet; `None` when none will come.
fn hear(socket: BorrowedFd<'_>) -> Option<Vec<u8>> {
    loop {
        match seqpacket::receive(socket, super::MAX_PACKET) {
            Ok(Received::Packet(packet)) => return Some(packet.bytes),
            Ok(Received::Nothing) => {
                let _ = poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::NONE);
            }
            _ => return None,
        }
    }
}

impl Drop for Options<'_> {
    fn drop(&mut self) {
        type Free = unsafe extern "C" fn(*mut c_void);
        if let Ok(free) = self.library.symbol(c"criu_local_free_opts") {
            // SAFETY: this is how criu.h declares it.
            let free = unsafe { transmute::<*const c_void, Free>(free) };
            // SAFETY: criu_local_init_opts made it, and nobody has it after this.
            unsafe { free(self.opts) }
        }
    }
}

impl Options<'_> {
    fn flag(&self, name: &CStr, on: Option<bool>) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, bool);
        let Some(on) = on else { return Ok(()) };
        let set = self.library.symbol(name)?;
        // SAFETY: the functions that this is called with take options and a bool in criu.h, and return nothing.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive.
        unsafe { set(self.opts, on) };
        Ok(())
    }

    fn signed(&self, name: &CStr, value: Option<i32>) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, c_int);
        let Some(value) = value else { return Ok(()) };
        let set = self.library.symbol(name)?;
        // SAFETY: the functions that this is called with take options and an int, or an enum, in criu.h, and return
        // nothing.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive.
        unsafe { set(self.opts, value) };
        Ok(())
    }

    fn unsigned(&self, name: &CStr, value: Option<u32>) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, c_uint);
        let Some(value) = value else { return Ok(()) };
        let set = self.library.symbol(name)?;
        // SAFETY: the functions that this is called with take options and an int of either kind in criu.h, and return
        // nothing.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive.
        unsafe { set(self.opts, value) };
        Ok(())
    }

    /// A number that libcriu looks at.
    fn checked(&self, name: &CStr, value: Option<u32>) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, c_uint) -> c_int;
        let Some(value) = value else { return Ok(()) };
        let set = self.library.symbol(name)?;
        // SAFETY: the functions that this is called with take options and an unsigned int, or an enum, in criu.h, and
        // return an int.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive.
        let failed = unsafe { set(self.opts, value) };
        taken(name, failed)
    }

    fn text(&self, name: &CStr, text: &[u8]) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
        let text = c_text(text)?;
        let set = self.library.symbol(name)?;
        // SAFETY: the functions that this is called with take options and a string in criu.h, and return an int.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive, and the string, which libcriu copies, ends with a NUL.
        let failed = unsafe { set(self.opts, text.as_ptr()) };
        taken(name, failed)
    }

    fn maybe_text(&self, name: &CStr, text: &Option<Vec<u8>>) -> Result<(), Refusal> {
        text.as_ref().map_or(Ok(()), |text| self.text(name, text))
    }

    fn texts(&self, name: &CStr, texts: &[Vec<u8>]) -> Result<(), Refusal> {
        texts.iter().try_for_each(|text| self.text(name, text))
    }

    /// The first may be absent.
    fn pair(&self, name: &CStr, one: Option<&[u8]>, other: &[u8]) -> Result<(), Refusal> {
        type Add = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> c_int;
        let (one, other) = (one.map(c_text).transpose()?, c_text(other)?);
        let add = self.library.symbol(name)?;
        // SAFETY: the functions that this is called with take options and two strings in criu.h, and return an int.
        let add = unsafe { transmute::<*const c_void, Add>(add) };
        let one = one.as_ref().map_or(ptr::null(), |one| one.as_ptr());
        // SAFETY: the options are alive, and the strings, which libcriu copies, end with a NUL; the first may be null
        // for criu_local_add_cg_root, the only one that is called without it.
        let failed = unsafe { add(self.opts, one, other.as_ptr()) };
        taken(name, failed)
    }

    fn page_server(&self, address: &[u8], port: i32) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, *const c_char, c_int) -> c_int;
        let name = c"criu_local_set_page_server_address_port";
        let address = c_text(address)?;
        let set = self.library.symbol(name)?;
        // SAFETY: this is how criu.h declares it.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive, and the string, which libcriu copies, ends with a NUL.
        let failed = unsafe { set(self.opts, address.as_ptr(), port) };
        taken(name, failed)
    }

    fn join_ns(&self, ns: &[u8], file: &[u8], extra: Option<&[u8]>) -> Result<(), Refusal> {
        type Add =
            unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *const c_char) -> c_int;
        let name = c"criu_local_join_ns_add";
        let (ns, file, extra) = (c_text(ns)?, c_text(file)?, extra.map(c_text).transpose()?);
        let add = self.library.symbol(name)?;
        // SAFETY: this is how criu.h declares it.
        let add = unsafe { transmute::<*const c_void, Add>(add) };
        let extra = extra.as_ref().map_or(ptr::null(), |extra| extra.as_ptr());
        // SAFETY: the options are alive, and the strings, which libcriu copies, end with a NUL; the last may be null.
        let failed = unsafe { add(self.opts, ns.as_ptr(), file.as_ptr(), extra) };
        taken(name, failed)
    }

    fn exec_cmd(&self, words: &[Vec<u8>]) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, c_int, *mut *mut c_char) -> c_int;
        if words.is_empty() {
            return Ok(());
        }
        let name = c"criu_local_set_exec_cmd";
        let words = words.iter().map(|word| c_text(word)).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
        pointers.push(ptr::null_mut());
        let count = c_int::try_from(words.len()).map_err(|error| error.to_string())?;
        let set = self.library.symbol(name)?;
        // SAFETY: this is how criu.h declares it.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive, and there are as many strings, which libcriu copies and does not change.
        let failed = unsafe { set(self.opts, count, pointers.as_mut_ptr()) };
        taken(name, failed)
    }

    /// Has libcriu call [`notified`] at each action.
    fn listen(&self) -> Result<(), Refusal> {
        type Callback = extern "C" fn(*mut c_char, *mut c_void) -> c_int;
        type Set = unsafe extern "C" fn(*mut c_void, Callback);
        let set = self.library.symbol(c"criu_local_set_notify_cb")?;
        // SAFETY: this is how criu.h declares it; the argument of the callback is a pointer.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive, and the callback is there for ever.
        unsafe { set(self.opts, notified) };
        Ok(())
    }

    /// Calls a function that takes options alone.
    fn run(&self, name: &CStr) -> Result<c_int, Refusal> {
        type Run = unsafe extern "C" fn(*mut c_void) -> c_int;
        let run = self.library.symbol(name)?;
        // SAFETY: the functions that this is called with take options in criu.h, and return an int.
        let run = unsafe { transmute::<*const c_void, Run>(run) };
        nix::errno::Errno::clear();
        // SAFETY: the options are alive, and nobody else has them meanwhile.
        Ok(unsafe { run(self.opts) })
    }

    /// Sets all that a message says, or says what cannot be set.
    fn fill(&self, message: &CriuOpts) -> Result<(), Refusal> {
        let no = |what: &str, why: &str| Err(format!("libcriu cannot carry {what}: {why}"));
        let CriuOpts {
            images_dir_fd,
            pid,
            leave_running,
            ext_unix_sk,
            tcp_established,
            evasive_devices,
            shell_job,
            file_locks,
            log_level,
            log_file,
            ps,
            // By a callback in any case.
            notify_scripts: _,
            root,
            parent_img,
            track_mem,
            auto_dedup,
            work_dir_fd,
            link_remap,
            veths,
            cpu_cap,
            force_irmap,
            exec_cmd,
            ext_mnt,
            manage_cgroups,
            cg_root,
            // By another function.
            rst_sibling: _,
            inherit_fd,
            auto_ext_mnt,
            ext_sharing,
            ext_masters,
            skip_mnt,
            enable_fs,
            unix_sk_ino,
            manage_cgroups_mode,
            ghost_limit,
            irmap_scan_paths,
            external,
            empty_ns,
            join_ns,
            cgroup_props,
            cgroup_props_file,
            cgroup_dump_controller,
            freeze_cgroup,
            timeout,
            tcp_skip_in_flight,
            weak_sysctls,
            lazy_pages,
            status_fd,
            orphan_pts_master,
            config_file,
            tcp_close,
            lsm_profile,
            tls_cacert,
            tls_cacrl,
            tls_cert,
            tls_key,
            tls,
            tls_no_cn_verify,
            cgroup_yard,
            pre_dump_mode,
            pidfd_store_sk,
            lsm_mount_context,
            network_lock,
            mntns_compat_mode,
            skip_file_rwx_check,
            unprivileged,
            images_dir,
            leave_stopped,
            display_stats,
            log_to_stderr,
            image_io_mode,
            compress,
            compress_acceleration,
            compress_block_size,
            decompress_threads,
            plugin_options,
            stream,
        } = message;
        if timeout.is_some() {
            return no("timeout", "it keeps the value and never sends it");
        }
        if status_fd.is_some() {
            return no("status_fd", "it has no function for it");
        }
        if images_dir.is_some() {
            return no("images_dir", "it names directories by descriptors");
        }
        if !inherit_fd.is_empty() {
            return no("inherit_fd", "descriptors have to be put into the criu process");
        }
        if let Some(server) = ps {
            if server.fd.is_some() || server.pid.is_some() {
                return no("ps", "descriptors have to be put into the criu process");
            }
            let address = server.address.as_deref().unwrap_or_default();
            self.page_server(address, server.port.unwrap_or_default())?;
        }
        self.signed(c"criu_local_set_images_dir_fd", Some(*images_dir_fd))?;
        self.signed(c"criu_local_set_work_dir_fd", *work_dir_fd)?;
        self.signed(c"criu_local_set_pid", *pid)?;
        self.signed(c"criu_local_set_log_level", *log_level)?;
        self.signed(c"criu_local_set_pidfd_store_sk", *pidfd_store_sk)?;
        self.signed(c"criu_local_set_manage_cgroups_mode", *manage_cgroups_mode)?;
        self.unsigned(c"criu_local_set_empty_ns", *empty_ns)?;
        self.unsigned(c"criu_local_set_cpu_cap", *cpu_cap)?;
        self.unsigned(c"criu_local_set_ghost_limit", *ghost_limit)?;
        // What is negative is none of their values.
        let mode = |mode: &Option<i32>| mode.map(|mode| u32::try_from(mode).unwrap_or(u32::MAX));
        self.checked(c"criu_local_set_pre_dump_mode", mode(pre_dump_mode))?;
        self.checked(c"criu_local_set_network_lock", mode(network_lock))?;
        self.checked(c"criu_local_set_image_io_mode", mode(image_io_mode))?;
        self.checked(c"criu_local_set_compress", *compress)?;
        self.checked(c"criu_local_set_compress_acceleration", *compress_acceleration)?;
        self.checked(c"criu_local_set_compress_block_size", *compress_block_size)?;
        self.checked(c"criu_local_set_decompress_threads", *decompress_threads)?;
        for (name, on) in [
            (c"criu_local_set_leave_running", leave_running),
            (c"criu_local_set_leave_stopped", leave_stopped),
            (c"criu_local_set_ext_unix_sk", ext_unix_sk),
            (c"criu_local_set_tcp_established", tcp_established),
            (c"criu_local_set_tcp_skip_in_flight", tcp_skip_in_flight),
            (c"criu_local_set_tcp_close", tcp_close),
            (c"criu_local_set_evasive_devices", evasive_devices),
            (c"criu_local_set_shell_job", shell_job),
            (c"criu_local_set_file_locks", file_locks),
            (c"criu_local_set_track_mem", track_mem),
            (c"criu_local_set_auto_dedup", auto_dedup),
            (c"criu_local_set_link_remap", link_remap),
            (c"criu_local_set_force_irmap", force_irmap),
            (c"criu_local_set_manage_cgroups", manage_cgroups),
            (c"criu_local_set_auto_ext_mnt", auto_ext_mnt),
            (c"criu_local_set_ext_sharing", ext_sharing),
            (c"criu_local_set_ext_masters", ext_masters),
            (c"criu_local_set_weak_sysctls", weak_sysctls),
            (c"criu_local_set_lazy_pages", lazy_pages),
            (c"criu_local_set_orphan_pts_master", orphan_pts_master),
            (c"criu_local_set_tls", tls),
            (c"criu_local_set_tls_no_cn_verify", tls_no_cn_verify),
            (c"criu_local_set_mntns_compat_mode", mntns_compat_mode),
            (c"criu_local_set_skip_file_rwx_check", skip_file_rwx_check),
            (c"criu_local_set_unprivileged", unprivileged),
            (c"criu_local_set_display_stats", display_stats),
            (c"criu_local_set_log_to_stderr", log_to_stderr),
            (c"criu_local_set_stream", stream),
        ] {
            self.flag(name, *on)?;
        }
        for (name, text) in [
            (c"criu_local_set_log_file", log_file),
            (c"criu_local_set_root", root),
            (c"criu_local_set_parent_images", parent_img),
            (c"criu_local_set_freeze_cgroup", freeze_cgroup),
            (c"criu_local_set_lsm_profile", lsm_profile),
            (c"criu_local_set_lsm_mount_context", lsm_mount_context),
            (c"criu_local_set_config_file", config_file),
            (c"criu_local_add_cg_props", cgroup_props),
            (c"criu_local_add_cg_props_file", cgroup_props_file),
            (c"criu_local_add_cg_yard", cgroup_yard),
            (c"criu_local_set_tls_cacert", tls_cacert),
            (c"criu_local_set_tls_cacrl", tls_cacrl),
            (c"criu_local_set_tls_cert", tls_cert),
            (c"criu_local_set_tls_key", tls_key),
        ] {
            self.maybe_text(name, text)?;
        }
        self.texts(c"criu_local_add_skip_mnt", skip_mnt)?;
        self.texts(c"criu_local_add_enable_fs", enable_fs)?;
        self.texts(c"criu_local_add_irmap_path", irmap_scan_paths)?;
        self.texts(c"criu_local_add_external", external)?;
        self.texts(c"criu_local_add_cg_dump_controller", cgroup_dump_controller)?;
        self.texts(c"criu_local_add_plugin_option", plugin_options)?;
        self.exec_cmd(exec_cmd)?;
        for one in unix_sk_ino {
            self.checked(c"criu_local_add_unix_sk", Some(one.inode))?;
        }
        for one in veths {
            self.pair(c"criu_local_add_veth_pair", Some(&one.if_in), &one.if_out)?;
        }
        for one in ext_mnt {
            self.pair(c"criu_local_add_ext_mount", Some(&one.key), &one.val)?;
        }
        for one in cg_root {
            self.pair(c"criu_local_add_cg_root", one.ctrl.as_deref(), &one.path)?;
        }
        for one in join_ns {
            self.join_ns(&one.ns, &one.ns_file, one.extra_opt.as_deref())?;
        }
        Ok(())
    }
}

fn c_text(text: &[u8]) -> Result<CString, Refusal> {
    let bad = |_| format!("{:?} has a NUL byte", OsStr::from_bytes(text));
    CString::new(text).map_err(bad)
}

fn taken(name: &CStr, failed: c_int) -> Result<(), Refusal> {
    match failed {
        0 => Ok(()),
        status => Err(format!("libcriu's {} fails: {status}", name.to_string_lossy())),
    }
}

/// Where libcriu's callback, which has no word for whom it is called, finds the operation of its thread.
struct Bridge {
    socket: OwnedFd,
    /// Actions are somebody's, and not only a look at whether to go on.
    forward: bool,
    notify_pid: unsafe extern "C" fn(*mut c_void) -> c_int,
    orphan_pts_master: unsafe extern "C" fn() -> c_int,
    /// What was answered and libcriu cannot pass on.
    refusal: Option<Refusal>,
}

thread_local! {
    static BRIDGE: RefCell<Option<Bridge>> = const { RefCell::new(None) };
}

impl Bridge {
    fn new(library: &Library, socket: BorrowedFd<'_>, forward: bool) -> Result<Self, Refusal> {
        let pid = library.symbol(c"criu_notify_pid")?;
        let master = library.symbol(c"criu_get_orphan_pts_master_fd")?;
        Ok(Self {
            socket: socket.try_clone_to_owned().map_err(|error| error.to_string())?,
            forward,
            // SAFETY: this is how criu.h declares it; its argument is a pointer.
            notify_pid: unsafe {
                transmute::<*const c_void, unsafe extern "C" fn(*mut c_void) -> c_int>(pid)
            },
            // SAFETY: this is how criu.h declares it.
            orphan_pts_master: unsafe {
                transmute::<*const c_void, unsafe extern "C" fn() -> c_int>(master)
            },
            refusal: None,
        })
    }

    /// Whether CRIU may go on.
    fn ask(&mut self, action: &CStr, argument: *mut c_void) -> bool {
        if !self.forward {
            // An operation that is to stop has hung up.
            return !matches!(
                seqpacket::receive(&self.socket, super::MAX_PACKET),
                Ok(Received::Closed)
            );
        }
        // SAFETY: the argument is what libcriu has just called back with.
        let pid = unsafe { (self.notify_pid)(argument) };
        let script = action.to_bytes();
        let notify = CriuNotify { script: Some(script.into()), pid: Some(pid).filter(|p| *p > 0) };
        let notice = CriuResp {
            r#type: CriuReqType::Notify.into(),
            success: true,
            notify: Some(notify),
            ..Default::default()
        };
        let mut master = None;
        if script == b"orphan-pts-master" {
            // SAFETY: without conditions; it says which descriptor came last.
            let number = unsafe { (self.orphan_pts_master)() };
            if number >= 0 {
                // SAFETY: libcriu has received it for whoever is called back, and never uses or closes it.
                master = Some(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) });
            }
        }
        let fds: Vec<BorrowedFd<'_>> = master.iter().map(AsFd::as_fd).collect();
        if seqpacket::send_with(&self.socket, &notice.encode_to_vec(), &fds).is_err() {
            return false;
        }
        let answer = hear(self.socket.as_fd());
        let Some(answer) = answer.and_then(|bytes| CriuReq::decode(bytes.as_slice()).ok()) else {
            return false;
        };
        if answer.opts.as_ref().is_some_and(|opts| !opts.external.is_empty()) {
            let what = "libcriu cannot carry what the query-ext-files hook names";
            self.refusal = Some(what.to_owned());
            return false;
        }
        answer.notify_success()
    }
}

/// What libcriu calls at each action. A panic does not get into its frames.
extern "C" fn notified(action: *mut c_char, argument: *mut c_void) -> c_int {
    let go_on = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: libcriu calls back with a string that it keeps until this returns.
        let action = unsafe { CStr::from_ptr(action) };
        BRIDGE.with_borrow_mut(|bridge| {
            bridge.as_mut().is_some_and(|bridge| bridge.ask(action, argument))
        })
    }));
    if go_on.unwrap_or(false) { 0 } else { -1 }
}

/// What there has to be in any libcriu.
const NEEDED: &[&CStr] = &[
    c"criu_local_init_opts",
    c"criu_local_free_opts",
    c"criu_local_set_service_binary",
    c"criu_local_set_images_dir_fd",
    c"criu_local_set_notify_cb",
    c"criu_notify_pid",
    c"criu_get_orphan_pts_master_fd",
    c"criu_local_dump",
    c"criu_local_restore",
];
