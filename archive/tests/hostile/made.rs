//! Pieces of tar archives.

pub(crate) const BLOCK: usize = 512;

/// A header with a GNU magic.
pub(crate) fn header(name: &str, sort: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000600\0");
    // GNU's binary form.
    block[124] = 0x80;
    block[128..136].copy_from_slice(&size.to_be_bytes());
    block[156] = sort;
    block[257..265].copy_from_slice(b"ustar  \0");
    signed(block)
}

/// Writes the sum of a header.
pub(crate) fn signed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Content, filled up to a block.
pub(crate) fn filled(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(BLOCK), 0);
    content
}

/// A PAX record.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let mut len = key.len() + value.len() + 4;
    while len != len.to_string().len() + key.len() + value.len() + 3 {
        len = len.to_string().len() + key.len() + value.len() + 3;
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A header with text for the member behind it.
pub(crate) fn extended(sort: u8, content: &[u8]) -> Vec<u8> {
    [&header("more", sort, content.len() as u64)[..], &filled(content)].concat()
}

/// A file.
pub(crate) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    [&header(name, b'0', content.len() as u64)[..], &filled(content)].concat()
}
