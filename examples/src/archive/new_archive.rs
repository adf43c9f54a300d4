//! The archive that `archive create` and `archive convert` write, and what they say about it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use criu_archive::convert::{Conversion, Note};
use criu_archive::metadata::Engine;
use criu_archive::write::{Draft, Options, Pack, Saved};
use criu_archive::{Packing, Sha256};
use criu_images::Text;
use indicatif::BinaryBytes;
use serde::Serialize;

use super::show;
use crate::fault::Fault;
use crate::new_file::NewFile;
use crate::shown::Shown;
use crate::target::Target;
use crate::tool::Fallible;
use crate::work::Work;

/// Options of an archive that is written.
#[derive(Args)]
pub(crate) struct NewArchive {
    /// The archive to write; - for standard output
    #[arg(value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    packed: Packed,
    /// Fail, before anything is written, if the engine would not restore a part
    #[arg(long)]
    strict: bool,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

/// Options of the bytes of an archive.
#[derive(Args, Debug)]
pub(crate) struct Packed {
    /// Packing; by default plain for CRI-O and containerd, zstd for Podman, and for no engine that
    /// of the archive that is read, or zstd
    #[arg(long, value_enum)]
    pack: Option<Form>,
    /// Level of the packing, 1 (quick) to 19 (small; 9 for gzip)
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=19))]
    level: Option<u8>,
    /// Threads that pack with zstd, at most 64; by default one for each processor
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// Write the same bytes each time: no owners, no times; metadata that are made up say 1980
    #[arg(long)]
    reproducible: bool,
    /// Compute the SHA-256 of the tar stream and, with zstd, put it into the archive with those of
    /// all members
    #[arg(long)]
    digests: bool,
}

/// Packings, as `--pack` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Not packed
    Plain,
    /// A single gzip stream
    Gzip,
    /// Frames of zstd with a table of contents: any page can be read without the others
    Zstd,
}

/// Engines, as options name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineName {
    Podman,
    CriO,
    Containerd,
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Podman => Self::Podman,
            EngineName::CriO => Self::CriO,
            EngineName::Containerd => Self::Containerd,
        }
    }
}

/// Facts about an archive that was written.
#[derive(Serialize)]
struct Report<'r> {
    path: String,
    from: Engine,
    engine: Engine,
    packing: &'static str,
    members: usize,
    /// Bytes before they were packed.
    bytes: u64,
    /// SHA-256 of the tar stream, with `--digests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff_id: Option<Sha256>,
    /// Bytes of the pages of the working set.
    working_set: u64,
    /// Reason why the working set was left where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    working_set_fault: Option<&'r str>,
    notes: &'r [Note],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Text(self.path.as_bytes());
        let (members, bytes) = (self.members, BinaryBytes(self.bytes));
        write!(f, "{name}: {members} members, {bytes}, {}", self.packing)?;
        if self.engine != Engine::Unknown {
            write!(f, ", for {}", self.engine)?;
        }
        if self.working_set > 0 {
            write!(f, ", working set of {} first", BinaryBytes(self.working_set))?;
        }
        if let Some(fault) = self.working_set_fault {
            write!(f, "\n  working set ignored: {}", Text(fault.as_bytes()))?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  {note}"))
    }
}

impl NewArchive {
    /// Place of the archive, which is none of the files that are read.
    pub(crate) fn target<'p>(
        &self,
        inputs: impl IntoIterator<Item = &'p Path>,
    ) -> Result<Target, Fault> {
        Target::new(&self.out, self.json, inputs)
    }

    /// Time of the checkpoint in metadata that are made up, in seconds since 1970, if the archive
    /// is to have the same bytes each time.
    pub(crate) fn fixed_time(&self) -> Option<u64> {
        self.packed.reproducible.then_some(FIXED_TIME)
    }

    /// Writes the archive, and shows what became of its parts. `old` is the packing of the archive
    /// that it was made of.
    pub(crate) fn write(
        self,
        target: &Target,
        conversion: &Conversion,
        old: Option<Packing>,
    ) -> Fallible<()> {
        if self.strict && conversion.loses() {
            let lost = conversion.notes().iter().filter(|note| note.effect().is_loss());
            let lost: Vec<_> = lost.map(|note| format!("\n  {note}")).collect();
            let text = format!("--strict: a restore would lack something{}", lost.concat());
            return Err(text.into());
        }
        let form = self.form(conversion, old);
        self.packed.check(Some(form))?;
        let saved = self.packed.write(target, conversion.draft(), form)?;
        let mut report = report(target.to_string(), form, conversion, &saved);
        if old.is_some() && report.engine == Engine::Unknown {
            // An archive that was only packed anew is for the engine that it was for.
            report.engine = report.from;
        }
        if target.path().is_none() {
            report.notes.iter().for_each(|note| eprintln!("{}", Shown(note)));
            return Ok(());
        }
        Ok(show(&report, self.json)?)
    }

    fn form(&self, conversion: &Conversion, old: Option<Packing>) -> Form {
        self.packed.pack.unwrap_or(match conversion.to() {
            Engine::Podman => Form::Zstd,
            Engine::CriO | Engine::Containerd => Form::Plain,
            _ => Form::of(old),
        })
    }
}

