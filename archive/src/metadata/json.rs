//! JSON of strangers: bounded before it is parsed.

use criu_images::Text;
use criu_images::source::Blob;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::bounds;
use crate::error::{ErrorKind, Fault};

/// Fields of an object that this crate has no name for.
pub type Other = serde_json::Map<String, serde_json::Value>;

/// Reads a member of JSON.
///
/// # Errors
/// [`ErrorKind::TooLarge`] above [`METADATA`](bounds::METADATA); [`ErrorKind::TooMany`] above
/// [`METADATA_VALUES`](bounds::METADATA_VALUES); [`ErrorKind::Json`] for anything that is not the
/// JSON that is wanted, and for JSON that is nested too deep.
pub(crate) fn read<T: DeserializeOwned>(blob: &Blob) -> Result<T, Fault> {
    parse(&bytes(blob, bounds::METADATA.get())?)
}

/// Reads a small member whole.
pub(crate) fn bytes(blob: &Blob, limit: u64) -> Result<Vec<u8>, Fault> {
    let size = blob.len();
    if size > limit {
        return Err(ErrorKind::TooLarge { size, limit }.into());
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    blob.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Parses JSON.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Fault> {
    survey(json)?;
    serde_json::from_slice(json).map_err(|error| fault(&error).into())
}

/// Makes an error of one of `serde_json`, whose text quotes the input.
pub(crate) fn fault(error: &serde_json::Error) -> ErrorKind {
    ErrorKind::Json(Text(error.to_string().as_bytes()).to_string())
}

/// Counts values and their nesting before anything is kept: an empty object of three bytes takes
/// hundreds of bytes of memory.
fn survey(json: &[u8]) -> Result<(), ErrorKind> {
    let limit = bounds::METADATA_VALUES.get();
    let (mut values, mut depth, mut in_text, mut is_escaped) = (0u64, 0usize, false, false);
    for byte in json {
        if in_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                depth += 1;
                values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(ErrorKind::Json(format!("is nested more than {MAX_DEPTH} deep")));
        }
        if values > limit {
            return Err(ErrorKind::TooMany { what: "values", limit });
        }
    }
    Ok(())
}

/// Reads a value for which Go writes `null` where it is empty.
pub(crate) fn or_empty<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Returns true for a value that Go leaves out.
pub(crate) fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Deepest nesting. Engines nest 8 deep.
const MAX_DEPTH: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn said(json: &[u8]) -> String {
        let fault = parse::<Value>(json).unwrap_err();
        crate::error::Error::new("a", fault).to_string()
    }

    #[test]
    fn nesting_and_numbers_of_values_are_bounded() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        parse::<Value>(&nested(MAX_DEPTH)).unwrap();
        assert_eq!(
            said(&nested(MAX_DEPTH + 1)),
            "a: is no valid JSON: is nested more than 64 deep"
        );
        let limit = usize::try_from(bounds::METADATA_VALUES.get()).unwrap();
        let list = |values: usize| [b"[", &b"0,".repeat(values - 1)[..], b"0]"].concat();
        parse::<Value>(&list(limit)).unwrap();
        assert_eq!(said(&list(limit + 1)), format!("a: has more than {limit} values"));
        // Text is no structure.
        let text = format!("\"{}\\\"{}\"", "[".repeat(99), "{".repeat(99));
        parse::<Value>(text.as_bytes()).unwrap();
    }

    #[test]
    fn an_error_does_not_speak_to_the_terminal() {
        let said = said_of::<u32>(b"\"\x1b]0;title\x07\"");
        assert!(!said.contains(char::is_control), "{said:?}");
        let said = said_of::<u32>(b"\"\\u001b[2J\"");
        assert!(!said.contains(char::is_control) && said.contains("u32"), "{said:?}");
    }

    fn said_of<T: DeserializeOwned + std::fmt::Debug>(json: &[u8]) -> String {
        crate::error::Error::new("a", parse::<T>(json).unwrap_err()).to_string()
    }
}
