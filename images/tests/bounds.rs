//! Bounds set by a program. A single test, because bounds belong to the whole process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use criu_images::{ErrorKind, ImageSet, bounds};

#[test]
fn a_bound_that_is_set_counts_from_then_on() {
    let open = || ImageSet::open("tests/data/pipeline").and_then(|set| set.checkpoint().map(drop));
    open().unwrap();
    for bound in [&bounds::ENTRY, &bounds::IMAGE] {
        bound.raise(8);
        let refused = open().unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::TooLarge { limit: 8, .. }), "{refused}");
        bound.raise(bound.default_value());
        open().unwrap();
    }
    #[cfg(feature = "tar")]
    an_archive_has_bounds();
    assert!(bounds::ALL.iter().all(|bound| bound.get() == bound.default_value()));
}

#[cfg(feature = "tar")]
fn an_archive_has_bounds() {
    use criu_images::source::Tar;

    let path = common::scratch("bounds").join("a.tar");
    let made = std::process::Command::new("tar").arg("-cf").arg(&path).arg("tests/data").status();
    assert!(made.unwrap().success());
    let counted =
        [(&bounds::MEMBERS, "members"), (&bounds::NAMES, "bytes of names and PAX records")];
    for (bound, what) in counted {
        bound.raise(3);
        let refused = Tar::open(&path).unwrap_err().to_string();
        assert!(refused.ends_with(&format!("has more than 3 {what}")), "{refused}");
        bound.raise(bound.default_value());
        Tar::open(&path).unwrap();
    }
}
