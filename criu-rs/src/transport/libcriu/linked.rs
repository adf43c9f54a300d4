//! The functions of the libcriu that this program is linked with.

use std::ffi::{CStr, c_void};

/// Returns a function by its name, if libcriu 4.1 has it. A newer function would keep the program
/// from being linked with an older library.
pub(super) fn find(name: &CStr) -> Option<*const c_void> {
    macro_rules! functions {
        ($($function:ident)*) => {
            match name.to_str().ok()? {
                $(stringify!($function) => criu_sys::$function as *const c_void,)*
                _ => return None,
            }
        };
    }
    Some(functions! {
        criu_get_orphan_pts_master_fd
        criu_local_add_cg_dump_controller
        criu_local_add_cg_props
        criu_local_add_cg_props_file
        criu_local_add_cg_root
        criu_local_add_cg_yard
        criu_local_add_enable_fs
        criu_local_add_ext_mount
        criu_local_add_external
        criu_local_add_irmap_path
        criu_local_add_skip_mnt
        criu_local_add_unix_sk
        criu_local_add_veth_pair
        criu_local_dump
        criu_local_free_opts
        criu_local_init_opts
        criu_local_join_ns_add
        criu_local_pre_dump
        criu_local_restore
        criu_local_restore_child
        criu_local_set_auto_dedup
        criu_local_set_auto_ext_mnt
        criu_local_set_cpu_cap
        criu_local_set_empty_ns
        criu_local_set_evasive_devices
        criu_local_set_exec_cmd
        criu_local_set_ext_masters
        criu_local_set_ext_sharing
        criu_local_set_ext_unix_sk
        criu_local_set_file_locks
        criu_local_set_force_irmap
        criu_local_set_freeze_cgroup
        criu_local_set_ghost_limit
        criu_local_set_images_dir_fd
        criu_local_set_leave_running
        criu_local_set_link_remap
        criu_local_set_log_file
        criu_local_set_log_level
        criu_local_set_lsm_mount_context
        criu_local_set_lsm_profile
        criu_local_set_manage_cgroups
        criu_local_set_manage_cgroups_mode
        criu_local_set_mntns_compat_mode
        criu_local_set_network_lock
        criu_local_set_notify_cb
        criu_local_set_orphan_pts_master
        criu_local_set_page_server_address_port
        criu_local_set_parent_images
        criu_local_set_pid
        criu_local_set_pidfd_store_sk
        criu_local_set_pre_dump_mode
        criu_local_set_root
        criu_local_set_service_binary
        criu_local_set_shell_job
        criu_local_set_skip_file_rwx_check
        criu_local_set_tcp_close
        criu_local_set_tcp_established
        criu_local_set_tcp_skip_in_flight
        criu_local_set_track_mem
        criu_local_set_weak_sysctls
        criu_local_set_work_dir_fd
        criu_notify_pid
    })
}
