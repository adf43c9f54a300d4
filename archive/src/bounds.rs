//! Limits on archives. [`criu_images::bounds`] has the limits on images.
//!
//! ```
//! use criu_archive::bounds;
//!
//! bounds::MEMBERS.raise(1 << 24);
//! # bounds::MEMBERS.raise(bounds::MEMBERS.default_value());
//! ```

pub use criu_images::bounds::Bound;

/// Largest number of members of a tar archive.
pub static MEMBERS: Bound = Bound::new(
    "MEMBERS",
    1 << 20,
    "members",
    "a root file system has some 300,000 files; each member costs some 300 bytes",
);

/// Largest names, link targets and PAX records of a tar archive, all together.
pub static NAMES: Bound =
    Bound::new("NAMES", 256 << 20, "bytes", "enough for 256 bytes for each of the most members");

/// Largest member of JSON.
pub static METADATA: Bound = Bound::new(
    "METADATA",
    16 << 20,
    "bytes",
    "specifications have some 100 KiB; lists of deleted files have a path for each file",
);

/// Largest number of values in a member of JSON.
pub static METADATA_VALUES: Bound = Bound::new(
    "METADATA_VALUES",
    1 << 18,
    "values",
    "specifications have some 2,000; each empty object costs up to 600 bytes of memory",
);

/// Most bytes that a packed archive is unpacked to. An archive may also have 256 times the bytes of
/// the packed archive, if that is more and is known: a pipe has no size.
pub static UNPACKED: Bound = Bound::new(
    "UNPACKED",
    64 << 30,
    "bytes",
    "what a packed archive may unpack to; 256 times its size if that is more; memory compresses \
     five to one",
);

/// Returns the bytes to which a packed archive of so many bytes may be unpacked.
pub(crate) fn unpacked(packed: u64) -> u64 {
    UNPACKED.get().max(packed.saturating_mul(MOST_RATIO))
}

/// Largest ratio of an unpacked archive to the packed archive, above [`UNPACKED`].
const MOST_RATIO: u64 = 256;

/// Most bytes of members of a packed archive that are kept in memory: images other than pages.
/// Members that find no room are read from a temporary file.
pub static KEPT: Bound =
    Bound::new("KEPT", 64 << 20, "bytes", "the images of some 1,000 tasks, without their pages");

/// Largest table of contents, and largest seek table, of a seekable archive, unpacked.
pub static TOC: Bound = Bound::new(
    "TOC",
    128 << 20,
    "bytes",
    "1 TiB of memory takes some 100 MiB: 6 bytes for each 64 KiB, and 40 for each member",
);

/// Largest working set that a seekable archive holds once more, unpacked.
pub static HOT: Bound = Bound::new(
    "HOT",
    1 << 30,
    "bytes",
    "a working set is a small part of the memory; used or verified, it is held packed in memory",
);

/// Largest report, without its style and script.
pub static REPORT: Bound = Bound::new(
    "REPORT",
    64 << 20,
    "bytes",
    "2,000 processes with 23 mappings each take 4.4 MB, 100,000 open files 7.6 MB",
);

/// All bounds of this crate.
pub static ALL: &[&Bound] =
    &[&MEMBERS, &METADATA, &METADATA_VALUES, &NAMES, &UNPACKED, &KEPT, &TOC, &HOT, &REPORT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_limits_are_these() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/limits.md");
        let text = std::fs::read_to_string(file).unwrap();
        let rows = criu_images::bounds::rows(ALL);
        assert!(text.contains(&rows), "docs/limits.md should have\n{rows}");
    }
}
