//! System calls that no library here has: Landlock, seccomp, and access with the rights in force.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

/// `struct landlock_ruleset_attr`: what a rule set decides about. All else stays allowed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Handled {
    pub(super) files: u64,
    pub(super) net: u64,
    pub(super) scoped: u64,
}

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: RawFd,
}

/// Returns the version of Landlock in the kernel.
///
/// # Errors
/// `ENOSYS` on a kernel without Landlock, `EOPNOTSUPP` if it is switched off.
pub(super) fn landlock_version() -> io::Result<i32> {
    const VERSION: u32 = 1;
    let (none, size) = (std::ptr::null::<Handled>(), 0_usize);
    // SAFETY: with this flag the kernel takes no memory.
    let answer = unsafe { libc::syscall(CREATE_RULESET, none, size, VERSION) };
    i32::try_from(number(answer)?).map_err(io::Error::other)
}

/// Makes a set of rules.
pub(super) fn new_ruleset(handled: Handled) -> io::Result<OwnedFd> {
    let size = size_of::<Handled>();
    // SAFETY: the kernel reads as many bytes of a value that outlives the call.
    let answer = unsafe { libc::syscall(CREATE_RULESET, &raw const handled, size, 0_u32) };
    let fd = RawFd::try_from(number(answer)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, with CLOEXEC, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Allows access below a directory.
pub(super) fn add_rule(
    ruleset: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    allowed: u64,
) -> io::Result<()> {
    const PATH_BENEATH: u32 = 1;
    let rule = Beneath { allowed, parent: directory.as_raw_fd() };
    // SAFETY: the kernel reads a value that outlives the call.
    let answer = unsafe {
        libc::syscall(ADD_RULE, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0_u32)
    };
    number(answer).map(drop)
}

/// Puts a set of rules in force for this thread and its future children.
pub(super) fn restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no memory.
    let answer = unsafe { libc::syscall(RESTRICT_SELF, ruleset.as_raw_fd(), 0_u32) };
    number(answer).map(drop)
}

/// Installs a seccomp filter for this thread and its future children.
pub(super) fn set_filter(code: &mut [libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(code.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, 0_u32);
    // SAFETY: `program` points to as many instructions as it says, which outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    number(answer).map(drop)
}

/// Tells if the effective user and capabilities allow access: `R_OK`, `W_OK` and `X_OK`.
pub(super) fn may(path: &Path, mode: libc::c_int) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let (at, flags) = (libc::AT_FDCWD, libc::AT_EACCESS);
    // SAFETY: the path is a string with an end, which outlives the call.
    unsafe { libc::syscall(libc::SYS_faccessat2, at, path.as_ptr(), mode, flags) == 0 }
}

/// An argument of a system call.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    Number(i32),
    /// Memory that the kernel reads.
    Bytes(&'a [u8]),
}

/// Makes any system call, with arguments that the kernel writes nothing into.
#[cfg(test)]
pub(super) fn call(number: libc::c_long, arguments: [Argument<'_>; 6]) -> nix::Result<i64> {
    let [a, b, c, d, e, f] = arguments.map(|argument| match argument {
        Argument::Number(number) => number as libc::c_long,
        Argument::Bytes(bytes) => bytes.as_ptr() as libc::c_long,
    });
    // SAFETY: addresses are those of bytes that outlive the call. A number is no address of this
    // process, so that the kernel finds no memory there.
    nix::errno::Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

fn number(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

const CREATE_RULESET: libc::c_long = libc::SYS_landlock_create_ruleset;
const ADD_RULE: libc::c_long = libc::SYS_landlock_add_rule;
const RESTRICT_SELF: libc::c_long = libc::SYS_landlock_restrict_self;
