//! Images as JSON and back.

use std::io::Cursor;

use criu_images::Image;
use criu_images::json::{Style, decode, decode_file, encode};

/// Converts an image to JSON and back. Other bytes are read as JSON.
pub fn run(data: &[u8]) {
    match Image::detect("image", data) {
        Ok(image) => from_image(data, image),
        Err(_) => from_text(data),
    }
}

fn from_image(data: &[u8], image: Image<'_>) {
    let mut plain = Vec::new();
    let read = decode(image.clone(), Style::default(), &mut plain);
    // The other way, piece by piece, says the same.
    let mut streamed = Vec::new();
    let file = decode_file("image", Cursor::new(data), Style::default(), &mut streamed);
    assert_eq!(read.is_ok(), file.is_ok(), "{read:?} {file:?}");
    for (pretty, no_payload) in [(true, false), (false, true), (true, true)] {
        let style = Style { pretty, no_payload, ..Style::default() };
        let mut text = Vec::new();
        let other = decode(image.clone(), style, &mut text);
        assert_eq!(other.is_ok(), read.is_ok(), "{style:?}: {other:?}");
        if other.is_ok() && !no_payload {
            round(&text, image.kind().name);
        }
        let mut streamed = Vec::new();
        let file = decode_file("image", Cursor::new(data), style, &mut streamed);
        assert_eq!(file.is_ok(), other.is_ok(), "{style:?}: {file:?}");
        if other.is_ok() {
            assert!(text == streamed, "{style:?}: {}", differ(&text, &streamed));
        }
    }
    if read.is_ok() {
        assert!(plain == streamed, "{}", differ(&plain, &streamed));
        round(&plain, image.kind().name);
    }
}

/// Checks that JSON of an image becomes an image with the same JSON.
fn round(text: &[u8], kind: &str) {
    let mut bytes = Vec::new();
    let made = encode(text, &mut bytes);
    assert!(made.is_ok(), "{kind}: {made:?} of {}", shown(text));
    let image = Image::detect("again", &bytes).expect("it has a magic");
    let (mut again, mut plain) = (Vec::new(), Vec::new());
    let style = Style { pretty: text.contains(&b'\n'), ..Style::default() };
    decode(image.clone(), style, &mut again).expect("what was encoded decodes");
    decode(image, Style::default(), &mut plain).expect("what was encoded decodes");
    assert!(text == again, "{kind}: {}", differ(text, &again));
    // What was made once is made again, to the byte.
    let mut third = Vec::new();
    encode(&plain[..], &mut third).expect("it was encoded before");
    assert!(bytes == third, "{}: not the same image twice", shown(&plain));
}

/// Checks that text which is accepted makes an image that can be read.
fn from_text(data: &[u8]) {
    let mut bytes = Vec::new();
    match encode(data, &mut bytes) {
        Ok(_) => {
            let image = Image::detect("made", &bytes).expect("what was encoded has a magic");
            let mut text = Vec::new();
            // An image of another number of entries than its kind has is for whoever reads it to
            // refuse.
            decode(image, Style::default(), &mut text).expect("what was encoded decodes");
            round(&text, "made");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Shows where two texts begin to differ.
fn differ(one: &[u8], other: &[u8]) -> String {
    let at = one.iter().zip(other).take_while(|(a, b)| a == b).count().saturating_sub(100);
    format!("{}\n---- and ----\n{}", shown(&one[at..]), shown(&other[at.min(other.len())..]))
}

fn shown(text: &[u8]) -> String {
    let end = text.len().min(600);
    String::from_utf8_lossy(&text[..end]).into_owned()
}
