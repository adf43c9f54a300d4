//! Reading of protobuf's wire format: keys, varints, lengths.

use crate::error::{ErrorKind, Fault};

/// A cursor over the bytes of a message. Offsets in faults count from its start.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

/// The encoding of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len() }
    }

    pub(crate) fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes the next `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let split = usize::try_from(len).ok();
        let Some((taken, rest)) = split.and_then(|len| self.rest.split_at_checked(len)) else {
            return Err(self.truncated(len));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Takes all bytes that are left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Fault> {
        match self.rest {
            [byte @ ..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    /// Reads a varint of any length.
    fn long_varint(&mut self) -> Result<u64, Fault> {
        if let Some((value, rest)) = split_varint(self.rest) {
            self.rest = rest;
            return Ok(value);
        }
        let mut value = 0;
        for (i, &byte) in self.rest.iter().enumerate() {
            if i == 9 && byte > 1 {
                return Err(ErrorKind::Varint.at(self.at()));
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(self.truncated(self.rest.len() as u64 + 1))
    }

    #[cold]
    fn truncated(&self, need: u64) -> Fault {
        let left = self.rest.len() as u64;
        ErrorKind::Truncated { need, left }.at(self.at())
    }

    /// Reads a varint that stands for a 32-bit number.
    #[allow(clippy::cast_possible_truncation, reason = "protobuf cuts to the size")]
    #[inline]
    pub(crate) fn varint32(&mut self) -> Result<u32, Fault> {
        self.varint().map(|value| value as u32)
    }

    /// Reads the number and the wire type of a field.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<(u32, WireType), Fault> {
        let start = self.at();
        let key = self.varint()?;
        let number = match u32::try_from(key >> 3) {
            Ok(number @ 1..=MAX_FIELD_NUMBER) => number,
            _ => return Err(ErrorKind::FieldNumber(key >> 3).at(start)),
        };
        let wire = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            5 => WireType::Fixed32,
            // 3 and 4 are groups, which CRIU's own parser refuses too.
            other => {
                let found = u8::try_from(other).unwrap_or(u8::MAX);
                let want = "0, 1, 2 or 5";
                return Err(ErrorKind::WireType { found, want }.at(start));
            }
        };
        Ok((number, wire))
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, Fault> {
        let bytes = self.take(8)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// Reads the bytes of a length-delimited value.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.varint()?;
        self.take(len)
    }

    #[inline]
    pub(crate) fn skip(&mut self, wire: WireType) -> Result<(), Fault> {
        match wire {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Bytes => self.bytes().map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
        }
    }
}

/// Splits bytes after a varint. `None` for a varint of more than 8 bytes, or one near the end of
/// `bytes`.
#[inline]
pub(crate) fn split_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    if let [byte @ ..0x80, rest @ ..] = bytes {
        return Some((u64::from(*byte), rest));
    }
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    // Up to 8 bytes, as in addresses, are decoded at once.
    let last = (!word & 0x8080_8080_8080_8080).trailing_zeros() / 8;
    if last == 8 {
        return None;
    }
    let rest = bytes.get(last as usize + 1..)?;
    // Clears the bytes after the last one, then joins the 7 bits of each byte in pairs.
    let word = word & (u64::MAX >> (56 - 8 * last));
    let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
    Some((word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4, rest))
}

impl WireType {
    /// Number of the wire type in a key.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Varint => 0,
            Self::Fixed64 => 1,
            Self::Bytes => 2,
            Self::Fixed32 => 5,
        }
    }
}

/// Protobuf's own limit.
const MAX_FIELD_NUMBER: u32 = (1 << 29) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn varints_of_every_length_come_back() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                // Alone, and with bytes after it, which takes another path.
                for after in [0, 9] {
                    let mut bytes = Vec::new();
                    prost::encoding::encode_varint(value, &mut bytes);
                    let len = bytes.len();
                    bytes.extend(std::iter::repeat_n(0xff, after));
                    let mut reader = Reader::new(&bytes);
                    assert_eq!(reader.varint().unwrap(), value);
                    assert_eq!(reader.at(), len);
                }
            }
        }
    }

    #[test]
    fn overlong_varints_are_refused() {
        let mut bytes = [0xff; 11];
        let error = Error::new("", Reader::new(&bytes).varint().unwrap_err());
        assert!(matches!(error.kind(), ErrorKind::Varint));
        bytes[9] = 2;
        assert!(Reader::new(&bytes).varint().is_err());
        bytes[9] = 1;
        assert_eq!(Reader::new(&bytes).varint().unwrap(), u64::MAX);
    }

    #[test]
    fn a_length_past_the_end_is_truncation() {
        let error = Error::new("", Reader::new(&[0x85, 0x01, b'x']).bytes().unwrap_err());
        assert!(matches!(error.kind(), ErrorKind::Truncated { need: 133, left: 1 }), "{error}");
        assert_eq!(error.offset(), Some(2));
    }
}
