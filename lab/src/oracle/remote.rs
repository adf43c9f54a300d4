//! The ends of an oracle's remote control: a mapped file with the task, and a file with the report.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::memory::{Area, PAGE};
use crate::within;

/// A task of an oracle.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// Compares all pages.
    Check,
    /// Compares and changes pages with several threads, and all pages at the end.
    Storm(Storm),
    /// Reads all pages in order.
    Sweep,
    /// Touches pages at random and takes the times.
    Touch(Touch),
}

/// A storm.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// The time for which it goes on.
    pub milliseconds: u64,
    /// The threads that touch pages.
    pub threads: u64,
    /// The start of the random numbers.
    pub seed: u64,
    /// Children are forked.
    pub forks: bool,
    /// Ranges are discarded.
    pub discards: bool,
    /// Ranges are unmapped and mapped anew.
    pub unmaps: bool,
    /// Ranges are moved.
    pub moves: bool,
}

/// Touches.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// The number of touches.
    pub touches: u64,
    /// The start of the random numbers.
    pub seed: u64,
    /// Nanoseconds between two touches, in which the thread works.
    pub pause: u64,
    /// Takes the times of touches alone that found no page. It costs a system call for each touch.
    pub exact: bool,
}

/// The control of an oracle that counts into a file, in the hands of a test.
#[derive(Debug)]
pub struct Remote {
    file: PathBuf,
}

/// The report of an oracle: values by their names.
#[derive(Clone, Debug, Default)]
pub struct Report {
    values: BTreeMap<String, u64>,
    /// The wrong pages that were kept, as lines for a person.
    pub wrong_pages: Vec<String>,
}

impl Remote {
    /// The control of the oracle that counts into `file`. Made before the oracle is started.
    pub fn new(file: &Path) -> Self {
        let remote = Self { file: file.into() };
        let file = File::create(remote.orders()).unwrap();
        file.set_len(PAGE as u64).unwrap();
        remote
    }

    /// The control of a file, for an oracle that has been restored.
    pub fn of(file: &Path) -> Self {
        Self { file: file.into() }
    }

    fn orders(&self) -> PathBuf {
        self.file.with_extension(ORDERS)
    }

    /// Gives the oracle a task, which it begins at once, or when it is restored. `report` names the
    /// file of the report, beside that of the oracle.
    pub fn give(&self, task: Task, report: &str) {
        let _ = fs::remove_file(self.file.with_extension(report));
        let file = OpenOptions::new().read(true).write(true).open(self.orders()).unwrap();
        let mut words = [0u64; WORDS];
        let flags = |all: &[bool]| all.iter().fold(0, |flags, flag| flags << 1 | u64::from(*flag));
        let numbers: &[u64] = match task {
            Task::Check => &[1],
            Task::Storm(s) => {
                let changes = flags(&[s.forks, s.discards, s.unmaps, s.moves]);
                &[2, s.milliseconds, s.threads, s.seed, changes]
            }
            Task::Sweep => &[3],
            Task::Touch(t) => &[4, t.touches, t.seed, t.pause, u64::from(t.exact)],
        };
        words[1..=numbers.len()].copy_from_slice(numbers);
        let bytes: Vec<u8> = words[1..].iter().flat_map(|word| word.to_le_bytes()).collect();
        file.write_all_at(&bytes, 8).unwrap();
        let mut name = [0; 64];
        name[..report.len()].copy_from_slice(report.as_bytes());
        file.write_all_at(&name, NAME as u64).unwrap();
        // The number of the task comes last.
        let mut number = [0; 8];
        file.read_exact_at(&mut number, 0).unwrap();
        let number = u64::from_le_bytes(number) + 1;
        file.write_all_at(&number.to_le_bytes(), 0).unwrap();
    }

