//! Options that every word takes: how to reach criu, and logging.

use std::cell::OnceCell;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use criu_rs::Criu;

use crate::fault::Fault;
use crate::fd;
use crate::options::applies;
use crate::options::values::{Verbosity, seconds};
use crate::output::Output;
use crate::own;
use crate::places::{check_directory, note_writers};
use crate::stdout_log::StdoutLog;

/// Options that criu does not have, and those that say how criu is started.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "This program")]
pub(crate) struct Reach {
    /// Print one JSON object on standard output: the outcome and statistics, or the error
    #[arg(long)]
    pub(crate) json: bool,
    /// The criu to use; else the variable CRIU, else `criu` in PATH
    #[arg(long, value_name = "PATH")]
    criu: Option<PathBuf>,
    /// Tell mistakes, a missing criu and interruptions apart by the exit status
    #[arg(long)]
    pub(crate) exit_codes: bool,
    /// Give up after so many seconds: what has been begun is undone
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    deadline: Option<Duration>,
    /// Read this configuration file of CRIU's instead of the default ones
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read no default configuration file
    #[arg(long)]
    no_default_config: bool,
}

impl Reach {
    /// Returns the criu that was asked for.
    pub(crate) fn criu(&self) -> Result<Criu, Fault> {
        let criu = Criu::at(criu_program(self.criu.as_deref())?);
        // The settings of the files are options already.
        Ok(criu.argument("--no-default-config").env("CRIU_CONFIG_FILE", ""))
    }

    /// Returns the path of the criu that was named.
    pub(crate) fn criu_path(&self) -> Option<&Path> {
        self.criu.as_deref()
    }

    /// Returns the time that the operation may take.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Returns an option that was given and that has no effect when `criu` itself is executed.
    pub(crate) fn only_here(&self) -> Option<&'static str> {
        let given = [("--json", self.json), ("--deadline", self.deadline.is_some())];
        given.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }
}

applies! {
    Reach to Dump PreDump Restore Check;
    one [deadline];
    each [];
    with |self, operation, _config| {}
}

/// Returns the criu to use: the named one, else that of the variable CRIU, else the first `criu` in
/// PATH. This program under another name is passed over: where it takes the place of criu, the
/// variable of a script may name it.
///
/// # Errors
/// [`Fault::NoCriu`]. A usage fault if this program itself is named.
pub fn criu_program(named: Option<&Path>) -> Result<PathBuf, Fault> {
    let own = std::fs::canonicalize(own::PROGRAM).ok();
    let is_own = |file: &PathBuf| own.is_some() && std::fs::canonicalize(file).ok() == own;
    if let Some(path) = named.map(Path::to_owned) {
        if is_own(&path) {
            let why = "this is criu-rs itself, name the criu that it is to use";
            return Err(Fault::usage(format!("--criu {}: {why}", path.display())));
        }
        return Ok(path);
    }
    let variable = std::env::var_os("CRIU").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("criu"));
    let mut found = variable
        .into_iter()
        .filter(|file| !is_own(file))
        .chain(in_path.filter(|file| file.is_file() && !is_own(file)));
    found.next().ok_or(Fault::NoCriu)
}

/// Logging, and other options that `criu` takes for every word.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Logging")]
pub(crate) struct Common {
    /// Log more, a level for each v, or this level: -v1 errors, -v2 warnings, -v3 information, -v4
    /// all
    #[arg(
        short = 'v', long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "",
        require_equals = true
    )]
    verbosity: Vec<Verbosity>,
    /// The log's name in the work directory, or its path, or - for standard output; WORD.log unless
    /// given
    #[arg(short = 'o', long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    #[arg(skip)]
    on_stdout: OnceCell<Rc<StdoutLog>>,
    /// Directory for the log, statistics and pid file; the images directory unless given
    #[arg(short = 'W', long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// A log of its own for each process, FILE.PID
    #[arg(long)]
    log_pid: Option<bool>,

    /// Trust the directories, where nobody else can write: for file systems that keep no owners
    #[arg(long, help_heading = "This program")]
    trust_directory: bool,
    /// Run without root, with CAP_CHECKPOINT_RESTORE, and accept what that cannot save
    #[arg(long, help_heading = "CRIU itself")]
    unprivileged: Option<bool>,
    /// Directory with CRIU's plugins
    #[arg(short = 'L', long, value_name = "DIR", help_heading = "CRIU itself")]
    libdir: Option<PathBuf>,
    /// Accept features that CRIU has deprecated
    #[arg(long, help_heading = "CRIU itself")]
    deprecated: Option<bool>,
    /// Close this descriptor first
    #[arg(long, value_name = "FD", help_heading = "CRIU itself")]
    close: Vec<RawFd>,
}

