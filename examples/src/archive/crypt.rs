//! `archive encrypt` and `archive decrypt`: archives encrypted with age.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
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
use crate::target::{Target, named};
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
        let target = Target::new(&self.to, self.json, [&*self.from])?;
        let recipients = self.recipients(keys)?;
        let (file, work) = begin(&self.from)?;
        let (mut from, mut file) = (Input::new(file, &work), NewFile::create(target.path())?);
        let failed = |error: io::Error| work.fault(target.fault(error));
        let mut to = encrypt(&recipients, &mut file).map_err(failed)?;
        let bytes = copy(&mut from, &mut to).map_err(|(side, error)| match side {
            Side::From => work.fault(named(&self.from.display(), error)),
            Side::To => failed(error),
        })?;
        to.finish().map(drop).map_err(failed)?;
        let kept = file.sync().and_then(|()| file.keep());
        kept.map_err(|error| target.fault(error))?;
        drop(work);
        tell(&target, bytes, "encrypted", self.json)
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
                return Err(Fault::usage(text).into());
            }
            return Ok(Recipients::of_passphrase(passphrase));
        }
        if !has_keys {
            let text = "nobody could open the file: name --recipient AGE1..., --recipients-file \
                        FILE, --identity FILE or --passphrase-file FILE";
            return Err(Fault::usage(text).into());
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
            return Err(Fault::usage(text).into());
        }
        let target = Target::new(&self.to, self.json, [&*self.from])?;
        let (file, work) = begin(&self.from)?;
        let (input, mut to) = (Input::new(file, &work), NewFile::create(target.path())?);
        let mut input = BufReader::with_capacity(PIECE, input);
        let source = self.from.display();
        let unread = |error: io::Error| work.fault(named(&source, error));
        if input.fill_buf().map_err(unread)?.is_empty() {
            return Err(format!("{source}: is empty").into());
        }
        let from = decrypt(&source.to_string(), input, &keys);
        let mut from = from.map_err(|error| work.fault(error))?;
        let bytes = copy(&mut from, &mut to).map_err(|(side, error)| match side {
            Side::From => unread(error),
            Side::To => work.fault(target.fault(error)),
        })?;
        let kept = to.sync().and_then(|()| to.keep());
        kept.map_err(|error| target.fault(error))?;
        drop(from);
        drop(work);
        tell(&target, bytes, "decrypted", self.json)
    }
}

/// Opens the file that is read, and begins the work on it.
fn begin(path: &Path) -> Fallible<(File, Work)> {
    let named = |error: io::Error| named(&path.display(), error);
    let file = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        open_input(path)
    };
    let file = file.map_err(named)?;
    let found = file.metadata().map_err(named)?;
    if found.is_dir() {
        return Err(format!("{}: is a directory", path.display()).into());
    }
    let size = if found.is_file() { found.len() } else { 0 };
    Ok((file, Work::new(size)?))
}

/// Prints what was done, unless the file went to standard output.
fn tell(target: &Target, bytes: u64, done: &'static str, json: bool) -> Fallible<ExitCode> {
    if let Some(path) = target.path() {
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
