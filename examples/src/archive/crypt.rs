//! `archive encrypt` and `archive decrypt`: archives encrypted with age.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use criu_archive::crypt::{Recipients, decrypt, encrypt};

use crate::exit::Exit;
use crate::fault::Fault;
use crate::keys::{KeyArgs, read_text};
use crate::new_file::{NewFile, open_input};
use crate::progress::Progress;
use crate::tool::Fallible;

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
}

impl Encrypt {
    pub(crate) fn run(self, keys: &KeyArgs) -> Fallible<ExitCode> {
        let recipients = self.recipients(keys)?;
        let mut run = Run::new(&self.from, &self.to)?;
        let failed = |error: io::Error| format!("{}: {error}", self.to.display());
        let mut to = encrypt(&recipients, &mut run.to).map_err(failed)?;
        copy(&mut run.from, &mut to, run.size).map_err(|(side, error)| match side {
            Side::From => format!("{}: {error}", self.from.display()),
            Side::To => failed(error),
        })?;
        to.finish().map(drop).map_err(failed)?;
        run.keep()
    }

    /// Identities stand for their recipients, as for the program age.
    fn recipients(&self, keys: &KeyArgs) -> Fallible<Recipients> {
        let own = keys.read()?;
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
            recipients.add(&recipient)?;
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
}

impl Decrypt {
    pub(crate) fn run(self, keys: &KeyArgs) -> Fallible<ExitCode> {
        let keys = keys.read()?;
        if keys.is_empty() {
            let text = "a key is needed: name --identity FILE or --passphrase-file FILE";
            return Err(Fault::usage(text.to_owned()).into());
        }
        let mut run = Run::new(&self.from, &self.to)?;
        let name = self.from.to_string_lossy();
        let mut from = decrypt(&name, &mut run.from, &keys)?;
        copy(&mut from, &mut run.to, run.size).map_err(|(side, error)| match side {
            Side::From => format!("{name}: {error}"),
            Side::To => format!("{}: {error}", self.to.display()),
        })?;
        drop(from);
        run.keep()
    }
}

/// A file that is read, and one that is written.
struct Run<'p> {
    from: BufReader<File>,
    to: NewFile,
    path: &'p Path,
    /// Bytes to read, if they are known.
    size: Option<u64>,
}

impl<'p> Run<'p> {
    fn new(from: &Path, to: &'p Path) -> Result<Self, String> {
        let is_stdout = to == Path::new("-");
        if is_stdout && io::stdout().is_terminal() {
            return Err("standard output is a terminal: name a file".to_owned());
        }
        let file = if from == Path::new("-") {
            io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            open_input(from)
        };
        let file = file.map_err(|error| format!("{}: {error}", from.display()))?;
        let found = file.metadata().map_err(|error| format!("{}: {error}", from.display()))?;
        if found.is_dir() {
            return Err(format!("{}: is a directory", from.display()));
        }
        let size = found.is_file().then_some(found.len());
        let from = BufReader::with_capacity(PIECE, file);
        let to_file = NewFile::create((!is_stdout).then_some(to))?;
        Ok(Self { from, to: to_file, path: to, size })
    }

    fn keep(mut self) -> Fallible<ExitCode> {
        let path = self.path.display();
        let kept = self.to.sync().and_then(|()| self.to.keep());
        kept.map_err(|error| format!("{path}: {error}"))?;
        Ok(Exit::Done.into())
    }
}

/// A side of a copy.
enum Side {
    From,
    To,
}

/// Copies all bytes, and shows how far that is.
fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    size: Option<u64>,
) -> Result<(), (Side, io::Error)> {
    let progress = Progress::of_bytes(size.unwrap_or(0));
    let begin = Instant::now();
    let mut piece = vec![0; PIECE];
    let mut done = 0u64;
    loop {
        let len = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err((Side::From, error)),
        };
        let read = piece.get(..len).unwrap_or_default();
        to.write_all(read).map_err(|error| (Side::To, error))?;
        done += len as u64;
        if progress.pause().is_some_and(|pause| begin.elapsed() >= pause) {
            progress.show_bytes(done);
        }
    }
}

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;
