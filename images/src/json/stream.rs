//! Conversion to JSON of an image that is read piece by piece.

use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use super::EXTRA;
use super::decode::{PIECE, Stop, Style, Writer};
use crate::bounds;
use crate::error::{Error, ErrorKind, Fault, Result, WriteError};
use crate::extra::Follow;
use crate::frame::{Image, RawEntry};
use crate::kind::Extra;
use crate::schema::{Label, Message, Type};
use crate::wire::{Reader, WireType};

/// Writes an image as JSON, as [`decode`](super::decode) does, without reading it whole into
/// memory.
///
/// A few MiB are enough for any image whose fields stand in the order of their numbers, as CRIU
/// writes them. Only message queues and semaphore sets, whose size the kernel limits, are read
/// whole.
///
/// ```
/// use criu_images::json::{Style, decode_file};
///
/// let mut file = std::fs::File::open("tests/data/pipeline/pstree.img")?;
/// let mut json = Vec::new();
/// decode_file("pstree.img", &mut file, Style::default(), &mut json)?;
/// assert!(json.starts_with(br#"{"magic": "PSTREE", "entries": [{"pid": 10139, "ppid": 0,"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The errors of [`decode`](super::decode), and [`ErrorKind::Io`]. After an error the JSON is
/// incomplete.
pub fn decode_file(
    name: &str,
    file: impl Read + Seek,
    style: Style,
    out: &mut impl Write,
) -> Result<(), WriteError> {
    let mut file = Pieces::new(name, file)?;
    let mut writer = Writer::new(style, out);
    let mut head = Vec::new();
    file.take(&mut head, file.left().min(8))?;
    let image = Image::detect(name, &head)?;
    let kind = image.kind();
    let Some(first_message) = Message::by_name(kind.message) else {
        // This image has no JSON. `Writer::image` returns the error.
        return writer.image(image);
    };
    if matches!(kind.extra, Extra::Msg | Extra::Sem) {
        let (size, limit) = (file.len, bounds::IMAGE.get());
        if size > limit {
            return Err(Error::new(name, ErrorKind::TooLarge { size, limit }).into());
        }
        let mut whole = Vec::new();
        file.seek(0)?;
        file.take(&mut whole, size)?;
        writer.image(Image::parse(name, &whole, kind)?)?;
        return Ok(writer.flush()?);
    }
    file.seek(image.position() as u64)?;
    writer.begin(&image);
    let (mut first, mut buffer) = (true, Vec::new());
    while file.left() > 0 {
        let start = file.at;
        file.take(&mut buffer, 4)?;
        let size = u64::from(image.word(&buffer));
        if size > bounds::ENTRY.get() {
            let (offset, limit) =
                (usize::try_from(start).unwrap_or(usize::MAX), bounds::ENTRY.get());
            return Err(Error::new(name, ErrorKind::TooLarge { size, limit }.at(offset)).into());
        }
        let message = kind.entry_message(first).unwrap_or(first_message);
        writer.item(first);
        writer.open(b'{');
        let mut empty = true;
        let follow = if size > LARGE && kind.extra == Extra::None {
            empty = large(&mut file, &mut writer, message, size, &mut buffer)?;
            Follow::Nothing
        } else {
            let offset = file.at;
            file.take(&mut buffer, size)?;
            let entry = RawEntry::new(name, offset, &buffer);
            message.check(entry.bytes()).map_err(|fault| entry.fault(fault))?;
            let members = writer.members(message, entry.bytes(), false, true);
            empty &= members.map_err(|stop| stop.at(&entry))?;
            Follow::of(kind.extra, &entry, first)?
        };
        empty &= extra(&mut file, &mut writer, follow, kind.extra, empty, &mut buffer)?;
        writer.close(b'}', empty);
        writer.flush_full()?;
        first = false;
    }
    writer.end(first);
    Ok(writer.flush()?)
}

