//! The frame all images but raw ones share: magics, then entries.
//!
//! ```text
//! [ head magic ]  type magic  { size  message  [ extra bytes ] }
//!     u32            u32        u32   size
//! ```
//!
//! The words are in the byte order of the dumping machine, which the magics betray. There is no count
//! and no checksum; an image ends where an entry could begin.

use crate::bounds;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::kind::{ALL, Entries, IMG_COMMON, IMG_SERVICE, Kind};
use crate::schema::{Entry, typed};
use crate::wire::Reader;

/// An image whose header has been read. Borrows the bytes and yields entry after entry.
///
/// ```
/// use criu_images::{Image, kind, proto::PstreeEntry};
///
/// let bytes = std::fs::read("tests/data/pipeline/pstree.img")?;
/// let mut image = Image::parse("pstree.img", &bytes, kind::PSTREE)?;
/// let root = image.next_entry()?.expect("a tree has a root");
/// assert_eq!(root.decode::<PstreeEntry>()?.ppid, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Image<'a> {
    name: &'a str,
    kind: &'static Kind,
    order: Order,
    reader: Reader<'a>,
    /// Where the first entry's message begins.
    first: usize,
}

/// One entry of an image: the bytes of a message, and their place.
#[derive(Clone, Copy, Debug)]
pub struct RawEntry<'a> {
    image: &'a str,
    offset: u64,
    bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

impl<'a> Image<'a> {
    /// Reads the header. `name` is the file's, for errors.
    ///
    /// # Errors
    /// [`ErrorKind::Magic`] when the bytes are not an image of this kind; [`ErrorKind::Truncated`].
    pub fn parse(name: &'a str, bytes: &'a [u8], kind: &'static Kind) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let magics = read_magics(&mut reader).map_err(|fault| Error::new(name, fault))?;
        let Magics { order, found, at } = magics;
        if found != kind.magic || kind.entries == Entries::Raw {
            let want = kind.magic;
            return Err(Error::new(name, ErrorKind::Magic { found, want }.at(at)));
        }
        let first = reader.at().saturating_add(SIZE_WORD);
        Ok(Self { name, kind, order, reader, first })
    }

    /// Reads the header of an image whose kind only its magic tells.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownMagic`] when the bytes are no image, or one without a header;
    /// [`ErrorKind::Truncated`].
    pub fn detect(name: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let magics = read_magics(&mut Reader::new(bytes));
        let Magics { found, at, .. } = magics.map_err(|fault| Error::new(name, fault))?;
        let kind = ALL.iter().find(|kind| kind.magic == found && kind.magic != 0);
        let unknown = || Error::new(name, ErrorKind::UnknownMagic(found).at(at));
        Self::parse(name, bytes, kind.ok_or_else(unknown)?)
    }

