//! Requests to the kernel over netlink.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// A netlink socket in the network namespace of this thread. It waits two seconds for an answer.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// The number of the last request, which its answers have.
    sequence: AtomicU32,
}

impl Socket {
    pub(crate) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        Ok(Self { fd: socket, sequence: AtomicU32::new(0) })
    }

    /// Sends one or several messages, as one request.
    pub(crate) fn send(&self, messages: &[u8]) -> io::Result<()> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let messages = numbered(messages, sequence);
        send(self.fd.as_raw_fd(), &messages, MsgFlags::empty())?;
        Ok(())
    }

    /// Calls `each` with the type and body of each answer, until the last answer or until `each`
    /// returns false. Messages of other processes and answers to earlier requests are left out.
    ///
    /// # Errors
    /// The errno with which the kernel refuses the request.
    pub(crate) fn hear(&self, each: impl FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
        self.hear_with(&mut vec![0; 1 << 16], each)
    }

    /// Hears the answer to a request for one object, which is short.
    ///
    /// # Errors
    /// The errors of [`hear`](Self::hear).
    pub(crate) fn hear_one(&self, each: impl FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
        self.hear_with(&mut [0; 1 << 12], each)
    }

    fn hear_with(
        &self,
        buffer: &mut [u8],
        mut each: impl FnMut(u16, &[u8]) -> bool,
    ) -> io::Result<()> {
        let sequence = self.sequence.load(Ordering::Relaxed);
        loop {
            let (length, sender) = match recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), buffer) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            // The kernel's messages have no port.
            if sender.is_none_or(|sender| sender.pid() != 0) {
                continue;
            }
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, body, next)) = message(rest) {
                if rest.get(SEQUENCE..).and_then(word) != Some(sequence) {
                    rest = next;
                    continue;
                }
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
    // Sequence number, which the sender sets, and port.
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Gives messages the number of their request.
fn numbered(messages: &[u8], sequence: u32) -> Vec<u8> {
    let (mut bytes, mut at) = (messages.to_vec(), 0);
    while let Some((_, _, rest)) = messages.get(at..).and_then(message) {
        if let Some(place) = bytes.get_mut(at + SEQUENCE..at + SEQUENCE + 4) {
            place.copy_from_slice(&sequence.to_ne_bytes());
        }
        at = messages.len().saturating_sub(rest.len());
    }
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
/// The place of the sequence number in a header.
const SEQUENCE: usize = 8;

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
    fn answers_to_an_earlier_request_are_left_out() {
        let socket = Socket::open(SockProtocol::NetlinkRoute).unwrap();
        let link = |index: i32| {
            let mut body = [0; 16];
            body[4..8].copy_from_slice(&index.to_ne_bytes());
            request(18, 0, &body)
        };
        // No interface has the first number: the answer is an error.
        socket.send(&link(i32::MAX)).unwrap();
        socket.send(&link(1)).unwrap();
        let mut found = None;
        let each = |_, body: &[u8]| {
            found = word(&body[4..]);
            false
        };
        socket.hear(each).unwrap();
        assert_eq!(found, Some(1));
    }

    #[test]
    fn all_messages_of_a_request_have_its_number() {
        let bytes = numbered(&[request(7, 0, &[1]), request(8, 0, &[])].concat(), 9);
        assert_eq!((word(&bytes[8..]), word(&bytes[20 + 8..])), (Some(9), Some(9)));
    }

    #[test]
    fn a_request_is_a_message() {
        let bytes = request(7, DUMP, &[1, 2, 3]);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(message(&bytes), Some((7, &[1, 2, 3][..], &[][..])));
    }
}
