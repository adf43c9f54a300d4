//! A place with an oracle and its images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use criu_lab::oracle::Remote;

use criu_rs::Pid;

/// A live oracle.
pub type Target = criu_lab::Target<Pid>;

/// A CRIU, and a directory to work in.
#[derive(Clone, Debug)]
pub struct Scene {
    pub criu: PathBuf,
    pub dir: PathBuf,
}

impl Scene {
    pub fn new(criu: &Path, dir: PathBuf) -> Self {
        Self { criu: criu.into(), dir }
    }

    /// A directory below that of the scene, made if it is missing.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Starts an oracle of so many MiB, half of them with huge pages if wanted.
    pub fn oracle(&self, mebibytes: u64, huge: bool) -> (Target, Remote) {
        let file = self.folder("home").join("oracle");
        // An older oracle has counted already.
        let _ = fs::remove_file(&file);
        let remote = Remote::new(&file);
        let mebibytes = mebibytes.to_string();
        let words = ["oracle", &mebibytes, if huge { "huge" } else { "small" }];
        (Target::start(&words, &file, |command| command), remote)
    }

    /// Starts an oracle, saves it and ends it. Returns its images.
    pub fn saved(&self, mebibytes: u64, huge: bool) -> (Target, Remote, PathBuf) {
        let (mut target, remote) = self.oracle(mebibytes, huge);
        let images = self.folder("images");
        let mut dump = self.criu(&["dump", "-t", &target.pid()]);
        finish(dump.arg("-D").arg(&images));
        target.is_gone_alone();
        (target, remote, images)
    }

    /// `criu WORDS`, silent.
    pub fn criu(&self, words: &[&str]) -> Command {
        silent(Command::new(&self.criu), words)
    }

    /// `criu-rs WORDS`, silent.
    pub fn program(&self, words: &[&str]) -> Command {
        let mut command = silent(Command::new(env!("CARGO_BIN_EXE_criu-rs")), words);
        command.env("CRIU", &self.criu).current_dir(&self.dir);
        command
    }
}

fn silent(mut command: Command, words: &[&str]) -> Command {
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Runs a command, which has to succeed.
#[track_caller]
pub fn finish(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
