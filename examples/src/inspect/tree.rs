//! Text as a tree with branches.

use std::fmt;

/// Lines of a tree, each with its distance from the root.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    lines: Vec<(usize, String)>,
}

impl Tree {
    /// Adds a line below the last line of a smaller depth.
    pub(crate) fn add(&mut self, depth: usize, text: impl Into<String>) {
        self.lines.push((depth.min(MAX_DEPTH), text.into()));
    }

    /// Adds a line with a name and a value, if there is a value.
    pub(crate) fn fact(&mut self, depth: usize, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.add(depth, format!("{name}: {value}"));
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // True for each depth at which another line follows. The lines are read from their end.
        let mut follows: Vec<bool> = Vec::new();
        let mut branches: Vec<String> = Vec::with_capacity(self.lines.len());
        for (depth, _) in self.lines.iter().rev() {
            follows.resize(depth + 1, false);
            let mut branch = String::new();
            for (at, more) in follows.iter().enumerate().skip(1) {
                branch.push_str(match (at == *depth, more) {
                    (true, true) => "├── ",
                    (true, false) => "└── ",
                    (false, true) => "│   ",
                    (false, false) => "    ",
                });
            }
            follows[*depth] = true;
            branches.push(branch);
        }
        for (number, ((_, text), branch)) in
            self.lines.iter().zip(branches.iter().rev()).enumerate()
        {
            let gap = if number == 0 { "" } else { "\n" };
            write!(f, "{gap}{branch}{text}")?;
        }
        Ok(())
    }
}

/// Deepest line. A deeper tree does not fit on a screen, and a checkpoint may claim any depth.
const MAX_DEPTH: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_lead_to_the_lines_below() {
        let mut tree = Tree::default();
        for (depth, text) in [(0, "a"), (1, "b"), (2, "c"), (2, "d"), (1, "e"), (2, "f")] {
            tree.add(depth, text);
        }
        let text = tree.to_string();
        assert_eq!(text, "a\n├── b\n│   ├── c\n│   └── d\n└── e\n    └── f");
        assert_eq!(Tree::default().to_string(), "");
    }

    #[test]
    fn a_deep_tree_stays_narrow() {
        let mut tree = Tree::default();
        (0..5000).for_each(|depth| tree.add(depth, "x"));
        assert!(tree.to_string().lines().all(|line| line.chars().count() < 300));
    }
}
