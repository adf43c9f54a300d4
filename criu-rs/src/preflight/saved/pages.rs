//! Checks that the images have the pages that they name.

use criu_images::{Severity as Grade, check_pages};

use super::Saved;
use crate::diagnosis::Cause;
use crate::operation::readable::first_unreadable;
use crate::preflight::finding::Finding;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    // Pages of a stream or of a daemon lie elsewhere.
    if saved.look.opts.stream() || saved.look.opts.lazy_pages() {
        return Vec::new();
    }
    let mut found = unreadable(saved);
    let errors = check_pages(saved.set).into_iter().filter(|found| found.severity == Grade::Error);
    let finding = |found: criu_images::Finding| {
        let is_parent = found.error.image() == "parent";
        let cause = if is_parent { Cause::ParentMissing } else { Cause::ImagesDamaged };
        Finding::blocks(cause).detail(found.error.to_string())
    };
    found.extend(errors.map(finding));
    found
}

/// Checks that the user who restores a tree in a user namespace of its own may read the images.
fn unreadable(saved: &Saved<'_>) -> Vec<Finding> {
    let directory = std::fs::File::open(saved.images).ok();
    let seen = directory.and_then(|images| first_unreadable(saved.checkpoint, images));
    seen.map(|detail| Finding::blocks(Cause::ImageUnreadable).detail(detail)).into_iter().collect()
}
