//! Descriptors that come over a socket, and signals that interrupt system calls.

#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
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

/// Starts a program as a child with a process id of the caller's choice. Its three standard streams
/// are `/dev/null`.
///
/// The ids of other processes are not touched, as they would be by `ns_last_pid`: whoever forked
/// next would get an id that a test wants to restore.
///
/// # Errors
/// The errors of `clone3(2)`: `EEXIST` if the id is in use.
pub fn spawn_as(pid: i32, command: &Command) -> std::io::Result<()> {
    let text = |text: &OsStr| CString::new(text.as_encoded_bytes()).unwrap();
    let words: Vec<CString> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect();
    let mut pointers: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let directory = command.get_current_dir().map(|path| text(path.as_os_str()));
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let ids = [pid];
    let arguments = libc::clone_args {
        exit_signal: u32::try_from(libc::SIGCHLD).unwrap().into(),
        set_tid: ids.as_ptr().addr() as u64,
        set_tid_size: 1,
        // SAFETY: all fields are numbers, for which zero is a value.
        ..unsafe { std::mem::zeroed() }
    };
    let size = size_of::<libc::clone_args>();
    // SAFETY: the structure and the array of one id outlive the call. The child has a copy of the
    // memory, as after fork(2), and calls only what is safe there.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) } {
        0 => {}
        -1 => return Err(std::io::Error::last_os_error()),
        _ => return Ok(()),
    }
    for stream in 0..3 {
        // SAFETY: dup2 is async-signal-safe, and takes two numbers.
        unsafe { libc::dup2(null.as_raw_fd(), stream) };
    }
    if let Some(directory) = &directory {
        // SAFETY: chdir is async-signal-safe, and reads a string that lives.
        unsafe { libc::chdir(directory.as_ptr()) };
    }
    // SAFETY: execvp reads strings that live and end with zero, and a list that ends with null.
    unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
    // SAFETY: _exit is async-signal-safe.
    unsafe { libc::_exit(127) }
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

/// Lets the calling thread run before all others, if it may.
pub fn run_first() {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads a structure that lives.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
}

/// Makes a context for asynchronous I/O (`io_setup(2)`), which stays as long as this process.
///
/// # Errors
/// The errors of the system call.
pub fn aio_context() -> std::io::Result<()> {
    let mut context: libc::c_ulong = 0;
    // SAFETY: the kernel writes one number, to a value that outlives the call.
    match unsafe { libc::syscall(libc::SYS_io_setup, 8, &raw mut context) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Makes an io_uring (`io_uring_setup(2)`).
///
/// # Errors
/// The errors of the system call: many machines and containers forbid it.
pub fn io_uring() -> std::io::Result<OwnedFd> {
    // `struct io_uring_params`.
    let mut parameters = [0u64; 15];
    // SAFETY: the kernel reads and writes 120 bytes, of a value that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
    }
}
