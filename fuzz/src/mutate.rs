//! Mutations that keep images whole, so that fuzzing gets past the first checks: one field of a
//! message changes, and the lengths around it stay right.

use criu_images::kind::{Entries, Extra};
use criu_images::schema::{Field, Label, Message, Type};
use criu_images::{Image, kind};

use crate::image::message;
use crate::pack::{Record, pack, records};
use crate::schema::schema;

/// Changes a set in one place or a few. Sometimes changes its bytes without regard to their
/// meaning.
pub fn set(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random::new(seed);
    let mut all = records(&data[..size]);
    if all.is_empty() || random.one_in(12) {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let ids: Vec<u64> = all.iter().map(|record| record.id.into()).collect();
    for _ in 0..=random.below(3) {
        one_record(&mut all, &ids, &mut random);
    }
    let new = pack(&all);
    if new.len() > max_size || new.len() > data.len() {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    data[..new.len()].copy_from_slice(&new);
    new.len()
}

/// Changes an image in one place.
pub fn image(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random::new(seed);
    if !random.one_in(3) {
        if let Some(new) = fields(&data[..size], &[], &mut random) {
            if new.len() <= max_size && new.len() <= data.len() {
                data[..new.len()].copy_from_slice(&new);
                return new.len();
            }
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

/// Changes a message in one place, after the two bytes that choose the message.
pub fn message_of(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random::new(seed);
    if let Some((&[low, high], bytes)) = data[..size].split_first_chunk::<2>() {
        let place = u16::from_le_bytes([low, high]);
        let schema = schema(place);
        let nodes = schema.and_then(|schema| Some((schema, parse(schema, bytes, 0)?)));
        if let Some((schema, mut nodes)) = nodes.filter(|_| !random.one_in(4)) {
            for _ in 0..=random.below(3) {
                change(schema, &mut nodes, &[], &mut random, 0);
            }
            let mut new = vec![low, high];
            encode(&nodes, &mut new);
            if new.len() <= max_size && new.len() <= data.len() {
                data[..new.len()].copy_from_slice(&new);
                return new.len();
            }
        }
    }
    libfuzzer_sys::fuzzer_mutate(data, size, max_size)
}

fn one_record(all: &mut Vec<Record>, ids: &[u64], random: &mut Random) {
    let place = random.place(all.len());
    match random.below(16) {
        0 => {
            let mut copy = all[place].clone();
            match random.below(3) {
                0 => copy.in_parent = !copy.in_parent,
                1 => copy.kind = kind::ALL.get(random.place(kind::ALL.len())).copied(),
                _ => copy.id = u32::try_from(random.value(ids) & 0xffff_ffff).unwrap_or(0),
            }
            all.push(copy);
        }
        1 if all.len() > 1 => {
            all.remove(place);
        }
        2 => all[place].id = u32::try_from(random.value(ids) & 0xffff_ffff).unwrap_or(0),
        3 => {
            let other = random.place(all.len());
            let bytes = all[other].bytes.clone();
            all[place].bytes = bytes;
        }
        4 | 5 => plainly(&mut all[place].bytes),
        _ => match fields(&all[place].bytes, ids, random) {
            Some(new) => all[place].bytes = new,
            // Of another format: a word of it may be a size.
            None if random.one_in(2) && all[place].bytes.len() >= 4 => {
                let bytes = &mut all[place].bytes;
                let at = random.place(bytes.len() / 4) * 4;
                let value = random.value(ids).to_le_bytes();
                bytes[at..at + 4].copy_from_slice(&value[..4]);
            }
            None => plainly(&mut all[place].bytes),
        },
    }
}

/// An entry of an image: the message and its payload.
struct Entry<'a> {
    message: &'a [u8],
    follows: &'a [u8],
}

/// Changes a field of an image; `None` if the bytes are not an image, or one without entries.
fn fields(data: &[u8], ids: &[u64], random: &mut Random) -> Option<Vec<u8>> {
    let mut image = Image::detect("image", data).ok()?;
    let kind = image.kind();
    let (mut entries, mut starts) = (Vec::new(), Vec::new());
    while let Ok(Some(entry)) = image.next_entry() {
        let start = usize::try_from(entry.offset()).ok()?;
        starts.push(start);
        entries.push(Entry { message: entry.bytes(), follows: &[] });
        if kind.extra != Extra::None && image.payload(&entry).is_err() {
            break;
        }
    }
    let ends = starts.iter().skip(1).map(|start| start - 4).chain([data.len()]);
    for ((entry, start), end) in entries.iter_mut().zip(&starts).zip(ends) {
        entry.follows = data.get(start + entry.message.len()..end).unwrap_or_default();
    }
    let head = data.get(..starts.first()?.checked_sub(4)?)?;
    let place = random.place(entries.len());
    let schema = Message::by_name(message(kind, place == 0))?;
    let mut tree = parse(schema, entries[place].message, 0)?;
    let mut changed = Vec::new();
    let mut times = 1;
    if matches!(kind.entries, Entries::Many | Entries::Pagemap) {
        match random.below(12) {
            0 => times = 2,
            1 if entries.len() > 1 => times = 0,
            _ => change(schema, &mut tree, ids, random, 0),
        }
    } else {
        change(schema, &mut tree, ids, random, 0);
    }
    encode(&tree, &mut changed);
    let mut new = head.to_vec();
    for (number, entry) in entries.iter().enumerate() {
        let (message, times) =
            if number == place { (&changed[..], times) } else { (entry.message, 1) };
        for _ in 0..times {
            new.extend(u32::try_from(message.len()).ok()?.to_le_bytes());
            new.extend(message);
            new.extend(entry.follows);
        }
    }
    Some(new)
}

/// Changes bytes as libFuzzer does by default.
fn plainly(bytes: &mut Vec<u8>) {
    let size = bytes.len();
    bytes.resize((size + 64).min(u16::MAX.into()), 0);
    let room = bytes.len();
    let size = libfuzzer_sys::fuzzer_mutate(bytes, size, room);
    bytes.truncate(size);
}

/// A field as encoded on the wire.
#[derive(Clone)]
struct Node {
    number: u32,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Vec<Node>),
}

fn field(schema: &'static Message, number: u32) -> Option<&'static Field> {
    schema.fields.iter().find(|field| field.number == number)
}

/// Parses the fields of a message; `None` if the bytes are malformed.
fn parse(schema: &'static Message, mut bytes: &[u8], depth: u32) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            2 => {
                let size = usize::try_from(varint(&mut bytes)?).ok()?;
                let inner = take(&mut bytes, size)?;
                let nested = field(schema, number).and_then(|field| match field.kind {
                    Type::Message(message) if depth < 100 => parse(message, inner, depth + 1),
                    _ => None,
                });
                nested.map_or_else(|| Value::Bytes(inner.to_vec()), Value::Message)
            }
            _ => return None,
        };
        nodes.push(Node { number, value });
    }
    Some(nodes)
}

/// Returns `true` if a message that may occur once occurs several times, at any depth. Messages
/// that end early count too.
pub(crate) fn in_pieces(schema: &'static Message, bytes: &[u8]) -> bool {
    fn inside(schema: &'static Message, mut bytes: &[u8], depth: u32) -> Option<bool> {
        let mut seen = Vec::new();
        while !bytes.is_empty() && depth < 100 {
            let key = varint(&mut bytes)?;
            match key & 7 {
                0 => drop(varint(&mut bytes)?),
                1 => drop(take(&mut bytes, 8)?),
                5 => drop(take(&mut bytes, 4)?),
                2 => {
                    let size = usize::try_from(varint(&mut bytes)?).unwrap_or(usize::MAX);
                    let size = size.min(bytes.len());
                    let inner = take(&mut bytes, size)?;
                    let Some(field) = field(schema, u32::try_from(key >> 3).ok()?) else {
                        continue;
                    };
                    let Type::Message(message) = field.kind else { continue };
                    let again = field.label != Label::Repeated && seen.contains(&field.number);
                    if again || inside(message, inner, depth + 1) == Some(true) {
                        return Some(true);
                    }
                    seen.push(field.number);
                }
                _ => return None,
            }
        }
        Some(false)
    }
    inside(schema, bytes, 0) == Some(true)
}

fn take<'a>(bytes: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(size)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn encode(nodes: &[Node], out: &mut Vec<u8>) {
    for Node { number, value } in nodes {
        let key = u64::from(*number) << 3;
        match value {
            Value::Varint(value) => {
                put_varint(key, out);
                put_varint(*value, out);
            }
            Value::Fixed64(bytes) => {
                put_varint(key | 1, out);
                out.extend(bytes);
            }
            Value::Fixed32(bytes) => {
                put_varint(key | 5, out);
                out.extend(bytes);
            }
            Value::Bytes(bytes) => {
                put_varint(key | 2, out);
                put_varint(bytes.len() as u64, out);
                out.extend(bytes);
            }
            Value::Message(nodes) => {
                let mut inner = Vec::new();
                encode(nodes, &mut inner);
                put_varint(key | 2, out);
                put_varint(inner.len() as u64, out);
                out.extend(inner);
            }
        }
    }
}

