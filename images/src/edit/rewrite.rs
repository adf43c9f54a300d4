//! Changes of fields in an image that leave every other byte as it is.

use prost::encoding::encode_varint;

use crate::error::{ErrorKind, Fault, Result};
use crate::frame::{Image, RawEntry};
use crate::kind::{ALL, Entries, Kind};
use crate::proto::{GhostChunkEntry, PagemapHead};
use crate::schema::{Entry, Field, Label, Message, Type};
use crate::wire::Reader;

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Value of a bool, an enum, or an integer that is not negative.
    Number(u64),
    /// Value of a signed integer.
    Signed(i64),
    /// Text, bytes, or a message.
    Bytes(Vec<u8>),
}

/// Changes to one message: new values of some fields, or its removal.
#[derive(Clone, Debug)]
pub struct Patch {
    message: &'static Message,
    /// New values, by rising field number.
    fields: Vec<(&'static Field, Vec<Value>)>,
    removed: bool,
    known_only: bool,
}

impl Patch {
    /// Creates a patch that changes nothing.
    fn new(message: &'static Message) -> Self {
        Self { message, fields: Vec::new(), removed: false, known_only: false }
    }

    /// Returns the name of the message, such as `reg_file_entry`.
    pub fn message(&self) -> &'static str {
        self.message.name
    }

    /// Removes the message, which must be in a repeated field of the message around it.
    pub fn remove(&mut self) {
        self.removed = true;
    }

    /// Removes the fields of the message that this version does not know.
    pub fn remove_unknown(&mut self) {
        self.known_only = true;
    }

    /// Sets the values of a field, in place of all its old ones. No values remove the field.
    ///
    /// # Panics
    /// Panics if the message does not have the field, or if the field cannot have this number of
    /// values. A caller knows both when the program is written.
    pub fn set(&mut self, field: &str, values: impl IntoIterator<Item = Value>) {
        let found = self.message.fields.iter().find(|known| known.name == field);
        let Some(field) = found else {
            panic!("{} has no field {field}", self.message.name);
        };
        let values: Vec<Value> = values.into_iter().collect();
        let fits = match field.label {
            Label::Required => values.len() == 1,
            Label::Optional => values.len() <= 1,
            Label::Repeated => true,
        };
        assert!(fits, "{}.{} cannot have {} values", self.message.name, field.name, values.len());
        self.fields.retain(|(known, _)| known.number != field.number);
        let place = self.fields.partition_point(|(known, _)| known.number < field.number);
        self.fields.insert(place, (field, values));
    }
}

/// Rewrites an image. Returns `None` if nothing has changed.
///
/// `change` is called for every message in the image, outer messages before those inside. It may
/// read the bytes of a message with [`decode`](prost::Message::decode). Everything that `change`
/// leaves alone keeps its bytes, unknown fields included.
///
/// ```
/// use criu_images::edit::{Value, rewrite};
/// use criu_images::{Image, kind};
///
/// let bytes = std::fs::read("tests/data/pipeline/pstree.img")?;
/// let changed = rewrite("pstree.img", &bytes, &mut |patch, _| {
///     patch.set("pgid", [Value::Number(1)]);
///     Ok(())
/// })?;
/// assert!(changed.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The errors of reading the image, and of `change`.
pub fn rewrite(name: &str, bytes: &[u8], change: &mut Change<'_>) -> Result<Option<Vec<u8>>> {
    let by_name = name.rsplit('/').next().and_then(Kind::of_file);
    let mut image = match by_name {
        Some((kind, _)) => Image::parse(name, bytes, kind)?,
        None => Image::detect(name, bytes)?,
    };
    let mut new = bytes.get(..image.position()).unwrap_or_default().to_vec();
    let mut changed = false;
    while let Some(entry) = image.next_entry()? {
        let message = message(&image, &entry);
        message.check(entry.bytes()).map_err(|fault| entry.fault(fault))?;
        let rewritten = rewrite_message(message, entry.bytes(), change);
        let rewritten = rewritten.map_err(|fault| entry.fault(fault))?;
        changed |= rewritten != Rewritten::Same;
        let message = match &rewritten {
            Rewritten::Same => entry.bytes(),
            Rewritten::New(bytes) => bytes,
            Rewritten::Removed => {
                return Err(entry.fault(ErrorKind::Unsupported("removals of whole entries")));
            }
        };
        put_entry(&image, &entry, message, &mut new)?;
        let payload = image.position();
        image.payload(&entry)?;
        new.extend(bytes.get(payload..image.position()).unwrap_or_default());
    }
    Ok(changed.then_some(new))
}

/// Appends an entry: the size of its message, and the message. `entry` is the one that it replaces.
pub(super) fn put_entry(
    image: &Image<'_>,
    entry: &RawEntry<'_>,
    message: &[u8],
    to: &mut Vec<u8>,
) -> Result<()> {
    let size = u32::try_from(message.len()).map_err(|_| {
        let (size, limit) = (message.len() as u64, u32::MAX.into());
        entry.fault(ErrorKind::TooLarge { size, limit })
    })?;
    to.extend(image.word_bytes(size));
    to.extend(message);
    Ok(())
}

/// A function that [`rewrite`] calls for each message, with a patch to fill and the message's
/// bytes.
pub type Change<'c> = dyn FnMut(&mut Patch, &[u8]) -> Result<(), ErrorKind> + 'c;

