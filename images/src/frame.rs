//! The frame of all images except raw ones: magics, then entries.
//!
//! ```text
//! [ head magic ]  type magic  { size  message  [ extra bytes ] }
//!     u32            u32        u32   size
//! ```
//!
//! Words are in the byte order of the dumping machine, which the magics reveal. The frame has no
//! count and no checksum; an image ends where an entry could begin.

use crate::bounds;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::kind::{ALL, Entries, IMG_COMMON, IMG_SERVICE, Kind};
use crate::schema::{Entry, typed};
use crate::wire::Reader;

/// An image whose header has been read. Borrows the bytes and yields the entries one by one.
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
    /// Offset of the first entry's message.
    first: usize,
}

/// An entry of an image: the bytes of a message, and their place.
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
    /// Reads the header of an image of a known kind. `name` is the file's name, for errors.
    ///
    /// # Errors
    /// [`ErrorKind::Magic`] if the bytes are not an image of this kind; [`ErrorKind::Truncated`].
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

    /// Reads the header of an image and finds its kind by the magic. `name` is the file's name, for
    /// errors.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownMagic`] if the bytes are not an image, or a raw image, which has no
    /// header; [`ErrorKind::Truncated`].
    pub fn detect(name: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let magics = read_magics(&mut Reader::new(bytes));
        let Magics { found, at, .. } = magics.map_err(|fault| Error::new(name, fault))?;
        let kind = ALL.iter().find(|kind| kind.magic == found && kind.magic != 0);
        let unknown = || Error::new(name, ErrorKind::UnknownMagic(found).at(at));
        Self::parse(name, bytes, kind.ok_or_else(unknown)?)
    }

    /// Name of the file.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Row of the image in the catalogue.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// Reads the next entry; `None` at the end.
    ///
    /// With a kind that has [extra](Kind::extra) bytes, [`payload`](Self::payload) or
    /// [`extra`](Self::extra) has to take these bytes first.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if the bytes end inside the entry; [`ErrorKind::TooLarge`] if the
    /// entry claims more than [`ENTRY`](crate::bounds::ENTRY) bytes, 64 MiB unless raised.
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

    /// Parses the next entry if it is short and `parse` accepts its bytes. Otherwise returns `None`
    /// and leaves the entry to be read. This path skips the checks that other entries need.
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

    /// Returns `true` for the first entry of the image.
    pub(crate) fn is_first(&self, entry: &RawEntry<'_>) -> bool {
        entry.offset == self.first as u64
    }

    /// Number of bytes that have been read.
    pub(crate) fn position(&self) -> usize {
        self.reader.at()
    }

    /// Bytes of a 32-bit number in the image's byte order.
    pub(crate) fn word_bytes(&self, word: u32) -> [u8; 4] {
        match self.order {
            Order::Little => word.to_le_bytes(),
            Order::Big => word.to_be_bytes(),
        }
    }

    /// Takes all bytes that are left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.reader.rest()
    }

    /// Reads a 32-bit number in the image's byte order.
    #[cfg(feature = "json")]
    pub(crate) fn word(&self, bytes: &[u8]) -> u32 {
        let bytes = bytes.first_chunk().copied().unwrap_or_default();
        match self.order {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Reads a 16-bit number in the image's byte order.
    pub(crate) fn half_word(&self, pair: &[u8]) -> u16 {
        let pair = pair.first_chunk().copied().unwrap_or_default();
        match self.order {
            Order::Little => u16::from_le_bytes(pair),
            Order::Big => u16::from_be_bytes(pair),
        }
    }

    /// Returns `true` if the image has the head magic that version 1.0 lacks, or its kind never has
    /// one.
    #[cfg(feature = "json")]
    pub(crate) fn has_head(&self) -> bool {
        self.kind.head_magic().is_none() || self.first > 2 * SIZE_WORD
    }

    /// Takes the next `len` bytes, which belong to the last entry. [`payload`](Self::payload) knows
    /// the number.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if fewer bytes are left.
    pub fn extra(&mut self, len: u64) -> Result<&'a [u8]> {
        let taken = self.reader.take(len);
        taken.map_err(|fault| Error::new(self.name, fault))
    }

    /// Decodes the only entry of an image, after which nothing may follow.
    ///
    /// # Errors
    /// [`ErrorKind::Entries`] if the image does not have exactly one entry; those of
    /// [`RawEntry::decode`].
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
        // The payload is skipped.
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

    /// Offset of the message in the file, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Decodes some fields of the message.
    pub(crate) fn decode_only<M: Entry>(&self, wanted: impl Fn(u32) -> bool) -> Result<M> {
        typed::decode_only(self.bytes, wanted).map_err(|fault| self.fault(fault))
    }

    /// Decodes the message into its type.
    ///
    /// # Errors
    /// [`ErrorKind::Required`] if a required field is absent; other kinds for malformed bytes. All
    /// have a place.
    pub fn decode<M: Entry>(&self) -> Result<M> {
        typed::decode(self.bytes).map_err(|fault| self.fault(fault))
    }

    /// Makes an error of a fault inside the message.
    pub(crate) fn fault(&self, fault: impl Into<Fault>) -> Error {
        Error::new(self.image, fault.into().after(self.offset))
    }
}

/// The first words of an image.
struct Magics {
    order: Order,
    /// The type magic, and its offset.
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
    // Images of version 1.0, and inventories of every version, begin with the type magic.
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

/// Longest short entry, in bytes.
const SHORT: u32 = 64;

/// Size of the words around messages, in bytes.
const SIZE_WORD: usize = 4;
