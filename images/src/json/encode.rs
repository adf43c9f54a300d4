//! Conversion of JSON to images.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};

use serde_json::de::IoRead;
use serde_json::{Map, Value};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::message::{
    COMPAT_NR_PAGES, Fallible, Part, base64_of, fields, fields_and_lists, frame, framed,
    integer_of, kind_of, single,
};
use super::{EXTRA, OLD};
use crate::kind::{ALL, Extra, Kind};
use crate::schema::{Entry, Field, Label, Message, Type};

/// Reasons why JSON cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The text is not JSON, or not the JSON of an image. Names the line and column.
    #[error("{0}")]
    Json(serde_json::Error),
    /// Reading the JSON or writing the image failed.
    #[error("cannot be encoded: {0}")]
    Io(#[from] io::Error),
}

/// Writes the image that JSON describes, entry by entry, and returns its kind.
///
/// Members may come in any order, except that `"magic"` and `"version"` must come before
/// `"entries"`.
///
/// ```
/// use criu_images::json::{Style, decode, encode};
/// use criu_images::{Image, kind};
///
/// let bytes = std::fs::read("tests/data/pipeline/pstree.img")?;
/// let mut json = Vec::new();
/// decode(Image::parse("pstree.img", &bytes, kind::PSTREE)?, Style::default(), &mut json)?;
/// let mut image = Vec::new();
/// encode(&*json, &mut image)?;
/// assert_eq!(image, bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EncodeError::Json`] names the wrong field, and the line and column where its entry ends.
/// [`EncodeError::Io`] if reading or writing fails. After an error the output is not an image.
pub fn encode(json: impl Read, out: &mut impl Write) -> Result<&'static Kind, EncodeError> {
    let failed = RefCell::new(None);
    let mut json = serde_json::Deserializer::new(IoRead::new(io::BufReader::new(json)));
    let result = TopLevel { out, failed: &failed }
        .deserialize(&mut json)
        .and_then(|kind| json.end().map(|()| kind));
    match (result, failed.into_inner()) {
        (Ok(kind), _) => Ok(kind),
        (Err(_), Some(error)) => Err(EncodeError::Io(error)),
        (Err(error), None) if error.is_io() => Err(EncodeError::Io(error.into())),
        (Err(error), None) => Err(EncodeError::Json(error)),
    }
}

/// The outermost object.
struct TopLevel<'o, W> {
    out: &'o mut W,
    /// Error of `out`. The errors of the parser cannot hold it.
    failed: &'o RefCell<Option<io::Error>>,
}

impl<'de, W: Write> DeserializeSeed<'de> for TopLevel<'_, W> {
    type Value = &'static Kind;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, W: Write> Visitor<'de> for TopLevel<'_, W> {
    type Value = &'static Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with magic and entries")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut has_head, mut done) = (None, true, false);
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), kind) {
                ("magic", None) => {
                    let name: String = map.next_value()?;
                    let found = ALL.iter().find(|kind| kind.name == name && kind.magic != 0);
                    kind = Some(
                        *found
                            .ok_or_else(|| A::Error::custom(format!("unknown magic {name:?}")))?,
                    );
                }
                ("version", _) => {
                    let version: String = map.next_value()?;
                    if version != OLD {
                        return Err(A::Error::custom(format!(
                            "version is {version:?}, wanted {OLD:?}"
                        )));
                    }
                    has_head = false;
                }
                ("entries", Some(kind)) if !done => {
                    let head = kind.head_magic().filter(|_| has_head);
                    let words = head.into_iter().chain([kind.magic]);
                    let words: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
                    put(self.out, self.failed, &words)?;
                    map.next_value_seed(List { out: self.out, failed: self.failed, kind })?;
                    done = true;
                }
                ("entries", None) => return Err(A::Error::custom("entries come before the magic")),
                (key, _) => return Err(A::Error::custom(format!("unknown member {key:?}"))),
            }
        }
        match (kind, done) {
            (Some(kind), true) => Ok(kind),
            (None, _) => Err(A::Error::missing_field("magic")),
            (_, false) => Err(A::Error::missing_field("entries")),
        }
    }
}

/// The list of entries.
struct List<'o, W> {
    out: &'o mut W,
    failed: &'o RefCell<Option<io::Error>>,
    kind: &'static Kind,
}

