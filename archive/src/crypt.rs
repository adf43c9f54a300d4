//! Archives that are encrypted with [age](https://age-encryption.org).
//!
//! Encrypting and decrypting are streams: memory holds 64 KiB. An encrypted file can also be
//! [read at any place](decrypted): for a page of a seekable archive one or two pieces of 64 KiB are
//! decrypted. The program `age` reads and writes the same files.
//!
//! ```
//! use std::io::Write;
//!
//! use criu_archive::crypt::{Keys, Recipients, decrypted, encrypt};
//! use criu_images::source::Blob;
//!
//! let keys = Keys::generate();
//! let mut recipients = Recipients::default();
//! for recipient in keys.recipients() {
//!     recipients.add(&recipient)?;
//! }
//! let mut to = encrypt(&recipients, Vec::new())?;
//! to.write_all(b"a tar archive")?;
//! let encrypted = to.finish()?;
//!
//! let bytes = decrypted("a.tar.age", &Blob::from(encrypted), &keys)?;
//! let mut part = [0; 3];
//! bytes.read_at(2, &mut part)?;
//! assert_eq!(&part, b"tar");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};

use age::secrecy::{ExposeSecret, SecretString};
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, EncryptError, Encryptor, scrypt, x25519};
use criu_images::source::{Blob, ReadAt};

use crate::error::{Error, ErrorKind, Fault, Result};
use crate::in_order::InOrder;
use crate::packing::{AGE, AGE_TEXT};

/// Keys that may open an encrypted file.
#[derive(Clone, Default)]
pub struct Keys {
    identities: Vec<x25519::Identity>,
    passphrase: Option<SecretString>,
}

impl Keys {
    /// Makes a new identity.
    pub fn generate() -> Self {
        Self { identities: vec![x25519::Identity::generate()], passphrase: None }
    }

    /// Adds the identities of a file, one a line, as `age-keygen` writes them. Empty lines, and
    /// lines that start with `#`, are passed over. Errors call the file by `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] with the line if it is no identity, and for a file without identities.
    pub fn add_identities(&mut self, name: &str, text: &str) -> Result<()> {
        let before = self.identities.len();
        for (number, line) in keys(text) {
            let identity = line.parse().map_err(|_| {
                let kind = ErrorKind::Key(wrong_identity(line));
                Error::new(name, Fault::from(kind).of(format!("line {number}")))
            })?;
            self.identities.push(identity);
        }
        if self.identities.len() == before {
            let what = "has no identity: make one with age-keygen";
            return Err(Error::new(name, ErrorKind::Key(what)));
        }
        Ok(())
    }

    /// Sets the passphrase, for a file that was encrypted with one.
    pub fn set_passphrase(&mut self, passphrase: String) {
        self.passphrase = Some(passphrase.into());
    }

    /// Returns true if there is no key.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.passphrase.is_none()
    }

    /// Returns the recipient of each identity: who encrypts for it can be opened with these keys.
    pub fn recipients(&self) -> impl Iterator<Item = String> {
        self.identities.iter().map(|identity| identity.to_public().to_string())
    }

    /// Returns the text of a file with the identities. The text is secret.
    pub fn to_identities(&self) -> String {
        let lines = self.identities.iter().map(|identity| {
            let secret = identity.to_string();
            format!("# public key: {}\n{}\n", identity.to_public(), secret.expose_secret())
        });
        lines.collect()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Keys");
        shown.field("identities", &self.identities.len());
        shown.field("passphrase", &self.passphrase.is_some()).finish()
    }
}

/// The people who can open a file: holders of identities, or of a passphrase.
#[derive(Clone, Default)]
pub struct Recipients {
    keys: Vec<x25519::Recipient>,
    passphrase: Option<SecretString>,
}

impl Recipients {
    /// Makes a file for those who know a passphrase.
    pub fn of_passphrase(passphrase: String) -> Self {
        Self { keys: Vec::new(), passphrase: Some(passphrase.into()) }
    }

    /// Adds a recipient: `age1` and 58 more characters.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] for another text.
    pub fn add(&mut self, recipient: &str) -> Result<()> {
        let key = recipient.trim().parse();
        let wrong = || ErrorKind::Key(wrong_recipient(recipient));
        self.keys.push(key.map_err(|_| Error::new(shown(recipient), wrong()))?);
        Ok(())
    }

