//! Memory that CRIU leaves without a mark for a lazy restore.

use std::fs;
use std::path::Path;
use std::process::Command;

use criu_images::ImageSet;
use criu_images::edit::unmarked;
use criu_lab::soon;
use criu_rs::lazy::Snapshot;

use crate::lab::{Lab, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] =
    &[("memory_that_criu_did_not_mark_comes_later_after_a_lazy_restore", unmarked_memory)];

fn unmarked_memory(lab: &Lab) {
    let [plain, images] = ["plain", "img"].map(|name| lab.dir(name));
    let mut target = Target::start_at_page(&["patterned"], &lab.dir.join("count"));
    let pid = target.pid();

    let mut criu = Command::new(&lab.criu);
    let said = run(criu.args(["dump", "-t", &pid, "-D", &plain, "--leave-running"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let before = pagemap(&plain, &pid);
    let why = "this CRIU marks pages: correct docs/lazy.md and `edit::Unmarked`";
    assert_eq!(Snapshot::open(&plain).unwrap().pages(), 0, "{why}");
    let reason = format!("CRIU marked no page of process {pid} for a lazy restore, because");
    let marked = lab.done(&["dump", "-t", &pid, "-D", &images]);
    assert!(marked.err.contains(&reason) && marked.err.contains(" pages are marked now"));
    target.is_gone();
    let pages = Snapshot::open(&images).unwrap().pages();
    assert!(pages >= 2048, "{pages}");
    assert!(unmarked(&ImageSet::open(&images).unwrap()).unwrap().is_empty());

    // Marks change nothing for an ordinary restore.
    lab.done(&["restore", "-d", "-D", &images]);
    is_right(&mut target);
    let all = lab.done(&["restore", "-d", "-D", &images, "--lazy", "--json"]);
    let last = all.out.lines().last().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["outcome"], "memory complete");
    // Pages that were never written count, too.
    assert!(last["statistics"]["bytes"].as_u64().unwrap() >= pages * 4096, "{last}");
    is_right(&mut target);

    // Without marks, a restore says so, and changes no image.
    let said = lab.done(&["restore", "-d", "-D", &plain, "--lazy"]).err;
    let advice = format!("`criu-rs crit edit {plain} mark-lazy` lets ");
    assert!(said.contains(&reason) && said.contains(&advice), "{said}");
    is_right(&mut target);
    assert!(pagemap(&plain, &pid) == before);
    let edited = lab.done(&["crit", "edit", &plain, "mark-lazy"]).out;
    assert!(edited.starts_with(&format!("pagemap-{pid}.img: ")), "{edited}");
    assert!(Snapshot::open(&plain).unwrap().pages() >= 2048);
    assert_eq!(lab.done(&["crit", "edit", &plain, "mark-lazy"]).out, "nothing to change\n");
    let said = lab.done(&["restore", "-d", "-D", &plain, "--lazy"]).err;
    assert!(!said.contains("CRIU marked no page"), "{said}");
    is_right(&mut target);
}

fn pagemap(images: &str, pid: &str) -> Vec<u8> {
    fs::read(Path::new(images).join(format!("pagemap-{pid}.img"))).unwrap()
}

/// Waits until a restored process has looked at all its memory, and ends it.
fn is_right(target: &mut Target) {
    target.restored_as(target.pid);
    let before = target.goes_on();
    // 256 looks at 32 KiB are 8 MiB. A wrong word ends the counting.
    assert!(soon(|| target.count() > before + 260), "{before} {}", target.count());
    target.end();
}
