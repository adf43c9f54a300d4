//! Requests to the kernel over netlink.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// A netlink socket in the network namespace of this thread. It waits two seconds for an answer.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        Ok(Self(socket))
    }

    /// Sends one or several messages.
    pub(crate) fn send(&self, messages: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), messages, MsgFlags::empty())?;
        Ok(())
    }

    /// Calls `each` with the type and body of each answer, until the last answer or until `each`
    /// returns false.
    ///
    /// # Errors
    /// The errno with which the kernel refuses the request.
    pub(crate) fn hear(&self, mut each: impl FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, body, next)) = message(rest) {
                match kind {
                    DONE => return Ok(()),
                    // An error number of zero is an acknowledgement.
                    ERROR => match body.first_chunk().copied().map(i32::from_ne_bytes) {
                        Some(0) => return Ok(()),
                        errno => {
                            let errno = errno.unwrap_or_default().wrapping_neg();
                            return Err(io::Error::from_raw_os_error(errno));
                        }
                    },
                    _ if !each(kind, body) => return Ok(()),
                    _ => {}
                }
                rest = next;
            }
            if length == 0 {
                return Ok(());
            }
        }
    }
}

/// Builds a message from a type, flags and a body.
pub(crate) fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEAD + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | REQUEST).to_ne_bytes());
    // Sequence number and port.
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Splits off the first message: its type, its body and the bytes that follow.
pub(crate) fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(word(bytes)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEAD..length)?;
    Some((kind, body, bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default()))
}

/// The attributes in a body, as types and values.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
        Some((kind & !FLAGS, value))
    })
}

/// The first four bytes as a number.
pub(crate) fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The length of a message's header.
const HEAD: usize = 16;

/// `NLM_F_REQUEST`: marks a request.
const REQUEST: u16 = 1;
/// `NLM_F_ACK`: asks for an answer even if the request succeeds.
pub(crate) const ACK: u16 = 4;
/// `NLM_F_DUMP`: asks for all objects.
pub(crate) const DUMP: u16 = 0x300;

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Flags in an attribute's type: nested, or in network byte order.
const FLAGS: u16 = 0xc000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_answers_end() {
        assert!(message(&[]).is_none());
        assert!(message(&[0; 16]).is_none(), "a length below the head's");
        assert!(message(&[0xff; 16]).is_none());
        assert_eq!(attributes(&[2, 0, 2, 0]).count(), 0, "an attribute shorter than its head");
        assert_eq!(attributes(&[9, 0, 2, 0, 7]).count(), 0, "one that is cut");
        let all: Vec<_> = attributes(&[5, 0, 2, 0x80, 7]).collect();
        assert_eq!(all, [(2, &[7][..])], "the last needs no padding");
    }

    #[test]
    fn a_request_is_a_message() {
        let bytes = request(7, DUMP, &[1, 2, 3]);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(message(&bytes), Some((7, &[1, 2, 3][..], &[][..])));
    }
}
