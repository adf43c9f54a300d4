//! `crit`: looks into images, turns them into JSON and back. It takes the options of CRIU's own
//! crit.

mod edit;
mod explore;
pub(crate) mod search;
mod seccomp;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use criu_images::bounds::IMAGE;
use criu_images::json::{self, Style};
use criu_images::{CoreDump, Diff, Finding, Image, Severity, check};

use crate::images::{image_in_archive, open_set, show};
use crate::keys::KeyArgs;
use crate::new_file::{NewFile, open_input};
use crate::remote::RegistryArgs;
use crate::shown::Shown;
use crate::stdout::Stdout;
use crate::tool::{Fallible, Tool};
use crate::word::Table;
use explore::What;

/// The command line of `crit`.
#[derive(Args)]
pub(crate) struct Crit {
    #[command(subcommand)]
    word: Word,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Subcommand)]
enum Word {
    /// Turn an image into JSON
    Decode {
        #[command(flatten)]
        files: Files,
        /// Write many lines, with names instead of numbers
        #[arg(long)]
        pretty: bool,
        /// Write only the size of extra data behind entries; such JSON cannot be encoded
        #[arg(long)]
        nopl: bool,
    },
    /// Turn JSON into an image
    Encode {
        #[command(flatten)]
        files: Files,
    },
    /// Show the kind of an image and its number of entries
    Info {
        /// The image, or ARCHIVE:FOLDER/IMAGE
        image: PathBuf,
    },
    /// Show an image, as decode --pretty does
    Show {
        /// The image, or ARCHIVE:FOLDER/IMAGE
        image: PathBuf,
        /// Show only the size of extra data behind entries
        #[arg(long)]
        nopl: bool,
    },
    /// Explore a directory of images
    X {
        #[command(flatten)]
        set: SetArg,
        /// The view
        what: What,
        /// Show only these tasks
        #[arg(short, long)]
        pid: Vec<u32>,
        /// Add environments to ps as JSON; secrets may be in them
        #[arg(long, requires = "json")]
        env: bool,
        /// Print JSON, on one line
        #[arg(long)]
        json: bool,
    },
    /// Check that a directory of images is whole
    Check {
        #[command(flatten)]
        set: SetArg,
    },
    /// Show what has changed between two checkpoints of the same processes
    Diff {
        /// The older checkpoint
        old: PathBuf,
        /// The newer checkpoint
        new: PathBuf,
        /// Print JSON, on one line, with every page that differs
        #[arg(long)]
        json: bool,
    },
    /// Search the memory of tasks
    Search(search::Search),
    /// Show bytes of a task's memory
    Memory(search::Bytes),
    /// Show seccomp filters, and what they do
    Seccomp {
        #[command(flatten)]
        set: SetArg,
        /// Show only this task
        pid: Option<u32>,
        /// Show the instructions, too
        #[arg(short, long)]
        code: bool,
        /// Print JSON, on one line
        #[arg(long)]
        json: bool,
    },
    /// Change images so that a restore differs from the dump
    Edit(edit::Edit),
    /// Write a task as a core file, for a debugger
    Core {
        #[command(flatten)]
        set: SetArg,
        /// The task; the root of the tree unless given
        pid: Option<u32>,
        /// The core file
        #[arg(short, long, default_value = "core")]
        out: PathBuf,
    },
}

/// Argument of words that look into a set.
#[derive(Args)]
struct SetArg {
    /// Directory of images, archive, ARCHIVE:FOLDER, - for standard input, or an image:
    /// HOST/NAME:TAG, oci:DIR, oci-archive:FILE
    dir: PathBuf,
}

#[derive(Args)]
struct Files {
    /// The file to read; standard input unless given
    #[arg(short, long = "in")]
    input: Option<PathBuf>,
    /// The file to write; standard output unless given
    #[arg(short, long)]
    out: Option<PathBuf>,
}

impl Tool for Crit {
    const WORD: &'static str = "crit";
    const ABOUT: &'static str = "Looks into images, turns them into JSON and back, and edits them.";
    const MORE: &'static str = MORE;

    fn run(self, name: &str, _: &Table) -> Fallible<ExitCode> {
        self.keys.hold()?;
        self.registry.hold();
        run(self.word, name)
    }
}

