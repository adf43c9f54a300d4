//! `preflight`: tells if a dump or a restore would work, before anything is frozen.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use console::style;
use criu_rs::preflight::{Finding, Need, Report, Severity, Words};
use criu_rs::{Cause, Criu, Dump, InheritFd, Pid, Restore};
use serde_json::{Value, json};

use crate::config::Config;
use crate::exit::{Exit, OWN_EXIT_CODES};
use crate::fault::Fault;
use crate::hints;
use crate::options::{
    Apply, Cgroups, Existing, Files, Jobs, Memory, Network, NetworkSaved, Reach, Size,
};
use crate::output::{Output, micros};
use crate::program::{self, Given};

/// Options of `preflight`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Main options")]
pub(crate) struct Program {
    /// The process that is to be saved, with all its descendants
    #[arg(value_name = "PID")]
    pid: Option<Pid>,
    /// The process, as dump names it
    #[arg(short = 't', long, value_name = "PID", conflicts_with = "pid")]
    tree: Option<Pid>,
    /// With a process, the directory that the images are to go into, the current one unless
    /// given; without a process, look at a restore of the images in it
    #[arg(short = 'D', long, value_name = "DIR")]
    images_dir: Option<PathBuf>,
    /// Look at a restore of these images
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pid", "tree", "images_dir"])]
    images: Option<PathBuf>,
    #[command(flatten)]
    existing: Existing,
    /// Largest unlinked file to save, with K, M or G; 1M unless given
    #[arg(long, value_name = "SIZE")]
    ghost_limit: Option<Size>,
    /// A mount point to leave out
    #[arg(long, value_name = "PATH")]
    skip_mnt: Vec<PathBuf>,
    /// Look at a dump or restore without root
    #[arg(long)]
    unprivileged: Option<bool>,
    /// A descriptor of this process in place of a saved one, on restore
    #[arg(long, value_name = "fd[N]:RESOURCE")]
    inherit_fd: Vec<InheritFd<'static>>,
    /// The new root directory of the tasks' mounts, on restore
    #[arg(short = 'r', long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Do not compare the permissions of files, on restore
    #[arg(long)]
    skip_file_rwx_check: Option<bool>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    network_saved: NetworkSaved,
    #[command(flatten)]
    memory: Memory,
    #[command(flatten)]
    cgroups: Cgroups,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    reach: Reach,
}

impl program::Program for Program {
    const WORD: &'static str = "preflight";
    const ABOUT: &'static str =
        "Tells if a dump or a restore will work, and which options it needs.";
    const WORDS: &'static str = "[PID]";
    const EXIT_CODES: &'static str = OWN_EXIT_CODES;
    const IS_CRIU_S: bool = false;
    const MORE: &'static str = "\
Nothing is frozen, asked of the process or changed. With a process the look is at a dump, and the
options are those of dump. With -D or --images alone the look is at a restore, and the options are
those of restore. Give the ones that you mean to use. The exit status is 0 if it will work with
them, and 1 if not.

Examples:
  criu-rs preflight 4711
  criu-rs preflight 4711 --tcp-established -D /var/lib/ckpt
  criu-rs preflight -D /var/lib/ckpt
  criu-rs preflight 4711 --json | jq -r '.options[].option'
";

    fn json(&self) -> bool {
        self.reach.json
    }

    fn run(&self, output: &Output, _: &Given) -> Result<ExitCode, Fault> {
        let criu = self.reach.criu()?;
        let images = self.images.as_ref().or(self.images_dir.as_ref());
        let report = match (images, self.pid.or(self.tree)) {
            (_, Some(pid)) => self.dump(pid, &criu)?,
            (Some(images), None) => self.restore(images, &criu)?,
            (None, None) => {
                let why = "a process id is missing, or -D with a directory of images";
                return Err(Fault::usage(why.to_owned()));
            }
        };
        output.print(report.in_words(&Options));
        let works = report.will_work();
        output.object(if works { "works" } else { "fails" }, facts(&report));
        Ok(if works { Exit::Done } else { Exit::Failed }.into())
    }
}

