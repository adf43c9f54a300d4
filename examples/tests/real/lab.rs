//! The programs, the CRIU and the directory that a test works with, and how it starts payloads.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use criu_lab::payload;
use criu_rs::{Criu, Pid, Version};
use serde_json::Value;

/// A live payload.
pub type Target = criu_lab::Target<Pid>;

/// A test.
pub type TestFn = fn(&Lab);

/// A CRIU and a place to work.
pub struct Lab {
    pub criu: PathBuf,
    pub version: Version,
    /// A directory of this test's own.
    pub dir: PathBuf,
}

/// How a program ended, and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Lab {
    /// The CRIU of this path, and a directory of the test's own.
    pub fn new(criu: &Path, dir: PathBuf) -> Self {
        let version = Criu::at(criu).version().unwrap();
        Self { criu: criu.into(), version, dir }
    }

    /// A new directory below the test's, as an argument.
    pub fn dir(&self, name: &str) -> String {
        let path = self.dir.join(name);
        fs::create_dir(&path).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// A path below the test's directory, as an argument.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).into_os_string().into_string().unwrap()
    }

    /// `criu-rs WORDS` in the test's directory, with this test's CRIU.
    pub fn command(&self, words: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_criu-rs"), words)
    }

    /// Another program in the test's directory, with this test's CRIU.
    pub fn program(&self, program: impl AsRef<OsStr>, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.dir).env("CRIU", &self.criu).stdin(Stdio::null());
        command
    }

    /// Runs `criu-rs WORDS`.
    pub fn run(&self, words: &[&str]) -> Ran {
        run(self.command(words))
    }

    /// Runs `criu-rs WORDS` with exit codes of its own, behind the word if that is first.
    pub fn coded(&self, words: &[&str]) -> Ran {
        run(self.coded_command(words))
    }

    /// Returns the command for that.
    pub fn coded_command(&self, words: &[&str]) -> Command {
        let place = usize::from(words.first().is_some_and(|word| !word.starts_with('-')));
        let (word, rest) = words.split_at(place);
        self.command(&[word, &["--exit-codes"], rest].concat())
    }

    /// Runs `criu-rs WORDS`, which must succeed.
    #[track_caller]
    pub fn done(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        ran
    }

    /// Starts a payload in a session of its own and waits until it counts.
    pub fn start(&self, words: &[&str]) -> Target {
        self.start_with(words, |command| command)
    }

    /// Starts a payload with changes to the command, and waits until it counts.
    pub fn start_with(
        &self,
        words: &[&str],
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Target {
        Target::start(words, &self.dir.join("count"), change)
    }

    /// The command that is a payload, counting into the file `count`.
    pub fn payload(&self, words: &[&str]) -> Command {
        payload::command(words, &self.dir.join("count"))
    }
}

/// Runs a program to its end.
pub fn run(mut command: impl std::borrow::BorrowMut<Command>) -> Ran {
    let output = command.borrow_mut().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    /// Asserts that it succeeded.
    #[track_caller]
    pub fn done(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }

    /// The one JSON object on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.err, "");
        assert_eq!(self.out.lines().count(), 1, "{}", self.out);
        serde_json::from_str(&self.out).unwrap()
    }

    /// Asserts that it failed with this code, and said this.
    #[track_caller]
    pub fn fails(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for said in said {
            assert!(self.err.contains(said), "no {said:?}: {self:?}");
        }
    }
}
