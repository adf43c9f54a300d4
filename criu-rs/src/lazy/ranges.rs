//! Addresses of memory, as ranges that do not overlap.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges of addresses, each found in a time that grows with the logarithm of their number.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Takes ranges that do not overlap.
    pub(super) fn new(ranges: &[Range<u64>]) -> Self {
        Self(ranges.iter().map(|range| (range.start, range.end)).collect())
    }

    /// Returns the ranges, ascending.
    pub(super) fn to_vec(&self) -> Vec<Range<u64>> {
        self.0.iter().map(|(start, end)| *start..*end).collect()
    }

    /// Takes the addresses of a range out. Returns the parts that were there.
    pub(super) fn cut(&mut self, gone: &Range<u64>) -> Vec<Range<u64>> {
        let before = self.0.range(..gone.end).rev();
        let met = before.take_while(|(_, end)| gone.start < **end).map(|(start, _)| *start);
        let met: Vec<_> = met.collect();
        let mut parts = Vec::new();
        for start in met.into_iter().rev() {
            let Some(end) = self.0.remove(&start) else { continue };
            if start < gone.start {
                self.0.insert(start, gone.start);
            }
            if gone.end < end {
                self.0.insert(gone.end, end);
            }
            parts.push(start.max(gone.start)..end.min(gone.end));
        }
        parts
    }

    /// Moves addresses. What is at the target goes.
    pub(super) fn shift(&mut self, from: u64, to: u64, bytes: u64) {
        self.cut(&(to..to.saturating_add(bytes)));
        for part in self.cut(&(from..from.saturating_add(bytes))) {
            self.0.insert(part.start - from + to, part.end - from + to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_shrink_split_and_move() {
        let mut ranges = Ranges::new(&[10..20, 30..40]);
        assert_eq!(ranges.cut(&(12..14)).first(), Some(&(12..14)));
        ranges.shift(11, 101, 5);
        assert_eq!(ranges.to_vec(), [10..11, 16..20, 30..40, 101..102, 104..106]);
        // What was at the target is gone.
        ranges.shift(101, 17, 1);
        assert_eq!(ranges.to_vec(), [10..11, 16..17, 17..18, 18..20, 30..40, 104..106]);
        assert_eq!(ranges.cut(&(17..105)), [17..18, 18..20, 30..40, 104..105]);
        assert_eq!(ranges.cut(&(0..u64::MAX)), [10..11, 16..17, 105..106]);
        assert!(ranges.to_vec().is_empty());
    }
}
