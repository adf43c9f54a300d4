//! Protobuf's wire format: keys, varints, lengths.

use crate::error::{ErrorKind, Fault};

/// A cursor over the bytes of a message. Offsets in faults count from its start.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// How a field's value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8], Fault> {
        let rest = self.rest();
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let Some(taken) = taken else {
            return Err(ErrorKind::Truncated { need: len, left: rest.len() as u64 }.at(self.at));
        };
        self.at += taken.len();
        Ok(taken)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Fault> {
        let rest = self.rest();
        let mut value = 0;
        for (i, &byte) in rest.iter().enumerate() {
            if i == 9 && byte > 1 {
                return Err(ErrorKind::Varint.at(self.at));
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(ErrorKind::Truncated { need: rest.len() as u64 + 1, left: rest.len() as u64 }
            .at(self.at))
    }

    /// A varint that stands for a 32-bit number.
    #[allow(clippy::cast_possible_truncation, reason = "protobuf cuts to the size")]
    pub(crate) fn varint32(&mut self) -> Result<u32, Fault> {
        self.varint().map(|value| value as u32)
    }

    /// A field's number and wire type.
    pub(crate) fn key(&mut self) -> Result<(u32, WireType), Fault> {
        let start = self.at;
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
            // 3 and 4 are groups, which CRIU's own parser refuses as well.
            other => {
                let found = u8::try_from(other).unwrap_or(u8::MAX);
                let want = "0, 1, 2 or 5";
                return Err(ErrorKind::WireType { found, want }.at(start));
            }
        };
        Ok((number, wire))
    }

    /// The bytes of a length-delimited value.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.varint()?;
        self.take(len)
    }

    pub(crate) fn skip(&mut self, wire: WireType) -> Result<(), Fault> {
        match wire {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Bytes => self.bytes().map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
        }
    }
}

impl WireType {
    /// The number that stands for it.
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

    #[test]
    fn varints_of_every_length_come_back() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                prost::encoding::encode_varint(value, &mut bytes);
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.varint().unwrap(), value);
                assert!(reader.is_empty());
            }
        }
    }

    #[test]
    fn overlong_varints_are_refused() {
        let mut bytes = [0xff; 11];
        assert!(matches!(Reader::new(&bytes).varint().unwrap_err().kind, ErrorKind::Varint));
        bytes[9] = 2;
        assert!(Reader::new(&bytes).varint().is_err());
        bytes[9] = 1;
        assert_eq!(Reader::new(&bytes).varint().unwrap(), u64::MAX);
    }

    #[test]
    fn a_length_past_the_end_is_truncation() {
        let fault = Reader::new(&[0x85, 0x01, b'x']).bytes().unwrap_err();
        assert!(matches!(fault.kind, ErrorKind::Truncated { need: 133, left: 1 }));
        assert_eq!(fault.offset, Some(2));
    }
}
