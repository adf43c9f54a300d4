//! Programs that `cargo xtask setup --tests` has unpacked beside the engines.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::{engine, engines, unpacked, unused};
use crate::sandbox::Sandbox;

/// The output of a program that has ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// Set if the program ended with success.
    pub is_done: bool,
    /// The standard output.
    pub out: String,
    /// The standard error.
    pub err: String,
}

impl Said {
    /// The standard output of a program that ended with success.
    ///
    /// # Panics
    /// Panics if the program failed. The message is its output.
    #[track_caller]
    pub fn done(self) -> String {
        assert!(self.is_done, "{}\n{}", self.out, self.err);
        self.out
    }

    /// The output of a program that failed, standard error first.
    ///
    /// # Panics
    /// Panics if the program ended with success.
    #[track_caller]
    pub fn failed(self) -> String {
        assert!(!self.is_done, "it ended with success: {}\n{}", self.out, self.err);
        self.err + &self.out
    }
}

/// A program beside the engines that needs no sandbox, such as `skopeo`.
#[derive(Debug)]
pub struct Tool {
    /// The command, without words.
    pub command: Command,
}

impl Tool {
    /// The command of a program, with a home directory in which every image is trusted.
    ///
    /// # Panics
    /// Panics if the program is missing.
    #[track_caller]
    pub fn new(name: &str, home: &Path) -> Self {
        let mut command = Command::new(engine(name));
        command.env("HOME", trusting(home)).env_remove("XDG_CONFIG_HOME");
        Self { command }
    }

    /// Runs the program with words to its end.
    pub fn run(&mut self, words: &[&str]) -> Said {
        finish(self.command.args(words))
    }
}

/// Makes a home directory in which programs of containers trust every image.
pub(super) fn trusting(home: &Path) -> &Path {
    let folder = home.join(".config/containers");
    fs::create_dir_all(&folder).unwrap();
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    fs::write(folder.join("policy.json"), policy).unwrap();
    home
}

/// Runs a command to its end. A process that the command leaves behind may keep its output open.
///
/// # Panics
/// Panics if the command cannot be started or does not end in a minute.
#[track_caller]
pub fn finish(command: &mut Command) -> Said {
    let (out, err) = (unused(), unused());
    command.stdin(Stdio::null());
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut child = command.spawn().unwrap();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let end = Instant::now() + LIMIT;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let read = |path: &Path| {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        fs::remove_file(path).unwrap();
        text
    };
    let (out, err) = (read(&out), read(&err));
    let status = status.unwrap_or_else(|| panic!("{command:?} does not end: {out}\n{err}"));
    Said { is_done: status.success(), out, err }
}

/// The PATH of an engine: the runtime and the CRIU come first.
pub(super) fn path(_: &Sandbox, criu: &Path) -> String {
    let runtime = unpacked("sbin/runc");
    let folders = [criu.parent().unwrap(), runtime.parent().unwrap(), &engines().join("bin")]
        .map(|folder| folder.display().to_string());
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", folders.join(":"))
}

/// The time limit of a command.
const LIMIT: Duration = Duration::from_secs(60);
