//! Bounds set by a program. A single test, because bounds belong to the whole process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use criu_archive::metadata::Metadata;
use criu_archive::{Archive, bounds};
use criu_images::source::InMemory;
use criu_lab::scratch;

#[test]
fn an_archive_has_bounds() {
    let path = scratch("bounds").join("a.tar");
    let made = Command::new("tar").arg("-cf").arg(&path).arg("src").status();
    assert!(made.unwrap().success());
    let counted =
        [(&bounds::MEMBERS, "members"), (&bounds::NAMES, "bytes of names and PAX records")];
    for (bound, what) in counted {
        bound.raise(3);
        let refused = Archive::open(&path).unwrap_err().to_string();
        assert!(refused.ends_with(&format!("has more than 3 {what}")), "{refused}");
        bound.raise(bound.default_value());
        Archive::open(&path).unwrap();
    }
    bounds::METADATA.raise(3);
    let mut members = InMemory::default();
    members.insert("deleted.files", "[  ]");
    let refused = Metadata::of("a", &members).deleted_files().unwrap_err().to_string();
    assert_eq!(refused, "a: deleted.files: has 4 bytes, at most 3 are read");
    members.insert("deleted.files", "[ ]");
    assert_eq!(Metadata::of("a", &members).deleted_files().unwrap(), Some(Vec::new()));
    bounds::METADATA.raise(bounds::METADATA.default_value());
}
