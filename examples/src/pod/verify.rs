//! `pod verify`: compares a record with this machine and with its files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use criu_archive::record::{Finding, Host, Program, Record, ToolKind};
use criu_images::Severity;
use criu_rs::Criu;
use serde::Serialize;

use super::opened::open;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::images;
use crate::options::criu_program;
use crate::tool::Fallible;
use crate::work::Work;

/// Options of `pod verify`.
#[derive(Args)]
pub(crate) struct Verify {
    /// The directory or archive of the checkpoint
    #[arg(value_name = "DIR|ARCHIVE")]
    path: PathBuf,
    /// The program of a tool, which is criu, runsc, qemu or firecracker; found in PATH unless
    /// given; may be repeated
    #[arg(long, value_name = "KIND=PATH")]
    tool: Vec<Named>,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Fallible<ExitCode> {
        let (holder, record) = open(&self.path)?;
        let host = self.host(&record)?;
        let bytes = record.all_files().filter_map(|file| file.size).fold(0, u64::saturating_add);
        let work = Work::new(bytes)?;
        let watch = |bytes| work.step(bytes);
        let findings = record.verify(&host, &holder, &watch);
        let findings = findings.map_err(|error| work.fault(error))?;
        drop(work);
        let is_good = !findings.iter().any(Finding::is_error);
        let outcome = if is_good { "done" } else { "failed" };
        let name = holder.name();
        images::show(&Verified { program: "pod", outcome, name, findings: &findings }, self.json)?;
        Ok(if is_good { Exit::Done } else { Exit::Failed }.into())
    }

    /// Looks at this machine, and asks the programs that the record needs.
    fn host(&self, record: &Record) -> Fallible<Host> {
        let mut host = Host::here();
        let mut programs = Vec::new();
        for Named { kind, path } in &self.tool {
            let asked = match kind {
                ToolKind::Criu => criu(Some(path))?,
                _ => Program::ask(kind, path).map_err(|error| {
                    Fault::Failed(format!("--tool {kind}={}: {error}", path.display()))
                })?,
            };
            programs.push(asked);
        }
        let needs = |kind: &ToolKind| {
            record.containers.iter().any(|container| container.tool.kind == *kind)
        };
        let is_given = |kind: &ToolKind| self.tool.iter().any(|named| named.kind == *kind);
        if needs(&ToolKind::Criu) && !is_given(&ToolKind::Criu) {
            // A criu that is missing, or does not start, is a finding.
            programs.extend(criu(None).ok());
        }
        host.programs = Some(programs);
        Ok(host.with_programs(record))
    }
}

/// Asks a criu for its version, and for what it can do on this kernel.
fn criu(named: Option<&Path>) -> Result<Program, Fault> {
    let path = criu_program(named)?;
    let criu = Criu::at(&path);
    let version = criu.version()?.to_string();
    let mut program = Program::new(ToolKind::Criu, version, path.to_string_lossy());
    // Without rights a criu does not know.
    let features = criu.features().unwrap_or_default();
    for (name, has) in [
        ("mem_track", features.mem_track),
        ("lazy_pages", features.lazy_pages),
        ("pidfd_store", features.pidfd_store),
        ("mem_compression", features.mem_compression),
    ] {
        program.features.extend(has.map(|has| (name.to_owned(), has)));
    }
    Ok(program)
}

/// The program of a tool.
#[derive(Clone)]
struct Named {
    kind: ToolKind,
    path: PathBuf,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, path) = text.split_once('=').unwrap_or((text, ""));
        let kind = ToolKind::from(kind);
        if path.is_empty() || matches!(kind, ToolKind::Other(_)) {
            return Err(format!("wanted KIND=PATH, KIND is {}", ToolKind::WORDS.join(", ")));
        }
        Ok(Self { kind, path: path.into() })
    }
}

/// Findings on a checkpoint. Displays as a person reads them.
#[derive(Serialize)]
struct Verified<'r> {
    program: &'static str,
    outcome: &'static str,
    /// Path of the directory or archive.
    name: &'r str,
    findings: &'r [Finding],
}

impl fmt::Display for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.findings {
            writeln!(f, "{finding}")?;
            if !finding.hint.is_empty() {
                writeln!(f, "    do: {}", finding.hint)?;
            }
        }
        let count = |severity| self.findings.iter().filter(|one| one.severity == severity).count();
        match (count(Severity::Error), count(Severity::Warning), count(Severity::Note)) {
            (0, 0, 0) => f.write_str("nothing stands against a restore here"),
            (0, 0, _) => f.write_str("nothing found; see above what was not compared"),
            (0, _, 0) => f.write_str("no error; see above what may be lost"),
            (0, _, _) => f.write_str("no error; see above what may be lost or was not compared"),
            (1, _, _) => f.write_str("1 error stands against a restore here"),
            (errors, _, _) => write!(f, "{errors} errors stand against a restore here"),
        }
    }
}