    /// Waits for a report.
    ///
    /// # Errors
    /// If the report does not come in time, or the last words of an oracle that has failed.
    pub fn report(&self, name: &str, time: Duration) -> Result<Report, String> {
        let path = self.file.with_extension(name);
        let mut report = Err("the oracle does not report".to_owned());
        within(time, || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if let Ok(panic) = fs::read_to_string(self.file.with_extension("panic")) {
                report = Err(format!("the oracle failed: {panic}"));
                return true;
            }
            if text.ends_with("done\n") {
                report = Ok(Report::parse(&text));
            }
            report.is_ok()
        });
        report
    }
}

impl Report {
    fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match value.parse() {
                Ok(value) => drop(report.values.insert(name.into(), value)),
                Err(_) => report.wrong_pages.push(value.into()),
            }
        }
        report
    }

    /// Returns the value of a name, 0 if there is none.
    pub fn value(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// Returns the nanoseconds of a name.
    pub fn time(&self, name: &str) -> Duration {
        Duration::from_nanos(self.value(name))
    }

    /// Checks that at least so many pages were compared, and that all were right.
    ///
    /// # Errors
    /// The first wrong pages, or the shortage.
    pub fn is_right(&self, least: u64) -> Result<(), String> {
        let (checked, wrong) = (self.value("checked"), self.value("wrong"));
        let lost = self.value("lost-children");
        if wrong > 0 {
            return Err(format!(
                "{wrong} of {checked} pages are wrong: {}",
                self.wrong_pages.join("; ")
            ));
        }
        if lost > 0 {
            return Err(format!("{lost} children did not end well"));
        }
        if checked < least {
            return Err(format!("{checked} pages were compared, not {least}"));
        }
        Ok(())
    }
}

/// The control, in the hands of the oracle.
#[derive(Debug)]
pub(crate) struct Orders {
    area: Area,
    reports: PathBuf,
    done: AtomicU64,
}

impl Orders {
    /// The control of an oracle that counts into `file`, with its reports in a folder, or beside
    /// `file`.
    pub(crate) fn open(file: &str, folder: Option<&str>) -> Self {
        let file = PathBuf::from(file);
        let name = file.file_name().unwrap();
        let reports = folder.map_or(file.clone(), |folder| Path::new(folder).join(name));
        let orders = file.with_extension(ORDERS);
        let orders = OpenOptions::new().read(true).write(true).open(orders).unwrap();
        Self { area: Area::of_file(&orders, PAGE), reports, done: AtomicU64::new(0) }
    }

    /// Returns the task that was given, if it is not done.
    pub(crate) fn next(&self) -> Option<Task> {
        let number = self.area.word(0).load(Ordering::Acquire);
        if number == self.done.swap(number, Ordering::Relaxed) {
            return None;
        }
        let [kind, a, b, c, d] = [1, 2, 3, 4, 5].map(|n| self.area.load(n * 8));
        let is_set = |bit: u32| d >> bit & 1 == 1;
        Some(match kind {
            1 => Task::Check,
            2 => Task::Storm(Storm {
                milliseconds: a,
                threads: b,
                seed: c,
                forks: is_set(3),
                discards: is_set(2),
                unmaps: is_set(1),
                moves: is_set(0),
            }),
            3 => Task::Sweep,
            _ => Task::Touch(Touch { touches: a, seed: b, pause: c, exact: d == 1 }),
        })
    }

    /// Writes the report of a task that began at a time since 1970.
    pub(crate) fn done(&self, first: Duration, report: &str) {
        let name: Vec<u8> =
            (0..8).flat_map(|n| self.area.load(NAME + n * 8).to_le_bytes()).collect();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let path = self.reports.with_extension(String::from_utf8_lossy(name).as_ref());
        let text = format!("first {}\n{report}done\n", first.as_nanos());
        fs::write(path, text).unwrap();
    }
}

/// The extension of the file with the task.
const ORDERS: &str = "orders";
/// Words of a task: the number of the task, its kind, and its values.
const WORDS: usize = 8;
/// The offset of the report's name.
const NAME: usize = 128;