impl<'de, W: Write> DeserializeSeed<'de> for List<'_, W> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, W: Write> Visitor<'de> for List<'_, W> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut number = 0u64;
        let mut bytes = Vec::new();
        let wrong = |number: u64, what: String| A::Error::custom(format!("entry {number}: {what}"));
        loop {
            let schema = self.kind.entry_message(number == 0);
            let schema = schema.ok_or_else(|| wrong(number, "this kind has no entries".into()))?;
            let Some(object) = seq.next_element_seed(Whole { schema, number })? else {
                return Ok(());
            };
            bytes.clear();
            let parts = entry_bytes(self.kind, number == 0, schema, object, &mut bytes);
            let mut rest = &bytes[..];
            for Part { after, bytes } in parts.map_err(|what| wrong(number, what))? {
                let (before, behind) = rest.split_at_checked(after).unwrap_or((rest, &[]));
                put(self.out, self.failed, before)?;
                put(self.out, self.failed, &bytes)?;
                rest = behind;
            }
            put(self.out, self.failed, rest)?;
            number += 1;
        }
    }
}

/// An entry as JSON has it. Lists of messages are encoded while they are read: an address space has
/// thousands of mappings in one entry.
struct Object {
    members: Map<String, Value>,
    /// Encoded lists, by the names of their fields.
    lists: Vec<(&'static str, Vec<u8>)>,
}

/// Reads an entry.
struct Whole {
    schema: &'static Message,
    number: u64,
}

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Object, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object { members: Map::new(), lists: Vec::new() };
        while let Some(name) = map.next_key::<String>()? {
            let is_list = |field: &&Field| {
                field.label == Label::Repeated && matches!(field.kind, Type::Message(_))
            };
            let field = self.schema.fields.iter().find(|field| field.name == name);
            if let Some(field) = field.filter(is_list) {
                let list = Messages { field, place: &self };
                let bytes = map.next_value_seed(list)?;
                // Of two members with one name the last counts.
                object.lists.retain(|(name, _)| *name != field.name);
                object.lists.push((field.name, bytes));
            } else {
                object.members.insert(name, map.next_value()?);
            }
        }
        Ok(object)
    }
}

/// Reads a list of messages and encodes it.
struct Messages<'p> {
    field: &'static Field,
    place: &'p Whole,
}

impl Messages<'_> {
    fn fault<E: serde::de::Error>(&self, what: &str) -> E {
        let Whole { schema, number } = self.place;
        E::custom(format!("entry {number}: {}.{}: {what}", schema.name, self.field.name))
    }

    fn no_list<E: serde::de::Error>(&self, found: &Value) -> Result<Vec<u8>, E> {
        Err(self.fault(&format!("found {}, wanted a list", kind_of(found))))
    }
}

