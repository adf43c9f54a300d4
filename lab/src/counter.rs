//! The command that starts a payload, and the file that a payload counts into.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The command that is a payload, counting into a file: this program with other words.
pub fn command(words: &[&str], file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--payload", words[0]]).arg(file).args(&words[1..]);
    command
}

/// The file that a payload counts into.
#[derive(Debug)]
pub struct Counter(File);

impl Counter {
    /// Opens the file, and leaves what it holds.
    pub fn into(path: impl AsRef<Path>) -> Self {
        Self(OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap())
    }

    /// Writes a number, in 20 digits.
    pub fn at(&self, n: u64) {
        self.0.write_all_at(format!("{n:020}").as_bytes(), 0).unwrap();
    }

    /// Counts every two milliseconds until the process is killed.
    pub fn forever(&self) -> ! {
        for n in 1u64.. {
            self.at(n);
            std::thread::sleep(Duration::from_millis(2));
        }
        unreachable!()
    }

    /// Counts every millisecond until `look` finds something; returns it, and the next number.
    pub fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> (T, u64) {
        for n in 1u64.. {
            self.at(n);
            if let Some(found) = look() {
                return (found, n + 1);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        unreachable!()
    }

    /// Writes text in place of the number, over at least 100 bytes.
    pub fn says(&self, text: &str) {
        self.0.write_all_at(format!("{text:100}").as_bytes(), 0).unwrap();
    }

    /// Says what is wrong, and ends the process.
    pub fn fail(&self, why: &str) -> ! {
        self.says(why);
        std::process::exit(1);
    }
}
