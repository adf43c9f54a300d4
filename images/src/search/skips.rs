//! Bytes that the first bytes of every match are among.

use regex_automata::nfa::thompson::{Config, NFA, State, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::syntax;

/// The values that each of the first bytes of a match can have. A place whose byte has another
/// value is not among the first bytes of a match, so several places are passed over at once.
#[derive(Clone, Debug)]
pub(crate) struct Skips {
    at: Vec<Bytes>,
    /// All of them together.
    any: Bytes,
}

#[derive(Clone, Debug)]
struct Bytes(Box<[bool; 256]>);

impl Skips {
    /// Looks through a regular expression. Returns `None` if a match may be shorter than two bytes.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let config = Config::new().utf8(false).which_captures(WhichCaptures::None);
        let config = config.nfa_size_limit(Some(LARGEST));
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        let nfa = NFA::compiler().configure(config).syntax(syntax).build(text).ok()?;
        let mut skips = Self { at: Vec::new(), any: Bytes::none() };
        let mut states = reached(&nfa, vec![nfa.start_anchored()]);
        while skips.at.len() < MOST {
            let (mut bytes, mut next) = (Bytes::none(), Vec::new());
            let mut step = |range: std::ops::RangeInclusive<u8>, to| {
                range.for_each(|byte| bytes.add(byte));
                next.push(to);
            };
            for &id in &states {
                match nfa.state(id) {
                    State::ByteRange { trans } => step(trans.start..=trans.end, trans.next),
                    State::Sparse(sparse) => {
                        sparse.transitions.iter().for_each(|t| step(t.start..=t.end, t.next));
                    }
                    State::Dense(dense) => {
                        let next = |byte| Some((byte, dense.matches_byte(byte)?));
                        let steps = (0..=255).filter_map(next);
                        steps.for_each(|(byte, next)| step(byte..=byte, next));
                    }
                    State::Match { .. } => return skips.if_useful(),
                    _ => {}
                }
            }
            (0..=255).filter(|byte| bytes.has(*byte)).for_each(|byte| skips.any.add(byte));
            skips.at.push(bytes);
            states = reached(&nfa, next);
        }
        skips.if_useful()
    }

    fn if_useful(self) -> Option<Self> {
        (self.at.len() >= 2).then_some(self)
    }

    /// Finds the next place from `at` on where a match may begin.
    pub(crate) fn next(&self, bytes: &[u8], mut at: usize) -> Option<usize> {
        let last = self.at.len().checked_sub(1)?;
        loop {
            if !self.any.has(*bytes.get(at.checked_add(last)?)?) {
                at += self.at.len();
                continue;
            }
            let here = bytes.get(at..)?;
            if self.at.iter().zip(here).all(|(wanted, byte)| wanted.has(*byte)) {
                return Some(at);
            }
            at += 1;
        }
    }
}

impl Bytes {
    fn none() -> Self {
        Self(Box::new([false; 256]))
    }

    fn add(&mut self, byte: u8) {
        if let Some(here) = self.0.get_mut(usize::from(byte)) {
            *here = true;
        }
    }

    #[inline]
    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or(false)
    }
}

/// Returns the states that are reached without a byte. Conditions such as `^` count as met.
fn reached(nfa: &NFA, mut waiting: Vec<StateID>) -> Vec<StateID> {
    let mut seen = vec![false; nfa.states().len()];
    let mut found = Vec::new();
    while let Some(id) = waiting.pop() {
        match seen.get_mut(id.as_usize()) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        match nfa.state(id) {
            State::Look { next, .. } | State::Capture { next, .. } => waiting.push(*next),
            State::Union { alternates } => waiting.extend(alternates.iter().copied()),
            State::BinaryUnion { alt1, alt2 } => waiting.extend([*alt1, *alt2]),
            _ => found.push(id),
        }
    }
    found
}

/// Most bytes of a match that are looked at.
const MOST: usize = 16;
/// Largest automaton that is looked through, in bytes.
const LARGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_without_a_match_are_passed_over() {
        let digits = Skips::new("[0-9]{4,}").unwrap();
        assert_eq!(digits.at.len(), 4);
        assert_eq!(digits.next(b"ab12 345 6789", 0), Some(9));
        assert_eq!(digits.next(b"ab12 345 678", 0), None);
        assert_eq!(digits.next(b"12345", 1), Some(1));
        assert_eq!(digits.next(b"12345", 2), None);
        // The first bytes of each alternative, in its own place.
        let either = Skips::new("(?i)ab+|xz|^q1").unwrap();
        assert_eq!(either.at.len(), 2);
        assert_eq!(either.next(b"..aB", 0), Some(2));
        assert_eq!(either.next(b"xb", 0), Some(0));
        assert_eq!(either.next(b"a.ba", 0), None);
        // Matches of one byte and of none.
        assert!(Skips::new("a|bcd").is_none());
        assert!(Skips::new("a*").is_none());
        assert_eq!(Skips::new("a{100}").unwrap().at.len(), MOST);
    }
}
