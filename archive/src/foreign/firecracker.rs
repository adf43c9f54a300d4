//! The state file of Firecracker.

use criu_images::source::Blob;

use super::cursor::{Cursor, text};
use crate::error::{ErrorKind, Fault};

/// Head of a state file of Firecracker. The state of the virtual machine follows, and a checksum.
/// The memory is in a file of its own, without a head.
///
/// ```text
/// magic with the architecture | length | version as MAJOR.MINOR.PATCH | state | CRC64
/// ```
///
/// The files of old releases, up to 1.5, have a number of two bytes in place of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirecrackerState {
    /// Architecture: `x86_64` or `aarch64`.
    pub architecture: &'static str,
    /// Version of the snapshot: `5.0.0`. A restore needs the same first number, and at least this
    /// second number. A single number in files of old releases.
    pub version: String,
    /// Bytes of the file.
    pub size: u64,
}

impl FirecrackerState {
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        vec![
            ("architecture".into(), self.architecture.into()),
            ("snapshot version".into(), self.version.clone()),
            ("bytes".into(), self.size.to_string()),
        ]
    }
}

pub(super) fn read(file: &Blob) -> Result<Option<FirecrackerState>, Fault> {
    let mut cursor = Cursor::new(file);
    if file.len() < 8 {
        return Ok(None);
    }
    let magic = cursor.le64()?;
    let known = MAGICS.iter().find(|(known, _)| *known == magic & !STORAGE);
    let Some((_, architecture)) = known else { return Ok(None) };
    let at = cursor.offset();
    let version = match magic & STORAGE {
        TEXT => {
            let length = cursor.le64()?;
            let version = text(cursor.block(length, MAX_VERSION)?).map_err(|fault| fault.at(at))?;
            if !is_version(&version) {
                let why = "the version is not of the form MAJOR.MINOR.PATCH";
                return Err(Fault::from(ErrorKind::Malformed(why)).at(at));
            }
            version
        }
        NUMBER => cursor.le16()?.to_string(),
        found => {
            let want = "0 or 1, the forms that Firecracker has had";
            return Err(ErrorKind::Value { found, want }.into());
        }
    };
    Ok(Some(FirecrackerState { architecture, version, size: file.len() }))
}

/// Says whether a text is a version with three numbers. More may follow, as in `1.0.0-dev`.
fn is_version(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_clean = version.bytes().all(|byte| byte.is_ascii_graphic());
    is_clean
        && parts.by_ref().take(3).filter(|part| is_number(part)).count() == 3
        && parts.next().is_none()
}

/// The numbers at the beginning, without [`STORAGE`], and the architectures that they stand for.
const MAGICS: &[(u64, &str)] =
    &[(0x0710_1984_8664_0000, "x86_64"), (0x0710_1984_AAAA_0000, "aarch64")];

/// The bits of the number at the beginning that say how the rest is stored.
const STORAGE: u64 = 0xffff;

/// Stored with the version as a text.
const TEXT: u64 = 0;

/// Stored with the version as a number.
const NUMBER: u64 = 1;

/// Longest version.
const MAX_VERSION: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as the documentation of Firecracker describes it.
    fn file(magic: u64, version: &[u8]) -> Blob {
        let length = version.len() as u64;
        [&magic.to_le_bytes(), &length.to_le_bytes(), version, &[0; 40]].concat().into()
    }

    #[test]
    fn the_version_and_the_architecture_are_read() {
        let found = read(&file(0x0710_1984_8664_0000, b"5.0.0")).unwrap().unwrap();
        assert_eq!((found.architecture, &*found.version), ("x86_64", "5.0.0"));
        let found = read(&file(0x0710_1984_AAAA_0000, b"1.0.42-dev")).unwrap().unwrap();
        assert_eq!((found.architecture, &*found.version), ("aarch64", "1.0.42-dev"));
        let old = [&0x0710_1984_8664_0001u64.to_le_bytes()[..], &[4, 0], &[0; 40]].concat();
        assert_eq!(read(&old.into()).unwrap().unwrap().version, "4");
        assert_eq!(read(&file(0x0710_1984_BBBB_0000, b"1.0.0")).unwrap(), None);
        assert_eq!(read(&vec![0x64; 7].into()).unwrap(), None);
    }

    #[test]
    fn versions_that_are_none_are_refused() {
        for version in [&b""[..], b"1", b"1.2", b"1.2.3.4", b"a.b.c", b"1..2", b"1.2.3\x1b[2J"] {
            assert!(read(&file(0x0710_1984_8664_0000, version)).is_err(), "{version:?}");
        }
        assert!(read(&file(0x0710_1984_8664_0000, &[b'1'; 65])).is_err());
        assert!(read(&file(0x0710_1984_8664_0007, b"1.2.3")).is_err());
    }
}
