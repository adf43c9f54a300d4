//! The CRIU and the directory that a test works with, and how it starts payloads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_rs::{Criu, Dump, Pid, Version};

/// A live payload.
pub type Target = criu_lab::Target<Pid>;

/// A test.
pub type TestFn = fn(&Lab);

/// A CRIU and a place to work.
pub struct Lab {
    pub criu: Criu,
    pub program: PathBuf,
    pub version: Version,
    /// A directory of this test's own.
    pub dir: PathBuf,
}

impl Lab {
    /// The CRIU of this path, and a directory of the test's own.
    pub fn new(program: &Path, dir: PathBuf) -> Self {
        let criu = crate::libcriu::reach(program);
        let version = criu.version().unwrap();
        Self { criu, program: program.into(), version, dir }
    }

    /// A new directory below the test's.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Saves and ends a payload, in the directory `images`.
    pub fn dump(&self, target: &mut Target) -> PathBuf {
        let images = self.dir("images");
        Dump::new(target.pid, &images).run(&self.criu).unwrap();
        target.is_gone();
        images
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
        // Each has its own.
        let names = std::iter::once(format!("count-{}", words[0]))
            .chain((2..).map(|n| format!("count-{}-{n}", words[0])));
        let mut files = names.map(|name| self.dir.join(name));
        let file = files.find(|file| !file.exists()).unwrap();
        Target::start(words, &file, change)
    }
}

/// A CRIU of another suite than the one under test.
pub fn other(lab: &Lab, suite: &str) -> Criu {
    let suites = lab.program.ancestors().nth(4).unwrap();
    Criu::at(suites.join(suite).join("usr/sbin/criu"))
}
