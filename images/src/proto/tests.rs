//! Decoding by the tables, by the types and by prost, compared.

use std::collections::HashMap;

use prost::Message as _;
use prost::encoding::encode_varint;

use crate::error::Error;
use crate::proto::{MmEntry, PstreeEntry, Visitor, VmaEntry, tables};
use crate::schema::typed::decode;
use crate::schema::{Entry, Field, Label, Message, Type};

fn fault(message: &'static Message, bytes: &[u8]) -> (String, Option<u64>, String) {
    let error = Error::new("", message.check(bytes).unwrap_err());
    let field = error.field();
    let field = field.map_or(String::new(), |f| format!("{}.{}", f.message, f.field));
    (error.kind().to_string(), error.offset(), field)
}

#[test]
fn an_absent_required_field_is_named_where_it_should_be() {
    let task = PstreeEntry { pid: 7, ..Default::default() };
    let whole = task.encode_to_vec();
    assert!(PstreeEntry::schema().check(&whole).is_ok());
    // The last of pid, ppid, pgid, sid takes two bytes.
    let (kind, offset, field) = fault(PstreeEntry::schema(), &whole[..6]);
    assert_eq!(kind, "is required and absent");
    assert_eq!(offset, Some(0));
    assert_eq!(field, "pstree_entry.sid");
}

#[test]
fn a_fault_in_a_nested_message_counts_from_the_outer_one() {
    let mm = MmEntry { vmas: vec![VmaEntry::default()], ..Default::default() };
    let mut bytes = mm.encode_to_vec();
    let whole = bytes.len();
    // The vma comes last; its own last field is `fd`, two bytes.
    let vma = VmaEntry::default().encode_to_vec().len();
    bytes.truncate(whole - 2);
    bytes[whole - vma - 1] -= 2;
    let (kind, offset, field) = fault(MmEntry::schema(), &bytes);
    assert_eq!(kind, "is required and absent");
    assert_eq!(offset, Some((whole - vma) as u64));
    assert_eq!(field, "vma_entry.fd");
}

#[test]
fn wrong_wire_types_and_groups_are_refused() {
    let (kind, offset, field) = fault(PstreeEntry::schema(), &[0x0d, 0, 0, 0, 0]);
    assert_eq!(kind, "wire type is 5, wanted 0");
    assert_eq!(offset, Some(0));
    assert_eq!(field, "pstree_entry.pid");
    let (kind, _, _) = fault(PstreeEntry::schema(), &[0x0b]);
    assert_eq!(kind, "wire type is 3, wanted 0, 1, 2 or 5");
}

#[test]
fn repeated_numbers_may_be_packed_and_unknown_fields_pass() {
    let mut bytes = PstreeEntry::default().encode_to_vec();
    bytes.extend([0x2a, 3, 1, 0x80, 1]);
    bytes.extend([0xfa, 0x01, 2, b'h', b'i']);
    assert!(PstreeEntry::schema().check(&bytes).is_ok());
    let decoded = PstreeEntry::decode(&*bytes).unwrap();
    assert_eq!(decoded.threads, [1, 128]);
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
    tables::visit(&mut twice);
    let Twice { accepted, refused, .. } = twice;
    assert!(accepted > 4000 && refused > 2000, "{accepted} {refused}");
}

/// Sizes of the types in memory, by the names of their messages.
#[derive(Default)]
struct Sizes(HashMap<&'static str, (usize, &'static [Field])>);

impl Visitor for Sizes {
    fn see<M: Entry + PartialEq + std::fmt::Debug>(&mut self) {
        self.0.insert(M::schema().name, (size_of::<M>(), M::schema().fields));
    }
}

/// Returns the fewest bytes that a field takes.
fn least(field: &Field) -> usize {
    let key = if field.number < 16 { 1 } else { 2 };
    key + match field.kind {
        Type::Fixed64 => 8,
        Type::Message(message) => {
            let required = message.fields.iter().filter(|field| field.label == Label::Required);
            1 + required.map(least).sum::<usize>()
        }
        _ => 1,
    }
}

#[test]
fn a_message_grows_28_times_at_most_when_it_is_parsed() {
    let mut sizes = Sizes::default();
    tables::visit(&mut sizes);
    let mut most = (0, String::new());
    for (name, (_, fields)) in &sizes.0 {
        for field in fields.iter().filter(|field| field.label == Label::Repeated) {
            let (memory, bytes) = match field.kind {
                Type::Message(message) => (sizes.0[message.name].0, least(field)),
                Type::Bytes | Type::String => (size_of::<Vec<u8>>(), least(field)),
                Type::Fixed64 => (8, 8),
                // In one piece, a number takes a byte.
                _ => (8, 1),
            };
            most = most.max((memory.div_ceil(bytes), format!("{name}.{}", field.name)));
        }
    }
    // An empty controller of cgroups, which takes two bytes.
    assert_eq!(most, (28, "cgroup_entry.controllers".to_owned()));
    // A list reserves up to as much again while it grows.
    let reason = crate::bounds::ENTRY.reason();
    assert!(reason.contains(" up to 28 times, and twice as much with what lists reserve"));
    // Images of a task, of which the smallest have some 60 bytes.
    assert!(size_of::<crate::tree::Node>() <= 4096);
}
