//! PAX records: keys and values that extend a header.

use crate::error::ErrorKind;

/// The PAX records of a member that decide where its bytes are and how it is called.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Seconds since 1970, without their fraction.
    pub(super) modified: Option<u64>,
    /// A file with holes, whose bytes begin with a map.
    pub(super) is_sparse: bool,
    sparse_name: Option<Vec<u8>>,
}

impl Records {
    /// Reads records. Of several with one key the last counts. An empty value deletes the record.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the bytes are not records.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, ErrorKind> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = first(bytes).ok_or(ErrorKind::Malformed(NO_RECORD))?;
            match key {
                b"path" => records.name = some(value),
                b"linkpath" => records.link = some(value),
                b"size" if value.is_empty() => records.size = None,
                b"size" => {
                    records.size = Some(decimal(value).ok_or(ErrorKind::Malformed(NO_RECORD))?);
                }
                // Nothing is read by these: a value that is no number counts nothing.
                b"uid" => records.uid = decimal(value),
                b"gid" => records.gid = decimal(value),
                b"mtime" => records.modified = value.split(|b| *b == b'.').next().and_then(decimal),
                b"GNU.sparse.name" => records.sparse_name = some(value),
                _ => {}
            }
            let is_sparse = key.starts_with(b"GNU.sparse.") || STAR_SPARSE.contains(&key);
            records.is_sparse |= is_sparse && !value.is_empty();
            bytes = rest;
        }
        if records.sparse_name.is_some() {
            records.name = records.sparse_name.take();
        }
        Ok(records)
    }

    /// Returns true if the records change where members are or how they are called.
    pub(super) fn decide(&self) -> bool {
        let Self { name, link, size, is_sparse, .. } = self;
        name.is_some() || link.is_some() || size.is_some() || *is_sparse
    }
}

/// Splits the first record off: `LENGTH KEY=VALUE\n`, where the length is that of the whole record.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(MAX_DIGITS).position(|byte| *byte == b' ')?;
    let len = usize::try_from(decimal(bytes.get(..space)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

fn some(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

/// Reads digits alone: other readers take no sign, either.
fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Keys of the files with holes that star, bsdtar and Solaris write.
const STAR_SPARSE: [&[u8]; 2] = [b"SCHILY.realsize", b"SUN.holesdata"];

/// Bytes in which the length of a record ends.
const MAX_DIGITS: usize = 21;

const NO_RECORD: &str = "has PAX records that are broken";