/// Returns the message of an entry. Entries of one image may have different messages.
pub(crate) fn message(image: &Image<'_>, entry: &RawEntry<'_>) -> &'static Message {
    match (image.kind().entries, image.is_first(entry)) {
        (Entries::Pagemap, true) => PagemapHead::schema(),
        (Entries::Ghost, false) => GhostChunkEntry::schema(),
        // A test checks that the schema has the message of every kind.
        _ => Message::by_name(image.kind().message).unwrap_or(PagemapHead::schema()),
    }
}

#[derive(PartialEq)]
pub(super) enum Rewritten {
    Same,
    New(Vec<u8>),
    Removed,
}

/// Rewrites a message as `change` wants. The message has been checked.
pub(super) fn rewrite_message(
    message: &'static Message,
    bytes: &[u8],
    change: &mut Change<'_>,
) -> Result<Rewritten, Fault> {
    let mut patch = Patch::new(message);
    change(&mut patch, bytes)?;
    if patch.removed {
        return Ok(Rewritten::Removed);
    }
    let present = numbers(bytes, &patch)?;
    // A present field stays in its place. An absent one goes where CRIU would write it.
    let absent = patch.fields.iter().filter(|(field, _)| !present.contains(&field.number));
    let mut absent = absent.peekable();
    let mut done = Vec::new();
    let mut changed = !patch.fields.is_empty();
    let mut new = Vec::with_capacity(bytes.len());
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let start = reader.at();
        let (number, wire) = reader.key()?;
        let known = message.find(number).map(|(_, field)| field);
        let inner = match known.map(|field| field.kind) {
            Some(Type::Message(inner)) => Some((inner, reader.bytes()?)),
            _ => {
                reader.skip(wire)?;
                None
            }
        };
        if known.is_none() && patch.known_only {
            changed = true;
            continue;
        }
        while let Some((field, values)) = absent.next_if(|(field, _)| field.number < number) {
            put(field, values, &mut new);
        }
        if let Some((field, values)) = patch.fields.iter().find(|(f, _)| f.number == number) {
            if !done.contains(&number) {
                put(field, values, &mut new);
                done.push(number);
            }
            continue;
        }
        let rewritten = match inner {
            Some((inner, bytes)) => rewrite_message(inner, bytes, change)
                .map_err(|fault| fault.after((reader.at() - bytes.len()) as u64))?,
            None => Rewritten::Same,
        };
        match rewritten {
            Rewritten::Removed => {
                if known.is_none_or(|field| field.label != Label::Repeated) {
                    return Err(ErrorKind::Unsupported("removals of single messages").at(start));
                }
                changed = true;
            }
            Rewritten::New(inner) => {
                changed = true;
                encode_varint(u64::from(number) << 3 | 2, &mut new);
                encode_varint(inner.len() as u64, &mut new);
                new.extend(inner);
            }
            Rewritten::Same => new.extend(bytes.get(start..reader.at()).unwrap_or_default()),
        }
    }
    for (field, values) in absent {
        put(field, values, &mut new);
    }
    Ok(if changed && new != bytes { Rewritten::New(new) } else { Rewritten::Same })
}

/// Returns the numbers of the patched fields that occur.
fn numbers(bytes: &[u8], patch: &Patch) -> Result<Vec<u32>, Fault> {
    let mut found = Vec::new();
    if patch.fields.is_empty() {
        return Ok(found);
    }
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let (number, wire) = reader.key()?;
        reader.skip(wire)?;
        if patch.fields.iter().any(|(field, _)| field.number == number) && !found.contains(&number)
        {
            found.push(number);
        }
    }
    Ok(found)
}

/// Appends all values of a field.
fn put(field: &Field, values: &[Value], to: &mut Vec<u8>) {
    let key = u64::from(field.number) << 3;
    if field.packed && !values.is_empty() {
        let mut packed = Vec::new();
        values.iter().for_each(|value| put_number(field, value, &mut packed));
        encode_varint(key | 2, to);
        encode_varint(packed.len() as u64, to);
        to.extend(packed);
        return;
    }
    for value in values {
        match (field.kind, value) {
            (Type::Bytes | Type::String | Type::Message(_), Value::Bytes(bytes)) => {
                encode_varint(key | 2, to);
                encode_varint(bytes.len() as u64, to);
                to.extend(bytes);
            }
            (Type::Fixed64, _) => {
                encode_varint(key | 1, to);
                put_number(field, value, to);
            }
            _ => {
                encode_varint(key, to);
                put_number(field, value, to);
            }
        }
    }
}

fn put_number(field: &Field, value: &Value, to: &mut Vec<u8>) {
    let bits = match value {
        Value::Number(number) => *number,
        Value::Signed(number) => u64::from_ne_bytes(number.to_ne_bytes()),
        Value::Bytes(_) => 0,
    };
    match field.kind {
        Type::Fixed64 => to.extend(bits.to_le_bytes()),
        // Zigzag encoding: the sign goes into the lowest bit.
        Type::Sint32 | Type::Sint64 => {
            encode_varint((bits << 1) ^ (bits >> 63).wrapping_neg(), to);
        }
        _ => encode_varint(bits, to),
    }
}

/// Returns every kind of image that can hold a message, down to 8 levels of nesting.
pub(crate) fn holders(name: &str) -> Vec<&'static Kind> {
    let kinds = ALL.iter().filter(|kind| kind.entries != Entries::Raw);
    let holds = |kind: &&&Kind| Message::by_name(kind.message).is_some_and(|m| holds(m, name, 8));
    kinds.filter(holds).copied().collect()
}

fn holds(message: &'static Message, name: &str, depth: u32) -> bool {
    let inner = |field: &Field| match field.kind {
        Type::Message(inner) if depth > 0 => holds(inner, name, depth - 1),
        _ => false,
    };
    message.name == name || message.fields.iter().any(inner)
}
