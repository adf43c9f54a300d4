//! What can be wrong with an image, and where.

use std::fmt;
use std::io;

/// The result of reading images.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault in an image: what, in which file, at which byte, in which field.
///
/// ```
/// use criu_images::{ErrorKind, DumpStats};
///
/// let cut = [0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57, 0x24, 0x00];
/// let error = DumpStats::parse(&cut).unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::Truncated { need: 4, left: 2 }));
/// assert_eq!(
///     error.to_string(),
///     "stats-dump: byte 8: ends early: 4 bytes are needed, 2 are left",
/// );
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    image: String,
    offset: Option<u64>,
    field: Option<FieldName>,
}

/// A field and the message it belongs to, both as CRIU names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldName {
    /// The message, as `mm_entry`.
    pub message: &'static str,
    /// The field, as `vmas`.
    pub field: &'static str,
}

impl Error {
    pub(crate) fn new(image: impl Into<String>, fault: impl Into<Fault>) -> Self {
        let Fault(mut inner) = fault.into();
        inner.image = image.into();
        Self(inner)
    }

    /// The same error under another name of the file.
    pub(crate) fn with_image(mut self, image: String) -> Self {
        self.0.image = image;
        self
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The file's name in its set, as `core-12.img`; `parent/pagemap-12.img` lies in the parent set.
    pub fn image(&self) -> &str {
        &self.0.image
    }

    /// Where in the file, in bytes, as far as the fault has a place.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The field that is wrong, where one is.
    pub fn field(&self) -> Option<FieldName> {
        self.0.field
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.image)?;
        if let Some(offset) = self.0.offset {
            write!(f, "byte {offset}: ")?;
        }
        if let Some(FieldName { message, field }) = self.0.field {
            write!(f, "{message}.{field}: ")?;
        }
        self.0.kind.fmt(f)
    }
}

impl std::error::Error for Error {}

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// The set needs this image and has none.
    #[error("is missing")]
    Missing,
    /// A symbolic link, a fifo, a folder: only regular files are read.
    #[error("is not a regular file")]
    NotAFile,
    /// An image or an entry with more bytes than this crate takes into memory at once.
    #[error("has {size} bytes, at most {limit} are read")]
    TooLarge {
        /// Bytes found, or claimed.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The bytes end inside something.
    #[error("ends early: {need} bytes are needed, {left} are left")]
    Truncated {
        /// Bytes the item takes.
        need: u64,
        /// Bytes there are.
        left: u64,
    },
    /// Not the kind of image its name says.
    #[error("magic is {found:#010x}, wanted {want:#010x}")]
    Magic {
        /// Magic found.
        found: u32,
        /// Magic of the kind.
        want: u32,
    },
    /// No image that has a header.
    #[error("magic {0:#010x} is no image's")]
    UnknownMagic(u32),
    /// An image with another number of entries than its kind has.
    #[error("has {found} entries, wanted {want}")]
    Entries {
        /// Entries found; counting stops where the fault is certain.
        found: u64,
        /// Entries wanted.
        want: u64,
    },
    /// An image layout this crate does not know.
    #[error("image version is {0}, wanted 1, 2 or 3")]
    Version(u32),
    /// A varint goes on past its tenth byte, or past 64 bits.
    #[error("varint passes 64 bits")]
    Varint,
    /// Field number 0, or one above 2^29-1.
    #[error("field number is {0}")]
    FieldNumber(u64),
    /// A field in another encoding than its type has.
    #[error("wire type is {found}, wanted {want}")]
    WireType {
        /// Wire type found.
        found: u8,
        /// Wire type of the field, or what is possible at all.
        want: &'static str,
    },
    /// A required field is absent.
    #[error("is required and absent")]
    Required,
    /// Messages nested too deep.
    #[error("messages are nested more than {0} deep")]
    Depth(u32),
    /// Bytes that break a rule of their format.
    #[error("{0}")]
    Malformed(&'static str),
    /// A value that makes no sense here.
    #[error("is {found:#x}, wanted {want}")]
    Value {
        /// Value found.
        found: u64,
        /// What it should be.
        want: &'static str,
    },
    /// Something this version cannot do.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
    /// An id that leads nowhere.
    #[error("no {what} {id}")]
    Dangling {
        /// What the id should name.
        what: &'static str,
        /// The id.
        id: u64,
    },
    /// The chain of parent sets is longer than this, or comes back to itself.
    #[error("parent sets form a loop or more than {0} levels")]
    Chain(usize),
    /// The pagemap leaves an address to a parent set that does not have it.
    #[error("leaves {address:#x} to a parent set, which lacks it")]
    BrokenParent {
        /// First address that is lacking.
        address: u64,
    },
    /// Memory that no image of the set holds.
    #[error("has no bytes for {address:#x}: {why}")]
    NoPage {
        /// First address that is lacking.
        address: u64,
        /// Where the bytes are instead.
        why: NoPage,
    },
}

/// Why something made of images could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// An image is at fault.
    #[error(transparent)]
    Image(#[from] Error),
    /// It cannot be written where it should.
    #[error("cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Why a set has no bytes for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPage {
    /// The task could not have read it either.
    #[error("nothing is mapped there")]
    Unmapped,
    /// An unmodified page of a mapped file.
    #[error("the mapped file has them")]
    File,
    /// A page of the kernel's, as vvar.
    #[error("the kernel has them")]
    Kernel,
    /// A guard page, which nobody can read.
    #[error("they are guard pages")]
    Guard,
    /// A page that the dump kept back for a lazy restore.
    #[error("the dump kept them back for a lazy restore")]
    Lazy,
}

/// A fault whose image is not known yet. One word, so that parsers return values in registers.
#[derive(Debug)]
pub struct Fault(Box<Inner>);

impl Fault {
    #[cold]
    fn new(kind: ErrorKind, offset: Option<u64>) -> Self {
        Self(Box::new(Inner { kind, image: String::new(), offset, field: None }))
    }

    /// The same fault in bytes that begin at `base`.
    pub(crate) fn after(mut self, base: u64) -> Self {
        self.0.offset = self.0.offset.map(|offset| base.saturating_add(offset));
        self
    }

    /// Names the field, unless an inner one is named already.
    pub(crate) fn field(mut self, message: &'static str, field: &'static str) -> Self {
        self.0.field.get_or_insert(FieldName { message, field });
        self
    }
}

impl ErrorKind {
    /// An error of this kind in a file, for a [`Source`](crate::source::Source) of one's own.
    pub fn in_image(self, name: impl Into<String>) -> Error {
        Error::new(name, self)
    }

    /// A fault at an offset of the bytes being parsed.
    pub(crate) fn at(self, offset: usize) -> Fault {
        Fault::new(self, Some(offset as u64))
    }
}

impl From<ErrorKind> for Fault {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind, None)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        ErrorKind::Io(error).into()
    }
}
