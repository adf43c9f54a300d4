//! The other programs, and the names they are started by.

use std::fs;

use crate::lab::{Lab, TestFn, names, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("demo", demo),
    ("demo_as_json", demo_as_json),
    ("demo_on_a_terminal", demo_on_a_terminal),
    ("async_dump", async_dump),
    ("programs_of_their_own_and_links", own_programs),
    ("other_words_go_to_criu", handed_over),
];

fn demo(lab: &Lab) {
    let place = lab.dir("tmp");
    let ran = run(lab.program(env!("CARGO_BIN_EXE_demo"), &[]).env("TMPDIR", &place));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("Every counter goes on from where it was"), "{ran:?}");
    assert!(ran.err.is_empty() && names(&place).is_empty(), "{ran:?}");
    let longest = ran.out.lines().map(str::len).max().unwrap();
    assert!(ran.out.lines().count() <= 24 && longest <= 110, "{}", ran.out);
    // Every process of it is gone, or this test would be told of what is left.
}

fn demo_as_json(lab: &Lab) {
    let place = lab.dir("tmp");
    let words = ["--json", "--keep", "--criu", lab.criu.to_str().unwrap()];
    let mut command = lab.program(env!("CARGO_BIN_EXE_demo"), &words);
    let said = run(command.env("TMPDIR", &place).env_remove("CRIU")).json();
    assert_eq!(said["outcome"], "done");
    assert_eq!(said["criu"], lab.version.to_string());
    assert_eq!(said["saved"]["tasks"].as_array().unwrap().len(), 4);
    assert_eq!(said["saved"]["tasks"][0]["threads"].as_array().unwrap().len(), 5);
    assert_eq!(said["counters"]["lost"], 0);
    let counters = said["counters"]["each"].as_array().unwrap();
    assert_eq!(counters.len(), 7);
    for counter in counters {
        let at = |key: &str| counter[key].as_u64().unwrap();
        assert!(at("saved") <= at("restored") && at("restored") < at("now"), "{counter}");
    }
    let images = said["images"].as_str().unwrap();
    assert!(names(images).contains(&"inventory.img".into()));
}

fn demo_on_a_terminal(lab: &Lab) {
    let ran = run(lab.program(
        "script",
        &["--quiet", "--return", "-c", env!("CARGO_BIN_EXE_demo"), "/dev/null"],
    ));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("\x1b[") && ran.out.contains("Every counter goes on"), "{ran:?}");
}

fn async_dump(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "100"]);
    let program = env!("CARGO_BIN_EXE_async-dump");
    let ran = run(lab.program(program, &[&target.pid(), &images]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("..") && ran.out.contains("frozen for"), "{ran:?}");
    target.goes_on();
    let again = run(lab.program(program, &[&target.pid(), &images]));
    again.fails(1, &["holds a checkpoint already"]);
    run(lab.program(program, &[])).fails(2, &["Usage: async-dump PID DIRECTORY"]);
}

fn own_programs(lab: &Lab) {
    let target = lab.start(&["count"]);
    let link = lab.path("dump");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_criu-rs"), &link).unwrap();
    for (number, program) in [env!("CARGO_BIN_EXE_dump"), &link].into_iter().enumerate() {
        let images = lab.dir(&number.to_string());
        let ran = run(lab.program(program, &["-t", &target.pid(), "-D", &images, "-R"]));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.err.starts_with("dump: process "), "{ran:?}");
        target.goes_on();
    }
    for program in [env!("CARGO_BIN_EXE_restore"), env!("CARGO_BIN_EXE_pre-dump")] {
        run(lab.program(program, &["--frob"])).fails(2, &["--frob is unknown"]);
    }
    assert_eq!(run(lab.program(env!("CARGO_BIN_EXE_check"), &[])).code, Some(0));
}

fn handed_over(lab: &Lab) {
    let images = lab.dir("img");
    lab.done(&["cpuinfo", "dump", "-D", &images]);
    assert!(names(&images).contains(&"cpuinfo.img".into()));
    lab.done(&["-D", &images, "-v4", "cpuinfo", "check"]);
    // criu's own answer, and its own code.
    let ran = lab.run(&["dedup", "-D", &lab.path("nowhere")]);
    assert!(ran.code == Some(1) && ran.err.contains("Error (criu/"), "{ran:?}");
    let said = lab.done(&["--version"]).out;
    assert!(said.starts_with("criu-rs ") && said.contains("\nVersion: "), "{said}");
    let _ = fs::remove_dir_all(images);
}
