//! Sets of images in one piece: the input of targets that take a set.
//!
//! ```text
//! { kind u8   id u32   size u16   bytes }
//! kind: place in the catalogue; the top bit marks the parent set
//! ```
//!
//! Bytes that do not fit end the set, so every input is a set.

use criu_images::kind::{self, Kind};
use criu_images::source::InMemory;

/// A file of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `true` if the file belongs to the parent set.
    pub in_parent: bool,
    /// Kind of the file; `None` for a script, which the target itself reads.
    pub kind: Option<&'static Kind>,
    /// Id in the name of the file.
    pub id: u32,
    /// Content of the file.
    pub bytes: Vec<u8>,
}

/// Inputs by target and name.
pub type Seeds = Vec<(&'static str, String, Vec<u8>)>;

/// Splits a set into its files.
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

/// Packs files into a set. Files larger than a record are cut.
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

/// Makes a source of the set, with its parent set.
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

/// Returns the script, which tells the target what to do; empty if the set has no script.
pub fn script(records: &[Record]) -> &[u8] {
    let script = records.iter().find(|record| record.kind.is_none());
    script.map_or(&[], |record| &record.bytes)
}

/// Place that marks a script.
const SCRIPT: u8 = 0x7f;
