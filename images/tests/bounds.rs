//! Bounds set by a program. A single test, because bounds belong to the whole process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use criu_images::proto::MmEntry;
use criu_images::{CoreDump, ErrorKind, ImageSet, bounds, check, kind};
use prost::Message;

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
    the_arguments_of_a_task_have_a_bound();
    the_pieces_of_a_core_file_have_a_bound();
    the_findings_of_a_check_have_a_bound();
    assert!(bounds::ALL.iter().all(|bound| bound.get() == bound.default_value()));
}

fn the_arguments_of_a_task_have_a_bound() {
    let mut files = common::one_task(vec![common::vma(0x1000, 1, common::ANON)]);
    let (start, end) = (0x1000, 0x1002);
    let mm = MmEntry {
        mm_arg_start: start,
        mm_arg_end: end,
        mm_env_start: start,
        mm_env_end: end,
        ..Default::default()
    };
    files.insert("mm-1.img", common::image(kind::MM, &[mm.encode_to_vec()]));
    files.insert("pagemap-1.img", common::pagemap(1, &[]));
    let set = ImageSet::new(files).unwrap();
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    bounds::ARGUMENTS.raise(1);
    for refused in [memory.cmdline().unwrap_err(), memory.environ().unwrap_err()] {
        assert!(matches!(refused.kind(), ErrorKind::TooLarge { limit: 1, .. }), "{refused}");
    }
    bounds::ARGUMENTS.raise(bounds::ARGUMENTS.default_value());
}

fn the_pieces_of_a_core_file_have_a_bound() {
    let set = ImageSet::open("tests/data/pipeline").unwrap();
    let task = set.checkpoint().unwrap().root();
    bounds::SEGMENTS.raise(1);
    let Err(refused) = CoreDump::new(&task) else { panic!("not refused") };
    assert!(matches!(refused.kind(), ErrorKind::TooLarge { limit: 1, .. }), "{refused}");
    bounds::SEGMENTS.raise(bounds::SEGMENTS.default_value());
}

fn the_findings_of_a_check_have_a_bound() {
    let findings = || check(&ImageSet::open("tests/data/pipeline").unwrap()).len();
    assert!(findings() > 1);
    bounds::FINDINGS.raise(1);
    assert_eq!(findings(), 1);
    bounds::FINDINGS.raise(bounds::FINDINGS.default_value());
}
