//! `cargo xtask fuzz`: the fuzz targets, without cargo-fuzz and with stable Rust.

mod build;
mod coverage;
mod defects;
mod keep;
mod target;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use std::{fs, thread};

use crate::misunderstood::Misunderstood;
use crate::{Result, programs, workspace};
use build::Built;
use coverage::Coverage;
use target::Run;

/// The wishes of a command line.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The targets; all of them if the list is empty.
    pub(crate) targets: Vec<String>,
    /// The time for each target.
    pub(crate) time: Option<Duration>,
    /// Starts from the repository's seeds alone, and compares their coverage with the kept numbers.
    pub(crate) ci: bool,
    /// Keeps the coverage as the numbers to compare with.
    pub(crate) update: bool,
    /// Builds with AddressSanitizer, which nightly Rust has.
    pub(crate) asan: bool,
    /// Puts small inputs that were found into the repository, and does nothing else.
    pub(crate) keep: bool,
    /// Measures how soon missing checks are noticed, and does nothing else.
    pub(crate) defects: bool,
}

/// Reads words of the command line: targets, and a time as `90`, `90s` or `10m`.
///
/// # Errors
/// [`Misunderstood`] if a word is neither.
pub(crate) fn wanted(words: &[&str]) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    let all = build::targets()?;
    for word in words {
        if word.starts_with(|first: char| first.is_ascii_digit()) {
            let no_time = || Misunderstood(format!("`{word}` is not a time such as 90s or 10m"));
            wanted.time = Some(time(word).ok_or_else(no_time)?);
        } else if all.iter().any(|target| target == word) {
            wanted.targets.push((*word).to_owned());
        } else {
            let all = all.join(", ");
            return Err(
                Misunderstood(format!("unknown target `{word}`; the targets are: {all}")).into()
            );
        }
    }
    Ok(wanted)
}

fn time(word: &str) -> Option<Duration> {
    let (digits, unit) = match word.strip_suffix('m') {
        Some(digits) => (digits, 60),
        None => (word.strip_suffix('s').unwrap_or(word), 1),
    };
    Some(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(unit)?))
}

/// Builds the targets, runs them, and prints a table.
///
/// # Errors
/// If a target crashes, or covers less than the kept number.
pub(crate) fn run(wanted: &Wanted) -> Result<()> {
    programs::provide(&[("g++", "g++")])?;
    if wanted.defects {
        return defects::run(&wanted.targets);
    }
    let built = Built::make(workspace::root(), None, wanted.asan)?;
    let mut targets = build::targets()?;
    targets.retain(|target| wanted.targets.is_empty() || wanted.targets.contains(target));
    if wanted.keep {
        return keep::run(&built, &targets);
    }
    let time = match (wanted.time, wanted.ci || wanted.update) {
        (Some(time), _) => time,
        (None, true) => IN_CI,
        (None, false) => FOR_A_PERSON,
    };
    let seeds = built.seeds("seeds")?;
    let jobs: Vec<Run> =
        targets.iter().map(|target| Run::new(&built, &seeds, target, time, wanted)).collect();
    let rows = all(&jobs)?;
    let table = target::table(&rows);
    print!("{table}");
    let crashed: Vec<_> = rows.iter().filter(|row| row.crashed.is_some()).collect();
    if !crashed.is_empty() {
        let say = |row: &&target::Row| {
            format!("{}: {}", row.target, row.crashed.as_deref().unwrap_or_default())
        };
        let said: Vec<String> = crashed.iter().map(say).collect();
        return Err(format!("targets crashed:\n{}", said.join("\n")).into());
    }
    if wanted.update {
        return Coverage::of(&rows)?.keep();
    }
    if wanted.ci { Coverage::kept()?.compare(&Coverage::of(&rows)?) } else { Ok(()) }
}

/// Runs the targets, as many at once as there are processors. Rows have the order of the targets.
fn all(jobs: &[Run]) -> Result<Vec<target::Row>> {
    let next = Mutex::new(jobs.iter().enumerate());
    let rows = Mutex::new(Vec::new());
    let failed = Mutex::new(None);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((place, job)) = next.lock().ok().and_then(|mut next| next.next())
                    else {
                        return;
                    };
                    match job.run() {
                        Ok(row) => {
                            rows.lock().map(|mut rows| rows.push((place, row))).unwrap_or(())
                        }
                        Err(error) => {
                            let error = error.to_string();
                            failed.lock().map(|mut failed| *failed = Some(error)).unwrap_or(());
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error.into());
    }
    let mut rows = rows.into_inner().map_err(|_| "a thread has panicked")?;
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Makes a folder below the target directory.
fn folder(name: &str) -> Result<PathBuf> {
    let folder = workspace::target_dir().join("fuzz").join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Time for each target in CI.
const IN_CI: Duration = Duration::from_secs(5);
/// Time for each target if the command line has no time.
const FOR_A_PERSON: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_targets_are_told_apart() {
        let found = wanted(&["set", "10m", "bpf"]).unwrap();
        assert_eq!(
            (found.targets, found.time),
            (vec!["set".into(), "bpf".into()], Some(Duration::from_secs(600)))
        );
        assert_eq!(time("90").unwrap(), time("90s").unwrap());
        for nonsense in ["9x", "400000000000000000m", "nosuch"] {
            assert!(wanted(&[nonsense]).unwrap_err().is::<Misunderstood>());
        }
    }
}
