//! Checks that the images have the pages that they name.

use criu_images::{Severity as Grade, check_pages};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::Finding;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    // Pages of a dump with a page server, or of a stream, lie elsewhere.
    if saved.look.opts.stream() || saved.look.opts.lazy_pages() {
        return Vec::new();
    }
    let found = check_pages(saved.set).into_iter();
    let errors = found.filter(|found| found.severity == Grade::Error);
    let finding = |found: criu_images::Finding| {
        Finding::blocks(Cause::ImagesDamaged).detail(found.error.to_string())
    };
    errors.map(finding).collect()
}
