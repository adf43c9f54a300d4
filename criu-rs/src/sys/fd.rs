//! Descriptors of processes, and of descriptors known by number.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// `pidfd_open(2)`: returns a close-on-exec descriptor of a process. Linux 5.3.
pub(crate) fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the number of a pidfd's process in this process's namespace. `None` if the process is
/// gone or has no number there.
pub(crate) fn number_of(pidfd: impl AsFd) -> Option<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (number > 0).then_some(number)
}

/// `pidfd_send_signal(2)`: sends a signal to a process.
pub(crate) fn signal(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open while `pidfd` is borrowed, and a null siginfo is allowed: the
    // kernel then fills one as kill(2) does.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as i32, no_info, 0) };
    Errno::result(result)?;
    Ok(())
}

/// `pidfd_send_signal(2)` with no signal: says whether a process is there, if only as a zombie.
pub(crate) fn is_there(pidfd: impl AsFd) -> bool {
    let fd = pidfd.as_fd().as_raw_fd();
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: as in `signal`; the number 0 sends nothing.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, no_info, 0) };
    // A process that may not be signalled is there.
    matches!(Errno::result(result), Ok(_) | Err(Errno::EPERM))
}

/// `pidfd_getfd(2)`: returns a close-on-exec copy of another process's descriptor. Linux 5.6.
pub(crate) fn copy_of(pid: Pid, number: RawFd) -> io::Result<OwnedFd> {
    let process = open(pid)?;
    let process = process.as_fd().as_raw_fd();
    // SAFETY: pidfd_getfd takes three integers and touches no memory of ours; the pidfd is open.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, 0) })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `SIOCGSKNS`: returns a close-on-exec descriptor of the network namespace of a socket. Needs
/// `CAP_NET_ADMIN` there.
pub(crate) fn network_of(socket: impl AsFd) -> io::Result<OwnedFd> {
    let number = socket.as_fd().as_raw_fd();
    // SAFETY: the request takes no argument and touches no memory of ours; the descriptor is open
    // while `socket` is borrowed.
    let fd = Errno::result(unsafe { libc::ioctl(number, SIOCGSKNS) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `UDP_CORK`: returns true if a UDP socket holds its datagram back.
pub(crate) fn is_corked(socket: impl AsFd) -> bool {
    let (mut value, mut length): (libc::c_int, libc::socklen_t) = (0, 4);
    let number = socket.as_fd().as_raw_fd();
    // SAFETY: both pointers are valid for the call, `length` is the size of `value`, and the
    // descriptor is open while `socket` is borrowed.
    let result = unsafe {
        let value: *mut libc::c_int = &mut value;
        libc::getsockopt(number, libc::IPPROTO_UDP, libc::UDP_CORK, value.cast(), &mut length)
    };
    result == 0 && value != 0
}

/// `kcmp(2)`: says whether two descriptors of processes are one open file. `None` if the kernel
/// does not tell: it was built without kcmp, or this process may not trace both.
pub(crate) fn are_one((a, of_a): (Pid, RawFd), (b, of_b): (Pid, RawFd)) -> Option<bool> {
    // SAFETY: kcmp takes five integers and touches no memory of ours.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            a.as_raw(),
            b.as_raw(),
            KCMP_FILE,
            i64::from(of_a),
            i64::from(of_b),
        )
    };
    Errno::result(order).ok().map(|order| order == 0)
}

/// `kcmp(KCMP_EPOLL_TFD)`: says whether a descriptor of a process is the file that an epoll of this
/// process watches: the `nth` file that was added under the number `added`. `None` if the kernel
/// does not tell.
pub(crate) fn is_watched(
    pid: Pid,
    number: RawFd,
    (epoll, added, nth): (RawFd, RawFd, u32),
) -> Option<bool> {
    let words = [u32::try_from(epoll).ok()?, u32::try_from(added).ok()?, nth];
    let (pid, number) = (pid.as_raw(), i64::from(number));
    // SAFETY: the kernel reads three words at the pointer, which is valid for the call, and writes
    // nothing.
    let order =
        unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_EPOLL, number, words.as_ptr()) };
    Errno::result(order).ok().map(|order| order == 0)
}

/// Returns the name of a descriptor's file in `/proc/PID/fd`: `pipe:[4711]`.
pub(crate) fn link(fd: impl AsFd) -> io::Result<OsString> {
    Ok(std::fs::read_link(super::proc_link(fd.as_fd()))?.into_os_string())
}

/// Returns a close-on-exec duplicate of the descriptor with this number, numbered `least` or above.
pub(crate) fn duplicate(number: RawFd, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes two integers; a number that is not open yields EBADF.
    // Duplicating neither closes nor changes the original, so its owner is not disturbed.
    let fd = Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the kernel's name for the protocol of a socket, given by its link in /proc: `TCP`,
/// `UNIX-STREAM`, `PACKET`. `None` if the kernel does not tell, or the socket is gone.
pub(crate) fn socket_protocol(link: &Path) -> Option<String> {
    let mut name = [0u8; 64];
    let length = attribute(link, c"system.sockprotoname", &mut name)?;
    let name = name.get(..length)?;
    let name = name.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Returns `true` if a file has an access control list beside its mode.
pub(crate) fn has_access_list(path: &Path) -> bool {
    attribute(path, c"system.posix_acl_access", &mut []).is_some()
}

/// Reads an extended attribute of a file, and returns the length of the value. An empty buffer
/// asks for the length only. `None` if the file has no such attribute.
fn attribute(path: &Path, name: &CStr, value: &mut [u8]) -> Option<usize> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: both strings end with a NUL and outlive the call, and the buffer has the given
    // length.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    usize::try_from(length).ok()
}

/// The request for a socket's network namespace.
const SIOCGSKNS: libc::Ioctl = 0x894c;

/// `KCMP_FILE`: compares open files.
const KCMP_FILE: i32 = 0;

/// `KCMP_EPOLL_TFD`: compares a file with one that an epoll watches.
const KCMP_EPOLL: i32 = 7;
