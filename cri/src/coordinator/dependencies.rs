//! The dependencies that a coordinator was given, readable in both directions.

use std::collections::{BTreeMap, BTreeSet};

use super::message::Graph;

/// The dependencies of members that name none themselves.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    needs: Graph,
    /// The ids that name an id.
    named_by: BTreeMap<String, BTreeSet<String>>,
}

impl Dependencies {
    pub(super) fn new(graph: Graph) -> Self {
        let mut new = Self::default();
        new.extend(graph);
        new
    }

    /// Returns the number of ids that have a row.
    pub(super) fn rows(&self) -> usize {
        self.needs.len()
    }

    /// Tells if an id has a row.
    pub(super) fn has(&self, id: &str) -> bool {
        self.needs.contains_key(id)
    }

    /// Sets rows. A row takes the place of an older one of its id.
    pub(super) fn extend(&mut self, graph: Graph) {
        for (id, needs) in graph {
            for need in &needs {
                self.named_by.entry(need.clone()).or_default().insert(id.clone());
            }
            for old in self.needs.insert(id.clone(), needs.clone()).unwrap_or_default() {
                if !needs.contains(&old) {
                    self.named_by.entry(old).and_modify(|ids| _ = ids.remove(&id));
                }
            }
        }
        self.named_by.retain(|_, ids| !ids.is_empty());
    }

    /// Returns the ids that a member's row names, and the ids whose rows name the member.
    pub(super) fn of(&self, id: &str) -> Vec<String> {
        let needs = self.needs.get(id).into_iter().flatten();
        needs.chain(self.named_by.get(id).into_iter().flatten()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_tie_in_both_directions_until_others_take_their_place() {
        let graph = |id: &str, needs: &str| -> Graph {
            [(id.to_owned(), needs.chars().map(String::from).collect())].into()
        };
        let mut dependencies = Dependencies::new(graph("a", "bc"));
        assert_eq!(
            (dependencies.of("a"), dependencies.of("c")),
            (vec!["b".into(), "c".into()], vec!["a".into()])
        );
        dependencies.extend(graph("a", "cd"));
        assert!(
            dependencies.of("b").is_empty() && dependencies.has("a") && dependencies.rows() == 1
        );
        assert_eq!(
            (dependencies.of("c"), dependencies.of("d")),
            (vec!["a".to_owned()], vec!["a".to_owned()])
        );
        assert_eq!(dependencies.named_by.len(), 2);
    }
}
