//! Bytes in place of contents.

use std::hash::{BuildHasher, RandomState};

/// Makes bytes from a secret. Equal contents get equal bytes.
#[derive(Debug, Default)]
pub(super) struct Filler {
    secret: RandomState,
}

impl Filler {
    /// Replaces a content by 16 hexadecimal digits, over and over. A content of zeros stays.
    pub(super) fn replace(&self, content: &mut [u8]) {
        if content.iter().any(|byte| *byte != 0) {
            let digits = self.digits(content);
            content.iter_mut().zip(digits.iter().cycle()).for_each(|(to, from)| *to = *from);
        }
    }

    fn digits(&self, content: &[u8]) -> [u8; 16] {
        let hash = self.secret.hash_one(content);
        let mut digits = [0; 16];
        for (place, digit) in digits.iter_mut().enumerate() {
            let nibble = hash >> (4 * place) & 0xf;
            *digit =
                b"0123456789abcdef".get(usize::try_from(nibble).unwrap_or(0)).map_or(0, |d| *d);
        }
        digits
    }

    /// Makes an LZ4 block of `stored` bytes that unpacks to `size` bytes: a digit, over and over.
    /// Returns `None` if no LZ4 block has these sizes.
    pub(super) fn block(&self, stored: &[u8], size: usize) -> Option<Vec<u8>> {
        let digit = *self.digits(stored).first()?;
        // Literals, a match that repeats the byte before it, and literals at the end.
        let fits = |first: usize, last: usize| -> Option<usize> {
            let repeated = size.checked_sub(first + last)?.checked_sub(SHORTEST)?;
            let len = 1 + more(first) + first + 2 + more(repeated) + 1 + more(last) + last;
            (len == stored.len()).then_some(repeated)
        };
        // The lengths of the literals are all that varies. Each adds about a byte a literal.
        let longest = stored.len().min(size);
        let (first, last, repeated) = (LAST..LAST + 32).find_map(|last| {
            let near = longest.saturating_sub(last + size / 255 + 64).max(1);
            (near..=longest).find_map(|first| Some((first, last, fits(first, last)?)))
        })?;
        let mut block = Vec::with_capacity(stored.len());
        let token = |literals: usize, repeated: usize| {
            let nibble = |count: usize| u8::try_from(count.min(15)).unwrap_or(15);
            nibble(literals) << 4 | nibble(repeated)
        };
        block.push(token(first, repeated));
        put_more(first, &mut block);
        block.resize(block.len() + first, digit);
        block.extend(1u16.to_le_bytes());
        put_more(repeated, &mut block);
        block.push(token(last, 0));
        put_more(last, &mut block);
        block.resize(block.len() + last, digit);
        Some(block)
    }
}

/// Number of bytes that carry the part of a length that a token has no room for.
fn more(length: usize) -> usize {
    length.checked_sub(15).map_or(0, |rest| rest / 255 + 1)
}

fn put_more(length: usize, to: &mut Vec<u8>) {
    if let Some(rest) = length.checked_sub(15) {
        to.resize(to.len() + rest / 255, 255);
        to.push(u8::try_from(rest % 255).unwrap_or(0));
    }
}

/// Fewest literals at the end of a block.
const LAST: usize = 5;
/// Length of the shortest match; a token counts from it.
const SHORTEST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_both_sizes() {
        let filler = Filler::default();
        for size in [4096, 8192, 65536, 1 << 20] {
            let least = size / 255 + 16;
            for stored in (least..least + 300).chain([size / 2, size - 40, size - 20]) {
                let block = filler.block(&vec![7; stored], size);
                let block = block.unwrap_or_else(|| panic!("{stored} bytes for {size}"));
                assert_eq!(block.len(), stored);
                let unpacked = lz4_flex::block::decompress(&block, size).unwrap();
                assert_eq!(unpacked.len(), size);
            }
        }
    }

    #[test]
    fn zeros_stay_and_equal_contents_stay_equal() {
        let filler = Filler::default();
        let replaced = |content: &[u8]| {
            let mut content = content.to_vec();
            filler.replace(&mut content);
            content
        };
        assert_eq!(replaced(&[0; 4096]), [0; 4096]);
        assert_eq!(replaced(b"secret and long"), replaced(b"secret and long"));
        assert_ne!(replaced(b"secret and long"), replaced(b"Secret and long"));
    }
}
