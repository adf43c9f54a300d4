//! Conversion of images to JSON: a walk over the wire bytes with the tables of the schema.

use std::io::{self, Write};

use prost::Message as _;

use super::values::{Value, kind_is_signed, occurrences, signed, unpacked};
use super::{BYTES, EXTRA, OLD, UNKNOWN, quoted, shown};
use crate::error::{Error, ErrorKind, Fault, WriteError};
use crate::extra::Payload;
use crate::frame::{Image, RawEntry};
use crate::kind::Extra;
use crate::schema::{Field, Label, Message, Show, Type};

/// Options for writing JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Writes many lines, and names, flags, devices and addresses instead of numbers (`--pretty`).
    pub pretty: bool,
    /// Writes only the sizes of payloads (`--nopl`). Such JSON cannot be encoded.
    pub no_payload: bool,
}

/// Writes an image as JSON, without a line end after it.
///
/// Memory use grows with the number of fields of one entry. [`decode_file`](super::decode_file)
/// needs only a few MiB.
///
/// ```
/// use criu_images::json::{Style, decode};
/// use criu_images::{Image, kind};
///
/// let bytes = std::fs::read("tests/data/pipeline/pstree.img")?;
/// let image = Image::parse("pstree.img", &bytes, kind::PSTREE)?;
/// let mut json = Vec::new();
/// decode(image, Style::default(), &mut json)?;
/// assert!(json.starts_with(br#"{"magic": "PSTREE", "entries": [{"pid": 10139, "ppid": 0,"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The errors of the image's entries, and of `out`. After an error the JSON is incomplete.
pub fn decode(image: Image<'_>, style: Style, out: &mut impl Write) -> Result<(), WriteError> {
    let mut writer = Writer::new(style, out);
    writer.image(image)?;
    Ok(writer.flush()?)
}

/// Reason why the members of a message end early.
pub(super) enum Stop {
    Fault(Fault),
    Write(io::Error),
}

