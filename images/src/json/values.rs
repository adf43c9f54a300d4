//! Fields of a message, read from its bytes.

use crate::error::Fault;
use crate::schema::{Field, Type};
use crate::wire::{Reader, WireType};

/// Occurrence of a field.
#[derive(Clone, Copy)]
pub(super) struct Occurrence<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
    /// Bytes of the field, including its key.
    pub(super) raw: &'a [u8],
}

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Returns the fields of a message, in the order of its bytes.
pub(super) fn occurrences(bytes: &[u8]) -> Result<Vec<Occurrence<'_>>, Fault> {
    let mut all = Vec::with_capacity(16);
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let start = reader.at();
        let (number, wire) = reader.key()?;
        let value = match wire {
            WireType::Varint => Value::Number(reader.varint()?),
            WireType::Fixed64 => {
                let word = reader.take(8)?.first_chunk().copied().unwrap_or_default();
                Value::Number(u64::from_le_bytes(word))
            }
            WireType::Fixed32 => {
                let word = reader.take(4)?.first_chunk().copied().unwrap_or_default();
                Value::Number(u32::from_le_bytes(word).into())
            }
            WireType::Bytes => Value::Bytes(reader.bytes()?),
        };
        let raw = bytes.get(start..reader.at()).unwrap_or_default();
        all.push(Occurrence { number, value, raw });
    }
    Ok(all)
}

/// Returns the values of a repeated field. Packed values are unpacked.
pub(super) fn unpacked<'a>(
    field: &Field,
    group: &[Occurrence<'a>],
) -> Result<Vec<Value<'a>>, Fault> {
    let is_number = !matches!(field.kind, Type::Bytes | Type::String | Type::Message(_));
    let mut values = Vec::with_capacity(group.len());
    for one in group {
        match one.value {
            Value::Bytes(bytes) if is_number => {
                let mut reader = Reader::new(bytes);
                while !reader.is_empty() {
                    values.push(Value::Number(match field.kind {
                        Type::Fixed64 => {
                            let word = reader.take(8)?.first_chunk().copied().unwrap_or_default();
                            u64::from_le_bytes(word)
                        }
                        _ => reader.varint()?,
                    }));
                }
            }
            value => values.push(value),
        }
    }
    Ok(values)
}

pub(super) fn kind_is_signed(kind: Type) -> bool {
    matches!(kind, Type::Int32 | Type::Int64 | Type::Sint32 | Type::Sint64 | Type::Enum(_))
}

/// Returns the value of a number of a signed type.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "protobuf cuts to the size, and keeps the bits"
)]
pub(super) fn signed(kind: Type, number: u64) -> i64 {
    let zigzag = |number: u64| (number >> 1) as i64 ^ -((number & 1) as i64);
    match kind {
        Type::Sint32 => zigzag(number & u64::from(u32::MAX)),
        Type::Sint64 => zigzag(number),
        Type::Int32 | Type::Enum(_) => (number as i32).into(),
        _ => number as i64,
    }
}
