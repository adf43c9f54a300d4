//! Netlink messages, as `ip addr save` and similar commands write them after a magic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{ErrorKind, Fault};

/// The messages of a file.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
    at: usize,
    big: bool,
}

/// A message: its type, a head of fixed size and attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    body: &'a [u8],
    at: usize,
    big: bool,
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) bytes: &'a [u8],
    big: bool,
}

impl<'a> Messages<'a> {
    /// Reads the messages after a magic. An empty file has no messages.
    pub(crate) fn after_magic(bytes: &'a [u8], want: u32) -> Result<Self, Fault> {
        let Some((magic, rest)) = bytes.split_first_chunk() else {
            let left = bytes.len() as u64;
            return match left {
                0 => Ok(Self { rest: bytes, at: 0, big: false }),
                _ => Err(ErrorKind::Truncated { need: 4, left }.at(0)),
            };
        };
        let big = u32::from_be_bytes(*magic) == want;
        match u32::from_le_bytes(*magic) {
            found if found != want && !big => Err(ErrorKind::Magic { found, want }.at(0)),
            _ => Ok(Self { rest, at: 4, big }),
        }
    }

    /// Reads the messages of a file without a magic.
    pub(crate) fn plain(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0, big: false }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Message<'a>>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let left = self.rest.len();
        let cut = |need| ErrorKind::Truncated { need, left: left as u64 }.at(self.at);
        let size = u32_at(self.rest, 0, self.big).ok_or_else(|| cut(HEADER as u64))? as usize;
        let kind = u16_at(self.rest, 4, self.big).ok_or_else(|| cut(HEADER as u64))?;
        if size < HEADER {
            let want = "at least the 16 bytes of a header";
            return Err(ErrorKind::Value { found: size as u64, want }.at(self.at));
        }
        let message = self.rest.get(..size).ok_or_else(|| cut(size as u64))?;
        let body = message.get(HEADER..).unwrap_or_default();
        let found = Message { kind, body, at: self.at, big: self.big };
        // The last message may lack its padding.
        let step = size.next_multiple_of(ALIGN).min(left);
        self.rest = self.rest.get(step..).unwrap_or_default();
        self.at += step;
        Ok(Some(found))
    }
}

impl<'a> Message<'a> {
    /// Returns the first `N` bytes, and the attributes that follow.
    pub(crate) fn split<const N: usize>(&self) -> Result<([u8; N], Vec<Attribute<'a>>), Fault> {
        let left = self.body.len() as u64;
        let cut = || ErrorKind::Truncated { need: N as u64, left }.at(self.at);
        let (head, mut rest) = self.body.split_first_chunk::<N>().ok_or_else(cut)?;
        let mut attributes = Vec::new();
        while !rest.is_empty() {
            let left = rest.len() as u64;
            let cut = |need: usize| ErrorKind::Truncated { need: need as u64, left }.at(self.at);
            let size = usize::from(u16_at(rest, 0, self.big).ok_or_else(|| cut(4))?);
            let kind = u16_at(rest, 2, self.big).ok_or_else(|| cut(4))? & KIND;
            let bytes = rest.get(4..size).ok_or_else(|| cut(size.max(4)))?;
            attributes.push(Attribute { kind, bytes, big: self.big });
            rest = rest.get(size.next_multiple_of(ALIGN)..).unwrap_or_default();
        }
        Ok((*head, attributes))
    }

    /// Returns a number of the head.
    pub(crate) fn u32(&self, head: &[u8], at: usize) -> u32 {
        u32_at(head, at, self.big).unwrap_or(0)
    }
}

impl<'a> Attribute<'a> {
    pub(crate) fn u32(&self) -> Option<u32> {
        u32_at(self.bytes, 0, self.big)
    }

    /// Returns an IPv4 or IPv6 address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(self.bytes).map(|octets| Ipv4Addr::from(octets).into());
        let v6 = || <[u8; 16]>::try_from(self.bytes).map(|octets| Ipv6Addr::from(octets).into());
        v4.or_else(|_| v6()).ok()
    }
}

fn u32_at(bytes: &[u8], at: usize, big: bool) -> Option<u32> {
    let word = *bytes.get(at..)?.first_chunk()?;
    Some(if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
}

fn u16_at(bytes: &[u8], at: usize, big: bool) -> Option<u16> {
    let word = *bytes.get(at..)?.first_chunk()?;
    Some(if big { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) })
}

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
const ALIGN: usize = 4;
/// Mask that takes the two flags out of an attribute's type.
const KIND: u16 = 0x3fff;
