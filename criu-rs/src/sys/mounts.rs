//! Mounts that are held by descriptors, and attached where other descriptors are. No path is looked
//! up, so nobody can have another place used.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null;

use libc::{c_long, c_uint, syscall};
use nix::errno::Errno;

/// Makes a small file system in memory that is mounted nowhere yet (`fsopen(2)`, `fsmount(2)`), and
/// returns its root directory. Mounted, the file system has no devices, programs or setuid bits.
pub(crate) fn new_tmpfs(size: &CStr, mode: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends with a zero byte.
    let context = unsafe { syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), CLOEXEC) };
    let context = owned(context)?;
    for (key, value) in [(c"size", size), (c"mode", mode)] {
        let (context, key, value) = (context.as_raw_fd(), key.as_ptr(), value.as_ptr());
        // SAFETY: key and value are strings that end with a zero byte.
        let set = unsafe { syscall(libc::SYS_fsconfig, context, SET_STRING, key, value, 0) };
        Errno::result(set)?;
    }
    let (fd, none) = (context.as_raw_fd(), null::<u8>());
    // SAFETY: the command takes no key and no value.
    Errno::result(unsafe { syscall(libc::SYS_fsconfig, fd, CREATE, none, none, 0) })?;
    // SAFETY: the call takes no pointers.
    owned(unsafe { syscall(libc::SYS_fsmount, fd, CLOEXEC, NO_SUID | NO_DEVICES | NO_PROGRAMS) })
}

/// Makes a mount of a file or directory, attached nowhere (`open_tree(2)`). The file is in a mount
/// of this thread's mount namespace.
pub(crate) fn clone(of: impl AsFd) -> io::Result<OwnedFd> {
    let flags = CLONE | libc::AT_EMPTY_PATH.unsigned_abs() | libc::O_CLOEXEC.unsigned_abs();
    // SAFETY: the path is a string that ends with a zero byte.
    owned(unsafe { syscall(libc::SYS_open_tree, of.as_fd().as_raw_fd(), c"".as_ptr(), flags) })
}

/// Covers an open file or directory with a mount that is attached nowhere (`move_mount(2)`).
pub(crate) fn attach(mount: impl AsFd, at: impl AsFd) -> io::Result<()> {
    let (mount, at) = (mount.as_fd().as_raw_fd(), at.as_fd().as_raw_fd());
    let empty = c"".as_ptr();
    // SAFETY: the paths are strings that end with a zero byte.
    let moved = unsafe { syscall(libc::SYS_move_mount, mount, empty, at, empty, BOTH_EMPTY) };
    Ok(Errno::result(moved).map(drop)?)
}

fn owned(result: c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to the caller, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `FSOPEN_CLOEXEC` and `FSMOUNT_CLOEXEC`.
const CLOEXEC: c_uint = 1;
/// `FSCONFIG_SET_STRING`.
const SET_STRING: c_uint = 1;
/// `FSCONFIG_CMD_CREATE`.
const CREATE: c_uint = 6;
/// `MOUNT_ATTR_NOSUID`.
const NO_SUID: c_uint = 2;
/// `MOUNT_ATTR_NODEV`.
const NO_DEVICES: c_uint = 4;
/// `MOUNT_ATTR_NOEXEC`.
const NO_PROGRAMS: c_uint = 8;
/// `OPEN_TREE_CLONE`.
const CLONE: c_uint = 1;
/// `MOVE_MOUNT_F_EMPTY_PATH` and `MOVE_MOUNT_T_EMPTY_PATH`.
const BOTH_EMPTY: c_uint = 0x4 | 0x40;
