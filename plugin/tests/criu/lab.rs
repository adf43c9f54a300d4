//! The CRIU and the directory that a test works with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use criu_plugin::journal::{Field, Head, Journal, Plugin, Record, State, VARIABLE};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A live payload.
pub type Target = criu_lab::Target<i32>;

/// A test.
pub type TestFn = fn(&Lab);

/// A CRIU and a place to work.
pub struct Lab {
    pub criu: PathBuf,
    /// A directory of this test's own.
    pub dir: PathBuf,
}

/// The version of a CRIU.
pub fn version(criu: &Path) -> Result<String, String> {
    let output = Command::new(criu).arg("--version").output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("Version: "));
    line.map(str::to_owned).ok_or(text)
}

impl Lab {
    pub fn new(criu: &Path, dir: PathBuf) -> Self {
        // CRIU loads every library of the folder that it is given.
        let libraries = dir.join("libraries");
        fs::create_dir(&libraries).unwrap();
        let deps = std::env::current_exe().unwrap();
        let library = deps.with_file_name("libcriu_plugin.so");
        assert!(library.exists(), "{} is missing", library.display());
        std::os::unix::fs::symlink(library, libraries.join("libcriu_plugin.so")).unwrap();
        Self { criu: criu.into(), dir }
    }

    /// Starts a payload, whose parts are known once it counts.
    pub fn start(&self, words: &[&str]) -> Target {
        let mut files = (1..).map(|n| self.dir.join(format!("count-{n}")));
        let file = files.find(|file| !file.exists()).unwrap();
        Target::start(words, &file, |command| command)
    }

    /// The command that dumps a process into a new directory.
    pub fn command(&self, images: &Path, pid: i32, more: &[&str]) -> Command {
        fs::create_dir(images).unwrap();
        let mut command = Command::new(&self.criu);
        command.args(["dump", "-v4", "-o", "dump.log", "-t", &pid.to_string(), "-D"]);
        command.arg(images).args(more).stdin(Stdio::null());
        command
    }

    /// Dumps a process with the plugin.
    pub fn dump(&self, name: &str, pid: i32, ledger: &Ledger, more: &[&str]) -> Dump {
        let images = self.dir.join(name);
        let mut command = self.command(&images, pid, more);
        let child = ledger.pass_to(&mut command, self).spawn().unwrap();
        Dump::wait(child, images)
    }

    /// Dumps a process without the plugin.
    pub fn plain(&self, name: &str, pid: i32, more: &[&str]) -> Dump {
        let images = self.dir.join(name);
        let child = self.command(&images, pid, more).spawn().unwrap();
        Dump::wait(child, images)
    }

    pub fn libraries(&self) -> PathBuf {
        self.dir.join("libraries")
    }
}

/// A dump that has ended.
pub struct Dump {
    pub is_success: bool,
    pub images: PathBuf,
}

impl Dump {
    pub fn wait(mut child: Child, images: PathBuf) -> Self {
        let is_success = child.wait().unwrap().success();
        Self { is_success, images }
    }

    /// Panics with the end of the log unless the dump has succeeded.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(self.is_success, "{}", self.log_end());
        self
    }

    /// Panics unless the dump has failed.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(!self.is_success, "the dump has succeeded");
        self
    }

    pub fn log(&self) -> String {
        let bytes = fs::read(self.images.join("dump.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The images by name, but for the log and the statistics.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let names = criu_lab::names(&self.images).into_iter();
        let names = names.filter(|name| !["dump.log", "stats-dump"].contains(&name.as_str()));
        names.map(|name| (name.clone(), fs::read(self.images.join(name)).unwrap())).collect()
    }
}

/// The file of a journal, and what it holds.
pub struct Ledger {
    file: File,
}

impl Ledger {
    /// A journal with the verdicts about some tasks. Others get holders from so many bytes on.
    pub fn new(least: u64, verdicts: &[(i32, State)]) -> Self {
        Self::with(least, |journal| {
            for (pid, state) in verdicts {
                journal.add(u64::from(pid.unsigned_abs())).unwrap().pass(*state);
            }
        })
    }

    /// A journal with records of the test's own.
    pub fn with(least: u64, fill: impl FnOnce(&Journal<'_>)) -> Self {
        let words: Vec<AtomicU64> =
            (0..Journal::bytes(ROOM) / 8).map(|_| AtomicU64::default()).collect();
        let journal = Journal::make(&words);
        let own = std::process::id();
        journal.set(Head::LeastBytes, least);
        journal.set(Head::Owner, own.into());
        journal.set(Head::OwnerStart, started(i32::try_from(own).unwrap()));
        fill(&journal);
        let bytes = words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        let ledger = Self::unsealed();
        ledger.file.write_all_at(&bytes.collect::<Vec<u8>>(), 0).unwrap();
        fcntl(&ledger.file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        ledger
    }

    /// An empty file.
    pub fn unsealed() -> Self {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        Self { file: memfd_create(c"journal", flags).unwrap().into() }
    }

    /// Names the journal and the plugin to a criu.
    pub fn pass_to<'c>(&self, command: &'c mut Command, lab: &Lab) -> &'c mut Command {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        command.env("CRIU_LIBS_DIR", lab.libraries()).env(VARIABLE, path)
    }

    /// Calls `look` with what the journal holds by now.
    pub fn read<T>(&self, look: impl FnOnce(&Journal<'_>) -> T) -> T {
        let mut bytes = vec![0; Journal::bytes(ROOM)];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let words: Vec<AtomicU64> = words.map(AtomicU64::new).collect();
        look(&Journal::new(&words).unwrap())
    }

    /// Returns the state of the plugin and the number of its error.
    pub fn plugin(&self) -> (u64, u64) {
        self.read(|journal| (journal.head(Head::Plugin), journal.head(Head::Errno)))
    }

    #[track_caller]
    pub fn is_ready(&self) {
        assert_eq!(self.plugin(), (Plugin::Ready as u64, 0));
    }

    /// A copy of the record of a task.
    #[track_caller]
    pub fn record(&self, pid: i32) -> Entry {
        self.read(|journal| Entry::of(&journal.find(u64::from(pid.unsigned_abs())).unwrap()))
    }

    /// Copies of all records.
    pub fn records(&self) -> Vec<Entry> {
        self.read(|journal| journal.records().map(|record| Entry::of(&record)).collect())
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// A copy of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    pub state: State,
    pub task: i32,
    pub inner: u64,
    pub holder: i32,
    pub holder_start: u64,
    pub reason: u64,
    pub errno: u64,
    pub fork_time: u64,
    pub hidden: u64,
    pub hidden_whole: u64,
}

impl Entry {
    fn of(record: &Record<'_>) -> Self {
        let pid = |field| i32::try_from(record.get(field)).unwrap();
        Self {
            state: record.state().unwrap(),
            task: pid(Field::Task),
            inner: record.get(Field::Inner),
            holder: pid(Field::Holder),
            holder_start: record.get(Field::HolderStart),
            reason: record.get(Field::Reason),
            errno: record.get(Field::Errno),
            fork_time: record.get(Field::ForkTime),
            hidden: record.get(Field::Hidden),
            hidden_whole: record.get(Field::HiddenWhole),
        }
    }
}

/// The start time of a process.
pub fn started(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// Records of a journal.
const ROOM: usize = 64;
