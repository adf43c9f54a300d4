//! `crit`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::lab::{Lab, Ran, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("crit_s_images_restore", round_trip),
    ("crit_shows_what_a_dump_holds", explore),
    ("crit_finds_what_is_missing", check),
    ("crit_writes_a_core_file", core),
    ("crit_leaves_no_half_file", nonsense),
];

fn crit(lab: &Lab, words: &[&str]) -> Ran {
    run(lab.program(env!("CARGO_BIN_EXE_crit"), words))
}

#[track_caller]
fn done(lab: &Lab, words: &[&str]) -> String {
    let ran = crit(lab, words);
    assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
    ran.out
}

fn checkpointed(lab: &Lab, words: &[&str]) -> (String, Target) {
    let images = lab.dir("img");
    let mut target = lab.start(words);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    (images, target)
}

/// Every image through JSON and back, in place; CRIU restores what comes of it.
fn round_trip(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let before = target.count();
    let mut changed = 0;
    for entry in fs::read_dir(&images).unwrap() {
        let path = entry.unwrap().path();
        let image = path.to_str().unwrap();
        let is_raw = image.contains("/pages-") || !image.ends_with(".img");
        if is_raw {
            continue;
        }
        let was = fs::read(image).unwrap();
        fs::set_permissions(image, fs::Permissions::from_mode(0o600)).unwrap();
        done(lab, &["decode", "-i", image, "-o", "json", "--pretty"]);
        fs::write(image, "").unwrap();
        assert_eq!(done(lab, &["encode", "-i", "json", "-o", image]), "");
        assert_eq!(fs::read(image).unwrap(), was, "{image}");
        assert_eq!(fs::metadata(image).unwrap().permissions().mode() & 0o777, 0o600);
        changed += 1;
    }
    assert!(changed > 8, "{changed}");
    lab.done(&["restore", "-D", &images, "-d"]);
    assert!(target.goes_on() > before);
}

fn explore(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let pid = target.pid();
    let ps = done(lab, &["x", &images, "ps"]);
    let line = ps.lines().find(|line| line.trim_start().starts_with(&pid)).unwrap();
    assert_eq!(line.split_whitespace().nth(2), Some(pid.as_str()), "{ps}");
    let fds = done(lab, &["x", &images, "fds"]);
    assert!(fds.contains("0: device /dev/null") && fds.contains("exe: /"), "{fds}");
    assert!(done(lab, &["x", &images, "mems"]).contains("[heap]"));
    assert!(done(lab, &["x", &images, "rss"]).contains(" stored"));
    assert_eq!(done(lab, &["x", &images, "sk"]), "");
    let info = done(lab, &["info", &format!("{images}/pstree.img")]);
    assert_eq!(info, "{\n    \"magic\": \"PSTREE\",\n    \"count\": 1\n}\n");
    let shown = done(lab, &["show", &format!("{images}/pstree.img")]);
    assert!(shown.starts_with("{\n    \"magic\": \"PSTREE\",\n") && shown.ends_with("}\n"));
    // As JSON for programs it is one line.
    let line = done(lab, &["decode", "-i", &format!("{images}/pstree.img")]);
    assert_eq!(line.lines().count(), 1);
}

fn check(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    assert_eq!(done(lab, &["check", &images]), format!("nothing is wrong with {images}\n"));
    let core = format!("core-{}.img", target.pid());
    fs::remove_file(Path::new(&images).join(&core)).unwrap();
    let ran = crit(lab, &["check", &images]);
    assert_eq!((ran.code, ran.out), (Some(1), format!("error: {core}: is missing\n")));
}

fn core(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let ran = crit(lab, &["core", &images, &target.pid(), "-o", "core"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.starts_with(&format!("crit: core: core of task {}: ", target.pid())),
        "{ran:?}"
    );
    assert!(fs::read(lab.path("core")).unwrap().starts_with(b"\x7fELF"));
    crit(lab, &["core", &images, "1"]).fails(1, &["crit: no task 1"]);
}

fn nonsense(lab: &Lab) {
    fs::write(lab.path("text"), "no image").unwrap();
    fs::write(lab.path("old"), "old").unwrap();
    for words in [
        &["decode", "-i", "text", "-o", "old"][..],
        &["encode", "-i", "text", "-o", "old"],
        &["core", ".", "-o", "old"],
    ] {
        crit(lab, words).fails(1, &["crit: "]);
        assert_eq!(fs::read_to_string(lab.path("old")).unwrap(), "old");
    }
    crit(lab, &["show", "text"]).fails(1, &["text: byte 0: magic 0x69206f6e is no image's"]);
    crit(lab, &["show", "absent"]).fails(1, &["absent: No such file"]);
    crit(lab, &["x", ".", "ps"]).fails(1, &["inventory.img: is missing"]);
    crit(lab, &["x", ".", "everything"]).fails(2, &["possible values"]);
    crit(lab, &["frob"]).fails(2, &["frob"]);
    crit(lab, &[]).fails(2, &["Usage: crit"]);
    // Nothing is left of what failed.
    let mut left = crate::lab::names(&lab.dir);
    left.sort();
    assert_eq!(left, ["old", "text"]);
}