impl<'de> DeserializeSeed<'de> for Messages<'_> {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<u8>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Messages<'_> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(value) = seq.next_element::<Value>()? {
            single(self.field, &value, &mut bytes).map_err(|what| self.fault(&what))?;
        }
        Ok(bytes)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Vec<u8>, E> {
        self.no_list(&Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, found: bool) -> Result<Vec<u8>, E> {
        self.no_list(&found.into())
    }

    fn visit_u64<E: serde::de::Error>(self, found: u64) -> Result<Vec<u8>, E> {
        self.no_list(&found.into())
    }

    fn visit_i64<E: serde::de::Error>(self, found: i64) -> Result<Vec<u8>, E> {
        self.no_list(&found.into())
    }

    fn visit_f64<E: serde::de::Error>(self, found: f64) -> Result<Vec<u8>, E> {
        self.no_list(&found.into())
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Vec<u8>, E> {
        self.no_list(&Value::String(String::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Vec<u8>, A::Error> {
        self.no_list(&Value::Object(Map::new()))
    }
}

fn put<E: serde::de::Error>(
    out: &mut impl Write,
    failed: &RefCell<Option<io::Error>>,
    bytes: &[u8],
) -> Result<(), E> {
    out.write_all(bytes).map_err(|error| {
        *failed.borrow_mut() = Some(error);
        E::custom("cannot write")
    })
}

/// Appends an entry in its frame, and its payload. Returns the long lists, which belong into it.
fn entry_bytes(
    kind: &Kind,
    first: bool,
    schema: &'static Message,
    object: Object,
    out: &mut Vec<u8>,
) -> Fallible<Vec<Part>> {
    let Object { members: mut entry, lists } = object;
    let extra = entry.remove(EXTRA);
    if schema.name == "pagemap_entry" && !entry.contains_key(COMPAT_NR_PAGES) {
        // CRIU before 4.2 has only this field, and names it `nr_pages`.
        if let Some(pages) = entry.remove("nr_pages") {
            entry.insert(COMPAT_NR_PAGES.into(), pages);
        }
    }
    let mut message = Vec::new();
    let parts = fields_and_lists(schema, &entry, lists, &mut message)?;
    let whole = parts.iter().fold(message.len(), |sum, part| sum.saturating_add(part.bytes.len()));
    let mut parts = parts.into_iter();
    frame(whole, out)?;
    let before = out.len();
    out.extend(message);
    let first_part = parts.next().map(|part| Part { after: before + part.after, ..part });
    let parts = first_part.into_iter().chain(parts).collect();
    let number = |name: &str| match entry.get(name) {
        Some(value) => integer_of(value).and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        None => 0,
    };
    let is_true = |name: &str| entry.get(name) == Some(&Value::Bool(true));
    match (kind.extra, extra) {
        (Extra::None, None) => {}
        (Extra::None, Some(_)) => return Err(format!("{}: unexpected {EXTRA}", schema.name)),
        (Extra::Ghost, None) if first && is_true("chunks") => {}
        (Extra::Shm, None) if is_true("in_pagemaps") => {}
        (Extra::Ghost, Some(extra)) if first && !is_true("chunks") => {
            out.extend(base64_of(&extra)?);
        }
        // An empty payload, which crit leaves out.
        (_, None) => payload(kind.extra, &empty(kind.extra), number, out)?,
        (extra_kind, Some(extra)) => payload(extra_kind, &extra, number, out)?,
    }
    Ok(parts)
}

fn empty(extra: Extra) -> Value {
    match extra {
        Extra::Msg | Extra::Sem => Value::Array(Vec::new()),
        Extra::Tcp => serde_json::json!({"inq": "", "outq": ""}),
        _ => Value::String(String::new()),
    }
}

/// Appends the payload of an entry. Its sizes must agree with the numbers in the entry.
fn payload(
    kind: Extra,
    extra: &Value,
    number: impl Fn(&str) -> u64,
    out: &mut Vec<u8>,
) -> Fallible<()> {
    let mut put = |bytes: &[u8], field: &str, want: u64, unit: usize| {
        if bytes.len() as u64 != want {
            let found = bytes.len();
            return Err(format!("{EXTRA}: has {found} bytes, {field} says {want}"));
        }
        out.extend(bytes);
        out.resize(out.len() + bytes.len().next_multiple_of(unit) - bytes.len(), 0);
        Ok(())
    };
    let one = |field: &str| (number(field), field.to_owned());
    match kind {
        Extra::None => Ok(()),
        Extra::Pipe | Extra::Packet | Extra::Ghost | Extra::Shm => {
            let (field, unit) = match kind {
                Extra::Pipe => ("bytes", 1),
                Extra::Packet => ("length", 1),
                Extra::Ghost => ("len", 1),
                _ => ("size", 4),
            };
            let (want, field) = one(field);
            put(&base64_of(extra)?, &field, want, unit)
        }
        Extra::BpfMap => {
            let want = number("keys_bytes").saturating_add(number("values_bytes"));
            put(&base64_of(extra)?, "keys_bytes and values_bytes", want, 1)
        }
        Extra::Tcp => {
            for (name, field) in [("inq", "inq_len"), ("outq", "outq_len")] {
                let queue = extra.get(name).ok_or_else(|| format!("{EXTRA}.{name} is absent"))?;
                put(&base64_of(queue)?, field, number(field), 1)?;
            }
            Ok(())
        }
        Extra::Sem => {
            let values = extra.as_array().ok_or_else(|| format!("{EXTRA}: wanted a list"))?;
            let words = values.iter().map(|value| {
                let word = integer_of(value).and_then(|word| u16::try_from(word).ok());
                word.ok_or_else(|| format!("{EXTRA}: {value} is not a 16-bit number"))
            });
            let words: Vec<u16> = words.collect::<Result<_, _>>()?;
            let bytes: Vec<u8> = words.into_iter().flat_map(u16::to_le_bytes).collect();
            put(&bytes, "nsems, 2 bytes each,", number("nsems").saturating_mul(2), 8)
        }
        Extra::Msg => {
            let list = extra.as_array().ok_or_else(|| format!("{EXTRA}: wanted a list"))?;
            let (count, want) = (list.len() as u64, number("qnum").saturating_mul(2));
            if count != want {
                return Err(format!("{EXTRA}: has {count} items, qnum says {want}"));
            }
            for pair in list.chunks(2) {
                let [Value::Object(message), bytes] = pair else {
                    return Err(format!("{EXTRA}: wanted messages, each followed by its bytes"));
                };
                let mut encoded = Vec::new();
                fields(crate::proto::IpcMsg::schema(), message, &mut encoded)?;
                framed(&encoded, out)?;
                let bytes = base64_of(bytes)?;
                let size = message.get("msize").and_then(integer_of);
                if size != Some(bytes.len() as i128) {
                    let found = bytes.len();
                    return Err(format!("{EXTRA}: has {found} bytes, msize says another number"));
                }
                out.extend(&bytes);
                out.resize(out.len() + bytes.len().next_multiple_of(8) - bytes.len(), 0);
            }
            Ok(())
        }
    }
}
