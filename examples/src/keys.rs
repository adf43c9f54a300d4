//! Keys for encrypted archives, as options name them.

use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use criu_archive::crypt::Keys;

use crate::new_file::open_input;
use crate::shown::Shown;

/// Options with keys.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Encrypted archives")]
pub(crate) struct KeyArgs {
    /// File with identities, as age-keygen writes it, that open an archive; may be repeated
    #[arg(long, value_name = "FILE", global = true)]
    identity: Vec<PathBuf>,
    /// File with a passphrase in its first line, that opens an archive
    #[arg(long, value_name = "FILE", global = true)]
    passphrase_file: Option<PathBuf>,
}

impl KeyArgs {
    /// Reads the identities and the passphrase.
    ///
    /// # Errors
    /// Returns the reason for a person, with the file.
    pub(crate) fn read(&self) -> Result<Keys, String> {
        let mut keys = self.identities()?;
        if let Some(passphrase) = self.passphrase()? {
            keys.set_passphrase(passphrase);
        }
        Ok(keys)
    }

    /// Reads the identities.
    ///
    /// # Errors
    /// Returns the reason for a person, with the file.
    pub(crate) fn identities(&self) -> Result<Keys, String> {
        let mut keys = Keys::default();
        for path in &self.identity {
            let text = read_secret(path)?;
            let name = path.to_string_lossy();
            keys.add_identities(&name, &text).map_err(|error| error.to_string())?;
        }
        Ok(keys)
    }

    /// Reads the passphrase.
    ///
    /// # Errors
    /// Returns the reason for a person, with the file.
    pub(crate) fn passphrase(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.passphrase_file else { return Ok(None) };
        let text = read_secret(path)?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Some(line.to_owned())),
            _ => Err(format!("{}: has no passphrase in its first line", path.display())),
        }
    }

    /// Reads the keys, and holds them for all archives that this run of the program opens.
    ///
    /// # Errors
    /// The errors of [`read`](Self::read).
    pub(crate) fn hold(&self) -> Result<(), String> {
        let keys = self.read()?;
        if !keys.is_empty() {
            // A program runs one word.
            let _ = HELD.set(keys);
        }
        Ok(())
    }
}

/// Keys of this run of the program, if there are any.
pub(crate) fn held() -> Option<&'static Keys> {
    HELD.get()
}

/// Reads a small file of text with a secret. Notes on standard error that others can read it, too:
/// where secrets are mounted, that may be meant.
fn read_secret(path: &Path) -> Result<String, String> {
    let text = read_text(path)?;
    let is_open = |found: &Metadata| found.is_file() && found.mode() & 0o044 != 0;
    if fs::metadata(path).is_ok_and(|found| is_open(&found)) {
        let path = Shown(path.display());
        eprintln!("note: {path}: other users can read this secret; chmod 600 keeps it");
    }
    Ok(text)
}

/// Reads a small file of text.
///
/// # Errors
/// Returns the reason for a person, with the path.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = open_input(path).and_then(|file| file.take(LIMIT).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| format!("{}: {error}", path.display()))
}

static HELD: OnceLock<Keys> = OnceLock::new();

/// Most bytes of a file with keys that are read.
const LIMIT: u64 = 1 << 20;
