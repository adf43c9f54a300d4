//! Faults of archives, with their place.

use std::fmt;
use std::io;

use criu_images::Text;

/// Result of reading or writing archives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault in an archive: its kind, the archive, the member and the byte.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    archive: String,
    member: Option<String>,
    offset: Option<u64>,
}

impl Error {
    /// Makes an error of the whole archive.
    pub(crate) fn new(archive: impl Into<String>, fault: impl Into<Fault>) -> Self {
        let Fault { kind, member, offset } = fault.into();
        Self(Box::new(Inner { kind, archive: archive.into(), member, offset }))
    }

    /// Kind of the fault, with its numbers.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Takes the fault without its archive, for an error that names another one.
    pub(crate) fn into_fault(self) -> Fault {
        let Inner { kind, member, offset, .. } = *self.0;
        Fault { kind, member, offset }
    }

    /// Name of the archive: its path, or that of the image in a registry.
    pub fn archive(&self) -> &str {
        &self.0.archive
    }

    /// Path of the member at fault, if the fault is in a member.
    pub fn member(&self) -> Option<&str> {
        self.0.member.as_deref()
    }

    /// Offset of the fault in the unpacked archive, in bytes, if it has one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Archives and their members may have any name.
        write!(f, "{}: ", Text(self.0.archive.as_bytes()))?;
        if let Some(member) = &self.0.member {
            write!(f, "{}: ", Text(member.as_bytes()))?;
        }
        if let Some(offset) = self.0.offset {
            write!(f, "byte {offset}: ")?;
        }
        self.0.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    /// The error of the operating system under the fault, if there is one.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.kind.source()
    }
}

/// Kinds of faults in archives.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system, or the registry, refused to read or to write.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The operating system refused to write a file.
    #[error("cannot be written: {0}")]
    Write(#[source] io::Error),
    /// A file became longer or shorter while it was read.
    #[error("has changed while it was read: it had {before} bytes and has {now}")]
    Changed {
        /// Bytes at the beginning.
        before: u64,
        /// Bytes at the end.
        now: u64,
    },
    /// The images in the archive are faulty.
    #[error(transparent)]
    Images(#[from] criu_images::Error),
    /// The file is a pipe, a device or a directory, where a regular file is needed.
    #[error("is not a regular file")]
    NotAFile,
    /// The bytes are no tar archive, and are not packed in a form that this crate reads.
    #[error("is not a tar archive")]
    NotAnArchive,
    /// The archive is packed in a form that this crate does not read. This is the name of the
    /// program that unpacks it with `-d`.
    #[error("is compressed with {0}, which has to be unpacked first")]
    Compressed(&'static str),
    /// A member, or a document of an image, is not the JSON that is expected.
    #[error("is no valid JSON: {0}")]
    Json(String),
    /// The archive is encrypted with age, and no key is given.
    #[error("is encrypted: give an identity of age, or the passphrase")]
    Encrypted,
    /// A key does not open the archive, or is no key. The text says why.
    #[error("{0}")]
    Key(&'static str),
    /// The archive lacks a member that the request needs.
    #[error("is missing")]
    Missing,
    /// The checkpoint has no task with this pid.
    #[error("no task {0}")]
    NoTask(u32),
    /// An archive has more items than [this crate accepts](crate::bounds).
    #[error("has more than {limit} {what}")]
    TooMany {
        /// Sort of item, in the plural.
        what: &'static str,
        /// Items allowed.
        limit: u64,
    },
    /// An item has more bytes than [this crate accepts](crate::bounds).
    #[error("has {size} bytes, at most {limit} are read")]
    TooLarge {
        /// Bytes found, or claimed.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The bytes end inside an item.
    #[error("ends early: {need} bytes are needed, {left} are left")]
    Truncated {
        /// Bytes that the item takes.
        need: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// The bytes break a rule of their format.
    #[error("{0}")]
    Malformed(&'static str),
    /// A value makes no sense in its place.
    #[error("is {found:#x}, wanted {want}")]
    Value {
        /// Value found.
        found: u64,
        /// The values that are possible.
        want: &'static str,
    },
    /// The archive breaks a [rule](crate::Archive#rules) that protects its readers. This is the
    /// reason.
    #[error("is refused: {0}")]
    Refused(&'static str),
    /// The caller stopped the work.
    #[error("the work on it was stopped")]
    Stopped,
    /// The bytes do not have the digest that names them.
    #[error("has the digest {found}, wanted {want}")]
    Digest {
        /// Digest of the bytes.
        found: String,
        /// Digest in the document that names the bytes.
        want: String,
    },
    /// The registry cannot be reached, or the connection ended. This is the reason.
    #[error("{0}")]
    Unreachable(String),
    /// The registry refused a request.
    #[error("{what}: the registry answered {status}{reason}")]
    Answer {
        /// The request, in words.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// Words of the registry, after a colon; empty if it gave none.
        reason: String,
    },
    /// The registry wants a name and a password, or refuses the given ones. This is the reason.
    #[error("{0}")]
    Denied(String),
    /// The request is beyond this version of the crate.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
}

/// A fault whose archive is not known yet.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: ErrorKind,
    member: Option<String>,
    offset: Option<u64>,
}

impl Fault {
    /// Kind of the fault.
    #[cfg(feature = "registry")]
    pub(crate) fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Places the fault at an offset of the unpacked archive, unless it has a place.
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.offset.get_or_insert(offset);
        self
    }

    /// Names the member at fault, unless an inner one is named already.
    pub(crate) fn of(mut self, member: impl Into<String>) -> Self {
        self.member.get_or_insert(member.into());
        self
    }
}

impl<K: Into<ErrorKind>> From<K> for Fault {
    fn from(kind: K) -> Self {
        Self { kind: kind.into(), member: None, offset: None }
    }
}