fn run(word: Word, name: &str) -> Fallible<ExitCode> {
    match word {
        Word::Decode { files, pretty, nopl } => {
            let style = Style { pretty, no_payload: nopl };
            let to_terminal = files.out.is_none();
            let mut out = NewFile::create(files.out.as_deref())?;
            decode(files.input.as_deref(), style, &mut out)?;
            if to_terminal {
                writeln!(out)?;
            }
            out.keep()?;
        }
        Word::Show { image, nopl } => {
            let style = Style { pretty: true, no_payload: nopl };
            let mut out = NewFile::create(None)?;
            decode(Some(&image), style, &mut out)?;
            writeln!(out)?;
            out.keep()?;
        }
        Word::Encode { files } => {
            let mut out = NewFile::create(files.out.as_deref())?;
            match &files.input {
                Some(path) => {
                    let file = open_input(path).map_err(|error| at(path, &error))?;
                    json::encode(file, &mut out).map_err(|error| at(path, &error))?;
                }
                None => {
                    json::encode(io::stdin().lock(), &mut out)?;
                }
            }
            out.keep()?;
        }
        Word::Info { image } => info(&image)?,
        Word::X { set, what, pid, env, json } => {
            explore::explore(open_set(&set.dir)?.checkpoint()?, what, &pid, env, json)?;
        }
        Word::Diff { old, new, json } => {
            let (old, new) = (open_set(&old)?, open_set(&new)?);
            show(&Diff::new(old.checkpoint()?, new.checkpoint()?)?, json)?;
        }
        Word::Search(search) => {
            return Ok(if search.run(name)? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Word::Memory(bytes) => bytes.run()?,
        Word::Seccomp { set, pid, code, json } => {
            seccomp::seccomp(open_set(&set.dir)?.checkpoint()?, pid, code, json)?;
        }
        Word::Edit(edit) => edit.run()?,
        Word::Check { set } => return check_set(&set.dir),
        Word::Core { set, pid, out } => {
            let set = open_set(&set.dir)?;
            let checkpoint = set.checkpoint()?;
            let task = match pid {
                Some(pid) => checkpoint.task(pid).ok_or_else(|| format!("no task {pid}"))?,
                None => checkpoint.root(),
            };
            let core = CoreDump::new(&task)?;
            let mut file = NewFile::create(Some(&out))?;
            match file.file() {
                Some(file) => core.write_sparse_to(file)?,
                None => core.write_to(&mut file)?,
            }
            file.keep()?;
            eprintln!("{name}: {}: {core}", Shown(out.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn decode(path: Option<&Path>, style: Style, out: &mut impl Write) -> Fallible<()> {
    if let Some(path) = path {
        let name = path.to_string_lossy();
        if let Some(bytes) = image_in_archive(path)? {
            return Ok(json::decode(Image::detect(&name, &bytes)?, style, out)?);
        }
        let mut file = open_input(path).map_err(|error| at(path, &error))?;
        let found = file.metadata()?;
        if found.is_file() {
            refuse_holes(&found).map_err(|why| format!("{}: {why}", path.display()))?;
            return Ok(json::decode_file(&name, &mut file, style, out)?);
        }
    }
    // A pipe cannot be read a second time.
    let name = path.map_or("standard input".into(), |path| path.to_string_lossy());
    let bytes = read(path)?;
    Ok(json::decode(Image::detect(&name, &bytes)?, style, out)?)
}

/// Prints the kind of an image and its number of entries. Unlike CRIU's crit, extra data behind an
/// entry does not count as one.
fn info(path: &Path) -> Fallible<()> {
    let bytes = match image_in_archive(path)? {
        Some(bytes) => bytes,
        None => read(Some(path))?,
    };
    let name = path.to_string_lossy();
    let mut image = Image::detect(&name, &bytes)?;
    let kind = image.kind();
    let mut count = 0u64;
    while let Some(entry) = image.next_entry()? {
        image.payload(&entry)?;
        count += 1;
    }
    // The head of a pagemap is not an entry.
    if kind.entries == criu_images::kind::Entries::Pagemap {
        count = count.saturating_sub(1);
    }
    let mut out = Stdout::lock();
    writeln!(out, "{{\n    \"magic\": \"{}\",\n    \"count\": {count}\n}}", kind.name)?;
    Ok(())
}

fn check_set(dir: &Path) -> Fallible<ExitCode> {
    let findings = check(&open_set(dir)?);
    let is_bad = findings.iter().any(|finding| finding.severity == Severity::Error);
    match print_findings(&findings, dir) {
        // The status counts even if nobody reads the findings.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_findings(findings: &[Finding], dir: &Path) -> io::Result<()> {
    let mut out = Stdout::lock();
    for finding in findings {
        writeln!(out, "{}", Shown(finding))?;
    }
    if findings.is_empty() {
        writeln!(out, "nothing is wrong with {}", Shown(dir.display()))?;
    }
    Ok(())
}

/// Refuses a file that claims to be large and mostly has no bytes. CRIU writes no such image, and
/// its JSON would be as long as the claim.
fn refuse_holes(file: &fs::Metadata) -> Result<(), String> {
    let (size, stored) = (file.len(), file.blocks().saturating_mul(512));
    if size > IMAGE.get() && stored < size / 2 {
        return Err(format!("is sparse: of {size} bytes the file has {stored}"));
    }
    Ok(())
}

/// Reads a whole image.
fn read(path: Option<&Path>) -> Fallible<Vec<u8>> {
    let (mut bytes, limit) = (Vec::new(), IMAGE.get());
    let most = limit.saturating_add(1);
    let (name, read) = match path {
        Some(path) => {
            let file = open_input(path);
            let read = file.and_then(|file| file.take(most).read_to_end(&mut bytes));
            (path.display().to_string(), read)
        }
        None => {
            ("standard input".to_owned(), io::stdin().lock().take(most).read_to_end(&mut bytes))
        }
    };
    read.map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("{name}: has more than {limit} bytes, the most that are read").into());
    }
    Ok(bytes)
}

fn at(path: &Path, error: &dyn std::error::Error) -> Box<dyn std::error::Error> {
    format!("{}: {error}", path.display()).into()
}

const MORE: &str = "\
Examples:
  criu-rs crit show img/pstree.img
  criu-rs crit decode -i img/core-7.img --pretty -o core.json
  criu-rs crit encode -i core.json -o img/core-7.img
  criu-rs crit x img fds
  criu-rs crit check img
  criu-rs crit diff img.1 img.2
  criu-rs crit search img -e 'password=[^&\\x00]+' --context 20
  criu-rs crit memory img 7 7ffc10000000+100
  criu-rs crit seccomp img --code
  criu-rs crit edit img path:/srv/a=/srv/b
  criu-rs crit core img 7 -o core; gdb /usr/bin/program core

Exit status:
  0  done
  1  failed; check: errors were found; search: nothing was found
  2  wrong usage";
