//! Messages as types. The bytes are gone through once: decoded and checked.
//!
//! What a field's number leads to is generated, beside the tables of the schema.

use crate::error::{ErrorKind, Fault};
use crate::schema::{Entry, MAX_DEPTH};
use crate::wire::{Reader, WireType};

/// What [`Entry`] is implemented by: only the generated types.
pub trait Fields {
    /// Takes one occurrence of a field. Returns its place in the message's row, or [`UNKNOWN`] for one that
    /// is not known, which has not been read then.
    ///
    /// # Errors
    /// Those of its bytes.
    #[doc(hidden)]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault>;
}

/// The place of a field that is not known.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// One occurrence of a field, whose key has been read.
#[derive(Debug)]
pub struct Value<'a> {
    reader: Reader<'a>,
    wire: WireType,
    /// Where the key begins.
    start: usize,
    depth: u32,
}

/// Decodes a message. Faults are those of `Message::check`.
pub(crate) fn decode<M: Entry>(bytes: &[u8]) -> Result<M, Fault> {
    let mut message = M::default();
    merge(&mut message, bytes, MAX_DEPTH, |_| true)?;
    Ok(message)
}

/// Decodes some fields of a message. Others are passed over, and only checked for where they end.
pub(crate) fn decode_only<M: Entry>(
    bytes: &[u8],
    wanted: impl Fn(u32) -> bool,
) -> Result<M, Fault> {
    let mut message = M::default();
    merge(&mut message, bytes, MAX_DEPTH, wanted)?;
    Ok(message)
}

#[inline]
fn merge<M: Entry>(
    message: &mut M,
    bytes: &[u8],
    depth: u32,
    wanted: impl Fn(u32) -> bool,
) -> Result<(), Fault> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(ErrorKind::Depth(MAX_DEPTH).at(0));
    };
    let mut seen = 0u64;
    let reader = Reader::new(bytes);
    let mut value = Value { reader, wire: WireType::Varint, start: 0, depth };
    while !value.reader.is_empty() {
        value.start = value.reader.at();
        let (number, wire) = value.reader.key()?;
        value.wire = wire;
        if !wanted(number) {
            value.reader.skip(wire)?;
            continue;
        }
        match message.field(number, &mut value) {
            Ok(UNKNOWN) => value.reader.skip(wire)?,
            Ok(place) => seen |= 1 << place,
            Err(fault) => return Err(M::schema().blame(number, fault)),
        }
    }
    M::schema().complete(seen)
}

