//! The seconds that each step took the last time it passed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use super::folder;

/// Seconds by the name of the step.
#[derive(Debug, Default)]
pub(super) struct Times(BTreeMap<String, f32>);

impl Times {
    /// Reads the file of the last runs. A file that is missing or damaged counts as empty.
    pub(super) fn read() -> Self {
        Self::parse(&fs::read_to_string(folder().join(FILE)).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (name, seconds) = line.rsplit_once(' ')?;
            Some((name.to_owned(), seconds.parse().ok()?))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// The expected seconds of a step; `None` if the step is unknown.
    pub(super) fn expected(&self, name: &str) -> Option<f32> {
        let usual = || USUAL.iter().find(|(known, _)| *known == name).map(|(_, seconds)| *seconds);
        self.0.get(name).copied().or_else(usual)
    }

    /// Takes over the time of a step that passed, and writes the file. Only the next run's
    /// expectation is lost if that fails.
    pub(super) fn keep(&mut self, name: &str, seconds: f32) {
        self.0.insert(name.to_owned(), seconds);
        let mut text = String::new();
        for (name, seconds) in &self.0 {
            _ = writeln!(text, "{name} {seconds:.1}");
        }
        _ = fs::create_dir_all(folder());
        _ = fs::write(folder().join(FILE), text);
    }
}

const FILE: &str = "times.txt";

/// Seconds on a machine with two processors, from an empty target directory.
const USUAL: &[(&str, f32)] = &[
    ("fmt", 2.0),
    ("clippy", 75.0),
    ("build", 110.0),
    ("test", 260.0),
    ("libcriu loaded", 60.0),
    ("libcriu linked", 60.0),
    ("libcriu.a trixie", 100.0),
    ("libcriu.a experimental", 75.0),
    ("vm", 150.0),
    ("doc", 40.0),
    ("cargo-deny", 150.0),
    ("deny", 2.0),
    ("deny fuzz", 2.0),
    ("advisories", 5.0),
    ("package", 5.0),
    ("semver", 1.0),
    ("msrv", 50.0),
    ("fuzz", 130.0),
    ("asan build criu-images", 45.0),
    ("asan build criu-rs", 60.0),
    ("asan criu-images", 15.0),
    ("asan criu-rs", 30.0),
    ("demo", 10.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_counts_before_the_usual_one() {
        let times = Times::parse("libcriu linked 71.5\nnonsense\nfmt x\n");
        assert_eq!(times.expected("libcriu linked"), Some(71.5));
        assert_eq!(times.expected("fmt"), Some(2.0));
        assert_eq!(times.expected("another"), None);
    }
}