impl Packed {
    /// Options of the bytes, where a word has options of its own for them.
    pub(crate) fn new(form: Form, level: Option<u8>, threads: Option<u16>, digests: bool) -> Self {
        Self { pack: Some(form), level, threads, reproducible: false, digests }
    }

    /// Packing that was asked for.
    pub(crate) fn form(&self) -> Option<Form> {
        self.pack
    }

    /// Writes an archive.
    pub(crate) fn write(self, target: &Target, draft: &Draft, form: Form) -> Fallible<Saved> {
        let options = self.options(form);
        // Signals are held before the file is there: none leaves it behind.
        let work = Work::new(draft.size())?;
        let mut file = NewFile::create(target.path())?;
        let saved = draft.write(&target.to_string(), &mut file, &options, &|done| work.step(done));
        let saved = saved.map_err(|error| work.fault(error))?;
        let kept = file.sync().and_then(|()| file.keep());
        kept.map_err(|error| target.fault(error))?;
        Ok(saved)
    }

    /// Returns the options for the library.
    pub(crate) fn options(&self, form: Form) -> Options {
        let mut options = Options::default();
        options.pack = self.pack(form);
        options.is_reproducible = self.reproducible;
        options.has_digests = self.digests;
        options
    }

    /// Refuses options that the packing does not have. `None` is a directory.
    pub(crate) fn check(&self, form: Option<Form>) -> Result<(), Fault> {
        let most = match form {
            Some(Form::Zstd) => 19,
            Some(Form::Gzip) => 9,
            Some(Form::Plain) | None => 0,
        };
        let of = form.map_or("a directory", Form::word);
        if self.level.is_some_and(|level| level > most) {
            let text = match most {
                0 => format!("--level: {of} has no levels"),
                _ => format!("--level: {of} has levels from 1 to {most}"),
            };
            return Err(Fault::usage(text));
        }
        if self.threads.is_some() && form != Some(Form::Zstd) {
            return Err(Fault::usage(format!("--threads: {of} has no threads, only zstd has")));
        }
        Ok(())
    }

    fn pack(&self, form: Form) -> Pack {
        match form {
            Form::Plain => Pack::Plain,
            Form::Gzip => Pack::Gzip { level: self.level.map_or(6, |level| level.min(9).into()) },
            Form::Zstd => {
                let all = available_parallelism().map_or(1, |all| all.get());
                let threads = self.threads.map_or(all, usize::from);
                Pack::Seekable { level: self.level.map_or(1, i32::from), threads }
            }
        }
    }
}

impl Form {
    /// Packing of an archive that is made of another one.
    pub(crate) fn of(old: Option<Packing>) -> Self {
        match old {
            Some(Packing::Gzip) => Self::Gzip,
            Some(Packing::Zstd | Packing::Seekable) | None => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// Packing that the end of a name tells; `None` for a name that is not one of an archive,
    /// such as one with a slash at its end.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let row = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
        row.map(|(_, form)| *form)
    }

    /// The packing in words.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Plain => Packing::Plain.name(),
            Self::Gzip => Packing::Gzip.name(),
            Self::Zstd => Packing::Seekable.name(),
        }
    }
}

fn report<'r>(
    path: String,
    form: Form,
    conversion: &'r Conversion,
    saved: &'r Saved,
) -> Report<'r> {
    Report {
        path,
        from: conversion.from(),
        engine: conversion.to(),
        packing: form.word(),
        members: saved.members,
        bytes: saved.unpacked,
        diff_id: saved.diff_id,
        working_set: saved.hot_pages,
        working_set_fault: saved.working_set_fault.as_deref(),
        notes: conversion.notes(),
    }
}

/// Ends of the names of archives.
const ENDINGS: &[(&str, Form)] = &[
    (".tar", Form::Plain),
    (".tar.gz", Form::Gzip),
    (".tgz", Form::Gzip),
    (".tar.zst", Form::Zstd),
    (".tzst", Form::Zstd),
];

/// 1 January 1980, the first time that all forms of archives have. Engines take 0 for no time.
const FIXED_TIME: u64 = 315_532_800;
