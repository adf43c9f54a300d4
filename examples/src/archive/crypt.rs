//! `archive encrypt` and `archive decrypt`: archives encrypted with age.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use criu_archive::crypt::{Recipients, decrypt, encrypt};
use criu_images::Text;
use indicatif::BinaryBytes;
use serde::Serialize;

use super::show;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::keys::{KeyArgs, read_text};
use crate::new_file::{NewFile, open_input};
use crate::target;
use crate::tool::Fallible;
use crate::work::{Input, Work};

/// Options of `archive encrypt`.
#[derive(Args)]
pub(crate) struct Encrypt {
    /// The archive, or any other file; - for standard input
    #[arg(value_name = "IN")]
    from: PathBuf,
    /// The encrypted file to write; - for standard output
    #[arg(value_name = "OUT")]
    to: PathBuf,
    /// Encrypt for the holder of an identity; may be repeated
    #[arg(short, long, value_name = "AGE1...")]
    recipient: Vec<String>,
    /// Encrypt for the recipients in FILE, one a line; may be repeated
    #[arg(short = 'R', long, value_name = "FILE")]
    recipients_file: Vec<PathBuf>,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

impl Encrypt {
    pub(crate) fn run(self, keys: &KeyArgs) -> Fallible<ExitCode> {
        refuse(&self.to, &self.from, self.json)?;
        let recipients = self.recipients(keys)?;
        let (file, work) = begin(&self.from)?;
        let (mut from, mut file) = (Input::new(file, &work), output(&self.to)?);
        let failed = |error: io::Error| fault(&work, &self.to, &error);
        let mut to = encrypt(&recipients, &mut file).map_err(failed)?;
        let bytes = copy(&mut from, &mut to).map_err(|(side, error)| match side {
            Side::From => fault(&work, &self.from, &error),
            Side::To => failed(error),
        })?;
        to.finish().map(drop).map_err(failed)?;
        keep(file, &self.to)?;
        drop(work);
        tell(&self.to, bytes, "encrypted", self.json)
    }

