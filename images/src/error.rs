//! Faults of images, with their place.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::text::{Text, are, count};

/// Result of reading images.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault in an image: its kind, the file, the byte and the field.
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
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Arc<ErrorKind>,
    image: String,
    offset: Option<u64>,
    field: Option<FieldName>,
}

/// A field and the message it belongs to, both as CRIU names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldName {
    /// Name of the message, as `mm_entry`.
    pub message: &'static str,
    /// Name of the field, as `vmas`.
    pub field: &'static str,
}

impl Error {
    pub(crate) fn new(image: impl Into<String>, fault: impl Into<Fault>) -> Self {
        let Fault(mut inner) = fault.into();
        inner.image = image.into();
        Self(inner)
    }

    /// Replaces the name of the file.
    pub(crate) fn with_image(mut self, image: String) -> Self {
        self.0.image = image;
        self
    }

    /// Kind of the fault, with its numbers.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Name of the file in the set, as `core-12.img`; `parent/pagemap-12.img` is in the parent set.
    pub fn image(&self) -> &str {
        &self.0.image
    }

    /// Offset of the fault in the file, in bytes, if it has one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The faulty field, if the fault is in a field.
    pub fn field(&self) -> Option<FieldName> {
        self.0.field
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Files of a directory or an archive may have any name.
        write!(f, "{}: ", Text(self.0.image.as_bytes()))?;
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

/// Kinds of faults in images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to read the file.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// A [`Source`](crate::source::Source) of another crate has failed.
    #[error("{0}")]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// The set needs this image and does not have it.
    #[error("is missing")]
    Missing,
    /// The file is a symbolic link, a fifo or a folder. Only regular files are read.
    #[error("is not a regular file")]
    NotAFile,
    /// An image or an entry has more bytes than [this crate accepts](crate::bounds).
    #[error("has {}, at most {limit} {} read", count(*size, "byte"), are(*limit))]
    TooLarge {
        /// Bytes found, or claimed.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A source or a set has more items than [this crate accepts](crate::bounds).
    #[error("has more than {limit} {what}")]
    TooMany {
        /// Sort of item, in the plural.
        what: &'static str,
        /// Items allowed.
        limit: u64,
    },
    /// The bytes end inside an item.
    #[error(
        "ends early: {} {} needed, {left} {} left",
        count(*need, "byte"), are(*need), are(*left)
    )]
    Truncated {
        /// Bytes that the item takes.
        need: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// The image is of another kind than its name says.
    #[error("magic is {found:#010x}, wanted {want:#010x}")]
    Magic {
        /// Magic found.
        found: u32,
        /// Magic of the kind.
        want: u32,
    },
    /// The bytes are not an image with a header.
    #[error("magic {0:#010x} is not that of any image")]
    UnknownMagic(u32),
    /// The image has another number of entries than its kind.
    #[error("has {}, wanted {want}", count(*found, "entry"))]
    Entries {
        /// Entries found; counting stops once the fault is certain.
        found: u64,
        /// Entries wanted.
        want: u64,
    },
    /// The version of the images is unknown to this crate.
    #[error("image version is {0}, wanted 1, 2 or 3")]
    Version(u32),
    /// A varint has more than ten bytes, or more than 64 bits.
    #[error("varint passes 64 bits")]
    Varint,
    /// A field number is 0, or above 2^29-1.
    #[error("field number is {0}")]
    FieldNumber(u64),
    /// A field has another encoding than its type.
    #[error("wire type is {found}, wanted {want}")]
    WireType {
        /// Wire type found.
        found: u8,
        /// Wire type of the field, or the wire types that exist.
        want: &'static str,
    },
    /// A required field is absent.
    #[error("is required and absent")]
    Required,
    /// Messages are nested too deep.
    #[error("messages are nested more than {0} deep")]
    Depth(u32),
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
    /// The file was made with other images than those beside it.
    #[error("was made with other images")]
    Stale,
    /// The request is beyond this version of the crate.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
    /// An id names an object that the set does not have.
    #[error("no {what} {id}")]
    Dangling {
        /// Sort of object that the id should name.
        what: &'static str,
        /// The id.
        id: u64,
    },
    /// The chain of parent sets is longer than this, or leads back to itself.
    #[error("parent sets form a loop or more than {0} levels")]
    Chain(usize),
    /// The pagemap leaves a page to a parent set, which does not have it.
    #[error("leaves {address:#x} to a parent set, which lacks it")]
    BrokenParent {
        /// First address without bytes.
        address: u64,
    },
    /// No image of the set holds this memory.
    #[error("has no bytes for {address:#x}: {why}")]
    NoPage {
        /// First address without bytes.
        address: u64,
        /// Reason, or the place where the bytes are instead.
        why: NoPage,
    },
}

/// Reasons why output made from images is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// An image is faulty.
    #[error(transparent)]
    Image(#[from] Error),
    /// Writing failed.
    #[error("cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Reasons why a set has no bytes for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPage {
    /// The address is not mapped: the task itself could not read it.
    #[error("nothing is mapped there")]
    Unmapped,
    /// The page of a mapped file was not modified.
    #[error("the mapped file has them")]
    File,
    /// The page belongs to the kernel, as vvar does.
    #[error("the kernel has them")]
    Kernel,
    /// The page is a guard page, which the task could not read.
    #[error("they are guard pages")]
    Guard,
    /// The dump kept the page back for a lazy restore.
    #[error("the dump kept them back for a lazy restore")]
    Lazy,
}

/// A fault whose image is not known yet. A fault is one word, so that parsers return values in
/// registers.
#[derive(Debug)]
pub struct Fault(Box<Inner>);

impl Fault {
    #[cold]
    fn new(kind: ErrorKind, offset: Option<u64>) -> Self {
        Self(Box::new(Inner { kind: Arc::new(kind), image: String::new(), offset, field: None }))
    }

    /// Moves the fault by `base`, the offset at which the parsed bytes begin.
    pub(crate) fn after(mut self, base: u64) -> Self {
        self.0.offset = self.0.offset.map(|offset| base.saturating_add(offset));
        self
    }

    /// Names the field, unless an inner field is named already.
    pub(crate) fn field(mut self, message: &'static str, field: &'static str) -> Self {
        self.0.field.get_or_insert(FieldName { message, field });
        self
    }
}

impl ErrorKind {
    /// Makes an error of this kind in a file, for your own [`Source`](crate::source::Source).
    pub fn in_image(self, name: impl Into<String>) -> Error {
        Error::new(name, self)
    }

    /// Makes a fault at an offset of the bytes being parsed.
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
