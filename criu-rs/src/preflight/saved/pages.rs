//! Checks that the images have the pages that they name.

use criu_images::{Severity as Grade, check_pages};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::Finding;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    // Pages of a stream or of a daemon lie elsewhere.
    if saved.look.opts.stream() || saved.look.opts.lazy_pages() {
        return Vec::new();
    }
    let errors = check_pages(saved.set).into_iter().filter(|found| found.severity == Grade::Error);
    let finding = |found: criu_images::Finding| {
        let is_parent = found.error.image() == "parent";
        let cause = if is_parent { Cause::ParentMissing } else { Cause::ImagesDamaged };
        Finding::blocks(cause).detail(found.error.to_string())
    };
    errors.map(finding).collect()
}
