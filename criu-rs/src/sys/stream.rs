//! Bytes over stream sockets of this machine, with descriptors and senders.

#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt::PassCred,
};
use nix::unistd::Pid;

/// A part of what has come over a socket. All of it has one sender.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// The number of bytes, 0 at the end.
    pub(crate) bytes: usize,
    /// The descriptors, close-on-exec. They belong to the last byte.
    pub(crate) fds: Vec<OwnedFd>,
    /// The process that has sent the part, if this process sees it.
    pub(crate) sender: Option<Sender>,
}

/// The process that has sent a part.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The process id here.
    pub(crate) pid: Pid,
    /// A descriptor of the process. Linux 6.5.
    pub(crate) pidfd: Option<OwnedFd>,
}

/// Lets each part that comes tell its sender.
pub(crate) fn tell_senders(socket: impl AsFd) -> io::Result<()> {
    setsockopt(&socket, PassCred, &true)?;
    let on: libc::c_int = 1;
    let number = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads four bytes at `on`, which outlives the call; the descriptor is open
    // while `socket` is borrowed. A kernel before 6.5 refuses, and sends process ids alone.
    let _ = unsafe {
        let on: *const libc::c_int = &on;
        libc::setsockopt(number, libc::SOL_SOCKET, SO_PASSPIDFD, on.cast(), 4)
    };
    Ok(())
}

/// Receives what has come, at most the size of the buffer, never waiting. Returns `None` if nothing
/// has come yet.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Part>> {
    let socket = socket.as_fd().as_raw_fd();
    // Room for every descriptor that one message can carry: none is lost between kernel and table.
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS], UnixCredentials, RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut parts = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<()>(socket, &mut parts, Some(&mut control), flags) {
            Ok(message) => break message,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::ECONNRESET) => return Ok(Some(Part::default())),
            Err(error) => return Err(error.into()),
        }
    };
    let mut part = Part { bytes: message.bytes, ..Part::default() };
    let (mut pid, mut pidfd) = (None, None);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmRights(numbers) => {
                // SAFETY: recvmsg has just installed these descriptors in this process, each once;
                // nothing else has taken them.
                let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
                part.fds.extend(numbers.into_iter().map(own));
            }
            // A sender in another pid namespace has the number 0.
            ControlMessageOwned::ScmCredentials(sender) if sender.pid() > 0 => {
                pid = Some(Pid::from_raw(sender.pid()));
            }
            ControlMessageOwned::Unknown(other)
                if (other.cmsg_header.cmsg_level, other.cmsg_header.cmsg_type)
                    == (libc::SOL_SOCKET, SCM_PIDFD) =>
            {
                let number =
                    other.data_bytes.first_chunk().map(|bytes| RawFd::from_ne_bytes(*bytes));
                // The number is negative if the process has ended.
                if let Some(number) = number.filter(|number| *number >= 0) {
                    // SAFETY: the kernel has just installed this descriptor in this process;
                    // nobody else knows its number.
                    pidfd = Some(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            _ => {}
        }
    }
    part.sender = pid.map(|pid| Sender { pid, pidfd });
    Ok(Some(part))
}

/// The largest number of descriptors that one message can carry (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

/// The option that lets messages carry a descriptor of their sender. `include/uapi/asm-generic`.
const SO_PASSPIDFD: libc::c_int = 76;

/// The kind of a message's part with a descriptor of the sender.
const SCM_PIDFD: libc::c_int = 4;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::seqpacket;

    #[test]
    fn descriptors_come_with_their_byte_and_their_sender() {
        let (mut here, there) = UnixStream::pair().unwrap();
        tell_senders(&there).unwrap();
        let mut buffer = [0; 64];
        assert!(receive(&there, &mut buffer).unwrap().is_none());
        here.write_all(&7u32.to_ne_bytes()).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        seqpacket::send_with(&here, &[0], &[null.as_fd(), null.as_fd()]).unwrap();
        here.write_all(b"next").unwrap();
        let first = receive(&there, &mut buffer).unwrap().unwrap();
        assert_eq!((first.bytes, first.fds.len()), (5, 2));
        let sender = first.sender.unwrap();
        assert_eq!(sender.pid, Pid::this());
        if let Some(pidfd) = sender.pidfd {
            assert!(crate::sys::fd::is_there(&pidfd));
        }
        let second = receive(&there, &mut buffer).unwrap().unwrap();
        assert_eq!((second.bytes, second.fds.len()), (4, 0));
        drop(here);
        assert_eq!(receive(&there, &mut buffer).unwrap().unwrap().bytes, 0);
    }
}
