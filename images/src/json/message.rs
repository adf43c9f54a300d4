//! Messages as JSON has them, encoded.

use serde_json::{Map, Value};

use super::{BYTES, UNKNOWN, quoted, shown};
use crate::schema::{Field, Label, Message, Show, Type};

/// Result whose error is a message for people.
pub(super) type Fallible<T> = Result<T, String>;

/// Bytes that belong into other bytes: `after` bytes of these come between the part before and this
/// part.
pub(super) struct Part {
    pub(super) after: usize,
    pub(super) bytes: Vec<u8>,
}

pub(super) fn framed(message: &[u8], out: &mut Vec<u8>) -> Fallible<()> {
    frame(message.len(), out)?;
    out.extend(message);
    Ok(())
}

/// Appends the size of a message, which comes before it.
pub(super) fn frame(size: usize, out: &mut Vec<u8>) -> Fallible<()> {
    let size = u32::try_from(size).map_err(|_| "is larger than 4 GiB")?;
    out.extend(size.to_le_bytes());
    Ok(())
}

/// Appends the fields of a message, by rising number.
pub(super) fn fields(
    schema: &'static Message,
    object: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Fallible<()> {
    fields_and_lists(schema, object, Vec::new(), out).map(drop)
}

/// Appends the fields of a message, by rising number. Returns the long ones of the encoded lists
/// apart, to be put into the appended bytes.
pub(super) fn fields_and_lists(
    schema: &'static Message,
    object: &Map<String, Value>,
    mut lists: Vec<(&'static str, Vec<u8>)>,
    out: &mut Vec<u8>,
) -> Fallible<Vec<Part>> {
    let mut parts = Vec::new();
    let mut last = out.len();
    let known = |name: &String| schema.fields.iter().any(|field| field.name == name);
    if let Some(name) = object.keys().find(|name| !known(name) && *name != UNKNOWN) {
        return Err(format!("{}: unknown field {name}", schema.name));
    }
    for field in schema.fields {
        let at_fault = |what: String| format!("{}.{}: {what}", schema.name, field.name);
        if let Some(index) = lists.iter().position(|(name, _)| *name == field.name) {
            let (_, bytes) = lists.swap_remove(index);
            if bytes.len() < LONG {
                out.extend(bytes);
            } else {
                parts.push(Part { after: out.len() - last, bytes });
                last = out.len();
            }
            continue;
        }
        match (object.get(field.name), field.label) {
            (None, Label::Required) => return Err(at_fault("is required and absent".into())),
            (None, _) => {}
            (Some(Value::Array(values)), Label::Repeated) => {
                repeated(field, values, out).map_err(at_fault)?;
            }
            (Some(value), Label::Repeated) => {
                return Err(at_fault(format!("found {}, wanted a list", kind_of(value))));
            }
            (Some(value), _) => single(field, value, out).map_err(at_fault)?,
        }
    }
    if let Some(unknown) = object.get(UNKNOWN) {
        out.extend(base64_of(unknown)?);
    }
    Ok(parts)
}

fn repeated(field: &Field, values: &[Value], out: &mut Vec<u8>) -> Fallible<()> {
    if field.packed {
        let mut packed = Vec::new();
        for value in values {
            varint(number(field, value)?, &mut packed);
        }
        if !packed.is_empty() {
            key(field.number, 2, out);
            varint(packed.len() as u64, out);
            out.extend(packed);
        }
        return Ok(());
    }
    for value in values {
        match (field.show, value) {
            (Show::Ip, Value::String(text)) => {
                let words = shown::from_address(text);
                for word in words.ok_or_else(|| format!("{text:?} is not an address"))? {
                    key(field.number, 0, out);
                    varint(word.into(), out);
                }
            }
            _ => single(field, value, out)?,
        }
    }
    Ok(())
}

pub(super) fn single(field: &Field, value: &Value, out: &mut Vec<u8>) -> Fallible<()> {
    let bytes = match (field.kind, value) {
        (Type::Message(schema), Value::Object(object)) => {
            let mut inner = Vec::new();
            fields(schema, object, &mut inner)?;
            inner
        }
        (Type::String, Value::String(text)) => text.clone().into_bytes(),
        (Type::String, Value::Object(object)) => match object.get(BYTES) {
            Some(bytes) if object.len() == 1 => base64_of(bytes)?,
            _ => return Err(format!("wanted text, or an object with {BYTES}")),
        },
        (Type::Bytes, Value::String(text)) if field.show == Show::UnixName => {
            quoted::from_printable(text).ok_or_else(|| format!("{text:?} is badly quoted"))?
        }
        (Type::Bytes, value) => base64_of(value)?,
        (Type::Message(schema), value) => {
            return Err(format!("found {}, wanted {}", kind_of(value), schema.name));
        }
        (Type::String, value) => return Err(format!("found {}, wanted text", kind_of(value))),
        (Type::Fixed64, value) => {
            let number = number(field, value)?;
            key(field.number, 1, out);
            out.extend(number.to_le_bytes());
            return Ok(());
        }
        (_, value) => {
            let number = number(field, value)?;
            key(field.number, 0, out);
            varint(number, out);
            return Ok(());
        }
    };
    key(field.number, 2, out);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
    Ok(())
}

/// Returns the bits of a number, as they are encoded.
#[allow(clippy::cast_sign_loss, reason = "protobuf keeps the bits")]
fn number(field: &Field, value: &Value) -> Fallible<u64> {
    let wrong = || match value {
        Value::String(text) => format!("{text:?} is not a number, nor the name of one"),
        Value::Number(number) => format!("{number} does not fit its type"),
        value => format!("found {}, wanted a number", kind_of(value)),
    };
    if let (Type::Bool, Value::Bool(value)) = (field.kind, value) {
        return Ok((*value).into());
    }
    let found: Option<i128> = match (value, field.kind, field.show) {
        (Value::String(text), Type::Enum(kind), _) => {
            let named = kind.values.iter().find(|(_, name)| name == text);
            named.map(|(value, _)| (*value).into())
        }
        (Value::String(text), _, Show::Dev) => shown::from_device(text, false),
        (Value::String(text), _, Show::Odev) => shown::from_device(text, true),
        (Value::String(text), _, Show::Flags(table)) => shown::from_flags(table, text),
        (Value::String(text), _, Show::Dict(table)) => shown::from_name(table, field, text),
        (value, ..) => integer_of(value),
    };
    let number = found.ok_or_else(wrong)?;
    let signed = |number: i64| number as u64;
    let bits = match field.kind {
        Type::Uint32 => u32::try_from(number).ok().map(u64::from),
        Type::Int32 | Type::Enum(_) => i32::try_from(number).ok().map(|n| signed(n.into())),
        Type::Sint32 => {
            let number = i32::try_from(number).ok();
            number.map(|n| u64::from((n << 1 ^ n >> 31) as u32))
        }
        Type::Int64 => i64::try_from(number).ok().map(signed),
        Type::Sint64 => i64::try_from(number).ok().map(|n| signed(n << 1 ^ n >> 63)),
        Type::Bool => None,
        _ => u64::try_from(number).ok(),
    };
    bits.ok_or_else(wrong)
}

/// Returns a whole number, from digits or text.
pub(super) fn integer_of(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => {
            let unsigned = number.as_u64().map(i128::from);
            unsigned.or_else(|| number.as_i64().map(i128::from))
        }
        Value::String(text) => shown::number(text),
        _ => None,
    }
}

pub(super) fn base64_of(value: &Value) -> Fallible<Vec<u8>> {
    let text = value.as_str().ok_or_else(|| format!("found {}, wanted text", kind_of(value)))?;
    quoted::from_base64(text).ok_or_else(|| "is not base64".into())
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn key(number: u32, wire: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire, out);
}

fn varint(value: u64, out: &mut Vec<u8>) {
    prost::encoding::encode_varint(value, out);
}

/// Length from which an encoded list is not copied, in bytes.
const LONG: usize = 64 << 10;

/// Name of field 2 of a pagemap entry.
pub(super) const COMPAT_NR_PAGES: &str = "compat_nr_pages";
