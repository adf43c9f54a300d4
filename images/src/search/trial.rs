//! The choice between the two ways to look for a regular expression.

use std::time::{Duration, Instant};

use crate::search::pattern::{Pattern, Way};

/// Tries both ways on the memory that is searched, goes on with the faster one, and tries again
/// after a while, because memory changes its character. The matches are the same in any case.
#[derive(Debug)]
pub(crate) struct Trial {
    way: Way,
    /// Number of bytes until the next step.
    left: usize,
    step: Step,
    /// Time that the bytes of the present step took.
    taken: Duration,
}

#[derive(Debug)]
enum Step {
    /// Tries the way with leaps.
    First,
    /// Tries the steady way. Holds the time that the other one took.
    Second(Duration),
    /// Goes on with the faster way.
    Chosen,
}

impl Default for Trial {
    fn default() -> Self {
        Self { way: Way::Leaps, left: TRIED, step: Step::First, taken: Duration::ZERO }
    }
}

impl Trial {
    /// Finds the first match that starts at `at` or later.
    pub(crate) fn find(
        &mut self,
        pattern: &Pattern,
        bytes: &[u8],
        at: usize,
    ) -> Option<(usize, usize)> {
        if !pattern.has_ways() {
            return pattern.find(bytes, at, self.way);
        }
        let begin = (!matches!(self.step, Step::Chosen)).then(Instant::now);
        let found = pattern.find(bytes, at, self.way);
        let end = found.map_or(bytes.len(), |(_, end)| end);
        let taken = begin.map_or(Duration::ZERO, |begin| begin.elapsed());
        self.count(end.saturating_sub(at), taken);
        found
    }

    fn count(&mut self, bytes: usize, taken: Duration) {
        self.left = self.left.saturating_sub(bytes);
        self.taken = self.taken.saturating_add(taken);
        if self.left > 0 {
            return;
        }
        let taken = std::mem::take(&mut self.taken);
        (self.step, self.way, self.left) = match self.step {
            Step::First => (Step::Second(taken), Way::Steady, TRIED),
            Step::Second(other) => {
                let way = if taken < other { Way::Steady } else { Way::Leaps };
                (Step::Chosen, way, KEPT)
            }
            Step::Chosen => (Step::First, Way::Leaps, TRIED),
        };
    }
}

/// Bytes on which each way is tried: enough for the tables of the steady way, which it makes as it
/// goes.
const TRIED: usize = 512 << 10;
/// Bytes for which the choice holds.
const KEPT: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_taken_and_the_choice_made_anew() {
        let mut trial = Trial::default();
        for (slow, fast) in [(Way::Leaps, Way::Steady), (Way::Steady, Way::Leaps)] {
            for tried in [Way::Leaps, Way::Steady] {
                assert_eq!(trial.way, tried);
                let taken = Duration::from_millis(if tried == slow { 5 } else { 1 });
                trial.count(TRIED / 2, taken);
                trial.count(TRIED / 2, taken);
            }
            assert_eq!(trial.way, fast);
            trial.count(KEPT - 1, Duration::ZERO);
            assert_eq!(trial.way, fast);
            trial.count(1, Duration::ZERO);
        }
    }

    #[test]
    fn both_ways_find_the_same() {
        let bytes: Vec<u8> = (0..60_000u32).map(|i| (((i * i) >> 5) & 0x7f) as u8).collect();
        for text in ["[0-9]{3,}", r"(?i)a.c", r"\bq", "(?s)x.y", "^.{5}", r"[\x00-\x20]+$", "z|zz"]
        {
            let pattern = Pattern::regex(text).unwrap();
            assert!(pattern.has_ways());
            let all = |way| {
                let mut at = 0;
                let next = || {
                    let found = pattern.find(&bytes, at, way)?;
                    at = found.1;
                    Some(found)
                };
                std::iter::from_fn(next).collect::<Vec<_>>()
            };
            assert_eq!(all(Way::Leaps), all(Way::Steady), "{text}");
        }
    }
}
