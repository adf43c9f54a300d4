//! A digest of bytes, against accidents.

/// A digest in the making. A change within 8 bytes at a multiple of 8 always changes the digest;
/// another change goes unnoticed once in 2^64 times. Not for use against an attacker.
#[derive(Clone, Debug)]
pub(super) struct Digest {
    state: u64,
    bytes: u64,
}

impl Digest {
    pub(super) fn new() -> Self {
        Self { state: FIRST, bytes: 0 }
    }

    /// Adds bytes. All pieces of one item, except the last, have a multiple of 8 bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(word));
        }
        self.bytes = self.bytes.wrapping_add(bytes.len() as u64);
    }

    /// Adds a number.
    pub(super) fn word(&mut self, word: u64) {
        // Each step can be undone, so no difference is ever lost.
        self.state = (self.state ^ word).wrapping_mul(FACTOR);
        self.state ^= self.state >> 32;
    }

    /// Returns the digest, in which each bit depends on all bits before.
    pub(super) fn finish(mut self) -> u64 {
        self.word(self.bytes);
        self.word(FIRST);
        self.state
    }
}

// Odd numbers without a pattern: digits of the golden ratio and of pi.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const FIRST: u64 = 0x243f_6a88_85a3_08d3;

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> u64 {
        let mut digest = Digest::new();
        digest.add(bytes);
        digest.finish()
    }

    #[test]
    fn every_changed_bit_and_every_cut_changes_the_digest() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut seen = std::collections::HashSet::from([digest(&bytes)]);
        for bit in 0..800 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(digest(&changed)), "bit {bit}");
        }
        for size in 0..100 {
            assert!(seen.insert(digest(&bytes[..size])), "{size} bytes");
        }
        // Zeros count, too.
        assert_ne!(digest(&[0; 8]), digest(&[0; 16]));
        assert_ne!(digest(&[0; 7]), digest(&[0; 8]));
    }

    #[test]
    fn pieces_make_no_difference() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut pieces = Digest::new();
        bytes.chunks(16).for_each(|piece| pieces.add(piece));
        assert_eq!(pieces.finish(), digest(&bytes));
    }
}
