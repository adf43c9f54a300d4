//! ELF headers around the notes and the memory.

use super::segments::Segment;

/// Places of all parts in the file, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    notes: u64,
    notes_size: u64,
    /// Offset of the first segment's bytes.
    pub(super) data: u64,
    pub(super) size: u64,
    /// Number of program headers: memory segments and the notes.
    headers: u64,
    page: u64,
}

impl Layout {
    /// Plans the layout. Returns `None` if a file cannot be that large.
    pub(super) fn new(notes_size: u64, segments: &[Segment], page: u64) -> Option<Self> {
        let headers = (segments.len() as u64).checked_add(1)?;
        let mut notes = EHDR.checked_add(headers.checked_mul(PHDR)?)?;
        if headers >= PN_XNUM.into() {
            notes = notes.checked_add(SHDR)?;
        }
        let data = notes.checked_add(notes_size)?.checked_next_multiple_of(page)?;
        let stored = segments.iter().try_fold(0u64, |sum, s| sum.checked_add(s.stored))?;
        let size = data.checked_add(stored).filter(|&size| size < 1 << 63)?;
        Some(Self { notes, notes_size, data, size, headers, page })
    }
}

/// Returns everything before the notes.
pub(super) fn head(machine: u16, layout: &Layout, segments: &[Segment]) -> Vec<u8> {
    let many = layout.headers >= PN_XNUM.into();
    let mut out = Vec::new();
    // 64 bits, little-endian, version 1, System V.
    out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put16(&mut out, ET_CORE);
    put16(&mut out, machine);
    put32(&mut out, 1);
    put64(&mut out, 0);
    put64(&mut out, EHDR);
    // A section header holds the number of program headers if 16 bits cannot.
    put64(&mut out, if many { EHDR + layout.headers * PHDR } else { 0 });
    put32(&mut out, 0);
    for short in [EHDR, PHDR] {
        put16(&mut out, u16::try_from(short).unwrap_or_default());
    }
    put16(&mut out, u16::try_from(layout.headers).unwrap_or(PN_XNUM));
    put16(&mut out, if many { u16::try_from(SHDR).unwrap_or_default() } else { 0 });
    put16(&mut out, many.into());
    put16(&mut out, 0);

    let Layout { notes, notes_size, page, .. } = *layout;
    header(&mut out, PT_NOTE, 0, [notes, 0, notes_size, notes_size, 4]);
    let mut offset = layout.data;
    for Segment { start, end, stored, flags, .. } in segments {
        let size = end.saturating_sub(*start);
        header(&mut out, PT_LOAD, *flags, [offset, *start, *stored, size, page]);
        offset = offset.saturating_add(*stored);
    }
    if many {
        // Name, type, flags, address, offset, size, link, info, alignment, entry size.
        out.extend([0; 32]);
        put64(&mut out, 1);
        put32(&mut out, 0);
        put32(&mut out, u32::try_from(layout.headers).unwrap_or(u32::MAX));
        out.extend([0; 16]);
    }
    out
}

/// Appends a program header. `place` is offset, address, bytes in the file, bytes in memory,
/// alignment.
fn header(out: &mut Vec<u8>, kind: u32, flags: u32, place: [u64; 5]) {
    let [offset, address, in_file, in_memory, align] = place;
    put32(out, kind);
    put32(out, flags);
    for word in [offset, address, 0, in_file, in_memory, align] {
        put64(out, word);
    }
}

pub(super) fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_le_bytes());
}

pub(super) fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

pub(super) fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_le_bytes());
}

// From elf(5).
const EHDR: u64 = 64;
const PHDR: u64 = 56;
const SHDR: u64 = 64;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Number of program headers that means: a section header holds the real number.
const PN_XNUM: u16 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_headers_than_16_bits_count_are_counted_elsewhere() {
        let segment = |n: u64| Segment {
            start: n << 20,
            end: (n << 20) + 4096,
            stored: 4096,
            flags: 4,
            is_lazy: false,
        };
        for count in [2, 0xfffd, 0xfffe, 0x1_0000] {
            let segments: Vec<_> = (0..count).map(segment).collect();
            let layout = Layout::new(8, &segments, 4096).unwrap();
            let head = head(62, &layout, &segments);
            assert_eq!(head.len() as u64, layout.notes);
            assert_eq!(layout.size, layout.data + count * 4096);
            let number = u16::from_le_bytes([head[56], head[57]]);
            let many = count + 1 >= 0xffff;
            assert_eq!(u64::from(number), (count + 1).min(0xffff));
            assert_eq!(head[60], u8::from(many));
            if many {
                let section = &head[head.len() - 64..];
                let info = u32::from_le_bytes(section[44..48].try_into().unwrap());
                assert_eq!(u64::from(info), count + 1);
            }
        }
    }

    #[test]
    fn a_file_larger_than_any_is_refused() {
        let huge = Segment { start: 0, end: 1 << 63, stored: 1 << 63, flags: 4, is_lazy: false };
        assert!(Layout::new(0, &[huge], 4096).is_none());
    }
}
