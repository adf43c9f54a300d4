//! The coverage of the seeds, in numbers that must not fall.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::build::home;
use super::target::Row;
use crate::Result;

/// Edges by target, in the count of one compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coverage {
    compiler: String,
    edges: BTreeMap<String, u64>,
}

impl Coverage {
    pub(super) fn of(rows: &[Row]) -> Result<Self> {
        let compiler = rows.first().ok_or("no target has run")?.compiler.clone();
        let edges = rows.iter().map(|row| (row.target.clone(), row.seeds.edges)).collect();
        Ok(Self { compiler, edges })
    }

    /// Reads the numbers in the repository.
    pub(super) fn kept() -> Result<Self> {
        let text = fs::read_to_string(file());
        Self::parse(&text.map_err(|error| format!("{}: {error}", file().display()))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let (mut compiler, mut edges) = (None, BTreeMap::new());
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (name, value) =
                line.split_once(' ').ok_or_else(|| format!("a line without a number: `{line}`"))?;
            match name {
                "rustc" => compiler = Some(value.to_owned()),
                _ => _ = edges.insert(name.to_owned(), value.trim().parse()?),
            }
        }
        Ok(Self { compiler: compiler.ok_or("no compiler is named")?, edges })
    }

    pub(super) fn keep(&self) -> Result<()> {
        let mut text = String::from(HEAD);
        _ = writeln!(text, "rustc {}", self.compiler);
        for (target, edges) in &self.edges {
            _ = writeln!(text, "{target} {edges}");
        }
        Ok(fs::write(file(), text)?)
    }

    /// Compares these numbers with those of now.
    ///
    /// # Errors
    /// Names every target that covers less than is allowed, or that is not in the list.
    pub(super) fn compare(&self, now: &Self) -> Result<()> {
        let allowed = if self.compiler == now.compiler { SAME_COMPILER } else { OTHER_COMPILER };
        let mut wrong = Vec::new();
        for (target, edges) in &now.edges {
            match self.edges.get(target) {
                None => wrong.push(format!("{target}: is not in the list")),
                Some(before) if edges * 100 < before * (100 - allowed) => {
                    wrong.push(format!("{target}: {edges} edges, of {before}"));
                }
                Some(_) => {}
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "the seeds cover less than {}% of the numbers of before (rustc {}, now {}):\n{}\n\
                 if that is intended, run `cargo xtask fuzz --update`",
                100 - allowed,
                self.compiler,
                now.compiler,
                wrong.join("\n")
            )
            .into())
        }
    }
}

fn file() -> PathBuf {
    home().join("coverage.txt")
}

const HEAD: &str = "\
# Edges that the seeds of each target cover, as libFuzzer counts them; `cargo xtask fuzz --ci` compares.
# Made by `cargo xtask fuzz --update`.
";

/// Percent that may be missing: hash maps of another order take other ways.
const SAME_COMPILER: u64 = 3;
/// Percent that may be missing with another compiler, which inlines and counts differently.
const OTHER_COMPILER: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(compiler: &str, edges: u64) -> Coverage {
        let edges = BTreeMap::from([("set".to_owned(), edges)]);
        Coverage { compiler: compiler.to_owned(), edges }
    }

    #[test]
    fn less_than_before_is_an_error_and_another_compiler_may_count_otherwise() {
        let kept = Coverage::parse("# words\nrustc 1.95.0\nset 1000\n").unwrap();
        assert_eq!(kept, coverage("1.95.0", 1000));
        assert!(kept.compare(&coverage("1.95.0", 970)).is_ok());
        let error = kept.compare(&coverage("1.95.0", 969)).unwrap_err().to_string();
        assert!(error.contains("set: 969 edges, of 1000"), "{error}");
        assert!(kept.compare(&coverage("1.96.0", 800)).is_ok());
        assert!(kept.compare(&coverage("1.96.0", 799)).is_err());
        let unknown = Coverage { edges: BTreeMap::new(), ..kept };
        assert!(unknown.compare(&coverage("1.95.0", 1)).is_err());
    }
}