    /// Identities stand for their recipients, as for the program age.
    fn recipients(&self, keys: &KeyArgs) -> Fallible<Recipients> {
        let own = keys.identities()?;
        let has_keys = !self.recipient.is_empty()
            || !self.recipients_file.is_empty()
            || own.recipients().next().is_some();
        if let Some(passphrase) = keys.passphrase()? {
            if has_keys {
                let text = "a file is encrypted for recipients or with a passphrase, not both";
                return Err(Fault::usage(text.to_owned()).into());
            }
            return Ok(Recipients::of_passphrase(passphrase));
        }
        if !has_keys {
            let text = "nobody could open the file: name --recipient AGE1..., --recipients-file \
                        FILE, --identity FILE or --passphrase-file FILE";
            return Err(Fault::usage(text.to_owned()).into());
        }
        let mut recipients = Recipients::default();
        for recipient in own.recipients().chain(self.recipient.iter().cloned()) {
            recipients
                .add(&recipient)
                .map_err(|error| Fault::usage(format!("--recipient: {error}")))?;
        }
        for path in &self.recipients_file {
            recipients.add_file(&path.to_string_lossy(), &read_text(path)?)?;
        }
        Ok(recipients)
    }
}

/// Options of `archive decrypt`.
#[derive(Args)]
pub(crate) struct Decrypt {
    /// The encrypted file; - for standard input
    #[arg(value_name = "IN")]
    from: PathBuf,
    /// The file to write; - for standard output
    #[arg(value_name = "OUT")]
    to: PathBuf,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

impl Decrypt {
    pub(crate) fn run(self, keys: &KeyArgs) -> Fallible<ExitCode> {
        let keys = keys.read()?;
        if keys.is_empty() {
            let text = "a key is needed: name --identity FILE or --passphrase-file FILE";
            return Err(Fault::usage(text.to_owned()).into());
        }
        refuse(&self.to, &self.from, self.json)?;
        let (file, work) = begin(&self.from)?;
        let (input, mut to) = (Input::new(file, &work), output(&self.to)?);
        let mut input = BufReader::with_capacity(PIECE, input);
        if input.fill_buf().map_err(|error| fault(&work, &self.from, &error))?.is_empty() {
            return Err(format!("{}: is empty", shown(&self.from)).into());
        }
        let from = decrypt(&shown(&self.from), input, &keys);
        let mut from = from.map_err(|error| work.fault(&error))?;
        let bytes = copy(&mut from, &mut to).map_err(|(side, error)| match side {
            Side::From => fault(&work, &self.from, &error),
            Side::To => fault(&work, &self.to, &error),
        })?;
        keep(to, &self.to)?;
        drop(from);
        drop(work);
        tell(&self.to, bytes, "decrypted", self.json)
    }
}

/// Refuses to write over the file that is read, or two things to standard output.
fn refuse(to: &Path, from: &Path, json: bool) -> Result<(), Fault> {
    if to != Path::new("-") {
        return target::refuse(to, [from]);
    }
    if json {
        let text = "the file and the JSON of --json cannot both go to standard output";
        return Err(Fault::usage(text));
    }
    Ok(())
}

/// Opens the file that is read, and begins the work on it.
fn begin(path: &Path) -> Fallible<(File, Work)> {
    let named = |error: io::Error| format!("{}: {error}", shown(path));
    let file = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        open_input(path)
    };
    let file = file.map_err(named)?;
    let found = file.metadata().map_err(named)?;
    if found.is_dir() {
        return Err(format!("{}: is a directory", shown(path)).into());
    }
    let size = if found.is_file() { found.len() } else { 0 };
    Ok((file, Work::new(size)?))
}

/// Opens the file that is written.
fn output(path: &Path) -> Result<NewFile, String> {
    let is_stdout = path == Path::new("-");
    if is_stdout && io::stdout().is_terminal() {
        return Err("standard output is a terminal: name a file".to_owned());
    }
    NewFile::create((!is_stdout).then_some(path))
}

/// Puts the file in its place.
fn keep(mut file: NewFile, path: &Path) -> Fallible<()> {
    let kept = file.sync().and_then(|()| file.keep());
    match kept {
        Ok(()) => Ok(()),
        Err(error) if is_reader_gone(path, &error) => Err(error.into()),
        Err(error) => Err(format!("{}: {error}", shown(path)).into()),
    }
}

/// Prints what was done, unless the file went to standard output.
fn tell(path: &Path, bytes: u64, done: &'static str, json: bool) -> Fallible<ExitCode> {
    if path != Path::new("-") {
        let path = path.display().to_string();
        show(&Report { path, bytes, done }, json)?;
    }
    Ok(Exit::Done.into())
}

/// Facts about a file that was written.
#[derive(Serialize)]
struct Report {
    path: String,
    /// Bytes that are not encrypted.
    bytes: u64,
    #[serde(skip)]
    done: &'static str,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, bytes, done } = self;
        write!(f, "{}: {}, {done}", Text(path.as_bytes()), BinaryBytes(*bytes))
    }
}

/// Tells that the reader of standard output has seen enough.
fn is_reader_gone(path: &Path, error: &io::Error) -> bool {
    path == Path::new("-") && error.kind() == io::ErrorKind::BrokenPipe
}

/// Returns the reason why the work on a file ended early.
fn fault(work: &Work, path: &Path, error: &io::Error) -> Box<dyn Error> {
    if is_reader_gone(path, error) {
        return Box::new(io::Error::from(error.kind()));
    }
    work.failed(format!("{}: {error}", shown(path))).into()
}

/// Name of a file for messages.
fn shown(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// A side of a copy.
enum Side {
    From,
    To,
}

/// Copies all bytes, and returns how many there were.
fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<u64, (Side, io::Error)> {
    let (mut piece, mut bytes) = (vec![0; PIECE], 0);
    loop {
        let len = match from.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err((Side::From, error)),
        };
        let read = piece.get(..len).unwrap_or_default();
        to.write_all(read).map_err(|error| (Side::To, error))?;
        bytes += len as u64;
    }
}

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;