impl Stop {
    /// Returns the error of an entry.
    pub(super) fn at(self, entry: &RawEntry<'_>) -> WriteError {
        match self {
            Self::Fault(fault) => entry.fault(fault).into(),
            Self::Write(error) => error.into(),
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

pub(super) struct Writer<'o, W> {
    out: &'o mut W,
    buffer: Vec<u8>,
    style: Style,
    depth: usize,
    scratch: String,
}

impl<'o, W: Write> Writer<'o, W> {
    pub(super) fn new(style: Style, out: &'o mut W) -> Self {
        Self { out, buffer: Vec::new(), style, depth: 0, scratch: String::new() }
    }

    pub(super) fn style(&self) -> Style {
        self.style
    }

    pub(super) fn image(&mut self, mut image: Image<'_>) -> Result<(), WriteError> {
        let kind = image.kind();
        let Some(message) = Message::by_name(kind.message) else {
            let raw = ErrorKind::Malformed("is of another format, which has no JSON");
            return Err(Error::new(image.name(), raw).into());
        };
        self.begin(&image);
        let mut first = true;
        while let Some(entry) = image.next_entry()? {
            let message = kind.entry_message(first).unwrap_or(message);
            self.item(first);
            first = false;
            self.entry(&mut image, &entry, message)?;
            self.flush_full()?;
        }
        self.end(first);
        Ok(())
    }

    /// Writes the text before the first entry.
    pub(super) fn begin(&mut self, image: &Image<'_>) {
        self.open(b'{');
        self.member("magic", true);
        self.text(image.kind().name);
        if !image.has_head() {
            self.member("version", false);
            self.text(OLD);
        }
        self.member("entries", false);
        self.open(b'[');
    }

    pub(super) fn end(&mut self, empty: bool) {
        self.close(b']', empty);
        self.close(b'}', false);
    }

    fn entry(
        &mut self,
        image: &mut Image<'_>,
        entry: &RawEntry<'_>,
        message: &'static Message,
    ) -> Result<(), WriteError> {
        message.check(entry.bytes()).map_err(|fault| entry.fault(fault))?;
        self.open(b'{');
        let fields = self.fields(message, entry.bytes(), false);
        let mut first = fields.map_err(|stop| stop.at(entry))?;
        let payload = image.payload(entry)?;
        if self.style.no_payload {
            if let Some(bytes) = size(&payload).filter(|_| image.kind().extra != Extra::Ghost) {
                self.member(EXTRA, first);
                self.size(bytes);
                first = false;
            }
        } else if payload != Payload::None {
            self.member(EXTRA, first);
            self.payload(&payload)?;
            first = false;
        }
        self.close(b'}', first);
        Ok(())
    }

    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), WriteError> {
        match payload {
            Payload::None => {}
            Payload::Bytes(bytes) => self.base64(bytes)?,
            Payload::Tcp { inq, outq } => {
                self.open(b'{');
                self.member("inq", true);
                self.base64(inq)?;
                self.member("outq", false);
                self.base64(outq)?;
                self.close(b'}', false);
            }
            Payload::BpfMap { keys, values } => {
                // crit writes keys and values as one string.
                self.base64(&[*keys, *values].concat())?;
            }
            Payload::Semaphores(values) => {
                self.open(b'[');
                for (i, value) in values.iter().enumerate() {
                    self.item(i == 0);
                    self.buffer.extend(value.to_string().as_bytes());
                }
                self.close(b']', values.is_empty());
            }
            Payload::Messages(messages) => {
                self.open(b'[');
                for (i, (message, bytes)) in messages.iter().enumerate() {
                    self.item(i == 0);
                    self.open(b'{');
                    self.member("mtype", true);
                    self.buffer.extend(message.mtype.to_string().as_bytes());
                    self.member("msize", false);
                    self.buffer.extend(message.msize.to_string().as_bytes());
                    self.close(b'}', false);
                    self.item(false);
                    self.base64(bytes)?;
                }
                self.close(b']', messages.is_empty());
            }
        }
        Ok(())
    }

    /// Writes the members of a message. Returns true if the message has no members.
    fn fields(&mut self, message: &'static Message, bytes: &[u8], hex: bool) -> Result<bool, Stop> {
        self.members(message, bytes, hex, true)
    }

    /// Writes members of an object that may already have some. Returns true if the object is still
    /// empty.
    pub(super) fn members(
        &mut self,
        message: &'static Message,
        bytes: &[u8],
        hex: bool,
        mut first: bool,
    ) -> Result<bool, Stop> {
        let mut all = occurrences(bytes)?;
        if !all.is_sorted_by_key(|one| one.number) {
            all.sort_by_key(|one| one.number);
        }
        let mut unknown = Vec::new();
        for group in all.chunk_by(|a, b| a.number == b.number) {
            let Some((_, field)) = group.first().and_then(|one| message.find(one.number)) else {
                unknown.extend(group.iter().flat_map(|one| one.raw));
                continue;
            };
            if field.label == Label::Repeated {
                let values = unpacked(field, group)?;
                if !values.is_empty() {
                    self.member(field.name, first);
                    self.list(field, &values, hex)?;
                    first = false;
                }
            } else if let Some(last) = group.last() {
                self.member(field.name, first);
                first = false;
                match (field.kind, group) {
                    // Pieces of one message are joined.
                    (Type::Message(_), [_, _, ..]) => {
                        let pieces = group.iter().filter_map(|one| match one.value {
                            Value::Bytes(bytes) => Some(bytes),
                            Value::Number(_) => None,
                        });
                        let whole = pieces.collect::<Vec<_>>().concat();
                        self.value(field, Value::Bytes(&whole), hex)?;
                    }
                    _ => self.value(field, last.value, hex)?,
                }
            }
        }
        if !unknown.is_empty() {
            self.member(UNKNOWN, first);
            self.buffer.push(b'"');
            quoted::base64(&unknown, &mut self.buffer);
            self.buffer.push(b'"');
            first = false;
        }
        Ok(first)
    }

    fn list(&mut self, field: &Field, values: &[Value<'_>], hex: bool) -> Result<(), Stop> {
        self.open(b'[');
        if field.show == Show::Ip && self.style.pretty {
            let words = values.iter().filter_map(|value| match value {
                // Protobuf truncates to the size.
                Value::Number(word) => Some(*word & u64::from(u32::MAX)),
                Value::Bytes(_) => None,
            });
            let mut text = String::new();
            if shown::address(&words.collect::<Vec<_>>(), &mut text).is_some() {
                self.item(true);
                self.text(&text);
                self.close(b']', false);
                return Ok(());
            }
        }
        for (i, value) in values.iter().enumerate() {
            self.item(i == 0);
            self.value(field, *value, hex)?;
            self.flush_full()?;
        }
        self.close(b']', false);
        Ok(())
    }

    fn value(&mut self, field: &Field, value: Value<'_>, hex: bool) -> Result<(), Stop> {
        match (field.kind, value) {
            (Type::Message(message), Value::Bytes(bytes)) => {
                self.open(b'{');
                let empty = self.fields(message, bytes, hex || field.show == Show::Hex)?;
                self.close(b'}', empty);
            }
            (Type::String, Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => self.text(text),
                Err(_) => {
                    self.open(b'{');
                    self.member(BYTES, true);
                    self.buffer.push(b'"');
                    quoted::base64(bytes, &mut self.buffer);
                    self.buffer.push(b'"');
                    self.close(b'}', false);
                }
            },
            (_, Value::Bytes(bytes)) if field.show == Show::UnixName => {
                self.text(&quoted::printable(bytes));
            }
            (_, Value::Bytes(bytes)) => {
                self.buffer.push(b'"');
                quoted::base64(bytes, &mut self.buffer);
                self.buffer.push(b'"');
            }
            (kind, Value::Number(number)) => self.number(field, kind, number, hex),
        }
        Ok(())
    }

    fn number(&mut self, field: &Field, kind: Type, number: u64, hex: bool) {
        // Protobuf truncates to the size.
        let number = match kind {
            Type::Uint32 | Type::Int32 | Type::Sint32 => number & u64::from(u32::MAX),
            _ => number,
        };
        let signed = signed(kind, number);
        match kind {
            Type::Bool => {
                let text = if number != 0 { "true" } else { "false" };
                self.buffer.extend(text.as_bytes());
            }
            Type::Enum(kind) => {
                match kind.values.iter().find(|(value, _)| i64::from(*value) == signed) {
                    Some((_, name)) => self.text(name),
                    None => self.integer(kind_is_signed(field.kind), signed, number),
                }
            }
            _ if self.style.pretty => self.shown(field, kind, number, signed, hex),
            _ => self.integer(kind_is_signed(kind), signed, number),
        }
    }

    /// Writes a number in the pretty form.
    fn shown(&mut self, field: &Field, kind: Type, number: u64, signed: i64, hex: bool) {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        match field.show {
            _ if hex || field.show == Show::Hex => {
                let (sign, size) = if kind_is_signed(kind) && signed < 0 {
                    ("-", signed.unsigned_abs())
                } else {
                    ("", if kind_is_signed(kind) { signed.unsigned_abs() } else { number })
                };
                self.hex(sign, size);
                self.scratch = text;
                return;
            }
            Show::Dev => shown::device(number, false, &mut text),
            Show::Odev => shown::device(number, true, &mut text),
            Show::Flags(table) => shown::flags(table, number, &mut text),
            Show::Dict(table) => match shown::name(table, field, signed) {
                Some(name) => text.push_str(name),
                None => {
                    self.integer(kind_is_signed(kind), signed, number);
                    self.scratch = text;
                    return;
                }
            },
            _ => {
                self.integer(kind_is_signed(kind), signed, number);
                self.scratch = text;
                return;
            }
        }
        self.text(&text);
        self.scratch = text;
    }

    /// Writes a number in hexadecimal, as a string.
    fn hex(&mut self, sign: &str, number: u64) {
        let mut digits = [0; 16];
        let mut at = digits.len();
        let mut left = number;
        loop {
            at -= 1;
            if let Some(digit) = digits.get_mut(at) {
                let value = u8::try_from(left % 16).unwrap_or(0);
                *digit = if value < 10 { b'0' + value } else { b'a' - 10 + value };
            }
            left /= 16;
            if left == 0 {
                break;
            }
        }
        self.buffer.push(b'"');
        self.buffer.extend(sign.as_bytes());
        self.buffer.extend(b"0x");
        self.buffer.extend(digits.get(at..).unwrap_or_default());
        self.buffer.push(b'"');
    }

    fn integer(&mut self, is_signed: bool, signed: i64, unsigned: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut left = if is_signed { signed.unsigned_abs() } else { unsigned };
        loop {
            at -= 1;
            if let Some(digit) = digits.get_mut(at) {
                *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
            }
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if is_signed && signed < 0 {
            self.buffer.push(b'-');
        }
        self.buffer.extend(digits.get(at..).unwrap_or_default());
    }

    /// Writes a string, in ASCII only.
    fn text(&mut self, text: &str) {
        self.buffer.push(b'"');
        // Looking at every byte is faster than stopping at the first one that is not plain.
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
            self.buffer.extend(text.as_bytes());
        } else {
            for char in text.chars() {
                self.char(char);
            }
        }
        self.buffer.push(b'"');
    }

    fn char(&mut self, char: char) {
        let short = match char {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            ' '..='~' => {
                self.buffer.extend(char.to_string().as_bytes());
                return;
            }
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    self.buffer.extend(format!("\\u{unit:04x}").as_bytes());
                }
                return;
            }
        };
        self.buffer.extend(short.as_bytes());
    }

