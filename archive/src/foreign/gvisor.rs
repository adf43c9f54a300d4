//! The state file of gVisor, `checkpoint.img`.

use std::collections::BTreeMap;

use criu_images::source::Blob;

use super::cursor::Cursor;
use crate::error::{ErrorKind, Fault};
use crate::metadata::json;

/// Head of a state file of gVisor. The state itself, a graph of objects, follows.
///
/// ```text
/// gVisorSF | length, 8 bytes, the first counts most | JSON object of texts | state
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GvisorState {
    /// The map of the head. Names that begin with `_` are gVisor's own.
    pub metadata: BTreeMap<String, String>,
    /// Bytes of the head.
    pub head: u64,
    /// Bytes of the file.
    pub size: u64,
}

impl GvisorState {
    /// Returns the compression of the state: `none`, `flate-best-speed`. With `none`, the memory is
    /// in a file of its own, `pages.img`.
    pub fn compression(&self) -> Option<&str> {
        self.metadata.get("compression").map(String::as_str)
    }

    /// Returns the number of containers in the sandbox. Old versions do not say it.
    pub fn containers(&self) -> Option<u64> {
        self.metadata.get("container_count")?.parse().ok()
    }

    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let own = self.metadata.iter().map(|(name, value)| (name.clone(), value.clone()));
        own.chain([("bytes".into(), self.size.to_string())]).collect()
    }
}

pub(super) fn read(file: &Blob) -> Result<Option<GvisorState>, Fault> {
    let mut cursor = Cursor::new(file);
    if !cursor.goes_on_with(MAGIC)? {
        return Ok(None);
    }
    let length = cursor.be64()?;
    let at = cursor.offset();
    let json = cursor.block(length, MAX_MAP)?;
    let metadata: BTreeMap<String, String> = json::parse(&json).map_err(|fault| fault.at(at))?;
    if cursor.offset() == file.len() {
        let fault =
            Fault::from(ErrorKind::Malformed("the file ends with its head: no state follows"));
        return Err(fault.at(cursor.offset()));
    }
    Ok(Some(GvisorState { metadata, head: cursor.offset(), size: file.len() }))
}

const MAGIC: &[u8] = b"gVisorSF";

/// Largest map: the limit that gVisor has itself.
const MAX_MAP: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: u64, rest: &[u8]) -> Blob {
        [MAGIC, &length.to_be_bytes(), rest].concat().into()
    }

    fn said(file: &Blob) -> String {
        crate::Error::new("a", read(file).unwrap_err()).to_string()
    }

    #[test]
    fn the_map_of_a_head_is_read() {
        let map = br#"{"compression":"none","container_count":"3"}"#;
        let found = read(&file(map.len() as u64, &[map, &b"state"[..]].concat())).unwrap().unwrap();
        assert_eq!((found.compression(), found.containers()), (Some("none"), Some(3)));
        assert_eq!((found.head, found.size), (60, 65));
        assert_eq!(read(&b"gVisorS".to_vec().into()).unwrap(), None);
    }

    #[test]
    fn heads_that_break_the_form_are_refused_with_their_place() {
        assert_eq!(
            said(&file(u64::MAX, b"{}")),
            format!("a: byte 16: has {} bytes, at most {MAX_MAP} are read", u64::MAX)
        );
        assert_eq!(said(&file(9, b"{}")), "a: byte 16: ends early: 9 bytes are needed, 2 are left");
        assert!(said(&file(2, b"{}")).contains("no state follows"));
        assert!(said(&file(8, b"{\"a\": 1}x")).contains("byte 16: is no valid JSON"));
        assert!(
            said(&MAGIC.to_vec().into()).contains("ends early: 8 bytes are needed, 0 are left")
        );
        let deep = [&b"{\"a\":"[..], &b"[".repeat(1000)].concat();
        assert!(said(&file(deep.len() as u64, &deep)).contains("nested more than"));
    }
}