    /// Adds the recipients of a file, one a line. Empty lines, and lines that start with `#`, are
    /// passed over. Errors call the file by `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] with the line if it is no recipient, and for a file without recipients.
    pub fn add_file(&mut self, name: &str, text: &str) -> Result<()> {
        let before = self.keys.len();
        for (number, line) in keys(text) {
            let key = line.parse().map_err(|_| {
                let kind = ErrorKind::Key(wrong_recipient(line));
                Error::new(name, Fault::from(kind).of(format!("line {number}")))
            })?;
            self.keys.push(key);
        }
        if self.keys.len() == before {
            return Err(Error::new(name, ErrorKind::Key("has no recipient: age1...")));
        }
        Ok(())
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Recipients");
        shown.field("keys", &self.keys.len());
        shown.field("passphrase", &self.passphrase.is_some()).finish()
    }
}

/// Begins an encrypted file.
///
/// # Errors
/// `InvalidInput` without recipients, and for recipients beside a passphrase, which age does not
/// have; the errors of writing.
pub fn encrypt<W: Write>(recipients: &Recipients, out: W) -> io::Result<Encrypting<W>> {
    let mut passphrase = recipients.passphrase.clone().map(scrypt::Recipient::new);
    if let Some(passphrase) = &mut passphrase {
        passphrase.set_work_factor(WORK);
    }
    let passphrase = passphrase.iter().map(|one| one as &dyn age::Recipient);
    let keys = recipients.keys.iter().map(|one| one as &dyn age::Recipient);
    let encryptor = Encryptor::with_recipients(passphrase.chain(keys)).map_err(|error| {
        let text = match error {
            EncryptError::Io(error) => return error,
            EncryptError::MissingRecipients => "there is no recipient",
            EncryptError::MixedRecipientAndPassphrase => {
                "a file is encrypted for recipients or with a passphrase, not both"
            }
            _ => "the recipients do not go together",
        };
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    encryptor.wrap_output(out).map(Encrypting)
}

/// A writer that encrypts. Without [`finish`](Self::finish) the file is cut, and readers say so.
pub struct Encrypting<W: Write>(StreamWriter<W>);

impl<W: Write> Encrypting<W> {
    /// Writes the end.
    ///
    /// # Errors
    /// The errors of writing.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

impl<W: Write> Write for Encrypting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> fmt::Debug for Encrypting<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encrypting").finish_non_exhaustive()
    }
}

/// Returns true if bytes begin like an encrypted file. 32 bytes are enough.
pub fn is_encrypted(head: &[u8]) -> bool {
    head.starts_with(MAGIC) || head.starts_with(AGE_TEXT)
}

/// Opens an encrypted file, to be read at any place. Opening decrypts the last piece, which proves
/// that the file is whole. Errors call the file by `name`.
///
/// # Errors
/// [`ErrorKind::Encrypted`] without keys; [`ErrorKind::Key`] if no key fits, and for what keys
/// alone cannot open; [`ErrorKind::Malformed`] for bytes that are not encrypted with age, and for a
/// file that is cut; [`ErrorKind::Io`].
pub fn decrypted(name: &str, encrypted: &Blob, keys: &Keys) -> Result<Blob> {
    let open = || -> Result<Blob, Fault> {
        let mut reader = open(encrypted, keys)?;
        let len = reader.seek(SeekFrom::End(0)).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Fault::from(ErrorKind::Malformed(CUT)),
            _ => error.into(),
        })?;
        let is_slow = keys.passphrase.is_some();
        let (encrypted, keys) = (encrypted.clone(), keys.clone());
        let spare = Mutex::new(vec![reader]);
        Ok(Blob::new(Decrypted { encrypted, keys, len, is_slow, spare }))
    };
    open().map_err(|fault| Error::new(name, fault))
}

/// Decrypts a stream that can be read once, such as a pipe. Errors call the stream by `name`.
///
/// # Errors
/// The errors of [`decrypted`]. A stream that is cut fails where it ends.
pub fn decrypt<R: Read + Send>(
    name: &str,
    input: R,
    keys: &Keys,
) -> Result<impl Read + Send + use<R>> {
    open_stream(name, input, keys)
}

fn open_stream<R: Read>(name: &str, input: R, keys: &Keys) -> Result<Decrypting<Begun<R>>> {
    let open = || {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let header = header(&mut input)?;
        unlock(Cursor::new(header).chain(input), keys).map(Decrypting)
    };
    open().map_err(|fault| Error::new(name, fault))
}