impl Common {
    /// Closes descriptors and checks directories, before anything else is done.
    pub(crate) fn prepare(&self) -> Result<(), Fault> {
        for &fd in &self.close {
            // In the place of a closed standard stream the next file that is opened would appear.
            if (0..3).contains(&fd) {
                fd::to_null(fd)?;
            } else {
                let _ = nix::unistd::close(fd);
            }
        }
        if let Some(log) = self.log_file.as_deref().map(StdoutLog::named).transpose()?.flatten() {
            let _ = self.on_stdout.set(Rc::new(log));
        }
        match &self.work_dir {
            Some(directory) => check_directory("--work-dir", directory),
            None => Ok(()),
        }
    }

    /// Tells a person if others can write into the work directory.
    pub(crate) fn note_work_dir(&self, output: &Output) {
        if let Some(directory) = &self.work_dir {
            note_writers(output, "--work-dir", directory);
        }
    }

    /// Tells if the log goes to standard output or another descriptor.
    pub(crate) fn logs_to_descriptor(&self) -> bool {
        self.on_stdout.get().is_some()
    }

    /// Returns these options with a work directory, if none was given.
    pub(crate) fn or_work_dir(&self, directory: &Path) -> Self {
        let work_dir = self.work_dir.clone().or_else(|| Some(directory.to_owned()));
        Self { work_dir, ..self.clone() }
    }

    /// Returns the work directory of an operation with the images in `images`.
    pub(crate) fn work_dir<'a>(&'a self, images: &'a Path) -> &'a Path {
        self.work_dir.as_deref().unwrap_or(images)
    }

    /// Returns the log of an operation with the images in `images`, called `name` unless told
    /// otherwise.
    pub(crate) fn log(&self, images: &Path, name: &str) -> PathBuf {
        if let Some(log) = self.on_stdout.get() {
            return log.path().to_owned();
        }
        self.work_dir(images).join(self.log_file.as_deref().unwrap_or(Path::new(name)))
    }

    /// Makes a fault name the place to which the log goes, and not a temporary file.
    pub(crate) fn name_log(&self, fault: Fault) -> Fault {
        match (self.on_stdout.get(), &self.log_file) {
            (Some(_), Some(file)) if file.as_path() != Path::new("-") => fault.logged_at(file),
            (Some(_), _) => fault.logged_at("standard output"),
            (None, _) => fault,
        }
    }

    /// Prints the rest of the log and removes the temporary file, before this program becomes
    /// another.
    pub(crate) fn end_log(&self) {
        if let Some(log) = self.on_stdout.get() {
            log.end();
        }
    }

    /// Returns the log's path if the log goes to a place that the RPC cannot name.
    fn log_is_elsewhere(&self) -> Option<&Path> {
        if let Some(log) = self.on_stdout.get() {
            return Some(log.path());
        }
        let has_slash = |file: &&Path| file.as_os_str().as_bytes().contains(&b'/');
        self.log_file.as_deref().filter(has_slash)
    }

    /// Prints the log, if it is to go to standard output.
    pub(crate) fn print_log(&self) {
        if let Some(log) = self.on_stdout.get() {
            log.print();
        }
    }
}

applies! {
    Common to Dump PreDump Restore Check;
    one [work_dir unprivileged];
    each [];
    with |self, operation, config| {
        if self.trust_directory {
            operation = operation.trust_directory(true);
        }
        if !self.verbosity.is_empty() {
            operation = operation.log_level(Verbosity::level(&self.verbosity));
        }
        match (self.log_is_elsewhere(), &self.log_file) {
            (Some(path), _) => {
                config.value("log-file", path)?;
                operation = operation.log_elsewhere(path);
            }
            (None, Some(name)) => operation = operation.log_file(name),
            (None, None) => {}
        }
        config.switch("log-pid", self.log_pid);
        config.switch("deprecated", self.deprecated);
        if let Some(libdir) = &self.libdir {
            config.value("libdir", libdir)?;
        }
    }
}
