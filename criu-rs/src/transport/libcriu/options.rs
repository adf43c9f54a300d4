//! An object of libcriu that holds the options of an operation.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::mem::transmute;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use super::bridge::notified;
use super::library::Library;
use super::refusal::Refusal;
use crate::rpc::CriuOpts;

/// An object of libcriu that holds the options of an operation.
pub(super) struct Options<'l> {
    library: &'l Library,
    opts: *mut c_void,
}

impl<'l> Options<'l> {
    pub(super) fn new(library: &'l Library) -> Result<Self, Refusal> {
        type Init = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
        let init = library.symbol(c"criu_local_init_opts")?;
        // SAFETY: this is how criu.h declares it.
        let init = unsafe { transmute::<*const c_void, Init>(init) };
        let mut opts = ptr::null_mut();
        // SAFETY: the function writes a pointer to the place of this one.
        let failed = unsafe { init(&mut opts) };
        if failed != 0 || opts.is_null() {
            return Err("libcriu has no memory for options".to_owned());
        }
        Ok(Self { library, opts })
    }
}

impl Drop for Options<'_> {
    fn drop(&mut self) {
        type Free = unsafe extern "C" fn(*mut c_void);
        if let Ok(free) = self.library.symbol(c"criu_local_free_opts") {
            // SAFETY: this is how criu.h declares it.
            let free = unsafe { transmute::<*const c_void, Free>(free) };
            // SAFETY: criu_local_init_opts made the object, and nobody uses it after this.
            unsafe { free(self.opts) }
        }
    }
}

impl Options<'_> {
    fn flag(&self, name: &CStr, on: Option<bool>) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, bool);
        let Some(on) = on else { return Ok(()) };
        let set = self.library.symbol(name)?;
        // SAFETY: the functions passed here take options and a bool in criu.h, and return nothing.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive.
        unsafe { set(self.opts, on) };
        Ok(())
    }

    fn signed(&self, name: &CStr, value: Option<i32>) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, c_int);
        let Some(value) = value else { return Ok(()) };
        let set = self.library.symbol(name)?;
        // SAFETY: the functions passed here take options and an int, or an enum, in criu.h, and
        // return nothing.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive.
        unsafe { set(self.opts, value) };
        Ok(())
    }

    fn unsigned(&self, name: &CStr, value: Option<u32>) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, c_uint);
        let Some(value) = value else { return Ok(()) };
        let set = self.library.symbol(name)?;
        // SAFETY: the functions passed here take options and an int of either sign in criu.h, and
        // return nothing.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive.
        unsafe { set(self.opts, value) };
        Ok(())
    }

    /// Passes a number that libcriu checks.
    fn checked(&self, name: &CStr, value: Option<u32>) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, c_uint) -> c_int;
        let Some(value) = value else { return Ok(()) };
        let set = self.library.symbol(name)?;
        // SAFETY: the functions passed here take options and an unsigned int, or an enum, in
        // criu.h, and return an int.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive.
        let failed = unsafe { set(self.opts, value) };
        taken(name, failed)
    }

    pub(super) fn text(&self, name: &CStr, text: &[u8]) -> Result<(), Refusal> {
        type Set = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
        let text = c_text(text)?;
        let set = self.library.symbol(name)?;
        // SAFETY: the functions passed here take options and a string in criu.h, and return an int.
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

    /// Passes two strings, of which the first may be absent.
    fn pair(&self, name: &CStr, one: Option<&[u8]>, other: &[u8]) -> Result<(), Refusal> {
        type Add = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> c_int;
        let (one, other) = (one.map(c_text).transpose()?, c_text(other)?);
        let add = self.library.symbol(name)?;
        // SAFETY: the functions passed here take options and two strings in criu.h, and return an
        // int.
        let add = unsafe { transmute::<*const c_void, Add>(add) };
        let one = one.as_ref().map_or(ptr::null(), |one| one.as_ptr());
        // SAFETY: the options are alive, and the strings, which libcriu copies, end with a NUL; the
        // first may be null for criu_local_add_cg_root, the only function called without it.
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
        // SAFETY: the options are alive, and the strings, which libcriu copies, end with a NUL; the
        // last may be null.
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
        // SAFETY: the options are alive, and `count` is the number of strings, which libcriu copies
        // and does not change.
        let failed = unsafe { set(self.opts, count, pointers.as_mut_ptr()) };
        taken(name, failed)
    }

    /// Has libcriu call [`notified`] at each action.
    pub(super) fn listen(&self) -> Result<(), Refusal> {
        type Callback = extern "C" fn(*mut c_char, *mut c_void) -> c_int;
        type Set = unsafe extern "C" fn(*mut c_void, Callback);
        let set = self.library.symbol(c"criu_local_set_notify_cb")?;
        // SAFETY: this is how criu.h declares it; the argument of the callback is a pointer.
        let set = unsafe { transmute::<*const c_void, Set>(set) };
        // SAFETY: the options are alive, and the callback exists for ever.
        unsafe { set(self.opts, notified) };
        Ok(())
    }

    /// Calls a function that takes options alone.
    pub(super) fn run(&self, name: &CStr) -> Result<c_int, Refusal> {
        type Run = unsafe extern "C" fn(*mut c_void) -> c_int;
        let run = self.library.symbol(name)?;
        // SAFETY: the functions passed here take options in criu.h, and return an int.
        let run = unsafe { transmute::<*const c_void, Run>(run) };
        nix::errno::Errno::clear();
        // SAFETY: the options are alive, and nobody else has them meanwhile.
        Ok(unsafe { run(self.opts) })
    }

    /// Sets all options of a message. The error names the option that cannot be set.
    pub(super) fn fill(&self, message: &CriuOpts) -> Result<(), Refusal> {
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
            // The callback covers this option.
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
            // The choice of the restore function covers this option.
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
        // A negative number is not one of their values.
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
    let bad = |_| format!("{:?} contains a NUL byte", OsStr::from_bytes(text));
    CString::new(text).map_err(bad)
}

fn taken(name: &CStr, failed: c_int) -> Result<(), Refusal> {
    match failed {
        0 => Ok(()),
        status => Err(format!("libcriu's {} fails: {status}", name.to_string_lossy())),
    }
}
