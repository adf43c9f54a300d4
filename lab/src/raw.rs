//! Descriptors that come over a socket, and signals that interrupt system calls.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Receives one descriptor with the bytes that come with it.
pub fn receive_fd(socket: &UnixStream) -> OwnedFd {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut bytes = [0; 4096];
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let mut messages = message.cmsgs().unwrap();
    match messages.next() {
        Some(ControlMessageOwned::ScmRights(fds)) if fds.len() == 1 => {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            unsafe { OwnedFd::from_raw_fd(fds[0]) }
        }
        other => panic!("no descriptor came: {other:?}"),
    }
}

/// Sends this process a signal every `time` from now on. It comes to any thread, and ends the
/// system call that this thread is in with `EINTR`.
pub fn interrupt_every(time: Duration) {
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is safe at any moment.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let own = nix::unistd::getpid();
    std::thread::spawn(move || {
        // Others of the process are there to take it.
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGUSR1);
        mask.thread_block().unwrap();
        loop {
            std::thread::sleep(time);
            let _ = nix::sys::signal::kill(own, Signal::SIGUSR1);
        }
    });
}

extern "C" fn nothing(_: nix::libc::c_int) {}

/// Starts a child as vfork(2) does, and waits as its parent until the child has slept for `time`.
/// Until then this thread is in the kernel, where no debugger can stop it.
pub fn vfork_for(time: Duration) {
    extern "C" fn child(time: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the argument is the time of the parent, which waits while this function runs.
        let time = unsafe { *time.cast::<libc::timespec>() };
        // SAFETY: the system call reads a value of this function.
        unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
        0
    }
    let mut stack = vec![0u128; 4096];
    let mut time = libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap(),
        tv_nsec: time.subsec_nanos().into(),
    };
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own and touches nothing else of this process, which
    // waits until the child is gone, so that the stack and the time outlive it.
    let pid = unsafe { libc::clone(child, top.cast(), flags, (&raw mut time).cast()) };
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
}

/// Gives the calling thread another user and group, without supplementary groups. Other threads of
/// the process stay what they are, which the C library does not offer.
///
/// # Errors
/// The errors of the system calls; `EPERM` without root.
pub fn thread_becomes(user: u32) -> std::io::Result<()> {
    let done = |answer: libc::c_long| match answer {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: the list of groups has no entry, so that no memory is read.
    done(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) })?;
    // SAFETY: the call takes numbers alone.
    done(unsafe { libc::syscall(libc::SYS_setresgid, user, user, user) })?;
    // SAFETY: the call takes numbers alone.
    done(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) })
}
