//! Core files of checkpoints.

use std::io::{self, Write};

use criu_images::{CoreDump, ImageSet};

use crate::pack::{records, source};

/// Writes the core file of each task: the result is an ELF file or an error.
pub fn run(data: &[u8]) {
    let Ok(set) = ImageSet::new(source(&records(data))) else { return };
    let Ok(checkpoint) = set.checkpoint() else { return };
    for task in checkpoint.tasks().take(4) {
        let Ok(core) = CoreDump::new(&task) else { continue };
        assert!(!core.to_string().is_empty());
        assert!(core.memory_size() <= core.size());
        _ = core.kept_back();
        let mut out = Bounded(Vec::new());
        if core.write_to(&mut out).is_ok() {
            assert_eq!(out.0.len() as u64, core.size());
            read(&out.0);
        }
    }
}

/// A writer that accepts a limited number of bytes.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Goes through the file as a debugger does: header, segments, notes.
fn read(file: &[u8]) {
    let half = |at: usize| usize::from(u16::from_le_bytes([file[at], file[at + 1]]));
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| {
        let long = u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
        usize::try_from(long).expect("a file of this size has no larger offset")
    };
    assert_eq!(&file[..6], b"\x7fELF\x02\x01");
    assert_eq!(half(16), 4, "e_type is ET_CORE");
    let (headers, mut count) = (long(32), half(56));
    if count == 0xffff {
        // The number is in the first section header.
        count = usize::try_from(word(long(40) + 44)).expect("it fits");
    }
    let mut end = 0;
    for number in 0..count {
        let at = headers + number * 56;
        let (kind, offset, size) = (word(at), long(at + 8), long(at + 32));
        assert!(offset + size <= file.len(), "segment {number} ends in the file");
        match kind {
            4 => notes(&file[offset..offset + size]),
            1 => {
                let address = u64::from_le_bytes(file[at + 16..at + 24].try_into().expect("eight"));
                let length = u64::from_le_bytes(file[at + 40..at + 48].try_into().expect("eight"));
                assert!(address >= end, "segments ascend");
                assert!(length >= size as u64);
                end = address + length;
            }
            other => panic!("segment {number} has type {other}"),
        }
    }
}

fn notes(mut notes: &[u8]) {
    let padded = |size: u32| (size as usize).div_ceil(4) * 4;
    while !notes.is_empty() {
        let word = |at: usize| u32::from_le_bytes(notes[at..at + 4].try_into().expect("four"));
        let (name, content) = (word(0), word(4));
        notes = &notes[12 + padded(name) + padded(content)..];
    }
}

/// Largest core file that is examined, in bytes.
const MOST: usize = 4 << 20;
