//! A seccomp filter: system calls that a server never makes fail with `EPERM`.
//!
//! The list names what is refused. A list of what is allowed would break with a new C library.

use std::io;

use nix::libc;
use nix::libc::c_long;

use super::raw;

/// The connections that a confined program makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connects {
    /// No connection: it has its sockets, and gets more by accept.
    Never,
    /// Connections to unix sockets.
    ToUnix,
}

/// Installs the filter for this thread and its future children.
///
/// # Errors
/// `Unsupported` on an architecture whose numbers of system calls are not known here, and the
/// errors of `seccomp(2)`.
pub(super) fn install(connects: Connects) -> io::Result<()> {
    let Some(arch) = ARCH else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not for this architecture"));
    };
    raw::set_filter(&mut program(arch, std::process::id(), connects)?)
}

fn program(arch: u32, own: u32, connects: Connects) -> io::Result<Vec<libc::sock_filter>> {
    let number = |call: c_long| u32::try_from(call).map_err(io::Error::other);
    let mut code = vec![
        load(ARCH_AT),
        // Numbers of another architecture mean other calls.
        jump(EQUAL, arch, 1, 0),
        answer(libc::EPERM),
        load(NUMBER_AT),
        // Numbers of x32 have this bit, and mean other calls too.
        jump(AT_LEAST, X32, 0, 1),
        answer(libc::EPERM),
    ];
    let refused = match connects {
        Connects::Never => [REFUSED, CONNECTING].concat(),
        Connects::ToUnix => REFUSED.to_vec(),
    };
    for call in refused {
        code.extend([jump(EQUAL, number(call)?, 0, 1), answer(libc::EPERM)]);
    }
    // The arguments of these are in memory, which a filter does not see. The C library then calls
    // clone and openat.
    for call in [libc::SYS_clone3, libc::SYS_openat2] {
        code.extend([jump(EQUAL, number(call)?, 0, 1), answer(libc::ENOSYS)]);
    }
    for &(call, mode_at) in MODES {
        code.extend([
            jump(EQUAL, number(call)?, 0, 4),
            load(mode_at),
            jump(ANY_BIT, SET_ID, 0, 1),
            answer(libc::EPERM),
            answer_allowed(),
        ]);
    }
    // abort(3) signals its own process.
    code.extend(only(number(libc::SYS_tgkill)?, own));
    // The C library asks for limits of its own process.
    code.extend(only(number(libc::SYS_prlimit64)?, 0));
    // Without effect where the call is refused.
    code.extend(only(number(libc::SYS_socket)?, AF_UNIX));
    code.extend(without(number(libc::SYS_ioctl)?, REFUSED_IOCTLS));
    code.extend(without(number(libc::SYS_fcntl)?, REFUSED_FCNTLS));
    code.extend([
        jump(EQUAL, number(libc::SYS_clone)?, 0, 3),
        load(FIRST_ARGUMENT_AT),
        jump(ANY_BIT, NEW_NAMESPACES, 0, 1),
        answer(libc::EPERM),
        answer_allowed(),
    ]);
    Ok(code)
}

/// Allows a call with one value of its first argument alone.
fn only(number: u32, value: u32) -> [libc::sock_filter; 5] {
    [
        jump(EQUAL, number, 0, 4),
        load(FIRST_ARGUMENT_AT),
        jump(EQUAL, value, 0, 1),
        answer_allowed(),
        answer(libc::EPERM),
    ]
}

/// Allows a call without some values of its second argument.
fn without(number: u32, values: &[u32]) -> Vec<libc::sock_filter> {
    let refusals = values.iter().flat_map(|&v| [jump(EQUAL, v, 0, 1), answer(libc::EPERM)]);
    let mut code = vec![load(SECOND_ARGUMENT_AT)];
    code.extend(refusals.chain([answer_allowed()]));
    // Other calls go on behind these instructions.
    let behind = u8::try_from(code.len()).unwrap_or(u8::MAX);
    code.insert(0, jump(EQUAL, number, 0, behind));
    code
}

/// The calls that always fail.
pub(super) const REFUSED: &[c_long] = &[
    // Other programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_kcmp,
    PROCESS_MRELEASE,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Memory, messages and semaphores of others, which Landlock does not look at.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Sockets that others connect to: the server has its own.
    libc::SYS_bind,
    libc::SYS_listen,
    // A datagram socket of a pair sends to any socket that has a path.
    libc::SYS_socketpair,
    // Modes, owners, times and attributes, which Landlock does not look at. A root without
    // capabilities may change those of all files of root, and make a file set its user.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SETXATTRAT,
    REMOVEXATTRAT,
    FILE_SETATTR,
    libc::SYS_utimensat,
    // New files stay for their owner alone, or for those who were chosen at the start.
    libc::SYS_umask,
    // Landlock decides about it from its third version on.
    libc::SYS_truncate,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    // The machine, and wide doors into the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
];

/// The calls that make a connection to others.
pub(super) const CONNECTING: &[c_long] = &[libc::SYS_socket, libc::SYS_connect];

/// `AF_UNIX`.
const AF_UNIX: u32 = 1;

/// The calls that make files, with the places of the modes of the files.
const MODES: &[(c_long, u32)] = &[
    (libc::SYS_openat, FOURTH_ARGUMENT_AT),
    (libc::SYS_mknodat, THIRD_ARGUMENT_AT),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, THIRD_ARGUMENT_AT),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, SECOND_ARGUMENT_AT),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, SECOND_ARGUMENT_AT),
];

/// `S_ISUID` and `S_ISGID`: whoever runs the file becomes its owner or group.
const SET_ID: u32 = 0o6000;

/// The requests that reach beyond a descriptor, with all calls of `ioctl(2)`.
pub(super) const REFUSED_IOCTLS: &[u32] = &[
    // TIOCSTI and TIOCLINUX type into a terminal, TIOCSETD changes what drives it.
    0x5412, 0x541c, 0x5423,
    // FIOSETOWN and SIOCSPGRP choose the process that a socket signals.
    0x8901, 0x8902,
];

/// The commands of `fcntl(2)` that choose a process to signal, and the signal: `F_SETOWN`,
/// `F_SETSIG` and `F_SETOWN_EX`.
pub(super) const REFUSED_FCNTLS: &[u32] = &[8, 10, 15];

// Calls that the C library has no name for on all architectures. New calls have one number.
const PROCESS_MRELEASE: c_long = 448;
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;
const FILE_SETATTR: c_long = 469;

/// `AUDIT_ARCH_*` of this program.
const ARCH: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// `CLONE_NEW*` of all namespaces that clone(2) makes.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// `__X32_SYSCALL_BIT`.
const X32: u32 = 0x4000_0000;

// The places of `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
/// The low half of the first argument, on a machine that stores it first.
const FIRST_ARGUMENT_AT: u32 = 16;
const SECOND_ARGUMENT_AT: u32 = 24;
const THIRD_ARGUMENT_AT: u32 = 32;
const FOURTH_ARGUMENT_AT: u32 = 40;

// `BPF_JMP | ... | BPF_K`.
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;

/// `BPF_LD | BPF_W | BPF_ABS`.
fn load(at: u32) -> libc::sock_filter {
    libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: at }
}

fn jump(code: u16, value: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt: yes, jf: no, k: value }
}

/// `BPF_RET` with an error number.
fn answer(errno: i32) -> libc::sock_filter {
    let data = u32::try_from(errno).unwrap_or(1) & libc::SECCOMP_RET_DATA;
    libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | data }
}

fn answer_allowed() -> libc::sock_filter {
    libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }
}