impl Program {
    fn dump(&self, pid: Pid, criu: &Criu) -> Result<Report, Fault> {
        // A look heeds no option that only CRIU's command line knows.
        let mut config = Config::default();
        // A dump would make the directory.
        let images = self.images_dir.as_deref().unwrap_or(Path::new("."));
        let images = crate::places::images_or_above(images);
        let mut dump = Dump::new(pid, images).overwrite(self.existing.is_replaced());
        if let Some(Size(bytes)) = self.ghost_limit {
            dump = dump.ghost_limit(bytes);
        }
        for path in &self.skip_mnt {
            dump = dump.skip_mnt(path);
        }
        if let Some(on) = self.unprivileged {
            dump = dump.unprivileged(on);
        }
        dump = self.files.apply(dump, &mut config)?;
        dump = self.network.apply(dump, &mut config)?;
        dump = self.network_saved.apply(dump, &mut config)?;
        dump = self.memory.apply(dump, &mut config)?;
        dump = self.cgroups.apply(dump, &mut config)?;
        dump = self.jobs.apply(dump, &mut config)?;
        Ok(dump.preflight(criu)?)
    }

    fn restore(&self, images: &Path, criu: &Criu) -> Result<Report, Fault> {
        let mut config = Config::default();
        let mut restore = Restore::new(images);
        for fd in &self.inherit_fd {
            restore = restore.inherit_fd(fd.clone());
        }
        if let Some(root) = &self.root {
            restore = restore.root(root);
        }
        if let Some(on) = self.skip_file_rwx_check {
            restore = restore.skip_file_rwx_check(on);
        }
        if let Some(on) = self.unprivileged {
            restore = restore.unprivileged(on);
        }
        restore = self.files.apply(restore, &mut config)?;
        restore = self.network.apply(restore, &mut config)?;
        restore = self.cgroups.apply(restore, &mut config)?;
        restore = self.jobs.apply(restore, &mut config)?;
        Ok(restore.preflight(criu)?)
    }
}

/// The words of the command line for the report.
struct Options;

impl Words for Options {
    fn option(&self, need: &Need) -> String {
        need.argument()
    }

    fn hint(&self, cause: Cause) -> &'static str {
        advice(cause)
    }

    fn head(&self, severity: Severity, text: &str) -> String {
        let text = style(text).bold();
        match severity {
            Severity::Blocks => text.red(),
            Severity::Needs => text.yellow(),
            _ => text,
        }
        .to_string()
    }
}

fn facts(report: &Report) -> Value {
    let safe = report.safe_options();
    let option = |need: &Need| {
        json!({
            "option": need.argument(),
            "safe": safe.contains(need),
            "on_restore": need.on_restore(),
        })
    };
    let freeze = report.freeze_estimate();
    let measured = report.unreadable() == 0;
    json!({
        "will_work": report.will_work(),
        "is_possible": report.is_possible(),
        "options": report.options().iter().map(option).collect::<Value>(),
        "findings": report.findings().iter().map(finding).collect::<Value>(),
        "left_out": report.left_out(),
        "tasks": report.tasks(),
        "threads": report.threads(),
        "descriptors": measured.then(|| report.descriptors()),
        "memory": measured.then(|| report.memory()),
        "file_systems": report.file_systems(),
        "freeze_us": freeze.map(|freeze| [micros(freeze.shortest), micros(freeze.longest)]),
    })
}

fn finding(finding: &Finding) -> Value {
    let subject = &finding.subject;
    json!({
        "severity": finding.severity.to_string(),
        "cause": finding.cause.map(|cause| format!("{cause:?}")),
        "what": finding.what,
        "detail": finding.detail,
        "pid": subject.pid.map(Pid::as_raw),
        "fd": subject.fd,
        "path": subject.path.as_ref().map(|path| path.to_string_lossy()),
        "inode": subject.inode,
        "options": finding.needs.iter().map(Need::argument).collect::<Vec<_>>(),
        "choice": finding.is_choice,
        "hint": finding.hint.or(finding.cause.map(advice)),
    })
}

fn advice(cause: Cause) -> &'static str {
    hints::about(cause, hints::Word::Preflight)
}
