//! Conversion between images and the JSON of crit.
//!
//! ```text
//! {"magic": "PSTREE", "entries": [{"pid": 7, "ppid": 0, ...}, ...]}
//! ```
//!
//! [`decode`] writes the same JSON as `crit decode` of CRIU 4.3, byte for byte. [`encode`] turns
//! this JSON into the same image again. [`encode`] also reads the JSON of crit 4.1, pretty or not.
//!
//! # Differences from crit
//!
//! crit loses parts of some images and refuses others. In this module:
//!
//! * Fields that the schema does not know are kept in `"unknown_fields"`, as base64 of their bytes.
//!   [`encode`] appends them after the other fields.
//! * Numbers without a name in an enum stay numbers.
//! * Strings that are not UTF-8 become `{"bytes": BASE64}`.
//! * Segments of `IPCNS_SHM` whose content is in pagemaps have no `"extra"`.
//! * The `"extra"` of shared memory and of BPF maps can be encoded.
//! * Images of version 1.0, which lack the first magic word, have `"version": "1.0"` after the
//!   magic.
//! * Line ends in the name of a unix socket are quoted, so that they come back.
//! * A required field must be present.
//!
//! Pretty JSON of crit before 4.3 uses other names for `task_state`: `Zombie` is a stopped task,
//! and `Stopped` is a state inside CRIU. [`encode`] reads these names as those of CRIU 4.3. Numbers
//! are never ambiguous.

mod decode;
mod encode;
mod message;
mod quoted;
mod shown;
mod stream;
mod values;

pub use decode::{Style, decode};
pub use encode::{EncodeError, encode};
pub use stream::decode_file;

/// Name of the member with fields that the schema does not know.
const UNKNOWN: &str = "unknown_fields";
/// Name of the member with the payload of an entry.
const EXTRA: &str = "extra";
/// Name of the member of a string that is not UTF-8.
const BYTES: &str = "bytes";
/// Version of an image without head magic.
const OLD: &str = "1.0";
