//! Two decoders made from the same descriptions, which share nothing else: ours, and the one of
//! protobuf-codegen. They have to agree on which bytes are a message and what is in it, unless the
//! difference is in the table below.

use std::fmt::Debug;

use criu_fuzz_second::second;
use criu_images::json::{Style, decode, encode};
use criu_images::kind::{self, Entries, Extra, Kind};
use criu_images::schema::{Entry, Label, Message as Schema, Type};
use criu_images::{Error, ErrorKind, FieldName, Image, proto};
use protobuf::{Message as Second, MessageDyn, MessageFull, UnknownFields};

use crate::mutate::in_pieces;

/// Compares the decoders on one message. The first two bytes choose the message.
pub fn run(data: &[u8]) {
    let Some((&[low, high], bytes)) = data.split_first_chunk::<2>() else { return };
    let place = usize::from(u16::from_le_bytes([low, high])) % COMPARE.len();
    (COMPARE[place].1)(bytes);
    json(COMPARE[place].0, bytes);
}

/// Reasons why only one decoder accepts some bytes. Each is a decision of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Our decoder keeps text as bytes, because CRIU's strings are C strings: a path need not be
    /// UTF-8.
    TextIsBytes,
    /// Our decoder refuses a known field in another encoding than its own, as CRIU's parser does.
    /// The second decoder takes such a field for an unknown one.
    WireType,
    /// Our decoder refuses groups, as CRIU's parser does. The second decoder reads past them.
    Group,
    /// Our decoder refuses field numbers from 2^29 on, which protobuf does not have. The second
    /// decoder cuts keys to 32 bits.
    FieldNumber,
    /// Our decoder refuses varints of more than 64 bits. The second decoder drops the excess bits.
    Varint,
    /// Our decoder cuts 32-bit numbers to their size, as protobuf requires and CRIU's parser does.
    /// The second decoder refuses numbers written with more bits.
    Cut,
    /// A message that may occur once occurs twice. Our decoder merges both, as protobuf requires
    /// and CRIU's parser does. The second decoder keeps the last.
    Pieces,
    /// Our decoder refuses a message, or a list of numbers, whose length passes the end of its
    /// container. The second decoder takes the bytes that are there.
    Cropped,
    /// Both decoders bound the nesting of messages, far deeper than CRIU's messages.
    Depth,
}

/// Finds the reason why only our decoder refuses, from its error.
fn refused(error: &Error) -> Option<Exception> {
    Some(match error.kind() {
        ErrorKind::WireType { found: 3 | 4, .. } => Exception::Group,
        ErrorKind::WireType { .. } => Exception::WireType,
        ErrorKind::FieldNumber(_) => Exception::FieldNumber,
        ErrorKind::Varint => Exception::Varint,
        ErrorKind::Depth(_) => Exception::Depth,
        ErrorKind::Truncated { .. } if has_parts(error.field()?) => Exception::Cropped,
        _ => return None,
    })
}

/// Returns `true` if a field holds messages, or may hold several numbers in one piece.
fn has_parts(name: FieldName) -> bool {
    let fields = Schema::by_name(name.message).map_or(&[][..], |message| message.fields);
    let field = fields.iter().find(|field| field.name == name.field);
    field.is_some_and(|field| match field.kind {
        Type::Message(_) => true,
        Type::Bytes | Type::String => false,
        _ => field.label == Label::Repeated,
    })
}

/// Finds the reason why only the second decoder refuses, from its text.
fn refused_by_second(said: &str) -> Option<Exception> {
    if said.contains("UTF-8") || said.contains("utf-8") {
        return Some(Exception::TextIsBytes);
    }
    if ["Incorrect varint", "too large for"].iter().any(|word| said.contains(word)) {
        return Some(Exception::Cut);
    }
    said.contains("recursion").then_some(Exception::Depth)
}