/// Changes a field of a message, or of a message inside it.
fn change(
    schema: &'static Message,
    nodes: &mut Vec<Node>,
    ids: &[u64],
    random: &mut Random,
    depth: u32,
) {
    let inside: Vec<usize> = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| matches!(node.value, Value::Message(_)))
        .map(|(place, _)| place)
        .collect();
    if !inside.is_empty() && !random.one_in(3) {
        let place = inside[random.place(inside.len())];
        let Node { number, value } = &mut nodes[place];
        let inner = field(schema, *number).and_then(|field| match field.kind {
            Type::Message(message) => Some(message),
            _ => None,
        });
        if let (Some(inner), Value::Message(nodes)) = (inner, value) {
            return change(inner, nodes, ids, random, depth + 1);
        }
    }
    if nodes.is_empty() || random.one_in(6) {
        if let Some(field) = schema.fields.get(random.place(schema.fields.len())) {
            let value = made(field.kind, ids, random, depth);
            nodes.push(Node { number: field.number, value });
        }
        return;
    }
    let place = random.place(nodes.len());
    match random.below(10) {
        0 => {
            nodes.remove(place);
        }
        1 => {
            let copy = nodes[place].clone();
            nodes.insert(place, copy);
        }
        2 => {
            let other = random.place(nodes.len());
            nodes.swap(place, other);
        }
        3 => {
            let other = random.place(nodes.len());
            nodes[place].value = nodes[other].value.clone();
        }
        _ => match &mut nodes[place].value {
            Value::Varint(value) => *value = random.near(*value, ids),
            Value::Fixed64(bytes) => {
                *bytes = random.near(u64::from_le_bytes(*bytes), ids).to_le_bytes();
            }
            Value::Fixed32(bytes) => bytes[random.place(4)] ^= 1 << random.below(8),
            Value::Bytes(bytes) => {
                let size = bytes.len();
                bytes.resize(size + 16, 0);
                let room = bytes.len();
                let size = libfuzzer_sys::fuzzer_mutate(bytes, size, room);
                bytes.truncate(size);
            }
            Value::Message(_) => {}
        },
    }
}

