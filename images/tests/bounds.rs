//! Bounds that are set. This is a program of its own, because a process has one of each.

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
    assert!(bounds::ALL.iter().all(|bound| bound.get() == bound.default_value()));
}