fn compare<O: Entry, S: MessageFull + Debug>(bytes: &[u8]) {
    let image = framed(kind::PSTREE, bytes);
    let mut image = Image::parse("bytes", &image, kind::PSTREE).expect("it is framed here");
    let entry = image.next_entry().expect("it is framed here").expect("it is framed here");
    let ours = entry.decode::<O>();
    let second = S::parse_from_bytes(bytes);
    // `Exception::Pieces` is found in the bytes, because neither decoder reports it.
    let pieces = || in_pieces(O::schema(), bytes);
    match (ours, second) {
        (Ok(ours), Ok(mut second)) => {
            let canonical = ours.encode_to_vec();
            let again = S::parse_from_bytes(&canonical).expect("what prost writes is a message");
            if again != second {
                forget_unknown(&mut second);
            }
            assert!(again == second || pieces(), "two contents:\n{again:?}\n{second:?}");
        }
        (Ok(_), Err(error)) => {
            let said = error.to_string();
            let reason = refused_by_second(&said);
            assert!(reason.is_some() || pieces(), "only the other refuses it: {said}");
        }
        (Err(error), Ok(_)) => {
            let reason = refused(&error);
            assert!(reason.is_some() || pieces(), "only ours refuses it: {error}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// Checks that JSON keeps all that the second decoder sees, unknown fields included.
fn json(name: &str, bytes: &[u8]) {
    let plain = |kind: &&&Kind| kind.extra == Extra::None && kind.entries != Entries::Pagemap;
    let of_message = |kind: &&&Kind| kind.message == name && kind.magic != 0;
    let Some(kind) = kind::ALL.iter().filter(plain).find(of_message) else { return };
    let image = framed(kind, bytes);
    let image = Image::parse("bytes", &image, kind).expect("it is framed here");
    let mut text = Vec::new();
    if decode(image, Style::default(), &mut text).is_err() {
        return;
    }
    let mut made = Vec::new();
    encode(&text[..], &mut made).expect("JSON of an image becomes an image");
    let mut image = Image::parse("made", &made, kind).expect("it has a head");
    let entry = image.next_entry().expect("it has one").expect("it has one");
    let same = COMPARE.iter().find(|(known, ..)| *known == name).map(|(_, _, same)| *same);
    if let Some(same) = same {
        let pieces = Schema::by_name(name).is_some_and(|schema| in_pieces(schema, bytes));
        assert!(pieces || same(bytes, entry.bytes()), "{}", String::from_utf8_lossy(&text));
    }
}

/// Returns `true` if the second decoder finds two messages equal, unknown fields included.
fn same<S: Second>(before: &[u8], after: &[u8]) -> bool {
    match (S::parse_from_bytes(before), S::parse_from_bytes(after)) {
        (Ok(before), Ok(after)) => before == after,
        // Bytes that the second decoder refuses cannot be compared.
        (Err(_), _) => true,
        (Ok(_), Err(_)) => false,
    }
}

fn framed(kind: &Kind, bytes: &[u8]) -> Vec<u8> {
    let words = kind.head_magic().into_iter().chain([kind.magic]);
    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut image: Vec<u8> = words.chain([size]).flat_map(u32::to_le_bytes).collect();
    image.extend(bytes);
    image
}

/// Drops unknown fields of a message of the second decoder, because our types drop them too.
fn forget_unknown(message: &mut dyn MessageDyn) {
    use protobuf::reflect::{ReflectFieldRef, RuntimeFieldType, RuntimeType};
    *message.mut_unknown_fields_dyn() = UnknownFields::new();
    let descriptor = message.descriptor_dyn();
    for field in descriptor.fields() {
        match field.runtime_field_type() {
            RuntimeFieldType::Singular(RuntimeType::Message(_)) => {
                if field.has_field(message) {
                    forget_unknown(&mut *field.mut_message(message));
                }
            }
            RuntimeFieldType::Repeated(RuntimeType::Message(_)) => {
                let ReflectFieldRef::Repeated(list) = field.get_reflect(message) else { continue };
                let count = list.len();
                let mut cleaned = Vec::with_capacity(count);
                for place in 0..count {
                    let mut inner =
                        list.get(place).to_message().expect("a list of messages").clone_box();
                    forget_unknown(&mut *inner);
                    cleaned.push(inner);
                }
                let mut list = field.mut_repeated(message);
                for (place, inner) in cleaned.into_iter().enumerate() {
                    list.set(place, protobuf::reflect::ReflectValueBox::Message(inner));
                }
            }
            _ => {}
        }
    }
}

/// Name of a message, function that compares the decoders on it, function that compares two
/// messages.
type Row = (&'static str, fn(&[u8]), fn(&[u8], &[u8]) -> bool);

macro_rules! table {
    ($($name:literal $type:ident $module:ident $theirs:ident;)*) => {
        const COMPARE: &[Row] = &[$((
            $name,
            compare::<proto::$type, second::$module::$theirs>,
            same::<second::$module::$theirs>,
        )),*];
    };
}
criu_fuzz_second::messages!(table);
