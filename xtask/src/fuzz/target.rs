//! A run of a target: the coverage of its seeds, and the inputs that it finds.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::build::{Built, home};
use super::{Wanted, folder};
use crate::{Result, process};

/// A target, with the wishes for its run.
#[derive(Debug)]
pub(super) struct Run {
    target: String,
    program: PathBuf,
    /// The folder of the seeds, made from the repository.
    seeds: PathBuf,
    dictionary: PathBuf,
    time: Duration,
    /// Inputs of earlier runs are removed first.
    fresh: bool,
    compiler: String,
}

/// The result of a run.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) target: String,
    pub(super) compiler: String,
    /// The coverage of the seeds alone.
    pub(super) seeds: Covered,
    /// The coverage at the end.
    pub(super) end: Covered,
    pub(super) executions: u64,
    pub(super) time: Duration,
    /// The reason of a crash, with the path of the input.
    pub(super) crashed: Option<String>,
}

/// Counts of libFuzzer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Covered {
    pub(super) edges: u64,
    pub(super) features: u64,
    pub(super) corpus: u64,
}

impl Run {
    pub(super) fn new(
        built: &Built,
        seeds: &Path,
        target: &str,
        time: Duration,
        wanted: &Wanted,
    ) -> Self {
        Self {
            target: target.to_owned(),
            program: built.program(target),
            seeds: seeds.join(target),
            dictionary: seeds.join("words.dict"),
            time,
            fresh: wanted.ci || wanted.update,
            compiler: built.compiler.clone(),
        }
    }

    /// Runs all seeds and all inputs of earlier crashes, then fuzzes.
    pub(super) fn run(&self) -> Result<Row> {
        let begun = Instant::now();
        let mut folders: Vec<PathBuf> = vec![self.seeds.clone()];
        folders.extend(Some(home().join("regressions").join(&self.target)).filter(|f| f.is_dir()));
        let mut row = Row {
            target: self.target.clone(),
            compiler: self.compiler.clone(),
            seeds: Covered::default(),
            end: Covered::default(),
            executions: 0,
            time: Duration::ZERO,
            crashed: None,
        };
        let output = self.fuzzer(&folders, &["-runs=0".to_owned()])?;
        let said = process::said(&output);
        row.seeds = last(&said, "INITED").unwrap_or_default();
        row.end = row.seeds;
        if !output.status.success() {
            row.crashed = Some(format!("{}\n{}", output.status, essence(&said)));
            row.time = begun.elapsed();
            return Ok(row);
        }
        let grown =
            folder(&format!("{}/{}", if self.fresh { "ci" } else { "corpus" }, self.target))?;
        if self.fresh {
            fs::remove_dir_all(&grown)?;
            fs::create_dir_all(&grown)?;
        }
        folders.insert(0, grown);
        let time = format!("-max_total_time={}", self.time.as_secs().max(1));
        let output = self.fuzzer(&folders, &[time, "-print_final_stats=1".to_owned()])?;
        let said = process::said(&output);
        row.end = ["DONE", "INITED"].iter().find_map(|word| last(&said, word)).unwrap_or(row.end);
        row.executions = number_after(&said, "stat::number_of_executed_units:").unwrap_or(0);
        row.time = begun.elapsed();
        if !output.status.success() {
            row.crashed = Some(format!("{}\n{}", output.status, essence(&said)));
        }
        Ok(row)
    }

    fn fuzzer(&self, folders: &[PathBuf], more: &[String]) -> Result<Output> {
        let crashes = folder("crashes")?;
        let mut fuzzer = Command::new(&self.program);
        fuzzer
            .arg(format!("-dict={}", self.dictionary.display()))
            .arg(format!("-artifact_prefix={}/{}-", crashes.display(), self.target))
            .args(LIMITS)
            .args(more)
            .args(folders);
        process::finish(&mut fuzzer)
    }
}

/// Returns the lines of libFuzzer's output that explain a crash: the reason, and the input's path.
fn essence(said: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let why = ["panicked at", "ERROR: libFuzzer:", "Test unit written to"];
    for (number, line) in said.lines().enumerate() {
        if why.iter().any(|word| line.contains(word)) {
            let more = if line.contains(why[0]) { 2 } else { 1 };
            lines.extend(said.lines().skip(number).take(more));
        }
    }
    if lines.is_empty() { process::indent(said) } else { process::indent(&lines.join("\n")) }
}

/// Reads the counts in the last line with a word.
fn last(said: &str, word: &str) -> Option<Covered> {
    let line = said.lines().rev().find(|line| line.starts_with('#') && line.contains(word))?;
    Some(Covered {
        edges: number_after(line, "cov:")?,
        features: number_after(line, "ft:")?,
        corpus: number_after(line, "corp:")?,
    })
}

/// Reads the number that follows a word, up to the first character that is not a digit.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    let rest = rest.trim_start();
    let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Formats the rows as a table for a README.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| target | seconds | executions | edges | features | corpus | crashes |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let Covered { edges, features, corpus } = row.end;
        let (seconds, crashes) = (row.time.as_secs(), u8::from(row.crashed.is_some()));
        let Row { target, executions, .. } = row;
        _ = writeln!(
            table,
            "| `{target}` | {seconds} | {executions} | {edges} | {features} | {corpus} | {crashes} |"
        );
    }
    table
}

/// Limits of an input. Readers take up to 24 times the memory of their input, which has 256 KiB at
/// most. A search takes the most, 10 MiB for a regular expression.
const LIMITS: [&str; 5] = [
    "-max_len=262144",
    "-malloc_limit_mb=64",
    "-rss_limit_mb=768",
    "-timeout=10",
    // Without it, a crash is reported once a second.
    "-verbosity=1",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_what_libfuzzer_says() {
        let said = "INFO: seed corpus: files: 3\n\
                    #4\tINITED cov: 1507 ft: 2613 corp: 3/7kb exec/s: 0 rss: 48Mb\n\
                    #9\tNEW    cov: 1509 ft: 2620 corp: 4/8kb\n\
                    #77\tDONE   cov: 1600 ft: 3000 corp: 9/8kb\n\
                    stat::number_of_executed_units: 77\n";
        let begin = Covered { edges: 1507, features: 2613, corpus: 3 };
        assert_eq!(last(said, "INITED"), Some(begin));
        assert_eq!(last(said, "DONE").map(|end| end.edges), Some(1600));
        assert_eq!(number_after(said, "stat::number_of_executed_units:"), Some(77));
        assert_eq!(last("INITED", "INITED"), None);
    }

    #[test]
    fn of_a_crash_its_reason_and_its_input_are_shown() {
        let said = "#9 NEW\nthread 'x' panicked at src/set.rs:7:1:\nit broke\nstack backtrace:\n0: main\n\
                    ==7== ERROR: libFuzzer: deadly signal\nx; Test unit written to crashes/set-1\n";
        let shown = essence(said);
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        assert_eq!(lines[1], "it broke");
        assert_eq!((lines.len(), lines[3]), (4, "x; Test unit written to crashes/set-1"));
    }
}
