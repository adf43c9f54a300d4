//! The messages that a guard receives.

use crate::sys::raw;

/// Receives a message with its descriptors. Returns its size, 0 at the end, or the negated errno.
pub(super) fn receive<const N: usize>(
    socket: i32,
    words: &mut [u64; N],
    fds: &mut [i32; 2],
) -> raw::Result {
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(words) };
    // SAFETY: a header of zeros names nothing.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = raw::number(libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
    let args = [raw::number(socket), (&raw mut header).addr() as u64, flags, 0, 0, 0];
    // SAFETY: the kernel writes into the words and the control buffer, which outlive the call.
    let size = unsafe { raw::call(libc::SYS_recvmsg, args) };
    if size <= 0 {
        return size;
    }
    // SAFETY: the header is the one that the kernel has filled, and the buffer is aligned for it.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if !first.is_null() {
        // SAFETY: the kernel has written a whole header there.
        let head = unsafe { first.read_unaligned() };
        // SAFETY: the function only computes an address behind the header.
        let data = unsafe { libc::CMSG_DATA(first) }.cast::<i32>();
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: the function only computes a length.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (head.cmsg_len as usize).saturating_sub(empty) / size_of::<i32>();
            for (at, fd) in fds.iter_mut().enumerate().take(count) {
                // SAFETY: so many descriptors were written there.
                *fd = unsafe { data.wrapping_add(at).read_unaligned() };
            }
        }
    }
    size
}
