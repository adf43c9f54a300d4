//! The jobs as sets of ids that dependencies tie together.

use std::collections::{BTreeMap, BTreeSet};

/// The jobs: each id is in one at most.
#[derive(Debug, Default)]
pub(super) struct Ties {
    jobs: BTreeMap<u64, BTreeSet<String>>,
    of: BTreeMap<String, u64>,
    last: u64,
}

impl Ties {
    /// Ties a member to others, whichever jobs these are in: they become one. Returns `false`, and
    /// changes nothing, if there would be more than `limit` ids.
    pub(super) fn tie(&mut self, id: &str, needs: &[String], limit: usize) -> bool {
        let ids: BTreeSet<&str> = needs.iter().map(String::as_str).chain([id]).collect();
        let new = ids.iter().filter(|id| !self.of.contains_key(**id)).count();
        if self.of.len().saturating_add(new) > limit {
            return false;
        }
        let old: BTreeSet<u64> = ids.iter().filter_map(|id| self.of.get(*id).copied()).collect();
        // The largest job takes the others in, so that ids move seldom.
        let size = |number: &u64| self.jobs.get(number).map_or(0, BTreeSet::len);
        let number = old.iter().copied().max_by_key(size).unwrap_or_else(|| {
            self.last = self.last.wrapping_add(1);
            self.last
        });
        let others = old.into_iter().filter(|other| *other != number);
        let moved: Vec<String> =
            others.filter_map(|other| self.jobs.remove(&other)).flatten().collect();
        let all = moved.into_iter().chain(ids.into_iter().map(str::to_owned));
        let job = self.jobs.entry(number).or_default();
        for id in all {
            self.of.insert(id.clone(), number);
            job.insert(id);
        }
        true
    }

    /// Returns the number of a member's job, which no later job has.
    pub(super) fn number(&self, id: &str) -> Option<u64> {
        self.of.get(id).copied()
    }

    /// Returns the ids of a member's job.
    pub(super) fn job(&self, id: &str) -> Option<&BTreeSet<String>> {
        self.jobs.get(self.of.get(id)?)
    }

    /// Forgets the job of a member.
    pub(super) fn untie(&mut self, id: &str) {
        let Some(number) = self.of.get(id) else { return };
        for id in self.jobs.remove(number).unwrap_or_default() {
            self.of.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_join_jobs_in_both_directions_and_go_with_them() {
        let mut ties = Ties::default();
        let needs = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        assert!(ties.tie("a", &needs("ab"), 9) && ties.tie("c", &needs("d"), 9));
        assert_eq!(ties.job("b").map(BTreeSet::len), Some(2));
        assert!(ties.tie("e", &needs("ad"), 9));
        let all: Vec<&str> = ties.job("c").unwrap().iter().map(String::as_str).collect();
        assert_eq!(all, ["a", "b", "c", "d", "e"]);
        assert!(!ties.tie("f", &[], 5) && ties.job("f").is_none());
        ties.untie("d");
        assert!(ties.job("a").is_none() && ties.of.is_empty() && ties.jobs.is_empty());
    }
}
