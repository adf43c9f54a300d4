//! The choice between the ways to look for a regular expression.

use std::time::{Duration, Instant};

use crate::search::pattern::{Pattern, Way};

/// Tries the ways on the memory that is searched, goes on with the fastest, and tries again after a
/// while, because memory changes its character. The matches are the same in any case.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Number of the way in use.
    way: usize,
    /// Times of the ways that were tried; none while a choice holds.
    tried: Option<Vec<Duration>>,
    /// Bytes searched in this step, and the time that they took.
    searched: usize,
    taken: Duration,
}

impl Default for Trial {
    fn default() -> Self {
        Self { way: 0, tried: Some(Vec::new()), searched: 0, taken: Duration::ZERO }
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
        let ways = pattern.ways();
        let way = ways.get(self.way).copied().unwrap_or(Way::Leaps);
        if ways.len() < 2 {
            return pattern.find(bytes, at, way);
        }
        let begin = self.tried.is_some().then(Instant::now);
        let found = pattern.find(bytes, at, way);
        let end = found.map_or(bytes.len(), |(_, end)| end);
        let taken = begin.map_or(Duration::ZERO, |begin| begin.elapsed());
        self.count(ways.len(), end.saturating_sub(at), taken);
        found
    }

    fn count(&mut self, ways: usize, bytes: usize, taken: Duration) {
        self.searched = self.searched.saturating_add(bytes);
        self.taken = self.taken.saturating_add(taken);
        if self.searched < if self.tried.is_some() { TRIED } else { KEPT } {
            return;
        }
        self.searched = 0;
        let taken = std::mem::take(&mut self.taken);
        let Some(tried) = &mut self.tried else {
            (self.tried, self.way) = (Some(Vec::new()), 0);
            return;
        };
        tried.push(taken);
        self.way = tried.len();
        if tried.len() >= ways {
            let times = tried.iter().enumerate();
            self.way = times.min_by_key(|(_, taken)| **taken).map_or(0, |(way, _)| way);
            self.tried = None;
        }
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
    fn the_fastest_way_is_taken_and_the_choice_made_anew() {
        let mut trial = Trial::default();
        for fastest in [2, 0, 1] {
            for tried in 0..3 {
                assert_eq!(trial.way, tried);
                let taken = Duration::from_millis(if tried == fastest { 1 } else { 5 });
                trial.count(3, TRIED / 2, taken);
                trial.count(3, TRIED / 2, taken);
            }
            assert_eq!(trial.way, fastest);
            trial.count(3, KEPT - 1, Duration::ZERO);
            assert_eq!(trial.way, fastest);
            trial.count(3, 1, Duration::ZERO);
        }
    }

    #[test]
    fn all_ways_find_the_same() {
        let bytes: Vec<u8> = (0..60_000u32).map(|i| (((i * i) >> 5) & 0x7f) as u8).collect();
        for text in [
            "[0-9]{3,}",
            r"(?i)a.c",
            r"\bq",
            "(?s)x.y",
            "^.{5}",
            r"[\x00-\x20]+$",
            "z|zz",
            "q{2}|[a-f]+[0-9]x?",
            "[0-9]+[a-z]",
        ] {
            let pattern = Pattern::regex(text).unwrap();
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
            assert_eq!(all(Way::Leaps), all(Way::Skips), "{text}");
        }
    }
}
