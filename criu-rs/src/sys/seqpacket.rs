//! Packets over `SOCK_SEQPACKET` sockets, with the descriptors that ride on them.

#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
    recvmsg, sendmsg, setsockopt, socketpair, sockopt,
};

/// A packet with its descriptors.
#[derive(Debug)]
pub(crate) struct Packet {
    /// The bytes of the packet.
    pub(crate) bytes: Vec<u8>,
    /// The descriptors that came with it, close-on-exec.
    pub(crate) fds: Vec<OwnedFd>,
}

/// The result of a look at a socket.
#[derive(Debug)]
pub(crate) enum Received {
    /// A packet.
    Packet(Packet),
    /// No packet has come yet.
    Nothing,
    /// The peer has closed its end.
    Closed,
    /// A packet of this size, left unread because it exceeds the limit.
    TooLarge(usize),
}

/// Returns a connected pair of sockets, both close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Sends one packet. The send buffer grows to hold it.
pub(crate) fn send(socket: impl AsFd, packet: &[u8]) -> io::Result<()> {
    send_with(socket, packet, &[])
}

/// Sends one packet with descriptors. The send buffer grows to hold it.
pub(crate) fn send_with(
    socket: impl AsFd,
    packet: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_as(socket, packet, fds, MsgFlags::empty())
}

/// Sends one packet with descriptors, without waiting: `EAGAIN` if the peer does not receive.
#[cfg(any(feature = "instant", feature = "lazy"))]
pub(crate) fn send_now(socket: impl AsFd, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_as(socket, packet, fds, MsgFlags::MSG_DONTWAIT)
}

fn send_as(
    socket: impl AsFd,
    packet: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> io::Result<()> {
    let socket = socket.as_fd();
    let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights };
    loop {
        let part = [IoSlice::new(packet)];
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<()>(socket.as_raw_fd(), &part, control, flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EMSGSIZE) if grow(&socket, packet.len()) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes room for a packet in the send buffer. Returns `false` if the buffer has not grown: it is
/// large enough already, or may not grow.
fn grow(socket: &impl AsFd, packet: usize) -> bool {
    let want = packet.saturating_add(PACKET_OVERHEAD);
    let size = || nix::sys::socket::getsockopt(socket, sockopt::SndBuf).unwrap_or(usize::MAX);
    let before = size();
    // The first call needs CAP_NET_ADMIN and has no limit; the second stops at net.core.wmem_max.
    let _ = setsockopt(socket, sockopt::SndBufForce, &want)
        .or_else(|_| setsockopt(socket, sockopt::SndBuf, &want));
    size() > before
}

/// Receives a packet if there is one, never waiting.
pub(crate) fn receive(socket: impl AsFd, limit: usize) -> io::Result<Received> {
    let socket = socket.as_fd().as_raw_fd();
    // MSG_TRUNC makes recv report the packet's size, whatever the buffer's size.
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
    let size = loop {
        match recv(socket, &mut [], peek) {
            Ok(size) => break size,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(Received::Nothing),
            Err(Errno::ECONNRESET) => return Ok(Received::Closed),
            Err(error) => return Err(error.into()),
        }
    };
    if size > limit {
        return Ok(Received::TooLarge(size));
    }
    let mut bytes = vec![0; size];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; MAX_FDS]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, numbers) = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg::<()>(socket, &mut parts, Some(&mut control), flags) {
            Ok(message) => {
                let mut numbers = Vec::new();
                for part in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(fds) = part {
                        numbers.extend(fds);
                    }
                }
                break (message.bytes, numbers);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(Received::Nothing),
            Err(Errno::ECONNRESET) => return Ok(Received::Closed),
            Err(error) => return Err(error.into()),
        }
    };
    let fds: Vec<OwnedFd> = numbers
        .into_iter()
        // SAFETY: recvmsg has just installed these descriptors in this process, each once; nothing
        // else has taken them.
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect();
    // An empty packet looks like the end of the connection; CRIU sends no empty packets.
    if length == 0 && fds.is_empty() {
        return Ok(Received::Closed);
    }
    bytes.truncate(length);
    Ok(Received::Packet(Packet { bytes, fds }))
}

/// The overhead that the kernel charges to the buffer for each packet, rounded up.
const PACKET_OVERHEAD: usize = 4096;

/// The largest number of descriptors that one message can carry (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

#[cfg(test)]
mod tests {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn a_packet_larger_than_the_send_buffer_gets_through() {
        let (here, there) = pair().unwrap();
        let packet = vec![7; 1 << 20];
        send(&here, &packet).unwrap();
        match receive(&there, 1 << 21).unwrap() {
            Received::Packet(got) => assert_eq!(got.bytes, packet),
            other => panic!("{other:?}"),
        }
        assert!(matches!(receive(&there, 1), Ok(Received::Nothing)));
        send(&here, b"abc").unwrap();
        assert!(matches!(receive(&there, 2), Ok(Received::TooLarge(3))));
        drop(here);
    }

    #[test]
    fn received_descriptors_are_owned_and_close_on_exec() {
        let (here, there) = pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send_with(&here, b"x", &[null.as_fd(), null.as_fd()]).unwrap();
        drop(here);
        match receive(&there, 10).unwrap() {
            Received::Packet(Packet { fds, .. }) => {
                assert_eq!(fds.len(), 2);
                for fd in &fds {
                    let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFD).unwrap();
                    assert_eq!(FdFlag::from_bits_retain(flags), FdFlag::FD_CLOEXEC);
                }
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(receive(&there, 10), Ok(Received::Closed)));
    }
}