/// Returns the bytes of a file that may be encrypted, to be read at any place. Errors call the file
/// by `name`.
///
/// # Errors
/// The errors of [`decrypted`] for an encrypted file; [`ErrorKind::Io`].
pub fn opened(name: &str, bytes: &Blob, keys: &Keys) -> Result<Blob> {
    let mut head = [0; HEAD];
    let len = usize::try_from(bytes.len()).unwrap_or(usize::MAX).min(head.len());
    let (head, _) = head.split_at_mut(len);
    bytes.read_at(0, head).map_err(|error| Error::new(name, error))?;
    if is_encrypted(head) { decrypted(name, bytes, keys) } else { Ok(bytes.clone()) }
}

/// Returns the bytes of a stream that may be encrypted. Errors call the stream by `name`.
///
/// # Errors
/// The errors of [`decrypt`] for an encrypted stream; [`ErrorKind::Io`].
pub fn opened_stream(
    name: &str,
    mut input: impl Read + Send + 'static,
    keys: &Keys,
) -> Result<Box<dyn Read + Send>> {
    let mut head = Vec::new();
    let read = input.by_ref().take(HEAD as u64).read_to_end(&mut head);
    read.map_err(|error| Error::new(name, error))?;
    let is_encrypted = is_encrypted(&head);
    let input = Cursor::new(head).chain(input);
    if is_encrypted { Ok(Box::new(open_stream(name, input, keys)?)) } else { Ok(Box::new(input)) }
}

/// A stream whose header has been read: the header, then the rest.
type Begun<R> = io::Chain<Cursor<Vec<u8>>, BufReader<R>>;

/// A stream that is being decrypted.
struct Decrypting<R: Read>(StreamReader<R>);

impl<R: Read> Read for Decrypting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(explain)
    }
}

/// Says what an error of decryption means.
fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            let text = "the encrypted file is damaged, or ends early";
            io::Error::new(io::ErrorKind::InvalidData, text)
        }
        _ => error,
    }
}

type Reader = StreamReader<BufReader<InOrder>>;

/// Opens a file for one thread.
fn open(encrypted: &Blob, keys: &Keys) -> Result<Reader, Fault> {
    let mut input = BufReader::with_capacity(BUFFER, InOrder::new(encrypted));
    header(&mut input)?;
    input.rewind()?;
    unlock(input, keys)
}

/// Reads the header of a file. age itself would read a header of any size.
fn header(input: &mut impl BufRead) -> Result<Vec<u8>, Fault> {
    let mut header = Vec::new();
    let mut limited = input.take(MOST_HEADER);
    loop {
        let start = header.len();
        if limited.read_until(b'\n', &mut header)? == 0 {
            let text = if limited.limit() == 0 { LONG } else { CUT };
            return Err(ErrorKind::Malformed(text).into());
        }
        let line = header.get(start..).unwrap_or_default();
        if start == 0 && line.starts_with(AGE_TEXT) {
            return Err(ErrorKind::Key(ARMORED).into());
        }
        if start == 0 && line.trim_ascii_end() != MAGIC {
            return Err(ErrorKind::Malformed("is not encrypted with age").into());
        }
        if line.starts_with(b"---") {
            return Ok(header);
        }
    }
}

fn unlock<R: BufRead>(input: R, keys: &Keys) -> Result<StreamReader<R>, Fault> {
    if keys.is_empty() {
        return Err(ErrorKind::Encrypted.into());
    }
    let decryptor = Decryptor::new_buffered(input).map_err(fault)?;
    let passphrase = keys.passphrase.clone().map(|passphrase| {
        let mut passphrase = scrypt::Identity::new(passphrase);
        passphrase.set_max_work_factor(MOST_WORK);
        passphrase
    });
    let no_key = match (decryptor.is_scrypt(), &passphrase, keys.identities.is_empty()) {
        (true, None, _) => Some("is encrypted with a passphrase, and only identities are given"),
        (false, _, true) => Some("is encrypted for recipients: an identity of one is needed"),
        _ => None,
    };
    if let Some(what) = no_key {
        return Err(ErrorKind::Key(what).into());
    }
    let is_scrypt = decryptor.is_scrypt();
    let passphrase = passphrase.iter().map(|one| one as &dyn age::Identity);
    let identities = keys.identities.iter().map(|one| one as &dyn age::Identity);
    let opened = decryptor.decrypt(passphrase.chain(identities));
    opened.map_err(|error| match error {
        DecryptError::NoMatchingKeys if is_scrypt => ErrorKind::Key(WRONG_PASSPHRASE).into(),
        DecryptError::DecryptionFailed if is_scrypt => ErrorKind::Key(WRONG_PASSPHRASE).into(),
        error => fault(error),
    })
}