    /// The file's name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The image's row in the catalogue.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The next entry, or `None` at the end.
    ///
    /// Of a kind with [extra](Kind::extra) bytes, [`extra`](Self::extra) has to take those first.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] when the bytes end inside an entry; [`ErrorKind::TooLarge`] when it says
    /// that it has more than 64 MiB.
    pub fn next_entry(&mut self) -> Result<Option<RawEntry<'a>>> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let bytes = entry(&mut self.reader, self.order);
        let bytes = bytes.map_err(|fault| Error::new(self.name, fault))?;
        Ok(Some(RawEntry {
            image: self.name,
            offset: (self.reader.at() - bytes.len()) as u64,
            bytes,
        }))
    }

    /// The next entry as `parse` makes it of the bytes, or `None`, and then it is still to be read: a way
    /// past the checks that all entries need, for short entries of the usual form.
    #[inline]
    pub(crate) fn next_if<T>(&mut self, parse: impl FnOnce(&'a [u8]) -> Option<T>) -> Option<T> {
        if !matches!(self.order, Order::Little) {
            return None;
        }
        let mut ahead = self.reader.clone();
        let size = ahead.take(4).ok()?.first_chunk().copied().map(u32::from_le_bytes)?;
        if size > SHORT {
            return None;
        }
        let parsed = parse(ahead.take(size.into()).ok()?)?;
        self.reader = ahead;
        Some(parsed)
    }

    /// Whether an entry is the first of the image.
    pub(crate) fn is_first(&self, entry: &RawEntry<'_>) -> bool {
        entry.offset == self.first as u64
    }

    /// How much of the image has been read.
    pub(crate) fn position(&self) -> usize {
        self.reader.at()
    }

    /// A 32-bit number as the image has them.
    pub(crate) fn word_bytes(&self, word: u32) -> [u8; 4] {
        match self.order {
            Order::Little => word.to_le_bytes(),
            Order::Big => word.to_be_bytes(),
        }
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.reader.rest()
    }

    /// A 32-bit number in the image's byte order.
    #[cfg(feature = "json")]
    pub(crate) fn word(&self, bytes: &[u8]) -> u32 {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        match self.order {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    }

    /// A 16-bit number in the image's byte order.
    pub(crate) fn half_word(&self, pair: &[u8]) -> u16 {
        let pair = pair.first_chunk().copied().unwrap_or_default();
        match self.order {
            Order::Little => u16::from_le_bytes(pair),
            Order::Big => u16::from_be_bytes(pair),
        }
    }

    /// Whether the image has the word before its type that version 1.0 lacks, or is of a kind without.
    #[cfg(feature = "json")]
    pub(crate) fn has_head(&self) -> bool {
        self.kind.head_magic().is_none() || self.first > 2 * SIZE_WORD
    }

    /// The next `len` bytes, which belong to the last entry. [`payload`](Self::payload) knows how many.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] when there are fewer.
    pub fn extra(&mut self, len: u64) -> Result<&'a [u8]> {
        let taken = self.reader.take(len);
        taken.map_err(|fault| Error::new(self.name, fault))
    }

    /// The only entry of an image that has one and nothing after it.
    ///
    /// # Errors
    /// [`ErrorKind::Entries`] when there are none or more, and what [`RawEntry::decode`] reports.
    pub fn single<M: Entry>(self) -> Result<M> {
        self.single_by(RawEntry::decode)
    }

    pub(crate) fn single_by<M: Entry>(
        mut self,
        decode: impl FnOnce(&RawEntry<'a>) -> Result<M>,
    ) -> Result<M> {
        let name = self.name;
        let wrong = |found| Error::new(name, ErrorKind::Entries { found, want: 1 });
        let entry = self.next_entry()?.ok_or_else(|| wrong(0))?;
        let message = decode(&entry)?;
        // What follows is passed over.
        self.payload(&entry)?;
        if !self.reader.is_empty() {
            return Err(wrong(2));
        }
        Ok(message)
    }
}

impl<'a> RawEntry<'a> {
    pub(crate) fn new(image: &'a str, offset: u64, bytes: &'a [u8]) -> Self {
        Self { image, offset, bytes }
    }

    /// Where the message begins in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Some fields of the message.
    pub(crate) fn decode_only<M: Entry>(&self, wanted: impl Fn(u32) -> bool) -> Result<M> {
        typed::decode_only(self.bytes, wanted).map_err(|fault| self.fault(fault))
    }

    /// The message, typed.
    ///
    /// # Errors
    /// [`ErrorKind::Required`] for a required field that is absent, and whatever else is wrong with
    /// the bytes, with its place.
    pub fn decode<M: Entry>(&self) -> Result<M> {
        typed::decode(self.bytes).map_err(|fault| self.fault(fault))
    }

    /// A fault inside the message.
    pub(crate) fn fault(&self, fault: impl Into<Fault>) -> Error {
        Error::new(self.image, fault.into().after(self.offset))
    }
}

/// What an image begins with.
struct Magics {
    order: Order,
    /// The type magic, and where it is.
    found: u32,
    at: usize,
}

fn read_magics(reader: &mut Reader<'_>) -> Result<Magics, Fault> {
    let known =
        |magic| magic == IMG_COMMON || magic == IMG_SERVICE || ALL.iter().any(|k| k.magic == magic);
    let first = word(&mut reader.clone(), Order::Little)?;
    let order = if known(first.swap_bytes()) && first != 0 { Order::Big } else { Order::Little };
    let mut at = reader.at();
    let mut found = word(reader, order)?;
    // Images of version 1.0, and inventories of every version, begin with their type.
    if found == IMG_COMMON || found == IMG_SERVICE {
        at = reader.at();
        found = word(reader, order)?;
    }
    Ok(Magics { order, found, at })
}

fn entry<'a>(reader: &mut Reader<'a>, order: Order) -> Result<&'a [u8], Fault> {
    let start = reader.at();
    let size = word(reader, order)?;
    let limit = bounds::ENTRY.get();
    if u64::from(size) > limit {
        let size = size.into();
        return Err(ErrorKind::TooLarge { size, limit }.at(start));
    }
    reader.take(size.into())
}

fn word(reader: &mut Reader<'_>, order: Order) -> Result<u32, Fault> {
    let start = reader.at();
    let bytes = reader.take(4)?;
    let Ok(bytes) = bytes.try_into() else {
        let left = bytes.len() as u64;
        return Err(ErrorKind::Truncated { need: 4, left }.at(start));
    };
    Ok(match order {
        Order::Little => u32::from_le_bytes(bytes),
        Order::Big => u32::from_be_bytes(bytes),
    })
}

/// Longest entry that is short, in bytes.
const SHORT: u32 = 64;

/// Bytes of the words around messages.
const SIZE_WORD: usize = 4;
