//! Sets as old CRIUs wrote them, with more images.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{load, old::old_layout, tour};
use criu_images::source::Source;
use criu_images::{ImageSet, check};

#[test]
fn an_old_set_says_what_a_new_one_says() {
    let new = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pipeline"));
    let old = old_layout(&new);
    let names = old.names().unwrap();
    for name in ["creds-", "sigacts-", "itimers-", "rlimit-", "vmas-", "reg-files", "pipes.img"] {
        assert!(names.iter().any(|found| found.starts_with(name)), "{name}: {names:?}");
    }
    assert!(!names.iter().any(|name| name == "files.img" || name.starts_with("ids-")));
    let (new, old) = (ImageSet::new(new).unwrap(), ImageSet::new(old).unwrap());
    // An old set does not have an empty queue, but none.
    let said = |set| tour(set).unwrap().replace("Some(SignalQueueEntry { signals: [] })", "None");
    let (said_old, said_new) = (said(&old), said(&new));
    for (old, new) in said_old.lines().zip(said_new.lines()) {
        assert_eq!(old, new);
    }
    assert_eq!(said_old.len(), said_new.len());
    let findings = |set| check(set).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(findings(&old), findings(&new));
}