/// Writes the payload of an entry. Returns true if there is nothing to show.
fn extra<R: Read + Seek, W: Write>(
    file: &mut Pieces<'_, R>,
    writer: &mut Writer<'_, W>,
    follow: Follow,
    kind: Extra,
    first: bool,
    buffer: &mut Vec<u8>,
) -> Result<bool, WriteError> {
    let (parts, padding) = match follow {
        Follow::Nothing | Follow::Messages(_) | Follow::Semaphores(_) => return Ok(true),
        Follow::Bytes { len, padding } => ([len, 0], padding),
        Follow::Rest => ([file.left(), 0], 0),
        Follow::Tcp { inq, outq } => ([inq, outq], 0),
        Follow::BpfMap { keys, values } => ([keys, values], 0),
    };
    let [one, other] = parts;
    let mut end = file.at;
    for part in [one, other, padding] {
        end = file.need(end, part)?;
    }
    let total = end - file.at - padding;
    if writer.style().no_payload {
        file.seek(end)?;
        if kind == Extra::Ghost {
            return Ok(true);
        }
        writer.member(EXTRA, first);
        writer.size(total);
        return Ok(false);
    }
    writer.member(EXTRA, first);
    if let Follow::Tcp { .. } = follow {
        writer.open(b'{');
        writer.member("inq", true);
        base64(file, writer, one, buffer)?;
        writer.member("outq", false);
        base64(file, writer, other, buffer)?;
        writer.close(b'}', false);
    } else {
        base64(file, writer, total, buffer)?;
    }
    file.seek(end)?;
    Ok(false)
}

fn base64<R: Read + Seek, W: Write>(
    file: &mut Pieces<'_, R>,
    writer: &mut Writer<'_, W>,
    mut left: u64,
    buffer: &mut Vec<u8>,
) -> Result<(), WriteError> {
    writer.quote();
    while left > 0 {
        let now = left.min(PIECE as u64);
        file.take(buffer, now)?;
        writer.base64_piece(buffer)?;
        left -= now;
    }
    writer.quote();
    Ok(())
}

/// Writes the members of a large message, which has lists of messages and small fields. Returns
/// true if the message has no members.
fn large<R: Read + Seek, W: Write>(
    file: &mut Pieces<'_, R>,
    writer: &mut Writer<'_, W>,
    message: &'static Message,
    size: u64,
    buffer: &mut Vec<u8>,
) -> Result<bool, WriteError> {
    let start = file.at;
    let groups = match groups(file, message, size)? {
        Some(groups) if groups.iter().all(|group| group.list || group.size <= LARGE) => groups,
        // CRIU does not write such messages. Read this one whole.
        _ => {
            file.seek(start)?;
            file.take(buffer, size)?;
            let entry = RawEntry::new(file.name, start, buffer);
            message.check(entry.bytes()).map_err(|fault| entry.fault(fault))?;
            let members = writer.members(message, entry.bytes(), false, true);
            return members.map_err(|stop| stop.at(&entry));
        }
    };
    file.seek(start)?;
    let mut first = true;
    for group in groups {
        let Some((_, field)) = message.find(group.number).filter(|_| group.list) else {
            let offset = file.at;
            file.take(buffer, group.size)?;
            let entry = RawEntry::new(file.name, offset, buffer);
            message.fields_of(entry.bytes()).map_err(|fault| entry.fault(fault))?;
            let members = writer.members(message, entry.bytes(), false, first);
            first = members.map_err(|stop| stop.at(&entry))?;
            continue;
        };
        let Type::Message(inner) = field.kind else {
            continue;
        };
        writer.member(field.name, first);
        writer.open(b'[');
        first = false;
        let end = file.at + group.size;
        let mut is_first = true;
        while file.at < end {
            file.varint()?;
            let size = file.varint()?;
            let offset = file.at;
            file.take(buffer, size)?;
            let entry = RawEntry::new(file.name, offset, buffer);
            let blame = |fault: Fault| entry.fault(fault.field(message.name, field.name));
            inner.check(entry.bytes()).map_err(blame)?;
            writer.item(is_first);
            is_first = false;
            let shown = writer.message(field, entry.bytes());
            shown.map_err(|stop: Stop| stop.at(&entry))?;
        }
        writer.close(b']', false);
    }
    Ok(first)
}

/// Consecutive occurrences of one field.
struct Group {
    number: u32,
    size: u64,
    /// The occurrences are messages of a list, and each is small.
    list: bool,
}

