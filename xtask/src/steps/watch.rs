//! Test programs and their results, in the output of cargo as it is written.

use std::fmt;

/// A reader of an output that still grows.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The start of a line whose end is not written yet.
    rest: Vec<u8>,
    tally: Tally,
}

/// Sums of the results of test programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Results that were printed.
    pub(super) programs: u64,
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl Watch {
    /// Reads on; returns the names of the test programs that have started.
    pub(super) fn feed(&mut self, text: &[u8]) -> Vec<String> {
        self.rest.extend(text);
        let mut programs = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = plain(&String::from_utf8_lossy(&line));
            programs.extend(program(&line).map(str::to_owned));
            if let Some(result) = Tally::parse(&line) {
                self.tally.add(result);
            }
        }
        programs
    }

    /// The sum of the results so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }
}

impl Tally {
    /// Reads the last line of a test program: `test result: ok. 3 passed; 0 failed; 1 ignored;
    /// ...`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word: &str| {
            let mut parts = counts.split(';').filter_map(|part| part.trim().split_once(' '));
            parts.find(|(_, name)| *name == word)?.0.parse().ok()
        };
        let (passed, failed) = (count("passed")?, count("failed")?);
        Some(Self { programs: 1, passed, failed, ignored: count("ignored").unwrap_or(0) })
    }

    pub(super) fn add(&mut self, other: Self) {
        self.programs += other.programs;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

/// The test program that a line of cargo or of `cargo xtask vm` announces.
pub(super) fn program(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("Running ") {
        // `Running tests/tls.rs (target/debug/deps/tls-0123)`, and not the command of a verbose
        // cargo.
        return rest.ends_with(')').then_some(rest.split(" (").next()?);
    }
    let is_other = line.starts_with("Doc-tests ")
        || line.strip_prefix("guest ").is_some_and(|name| !name.contains([' ', ':']));
    is_other.then_some(line)
}

/// The line without what colours it.
pub(super) fn plain(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain += part.split_once('m').map_or(part, |(_, text)| text);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_results_are_found_in_pieces_of_output() {
        let output = "   Compiling x\n     Running unittests src/lib.rs (target/debug/deps/x-1)\n\
                      test a ... ok\n\n\
                      test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                      \x1b[1m\x1b[32m     Running\x1b[0m tests/tls.rs (target/debug/deps/tls-2)\n\
                      test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured\n\
                      \x20  Doc-tests criu_rs\nguest old\nguest old: 12.1 s\n     Running `rustc (x`\n";
        for size in [1, 7, output.len()] {
            let mut watch = Watch::default();
            let pieces = output.as_bytes().chunks(size);
            let programs: Vec<String> = pieces.flat_map(|piece| watch.feed(piece)).collect();
            let expected =
                ["unittests src/lib.rs", "tests/tls.rs", "Doc-tests criu_rs", "guest old"];
            assert_eq!(programs, expected);
            let sum = Tally { programs: 2, passed: 7, failed: 2, ignored: 1 };
            assert_eq!(watch.tally(), sum);
            assert_eq!(sum.to_string(), "7 passed, 2 failed, 1 ignored");
        }
    }
}