// Numbers are cut to their size, as protobuf does.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
impl<'a> Value<'a> {
    #[cold]
    fn wrong(&self, want: &'static str) -> Fault {
        ErrorKind::WireType { found: self.wire.number(), want }.at(self.start)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Fault> {
        match self.wire {
            WireType::Varint => self.reader.varint(),
            _ => Err(self.wrong("0")),
        }
    }

    #[inline]
    pub(crate) fn bool(&mut self) -> Result<bool, Fault> {
        self.varint().map(|value| value != 0)
    }

    #[inline]
    pub(crate) fn uint32(&mut self) -> Result<u32, Fault> {
        self.varint().map(|value| value as u32)
    }

    #[inline]
    pub(crate) fn uint64(&mut self) -> Result<u64, Fault> {
        self.varint()
    }

    #[inline]
    pub(crate) fn int32(&mut self) -> Result<i32, Fault> {
        self.varint().map(|value| value as i32)
    }

    #[inline]
    pub(crate) fn int64(&mut self) -> Result<i64, Fault> {
        self.varint().map(|value| value as i64)
    }

    #[inline]
    pub(crate) fn sint32(&mut self) -> Result<i32, Fault> {
        self.uint32().map(|value| (value >> 1) as i32 ^ -((value & 1) as i32))
    }

    #[inline]
    pub(crate) fn sint64(&mut self) -> Result<i64, Fault> {
        self.varint().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, Fault> {
        match self.wire {
            WireType::Fixed64 => self.reader.fixed64(),
            _ => Err(self.wrong("1")),
        }
    }

    /// The bytes, and where they begin.
    #[inline]
    fn inner(&mut self) -> Result<(&'a [u8], usize), Fault> {
        if self.wire != WireType::Bytes {
            return Err(self.wrong("2"));
        }
        let inner = self.reader.bytes()?;
        Ok((inner, self.reader.at() - inner.len()))
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Fault> {
        self.inner().map(|(bytes, _)| bytes.to_vec())
    }

    /// One more occurrence of a message that may occur once: its fields are added.
    #[inline]
    pub(crate) fn message<M: Entry>(&mut self, message: &mut M) -> Result<(), Fault> {
        let (bytes, base) = self.inner()?;
        merge(message, bytes, self.depth, |_| true).map_err(|fault| fault.after(base as u64))
    }

    /// One more message of several.
    #[inline]
    pub(crate) fn push<M: Entry>(&mut self, messages: &mut Vec<M>) -> Result<(), Fault> {
        messages.push(M::default());
        match messages.last_mut() {
            Some(message) => self.message(message),
            None => Ok(()),
        }
    }

    /// One more number of several, or several at once: whatever the declaration says.
    #[inline]
    pub(crate) fn repeat<T>(
        &mut self,
        numbers: &mut Vec<T>,
        wire: WireType,
        read: impl Fn(&mut Self) -> Result<T, Fault>,
    ) -> Result<(), Fault> {
        if self.wire != WireType::Bytes {
            numbers.push(read(self)?);
            return Ok(());
        }
        let (bytes, base) = self.inner()?;
        let (start, depth) = (self.start, self.depth);
        let mut packed = Value { reader: Reader::new(bytes), wire, start, depth };
        while !packed.reader.is_empty() {
            let number = read(&mut packed).map_err(|fault| fault.after(base as u64))?;
            numbers.push(number);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use prost::encoding::encode_varint;

    use super::*;
    use crate::error::Error;
    use crate::proto;
    use crate::schema::{Label, Message, Type};

    /// Is shown every type there is.
    pub(crate) trait Visitor {
        fn see<M: Entry + PartialEq + std::fmt::Debug>(&mut self);
    }

    /// Compares with the check by the tables, and then prost.
    struct Twice {
        random: Random,
        accepted: u64,
        refused: u64,
    }

    impl Visitor for Twice {
        fn see<M: Entry + PartialEq + std::fmt::Debug>(&mut self) {
            for round in 0..60 {
                let mut bytes = self.random.message(M::schema(), 0);
                if round % 3 == 1 {
                    let cut = self.random.below(bytes.len() as u64 + 1);
                    bytes.truncate(usize::try_from(cut).unwrap());
                } else if round % 3 == 2 {
                    for _ in 0..=self.random.below(3) {
                        let at = self.random.below(bytes.len() as u64);
                        if let Some(byte) = bytes.get_mut(usize::try_from(at).unwrap()) {
                            *byte ^= 1 << self.random.below(8);
                        }
                    }
                }
                self.compare::<M>(&bytes);
            }
        }
    }

    impl Twice {
        fn compare<M: Entry + PartialEq + std::fmt::Debug>(&mut self, bytes: &[u8]) {
            let text = |fault| Error::new("image", fault).to_string();
            let want = M::schema().check(bytes).map_err(text);
            let found = decode::<M>(bytes);
            match want {
                Ok(()) => {
                    self.accepted += 1;
                    let want = <M as prost::Message>::decode(bytes).unwrap();
                    assert_eq!(found.unwrap(), want, "{bytes:x?}");
                }
                Err(want) => {
                    self.refused += 1;
                    assert_eq!(found.map_err(text), Err(want), "{bytes:x?}");
                }
            }
        }
    }

    struct Random(u64);

    #[allow(clippy::cast_possible_truncation, reason = "any bits will do")]
    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, limit: u64) -> u64 {
            self.next() % limit.max(1)
        }

        /// Fields in any order, most of them there, some more often than they should be.
        fn message(&mut self, schema: &Message, depth: u32) -> Vec<u8> {
            let mut bytes = Vec::new();
            let first = self.below(schema.fields.len() as u64) as usize;
            let turned = schema.fields.iter().cycle().skip(first).take(schema.fields.len());
            for field in turned {
                let times = match field.label {
                    Label::Required => 1 + self.below(40) / 39,
                    _ if depth > 3 => 0,
                    Label::Optional => self.below(3) / 2 + self.below(40) / 39,
                    Label::Repeated => self.below(4),
                };
                for _ in 0..times {
                    self.field(field.number, field.kind, field.label, depth, &mut bytes);
                }
                if self.below(9) == 0 {
                    // One that nobody knows.
                    encode_varint(1999 << 3 | 2, &mut bytes);
                    bytes.extend([2, 0xff, 0xff]);
                }
            }
            bytes
        }

        fn field(&mut self, number: u32, kind: Type, label: Label, depth: u32, out: &mut Vec<u8>) {
            let key = u64::from(number) << 3;
            let size = self.next() % 64;
            let value = self.next() >> size;
            match kind {
                Type::Message(message) => {
                    let inner = self.message(message, depth + 1);
                    encode_varint(key | 2, out);
                    encode_varint(inner.len() as u64, out);
                    out.extend(inner);
                }
                Type::Bytes | Type::String => {
                    encode_varint(key | 2, out);
                    out.extend([3, b'a', 0, 0xff]);
                }
                _ if label == Label::Repeated && value % 2 == 0 => {
                    let mut inner = Vec::new();
                    for _ in 0..self.below(4) {
                        match kind {
                            Type::Fixed64 => inner.extend(value.to_le_bytes()),
                            _ => encode_varint(value, &mut inner),
                        }
                    }
                    encode_varint(key | 2, out);
                    encode_varint(inner.len() as u64, out);
                    out.extend(inner);
                }
                Type::Fixed64 => {
                    encode_varint(key | 1, out);
                    out.extend(value.to_le_bytes());
                }
                _ => {
                    encode_varint(key, out);
                    encode_varint(value, out);
                }
            }
        }
    }

    #[test]
    fn types_and_faults_are_those_of_the_tables_and_prost() {
        let mut twice = Twice { random: Random(7), accepted: 0, refused: 0 };
        proto::visit(&mut twice);
        let Twice { accepted, refused, .. } = twice;
        assert!(accepted > 4000 && refused > 2000, "{accepted} {refused}");
    }
}