/// Finds the fields of a message. Returns `None` if they are out of order, not all known, or pass
/// the end of the message.
fn groups<R: Read + Seek>(
    file: &mut Pieces<'_, R>,
    message: &'static Message,
    size: u64,
) -> Result<Option<Vec<Group>>, WriteError> {
    let end = file.need(file.at, size)?;
    let start = file.at;
    let mut groups: Vec<Group> = Vec::new();
    let mut seen = 0;
    while file.at < end {
        let begun = file.at;
        let (number, wire) = file.key()?;
        let Some((place, field)) = message.find(number) else {
            return Ok(None);
        };
        let value = match wire {
            WireType::Varint => file.varint().map(|_| 0)?,
            WireType::Fixed64 => 8,
            WireType::Fixed32 => 4,
            WireType::Bytes => file.varint()?,
        };
        if value > end.saturating_sub(file.at) {
            // The value ends outside of the message. Reading the message whole finds the place of
            // the error.
            return Ok(None);
        }
        file.skip(value)?;
        seen |= 1 << place;
        let size = file.at - begun;
        let is_list = field.label == Label::Repeated
            && matches!(field.kind, Type::Message(_))
            && wire == WireType::Bytes
            && size <= LARGE;
        match groups.last_mut() {
            Some(last) if last.number == number => {
                last.size += size;
                last.list &= is_list;
            }
            Some(last) if last.number > number => return Ok(None),
            _ => groups.push(Group { number, size, list: is_list }),
        }
    }
    let complete = message.complete(seen);
    complete.map_err(|fault| Error::new(file.name, fault.after(start)))?;
    Ok(Some(groups))
}

/// A file that is read from front to back, and the current place in it.
struct Pieces<'n, R> {
    name: &'n str,
    file: BufReader<R>,
    at: u64,
    len: u64,
}

impl<'n, R: Read + Seek> Pieces<'n, R> {
    fn new(name: &'n str, mut file: R) -> Result<Self> {
        let mut measure = || {
            let len = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(0))?;
            Ok(len)
        };
        let len = measure().map_err(|error: std::io::Error| Error::new(name, error))?;
        Ok(Self { name, file: BufReader::with_capacity(BUFFER, file), at: 0, len })
    }

    fn left(&self) -> u64 {
        self.len.saturating_sub(self.at)
    }

    /// Checks that the file has `need` bytes from a place on. Returns the place where they end.
    fn need(&self, at: u64, need: u64) -> Result<u64> {
        let left = self.len.saturating_sub(at);
        if need <= left {
            return Ok(at + need);
        }
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        Err(Error::new(self.name, ErrorKind::Truncated { need, left }.at(at)))
    }

    /// Reads the next `len` bytes, and puts them in place of the content of `buffer`.
    fn take(&mut self, buffer: &mut Vec<u8>, len: u64) -> Result<()> {
        self.need(self.at, len)?;
        // `need` has checked that the file has these bytes.
        buffer.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        self.file.read_exact(buffer).map_err(|error| Error::new(self.name, error))?;
        self.at += len;
        Ok(())
    }

    fn seek(&mut self, to: u64) -> Result<()> {
        let sought = self.file.seek(SeekFrom::Start(to));
        sought.map_err(|error| Error::new(self.name, error))?;
        self.at = to;
        Ok(())
    }

    /// Skips bytes, usually without a system call.
    fn skip(&mut self, bytes: u64) -> Result<()> {
        self.need(self.at, bytes)?;
        let offset = i64::try_from(bytes).unwrap_or(i64::MAX);
        let sought = self.file.seek_relative(offset);
        sought.map_err(|error| Error::new(self.name, error))?;
        self.at += bytes;
        Ok(())
    }

    /// Reads a field's number and wire type.
    fn key(&mut self) -> Result<(u32, WireType)> {
        let start = self.at;
        let mut bytes = [0; LONGEST];
        let read = self.varint_bytes(&mut bytes)?;
        let key = Reader::new(bytes.get(..read).unwrap_or_default()).key();
        key.map_err(|fault| Error::new(self.name, fault.after(start)))
    }

    fn varint(&mut self) -> Result<u64> {
        let start = self.at;
        let mut bytes = [0; LONGEST];
        let read = self.varint_bytes(&mut bytes)?;
        let value = Reader::new(bytes.get(..read).unwrap_or_default()).varint();
        value.map_err(|fault| Error::new(self.name, fault.after(start)))
    }

    /// Reads the bytes of a varint, or as many of them as the file has.
    fn varint_bytes(&mut self, bytes: &mut [u8; LONGEST]) -> Result<usize> {
        for (i, byte) in bytes.iter_mut().enumerate() {
            if self.left() == 0 {
                return Ok(i);
            }
            let one = self.file.read_exact(std::slice::from_mut(byte));
            one.map_err(|error| Error::new(self.name, error))?;
            self.at += 1;
            if *byte < 0x80 {
                return Ok(i + 1);
            }
        }
        Ok(LONGEST)
    }
}

/// Size in bytes above which an entry is read piece by piece.
const LARGE: u64 = 1 << 20;
/// Bytes read from the system at once.
const BUFFER: usize = 256 << 10;
/// Bytes of the longest varint, and one more to recognize a varint that is too long.
const LONGEST: usize = 11;
