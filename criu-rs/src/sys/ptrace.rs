//! A thread held for a moment, to read state that only a tracer may read.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};
use std::{io, ptr};

use nix::errno::Errno;
use nix::unistd::Pid;

/// A thread that the calling thread traces. On drop, it continues as it was: with the signal that
/// it was about to take, or stopped if it was stopped. If it is running at that time, the kernel
/// lets it go when the tracing thread ends.
#[derive(Debug)]
pub(crate) struct Held {
    tid: Pid,
    /// The signal that the thread was about to take; 0 if there was none.
    signal: libc::c_int,
}

impl Held {
    /// Attaches to a thread, which runs on.
    pub(crate) fn seize(tid: Pid) -> io::Result<Self> {
        // SAFETY: PTRACE_SEIZE takes a thread id and options, both integers, and no memory of ours.
        request(unsafe { libc::syscall(libc::SYS_ptrace, SEIZE, tid.as_raw(), 0, 0) })?;
        Ok(Self { tid, signal: 0 })
    }

    /// Stops the thread, and waits until it has stopped. The error is `TimedOut` if it has not
    /// stopped by `until`; a thread that has ended is an error too.
    pub(crate) fn stop(&mut self, until: Instant) -> io::Result<()> {
        // SAFETY: PTRACE_INTERRUPT takes a thread id, and no memory of ours.
        request(unsafe { libc::syscall(libc::SYS_ptrace, INTERRUPT, self.tid.as_raw(), 0, 0) })?;
        loop {
            if let Some(status) = self.has_stopped()? {
                // This is not the requested trap: a signal came first, and belongs to the thread.
                if status >> 8 != EVENT_STOP {
                    self.signal = status & 0x7f;
                }
                return Ok(());
            }
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns the thread's stop status, if it has stopped. A thread that has ended instead is not
    /// reaped.
    fn has_stopped(&self) -> io::Result<Option<libc::c_int>> {
        let id = libc::id_t::try_from(self.tid.as_raw()).map_err(io::Error::other)?;
        let options = libc::WSTOPPED | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
        // Zeroed: the kernel does not touch it if nothing has happened.
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` has room for what the kernel writes.
        let result = unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), options) };
        Errno::result(result)?;
        // SAFETY: all zeroes are a siginfo_t, and so is what the kernel has written over them.
        let info = unsafe { info.assume_init() };
        // SAFETY: waitid(2) fills these fields, or has left them zero.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        Ok((pid != 0).then_some(status))
    }

    /// Returns the instructions of one of the thread's seccomp filters, by the order of their
    /// installation; `None` past the last filter.
    pub(crate) fn seccomp_filter(&self, index: u64) -> io::Result<Option<Vec<u8>>> {
        let nowhere = ptr::null_mut::<libc::sock_filter>();
        let Some(count) = self.get_filter(index, nowhere)? else { return Ok(None) };
        let count = usize::try_from(count).map_err(io::Error::other)?;
        let empty = libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 };
        let mut code = vec![empty; count];
        // A filter does not change while its thread is stopped.
        if self.get_filter(index, code.as_mut_ptr())?.is_none() {
            return Ok(None);
        }
        let bytes = |i: &libc::sock_filter| {
            let [c0, c1] = i.code.to_ne_bytes();
            let [k0, k1, k2, k3] = i.k.to_ne_bytes();
            [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
        };
        Ok(Some(code.iter().flat_map(bytes).collect()))
    }

    /// Returns the number of instructions of a filter, and writes them to `place` unless that is
    /// null.
    fn get_filter(
        &self,
        index: u64,
        place: *mut libc::sock_filter,
    ) -> io::Result<Option<libc::c_long>> {
        // SAFETY: the kernel writes nothing to a null pointer. Otherwise the caller has asked for
        // the number of instructions before and has room for as many, and filters do not change.
        let result =
            unsafe { libc::syscall(libc::SYS_ptrace, GET_FILTER, self.tid.as_raw(), index, place) };
        match Errno::result(result) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns a filter's flags, as far as the kernel keeps them: `SECCOMP_FILTER_FLAG_LOG`. `None`
    /// if the kernel does not tell, before Linux 4.16.
    pub(crate) fn seccomp_flags(&self, index: u64) -> Option<u64> {
        // The kernel's `struct seccomp_metadata`.
        let mut metadata = [index, 0];
        let size = size_of_val(&metadata);
        let place = metadata.as_mut_ptr();
        // SAFETY: `place` points to `size` bytes of ours that may be written.
        let result = unsafe {
            libc::syscall(libc::SYS_ptrace, GET_METADATA, self.tid.as_raw(), size, place)
        };
        let written = usize::try_from(result).ok()?;
        (written == size).then_some(metadata[1])
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let signal = self.signal;
        // SAFETY: PTRACE_DETACH takes a thread id and the number of a signal, and no memory of
        // ours.
        unsafe { libc::syscall(libc::SYS_ptrace, DETACH, self.tid.as_raw(), 0, signal) };
    }
}

fn request(result: libc::c_long) -> io::Result<()> {
    Errno::result(result)?;
    Ok(())
}

const SEIZE: libc::c_long = 0x4206;
const INTERRUPT: libc::c_long = 0x4207;
const DETACH: libc::c_long = 17;
const GET_FILTER: libc::c_long = 0x420c;
const GET_METADATA: libc::c_long = 0x420d;

/// `PTRACE_EVENT_STOP`, in a thread's status.
const EVENT_STOP: libc::c_int = 128;

/// The time between two looks: a thread stops within some ten microseconds.
const PAUSE: Duration = Duration::from_micros(20);