fn fault(error: DecryptError) -> Fault {
    match error {
        DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ErrorKind::Malformed(CUT).into()
        }
        DecryptError::Io(error) => error.into(),
        DecryptError::NoMatchingKeys => {
            ErrorKind::Key("is encrypted for others: no identity fits").into()
        }
        DecryptError::ExcessiveWork { .. } => ErrorKind::Key(
            "has a passphrase that takes more than 1 GiB of memory to check: decrypt it with age",
        )
        .into(),
        DecryptError::InvalidMac
        | DecryptError::DecryptionFailed
        | DecryptError::KeyDecryptionFailed => {
            ErrorKind::Malformed("has a damaged header of age").into()
        }
        DecryptError::UnknownFormat => {
            ErrorKind::Malformed("is encrypted by a newer age, in a form that is not read").into()
        }
        _ => ErrorKind::Malformed("has a header that age does not write").into(),
    }
}

/// An encrypted file that is read at any place.
struct Decrypted {
    encrypted: Blob,
    keys: Keys,
    len: u64,
    /// Set if opening takes a second: then there is one reader at a time.
    is_slow: bool,
    /// Readers that nobody uses.
    spare: Mutex<Vec<Reader>>,
}

impl Decrypted {
    fn open(&self) -> io::Result<Reader> {
        let opened = open(&self.encrypted, &self.keys);
        opened
            .map_err(|fault| io::Error::other(Error::new("the encrypted file", fault).to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for Decrypted {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if buf.is_empty() {
            return Ok(());
        }
        let mut spare = self.lock();
        let mut reader = match spare.pop() {
            Some(reader) => reader,
            None => self.open()?,
        };
        let held = self.is_slow.then_some(spare);
        // A reader is of no use after an error.
        reader
            .seek(SeekFrom::Start(offset))
            .and_then(|_| reader.read_exact(buf))
            .map_err(explain)?;
        let mut spare = held.unwrap_or_else(|| self.lock());
        if spare.len() < MOST_SPARES {
            spare.push(reader);
        }
        Ok(())
    }
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decrypted").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Lines with keys, with their numbers.
fn keys(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = iter::zip(1.., text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn wrong_identity(line: &str) -> &'static str {
    match line {
        line if line.as_bytes().starts_with(AGE) => {
            "is an encrypted file of identities: decrypt it with age first"
        }
        line if line.starts_with("age1") => "is a recipient; an identity is AGE-SECRET-KEY-1...",
        line if line.contains("PRIVATE KEY") => {
            "is a key of SSH, which is not read; make an identity with age-keygen"
        }
        line if line.starts_with("AGE-PLUGIN-") => "is an identity of a plugin, which is not read",
        _ => "is not an identity, which starts with AGE-SECRET-KEY-1",
    }
}

fn wrong_recipient(text: &str) -> &'static str {
    match text {
        text if text.starts_with("AGE-SECRET-KEY-") => {
            "is a secret identity; its recipient is on the line before, age1..."
        }
        text if text.starts_with("ssh-") => {
            "is a key of SSH, which is not read; recipients are age1..."
        }
        _ => "is not a recipient, which starts with age1 and has 62 characters",
    }
}

/// Returns a recipient for an error, without what may be a secret.
fn shown(recipient: &str) -> String {
    if recipient.starts_with("age1") || recipient.starts_with("ssh-") {
        recipient.chars().take(70).collect()
    } else {
        "the recipient".to_owned()
    }
}

const MAGIC: &[u8] = b"age-encryption.org/v1";

/// Bytes that tell an encrypted file.
const HEAD: usize = 32;

const ARMORED: &str =
    "is encrypted as text (age --armor), which cannot be read at any place: decrypt it with age";
const CUT: &str = "is encrypted with age and ends early";
const LONG: &str = "has a header of age above 64 KiB";
const WRONG_PASSPHRASE: &str = "is encrypted with another passphrase";

/// Largest header that is read: room for 600 recipients.
const MOST_HEADER: u64 = 64 << 10;

/// Bytes that are read at once, and 64 KiB for what age reads by itself.
const BUFFER: usize = 8 << 10;

/// Work of a passphrase, as the program `age` has it: 256 MiB of memory and about a second.
const WORK: u8 = 18;

/// Most work of a passphrase that is done for a file: 1 GiB of memory.
const MOST_WORK: u8 = 20;

/// Most readers that are kept for later.
const MOST_SPARES: usize = 4;
