//! Images as JSON, as crit writes and reads it.
//!
//! ```text
//! {"magic": "PSTREE", "entries": [{"pid": 7, "ppid": 0, ...}, ...]}
//! ```
//!
//! [`decode`] writes what `crit decode` of CRIU 4.3 writes, byte for byte, and [`encode`] makes the same
//! image of it again. It also reads what crit of CRIU 4.1 writes, pretty or not.
//!
//! # Where crit is another
//!
//! crit loses or refuses some images. Here
//!
//! * fields that the schema does not know are kept as `"unknown_fields"`, base64 of their bytes, and put
//!   back behind the others; numbers that an enum has no name for stay numbers;
//! * strings that are not UTF-8 are `{"bytes": BASE64}`;
//! * segments of `IPCNS_SHM` whose content is in pagemaps have no `"extra"`; the extras of shared memory
//!   and BPF maps can be encoded;
//! * images of version 1.0, which lack the first word, say so: `"version": "1.0"` behind the magic;
//! * line ends in a unix socket's name are quoted, so that they come back;
//! * what a message requires has to be there.
//!
//! In pretty JSON of crit before 4.3 the names of `task_state` are others: `Zombie` is stopped and
//! `Stopped` a state inside CRIU. They are read as those of 4.3; numbers are never ambiguous.

mod decode;
mod encode;
mod quoted;
mod shown;
mod stream;
mod values;

pub use decode::{Style, decode};
pub use encode::{EncodeError, encode};
pub use stream::decode_file;

/// Fields that the schema does not know.
const UNKNOWN: &str = "unknown_fields";
/// What follows an entry.
const EXTRA: &str = "extra";
/// Of a string that is not UTF-8.
const BYTES: &str = "bytes";
/// The version of an image without head magic.
const OLD: &str = "1.0";
