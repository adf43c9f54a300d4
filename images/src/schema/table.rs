//! Tables of messages, fields and enums.

use crate::error::{ErrorKind, Fault};
use crate::wire::{Reader, WireType};

/// A message, with its name and fields.
#[derive(Debug)]
#[non_exhaustive]
pub struct Message {
    /// Name in CRIU's `.proto` files.
    pub name: &'static str,
    /// The fields, by rising number.
    pub fields: &'static [Field],
    /// Bit N is set if field N of `fields` is required.
    required: u64,
}

/// A field of a message.
#[derive(Debug)]
#[non_exhaustive]
pub struct Field {
    /// Number on the wire.
    pub number: u32,
    /// Name in CRIU's `.proto` files.
    pub name: &'static str,
    /// Number of times that the field occurs.
    pub label: Label,
    /// Type of the value.
    pub kind: Type,
    /// Form in which people see the value.
    pub show: Show,
    /// `true` for a repeated number that CRIU writes in one piece.
    pub packed: bool,
}

/// Forms in which people see a field's value, as with crit's `--pretty`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Show {
    /// The value itself.
    Plain,
    /// Hexadecimal; in a message, all its numbers.
    Hex,
    /// A device number in the kernel's form: the major number from bit 20 up.
    Dev,
    /// A device number in the C library's form.
    Odev,
    /// Flags by name, from the table of this name.
    Flags(&'static str),
    /// A number by name, from the tables of this name.
    Dict(&'static str),
    /// An IPv4 or IPv6 address, one word or four in network order.
    Ip,
    /// The name of a unix socket, as quoted-printable text.
    UnixName,
}

/// An enum, with its values.
#[derive(Debug)]
#[non_exhaustive]
pub struct Enum {
    /// Number and name of each value.
    pub values: &'static [(i32, &'static str)],
}

/// Numbers of times that a field may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// Exactly once.
    Required,
    /// At most once.
    Optional,
    /// Any number of times.
    Repeated,
}

/// Types of fields: those of protobuf that CRIU uses.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Type {
    /// `bool`
    Bool,
    /// `bytes`
    Bytes,
    /// An enum, whose values are `int32`.
    Enum(&'static Enum),
    /// `fixed64`
    Fixed64,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// Another message.
    Message(&'static Message),
    /// `sint32`
    Sint32,
    /// `sint64`
    Sint64,
    /// `string`, whose bytes need not be UTF-8 with CRIU.
    String,
    /// `uint32`
    Uint32,
    /// `uint64`
    Uint64,
}

impl Message {
    pub(crate) const fn new(name: &'static str, fields: &'static [Field]) -> Self {
        assert!(fields.len() <= 64, "the set of required fields is a u64");
        let mut required = 0;
        let mut i = 0;
        while i < fields.len() {
            if matches!(fields[i].label, Label::Required) {
                required |= 1 << i;
            }
            i += 1;
        }
        Self { name, fields, required }
    }

    /// Finds a field and its place in `fields`.
    pub(crate) fn find(&self, number: u32) -> Option<(usize, &'static Field)> {
        // Most messages number their fields from 1 without gaps.
        let guess = (number as usize).saturating_sub(1);
        let position = match self.fields.get(guess) {
            Some(field) if field.number == number => guess,
            _ => self.fields.binary_search_by_key(&number, |f| f.number).ok()?,
        };
        Some((position, self.fields.get(position)?))
    }

    /// Checks that `bytes` are this message: well formed to the last byte, each known field encoded
    /// as its type, each required field present. Nested messages are checked too. Unknown fields
    /// pass.
    pub(crate) fn check(&'static self, bytes: &[u8]) -> Result<(), Fault> {
        self.check_nested(bytes, MAX_DEPTH)
    }

    fn check_nested(&'static self, bytes: &[u8], depth: u32) -> Result<(), Fault> {
        let seen = self.see(bytes, depth)?;
        self.complete(seen)
    }

    /// Checks some fields of this message. The other fields may be elsewhere.
    #[cfg(feature = "json")]
    pub(crate) fn fields_of(&'static self, bytes: &[u8]) -> Result<(), Fault> {
        self.see(bytes, MAX_DEPTH).map(drop)
    }

    /// Checks the fields that are present. Bit N of the result is set if field N of `fields` is
    /// present.
    fn see(&'static self, bytes: &[u8], depth: u32) -> Result<u64, Fault> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(ErrorKind::Depth(MAX_DEPTH).at(0));
        };
        let mut seen = 0;
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let start = reader.at();
            let (number, wire) = reader.key()?;
            match self.find(number) {
                None => reader.skip(wire)?,
                Some((position, field)) => {
                    seen |= 1 << position;
                    field
                        .check(&mut reader, wire, start, depth)
                        .map_err(|fault| fault.field(self.name, field.name))?;
                }
            }
        }
        Ok(seen)
    }

    /// Checks that all required fields were seen. Bit N of `seen` stands for field N.
    #[inline]
    pub(crate) fn complete(&'static self, seen: u64) -> Result<(), Fault> {
        let absent = (self.required & !seen).trailing_zeros() as usize;
        match self.fields.get(absent) {
            None => Ok(()),
            Some(field) => Err(ErrorKind::Required.at(0).field(self.name, field.name)),
        }
    }

    /// Names the field of a fault, if the schema knows the number.
    pub(crate) fn blame(&'static self, number: u32, fault: Fault) -> Fault {
        match self.find(number) {
            None => fault,
            Some((_, field)) => fault.field(self.name, field.name),
        }
    }
}

impl Enum {
    pub(crate) const fn new(values: &'static [(i32, &'static str)]) -> Self {
        Self { values }
    }
}

impl Field {
    pub(crate) const fn new(number: u32, name: &'static str, label: Label, kind: Type) -> Self {
        Self { number, name, label, kind, show: Show::Plain, packed: false }
    }

    pub(crate) const fn shown(mut self, show: Show) -> Self {
        self.show = show;
        self
    }

    pub(crate) const fn packed(mut self) -> Self {
        self.packed = true;
        self
    }

    /// Checks one occurrence, whose key began at `start` and has been read.
    fn check(
        &self,
        reader: &mut Reader<'_>,
        wire: WireType,
        start: usize,
        depth: u32,
    ) -> Result<(), Fault> {
        let (want, name) = match self.kind {
            Type::Fixed64 => (WireType::Fixed64, "1"),
            Type::Bytes | Type::String | Type::Message(_) => (WireType::Bytes, "2"),
            _ => (WireType::Varint, "0"),
        };
        if wire == want {
            let Type::Message(message) = self.kind else {
                return reader.skip(wire);
            };
            let inner = reader.bytes()?;
            let base = reader.at() - inner.len();
            return message.check_nested(inner, depth).map_err(|fault| fault.after(base as u64));
        }
        // A repeated number may be packed, whatever its declaration says.
        if wire == WireType::Bytes && self.label == Label::Repeated {
            let inner = reader.bytes()?;
            let base = reader.at() - inner.len();
            let mut values = Reader::new(inner);
            while !values.is_empty() {
                values.skip(want).map_err(|fault| fault.after(base as u64))?;
            }
            return Ok(());
        }
        Err(ErrorKind::WireType { found: wire.number(), want: name }.at(start))
    }
}

/// Deepest nesting accepted. CRIU's messages nest 5 deep, its cgroup tree as deep as the hierarchy.
/// Implementations of protobuf stop at 100.
pub(crate) const MAX_DEPTH: u32 = 100;