/// Makes a value of a type, with all required fields.
fn made(kind: Type, ids: &[u64], random: &mut Random, depth: u32) -> Value {
    match kind {
        Type::Fixed64 => Value::Fixed64(random.value(ids).to_le_bytes()),
        Type::Bytes | Type::String => Value::Bytes(match random.below(3) {
            0 => Vec::new(),
            1 => b"/a/b".to_vec(),
            _ => vec![0xff; random.place(40)],
        }),
        Type::Message(message) => {
            let mut nodes = Vec::new();
            for field in message.fields {
                if field.label == Label::Required || depth < 4 && random.one_in(4) {
                    let value = made(field.kind, ids, random, depth + 1);
                    nodes.push(Node { number: field.number, value });
                }
            }
            Value::Message(nodes)
        }
        Type::Bool => Value::Varint(random.below(2)),
        Type::Enum(list) => match list.values.get(random.place(list.values.len() + 1)) {
            Some((number, _)) => Value::Varint(*number as u64),
            None => Value::Varint(random.value(ids)),
        },
        _ => Value::Varint(random.value(ids)),
    }
}

/// Pseudo-random numbers that a seed reproduces.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u32) -> Self {
        Self((u64::from(seed) << 17 | 0x9e37) ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Picks a number with a meaning: an id, a size, a limit.
    fn value(&mut self, ids: &[u64]) -> u64 {
        match self.below(8) {
            0 | 1 if !ids.is_empty() => ids[self.place(ids.len())],
            0..3 => self.below(9),
            3 => self.below(64) * 4096,
            4 => 1 << self.below(64),
            5 => u64::MAX << self.below(64),
            6 => (1 << self.below(64)) - 1,
            _ => self.next(),
        }
    }

    fn near(&mut self, old: u64, ids: &[u64]) -> u64 {
        match self.below(8) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => old ^ 1 << self.below(64),
            3 => old.wrapping_add(4096),
            4 => old.wrapping_sub(4096),
            _ => self.value(ids),
        }
    }
}
