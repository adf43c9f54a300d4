//! The description of all copies, before the first is started.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use criu_rs::copies::Identity;
use criu_rs::{CopyNotice, Criu, ProbeCache};
use nix::unistd::{gethostname, mkdtemp};

use super::wire::Orders;
use super::{Program, streams};
use crate::fault::Fault;
use crate::output::Output;

/// The copies to start, and the directory for their work, which is removed at the end.
pub(super) struct Plan {
    copies: u32,
    hostname: String,
    variables: Vec<(String, String)>,
    work: WorkDir,
    log_dir: Option<PathBuf>,
    lazy: bool,
    streams: Vec<String>,
}

/// A private directory, in which each copy has one. Dropped, it is removed.
struct WorkDir(PathBuf);

impl Plan {
    /// Makes the plan.
    pub(super) fn new(program: &Program, output: &Output) -> Result<Self, Fault> {
        let images = program.images()?;
        let criu = program.reach.criu()?;
        find_out(&criu);
        let notice = CopyNotice::read(&images.into())?.unwrap_or_default();
        let notice = program.notice.over(notice)?;
        if program.copies > 1 && notice.is_empty() {
            output.say(
                "the copies are not told that they are copies, and have the same random numbers: \
                 --copy-file and --copy-signal, here or on dump, would tell them",
            );
        }
        let variables = variables(program)?;
        if !variables.is_empty() && notice.path().is_none() {
            let why = "--env and --env-file need --copy-file, which says where the program reads";
            return Err(Fault::usage(why));
        }
        let hostname = match &program.hostname {
            Some(name) => name.clone(),
            None => gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let work = WorkDir::make()?;
        let (copies, log_dir) = (program.copies, program.log_dir.clone());
        let (lazy, streams) = (!program.eager, streams::keys(images));
        let plan = Self { copies, hostname, variables, work, log_dir, lazy, streams };
        let longest = plan.hostname(copies);
        if longest.is_empty() || longest.len() > MAX_HOSTNAME || !longest.chars().all(in_hostname) {
            let why = "letters, digits, `-`, `_` and `.`, at most 64 with the number";
            return Err(Fault::usage(match program.hostname {
                Some(_) => format!("--hostname {longest}: expected {why}"),
                None => {
                    let found = "copies cannot be called after this machine";
                    format!("{found}, {longest}: give --hostname: {why}")
                }
            }));
        }
        plan.check_variables()?;
        Ok(plan)
    }

    /// Refuses variables that are too long with the longest number.
    fn check_variables(&self) -> Result<(), Fault> {
        let random = |error| Fault::system("get random bytes", error);
        let mut identity = Identity::new(1, 1, "").map_err(random)?;
        for (name, value) in &self.variables {
            let added = identity.variable(name, &with_number(value, self.copies));
            identity = added.map_err(|error| Fault::usage(format!("--env: {name}: {error}")))?;
        }
        Ok(())
    }

    /// Returns the numbers of the copies.
    pub(super) fn copies(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.copies
    }

    /// Makes the directory of a copy, and says what the copy is told.
    pub(super) fn orders(&self, copy: u32) -> Result<Orders, Fault> {
        let work_dir = self.work.0.join(copy.to_string());
        let failed = |error| Fault::system(format!("make {}", work_dir.display()), error);
        fs::create_dir(&work_dir).map_err(failed)?;
        let numbered = |(name, value): &(String, String)| (name.clone(), with_number(value, copy));
        Ok(Orders {
            copy,
            copies: self.copies,
            hostname: self.hostname(copy),
            variables: self.variables.iter().map(numbered).collect(),
            work_dir,
            log: self.log(copy).unwrap_or_else(|| LOG.into()),
            output: self.log_dir.as_ref().map(|dir| dir.join(format!("{copy}.out"))),
            lazy: self.lazy,
            streams: self.streams.clone(),
        })
    }

    /// Keeps the log of a copy's restore if there is a place for it, and removes its directory.
    pub(super) fn is_over(&self, copy: u32) {
        let work_dir = self.work.0.join(copy.to_string());
        if let Some(log) = self.log(copy) {
            let _ = keep(&work_dir.join(LOG), &log);
        }
        let _ = fs::remove_dir_all(work_dir);
    }

    /// Returns the place where the log of a copy stays.
    fn log(&self, copy: u32) -> Option<PathBuf> {
        self.log_dir.as_ref().map(|logs| logs.join(format!("{copy}.log")))
    }

    fn hostname(&self, copy: u32) -> String {
        if self.hostname.contains("%n") {
            return with_number(&self.hostname, copy);
        }
        format!("{}-{copy}", self.hostname)
    }
}

impl WorkDir {
    fn make() -> Result<Self, Fault> {
        let template = std::env::temp_dir().join("criu-rs-start-XXXXXX");
        let made = mkdtemp(&template);
        let failed = |error| Fault::system(format!("make {}", template.display()), error);
        // The directories in it are opened from other directories.
        let made = made.map_err(failed)?.canonicalize();
        made.map(Self).map_err(|error| Fault::system("make a directory for the copies", error))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Has criu find out about the kernel once, and not for each copy. A failure costs time only.
fn find_out(criu: &Criu) {
    let _ = ProbeCache::findings(criu);
}

/// Reads the variables for all copies.
fn variables(program: &Program) -> Result<Vec<(String, String)>, Fault> {
    let mut text = String::new();
    if let Some(path) = &program.env_file {
        let unreadable = |why: &dyn fmt::Display| {
            Fault::usage(format!("--env-file: cannot read {}: {why}", path.display()))
        };
        let file = File::open(path).map_err(|error| unreadable(&error))?;
        let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
        let count = read.map_err(|error| unreadable(&error))?;
        if u64::try_from(count).is_ok_and(|count| count > MAX_FILE) {
            return Err(unreadable(&format_args!("it has more than {MAX_FILE} bytes")));
        }
    }
    let is_line = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let lines = text.lines().filter(is_line).map(|line| ("--env-file", line));
    let given = program.env.iter().map(|line| ("--env", line.as_str()));
    let mut variables = Vec::new();
    for (option, line) in lines.chain(given) {
        let Some((name, value)) = line.split_once('=') else {
            return Err(Fault::usage(format!("{option} {line}: expected NAME=VALUE")));
        };
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

/// Moves a log to a place where it stays, and replaces an earlier one.
fn keep(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut log = File::open(from)?;
    let _ = fs::remove_file(to);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    std::io::copy(&mut log, &mut file).map(drop)
}

fn with_number(text: &str, copy: u32) -> String {
    text.replace("%n", &copy.to_string())
}

fn in_hostname(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-._".contains(char)
}

/// The name of the log of a restore.
pub(super) const LOG: &str = "restore.log";

/// The most characters of a hostname, as the kernel has it.
const MAX_HOSTNAME: usize = 64;

/// The most bytes of a file of variables, with comments.
const MAX_FILE: u64 = 1 << 20;
