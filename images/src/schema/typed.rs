//! Decoding of messages into types, in one pass that also checks them.
//!
//! The code that stores a field by its number is generated, beside the tables of the schema.

use crate::error::{ErrorKind, Fault};
use crate::schema::table::{MAX_DEPTH, Message};
use crate::wire::{Reader, WireType};

/// A message type of [`proto`](crate::proto), tied to its row in the schema.
pub trait Entry: Fields + prost::Message + Default {
    /// Row of the message.
    fn schema() -> &'static Message;
}

/// Storage of fields by number. Only generated types implement it.
pub trait Fields {
    /// Takes one occurrence of a field. Returns the place of the field in the message's row.
    /// Returns [`UNKNOWN`] for an unknown field, whose value is then not read.
    ///
    /// # Errors
    /// The errors of decoding the value.
    #[doc(hidden)]
    fn field(&mut self, number: u32, value: &mut Value<'_>) -> Result<u32, Fault>;
}

/// Place of an unknown field.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// An occurrence of a field whose key has been read.
#[derive(Debug)]
pub struct Value<'a> {
    reader: Reader<'a>,
    wire: WireType,
    /// Offset of the key.
    start: usize,
    depth: u32,
}

/// Decodes a message. Its faults equal those of `Message::check`.
pub(crate) fn decode<M: Entry>(bytes: &[u8]) -> Result<M, Fault> {
    let mut message = M::default();
    merge(&mut message, bytes, MAX_DEPTH, |_| true)?;
    Ok(message)
}

/// Decodes some fields of a message. Other fields are skipped; only their length is checked.
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

// Numbers are cut to their size, as protobuf requires.
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

    /// Reads the bytes of a length-delimited value, and returns their offset too.
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

    /// Merges one more occurrence of a message that may occur once: its fields are added.
    #[inline]
    pub(crate) fn message<M: Entry>(&mut self, message: &mut M) -> Result<(), Fault> {
        let (bytes, base) = self.inner()?;
        merge(message, bytes, self.depth, |_| true).map_err(|fault| fault.after(base as u64))
    }

    /// Appends one more of several messages.
    #[inline]
    pub(crate) fn push<M: Entry>(&mut self, messages: &mut Vec<M>) -> Result<(), Fault> {
        messages.push(M::default());
        match messages.last_mut() {
            Some(message) => self.message(message),
            None => Ok(()),
        }
    }

    /// Appends one more number, or several packed ones, whatever the declaration says.
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
