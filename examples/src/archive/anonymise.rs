//! `archive anonymise`: makes a copy of a checkpoint for strangers.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_archive::anonymise::{AnonymousCopy, Note};
use criu_images::Text;
use indicatif::BinaryBytes;
use serde::Serialize;

use super::new_archive::{Form, Packed};
use super::show;
use crate::exit::Exit;
use crate::images::open_archive;
use crate::shown::Shown;
use crate::target::Target;
use crate::tool::Fallible;
use crate::work::Work;

/// Options of `archive anonymise`.
#[derive(Args)]
#[command(after_help = MORE)]
pub(crate) struct Anonymise {
    /// Directory of images, directory of an unpacked archive, or archive; - for standard input
    #[arg(value_name = "SOURCE")]
    source: PathBuf,
    /// The directory to make; an archive if the name ends as those of archives, or with --pack; -
    /// for an archive on standard output
    #[arg(short, long, value_name = "TARGET")]
    output: PathBuf,
    #[command(flatten)]
    packed: Packed,
    /// Fail, before anything is written, if a member is left out or emptied
    #[arg(long)]
    strict: bool,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

impl Anonymise {
    pub(crate) fn run(self) -> Fallible<ExitCode> {
        let target = Target::new(&self.output, self.json, [&*self.source])?;
        let (copy, old) = if self.source.is_dir() {
            (AnonymousCopy::of_directory(&self.source)?, None)
        } else {
            let archive = open_archive(&self.source)?;
            (AnonymousCopy::of_archive(&archive)?, Some(archive.packing()))
        };
        if self.strict && !copy.notes().is_empty() {
            let notes: Vec<_> = copy.notes().iter().map(|note| format!("\n  {note}")).collect();
            return Err(format!("--strict: the copy would lack something{}", notes.concat()).into());
        }
        let path = self.output.display().to_string();
        let bytes = copy.draft().size();
        let form = self.packed.form().or_else(|| Form::of_name(self.output.to_str()?));
        let is_stdout = target.path().is_none();
        let (members, packing) = if is_stdout || form.is_some() {
            let form = form.unwrap_or(Form::of(old));
            self.packed.check(Some(form))?;
            let saved = self.packed.write(&target, copy.draft(), form)?;
            (saved.members, Some(form.word()))
        } else {
            self.packed.check(None)?;
            let work = Work::new(bytes)?;
            let written = copy.into_directory(&self.output, &|done| work.step(done));
            (written.map_err(|error| work.fault(error))?, None)
        };
        let report = Report { path, packing, members, bytes, notes: copy.notes() };
        if is_stdout {
            report.notes.iter().for_each(|note| eprintln!("{}", Shown(note)));
        } else {
            show(&report, self.json)?;
        }
        Ok(Exit::Done.into())
    }
}

/// Facts about a copy that was written.
#[derive(Serialize)]
struct Report<'r> {
    path: String,
    /// Packing of an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    packing: Option<&'static str>,
    /// Members of an archive, or files of a directory.
    members: usize,
    /// Bytes before they were packed.
    bytes: u64,
    notes: &'r [Note],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, bytes) = (Text(self.path.as_bytes()), BinaryBytes(self.bytes));
        match self.packing {
            Some(packing) => write!(f, "{path}: {} members, {bytes}, {packing}", self.members)?,
            None => write!(f, "{path}: {} files, {bytes}", self.members)?,
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  {note}"))
    }
}

const MORE: &str = "\
The copy is for a bug report. Replaced are: memory; data in pipes, sockets, queues, terminals and
files; paths, names of programs and hosts, environments, addresses, text in JSON; registers, except
those that say where a thread is. A name has the same pseudonym everywhere in one copy, with its
length. Equal pages stay equal, empty pages stay empty. The key is random and kept nowhere: no two
copies agree.

Not replaced are: numbers such as pids, users, ports, inodes, times, memory addresses, sizes and
flags; seccomp filters; the model of the processor; the lengths of names. docs/archives.md has the
whole list. Logs, archives of files (rootfs-diff.tar, volumes), and members of an unknown kind are
left out, contents of temporary file systems are removed. What is printed names them as they are in
the original: do not send it along.

Examples:
  criu-rs archive anonymise img -o report
  criu-rs archive anonymise export.tar -o report.tar.zst
  criu-rs archive anonymise --json img -o report.tar.gz";
