//! A set of images in one piece, as the targets take it whose input is a set.
//!
//! ```text
//! { kind u8   id u32   size u16   bytes }      kind: its place in the catalogue; with the top bit, of the parent set
//! ```
//!
//! Whatever does not fit this ends the set: every input is one.

use criu_images::kind::{self, Kind};
use criu_images::source::InMemory;

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of the parent set.
    pub in_parent: bool,
    /// What it is; `None` is a script for the target itself.
    pub kind: Option<&'static Kind>,
    /// The id in its name.
    pub id: u32,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Inputs by target and name.
pub type Seeds = Vec<(&'static str, String, Vec<u8>)>;

/// Takes a set apart.
pub fn records(mut data: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<7>() {
        let [place, a, b, c, d, low, high] = *head;
        let size = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (bytes, rest) = rest.split_at(size);
        let kind = kind::ALL.get(usize::from(place & 0x7f)).copied();
        let (in_parent, id) = (place & 0x80 != 0, u32::from_le_bytes([a, b, c, d]));
        records.push(Record { in_parent, kind, id, bytes: bytes.to_vec() });
        data = rest;
    }
    records
}

/// Puts a set together. Files larger than a record are cut.
pub fn pack(records: &[Record]) -> Vec<u8> {
    let mut data = Vec::new();
    for record in records {
        let place = kind::ALL.iter().position(|kind| Some(*kind) == record.kind);
        let place = place.and_then(|place| u8::try_from(place).ok()).unwrap_or(SCRIPT);
        let size = u16::try_from(record.bytes.len()).unwrap_or(u16::MAX);
        data.push(place | if record.in_parent { 0x80 } else { 0 });
        data.extend(record.id.to_le_bytes());
        data.extend(size.to_le_bytes());
        data.extend(&record.bytes[..usize::from(size)]);
    }
    data
}

/// The set itself, its parent set included.
pub fn source(records: &[Record]) -> InMemory {
    let (mut files, mut parent) = (InMemory::default(), InMemory::default());
    let mut has_parent = false;
    for record in records {
        let Some(kind) = record.kind else { continue };
        let name = kind.file_name(record.id.into());
        if record.in_parent {
            parent.insert(name, record.bytes.clone());
            has_parent = true;
        } else {
            files.insert(name, record.bytes.clone())
        }
    }
    if has_parent {
        files.set_parent(parent);
    }
    files
}

/// What is no image but says what the target does.
pub fn script(records: &[Record]) -> &[u8] {
    let script = records.iter().find(|record| record.kind.is_none());
    script.map_or(&[], |record| &record.bytes)
}

/// The place of a script.
const SCRIPT: u8 = 0x7f;
