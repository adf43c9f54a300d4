//! `archive`: makes and reads archives of checkpoints. Each subcommand has a file.

mod anonymise;
mod convert;
mod create;
mod crypt;
mod extract;
mod list;
mod new_archive;
mod verify;

use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

pub(crate) use new_archive::{Form, Packed};

use crate::images;
use crate::keys::KeyArgs;
use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// The command line of `archive`.
#[derive(Args)]
pub(crate) struct ArchiveWord {
    #[command(subcommand)]
    word: Word,
    #[command(flatten)]
    keys: KeyArgs,
}

#[derive(Subcommand)]
enum Word {
    /// Make an archive of a directory of images
    Create(create::Create),
    /// Make an archive for another engine, or pack it anew
    Convert(convert::Convert),
    /// List the members of an archive; --verify reads all of it
    List(list::List),
    /// Read the whole archive, and compare it with the digests in it, if it has any
    Verify(verify::Verify),
    /// Unpack an archive into a new directory
    Extract(extract::Extract),
    /// Make a copy for a bug report: everything private is replaced
    Anonymise(anonymise::Anonymise),
    /// Encrypt an archive with age, for recipients or with a passphrase
    Encrypt(crypt::Encrypt),
    /// Decrypt an archive that was encrypted with age
    Decrypt(crypt::Decrypt),
}

impl Tool for ArchiveWord {
    const WORD: &'static str = "archive";
    const ABOUT: &'static str = "Makes and reads archives of checkpoints.";
    const MORE: &'static str = "\
Examples:
  criu-rs archive list export.tar.zst
  criu-rs archive verify export.tar.zst
  criu-rs archive extract export.tar.zst out
  criu-rs archive encrypt web.tar web.tar.age --recipient age1...
  criu-rs archive list web.tar.age --identity key.txt
  criu-rs archive create img web.tar --engine podman --bundle /run/web --name web \\
    --image docker.io/library/web:1 \\
    --image-id \"$(podman image inspect --format '{{.Id}}' docker.io/library/web:1)\"
  criu-rs archive convert podman.tar crio.tar --to cri-o
  criu-rs archive anonymise export.tar -o report.tar
  criu-rs archive convert old.tar.gz new.tar --pack zstd

An archive is encrypted as the program age does it, for recipients or with a passphrase. With
--identity, encrypt takes the recipients of the identities; with --passphrase-file the passphrase.
Decrypting is not needed to look into an archive: all words that read archives take --identity and
--passphrase-file.

Exit status:
  0  done
  1  the archive cannot be read or written, or is refused; --strict: a part would be lost
  2  wrong usage
  4  stopped by Ctrl-C or SIGTERM; nothing is left";

    fn run(self, name: &str, _: &Table) -> Fallible<ExitCode> {
        // Keys of these two are not for archives that are opened on the way.
        if !matches!(self.word, Word::Encrypt(_) | Word::Decrypt(_)) {
            self.keys.hold()?;
        }
        match self.word {
            Word::Create(create) => create.run(),
            Word::Convert(convert) => convert.run(),
            Word::List(list) => list.run(),
            Word::Verify(verify) => verify.run(),
            Word::Extract(extract) => extract.run(name),
            Word::Anonymise(anonymise) => anonymise.run(),
            Word::Encrypt(encrypt) => encrypt.run(&self.keys),
            Word::Decrypt(decrypt) => decrypt.run(&self.keys),
        }
    }
}

/// The result of a word, as JSON with the same frame as that of other words.
#[derive(Serialize)]
struct Done<'r, T> {
    program: &'static str,
    outcome: &'static str,
    #[serde(flatten)]
    report: &'r T,
}

impl<T: fmt::Display> fmt::Display for Done<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)
    }
}

/// Prints what was done: as text, or as JSON on one line.
fn show<T: fmt::Display + Serialize>(report: &T, json: bool) -> io::Result<()> {
    images::show(&Done { program: ArchiveWord::WORD, outcome: "done", report }, json)
}