    /// Writes a string of base64, and flushes the buffer as it grows.
    fn base64(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.quote();
        for piece in bytes.chunks(PIECE) {
            self.base64_piece(piece)?;
        }
        self.quote();
        Ok(())
    }

    pub(super) fn quote(&mut self) {
        self.buffer.push(b'"');
    }

    /// Writes a part of a string of base64: [`PIECE`] bytes, or the last part.
    pub(super) fn base64_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        quoted::base64(piece, &mut self.buffer);
        self.flush_full()
    }

    /// Writes one item of a list of messages.
    pub(super) fn message(&mut self, field: &Field, message: &[u8]) -> Result<(), Stop> {
        self.value(field, Value::Bytes(message), false)?;
        Ok(self.flush_full()?)
    }

    pub(super) fn open(&mut self, bracket: u8) {
        self.buffer.push(bracket);
        self.depth += 1;
    }

    pub(super) fn close(&mut self, bracket: u8, empty: bool) {
        self.depth = self.depth.saturating_sub(1);
        if !empty {
            self.line();
        }
        self.buffer.push(bracket);
    }

    /// Writes the text before the next item of a list or object.
    pub(super) fn item(&mut self, first: bool) {
        if !first {
            self.buffer.push(b',');
            if !self.style.pretty {
                self.buffer.push(b' ');
            }
        }
        self.line();
    }

    pub(super) fn member(&mut self, name: &str, first: bool) {
        self.item(first);
        self.buffer.push(b'"');
        self.buffer.extend(name.as_bytes());
        self.buffer.extend(b"\": ");
    }

    fn line(&mut self) {
        if self.style.pretty {
            self.buffer.push(b'\n');
            let length = self.buffer.len().saturating_add(self.depth * INDENT);
            self.buffer.resize(length, b' ');
        }
    }

    /// Writes the size of the payload of an entry.
    pub(super) fn size(&mut self, bytes: u64) {
        self.text(&format!("... <{}>", size_in_words(bytes)));
    }

    pub(super) fn flush_full(&mut self) -> io::Result<()> {
        if self.buffer.len() > BUFFER { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Returns the number of bytes of a payload, or `None` without a payload.
fn size(payload: &Payload<'_>) -> Option<u64> {
    let bytes = match payload {
        Payload::None => return None,
        Payload::Bytes(bytes) => bytes.len(),
        Payload::Tcp { inq, outq } => inq.len() + outq.len(),
        Payload::BpfMap { keys, values } => keys.len() + values.len(),
        Payload::Semaphores(values) => values.len() * 2,
        Payload::Messages(all) => {
            all.iter().map(|(message, bytes)| message.encoded_len() + bytes.len()).sum()
        }
    };
    Some(bytes as u64)
}

/// Returns a number of bytes with a unit, such as `1.5KB`.
fn size_in_words(mut size: u64) -> String {
    let mut tenths = 0;
    let mut units = ["K", "M", "G", "T", "P", "E"].iter();
    let mut unit = "";
    while size >= 1024 {
        tenths = (size % 1024 * 10 + 512) / 1024;
        size /= 1024;
        unit = units.next().unwrap_or(&"");
    }
    match tenths {
        0 => format!("{size}{unit}B"),
        10 => format!("{}.0{unit}B", size + 1),
        tenths => format!("{size}.{tenths}{unit}B"),
    }
}

/// Buffered bytes above which the buffer is written out.
const BUFFER: usize = 64 << 10;
/// Bytes of a piece of base64: a whole number of lines.
pub(super) const PIECE: usize = 57 << 10;
const INDENT: usize = 4;
