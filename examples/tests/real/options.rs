//! Options in every form that people write them in.

use std::fs;

use crate::lab::{Lab, TestFn};
use criu_lab::names;

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_script_for_criu_runs", script),
    ("options_before_the_word", before_the_word),
    ("long_names_are_shortened", prefixes),
    ("every_form_of_v", verbosity),
    ("what_is_switched_on_is_switched_off", negation),
    ("the_log_goes_where_it_is_sent", log_file),
    ("the_command_line_wins_over_a_configuration_file", configuration),
    ("a_configuration_file_takes_the_place_of_arguments", configured),
    ("options_that_only_the_command_line_has", command_line_only),
    ("sizes_with_suffixes", sizes),
    ("a_descriptor_is_closed_first", close),
    ("an_option_of_a_newer_criu_is_refused", newer),
];

fn script(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["lock"]);
    let pid = target.pid();
    let dump = [
        "dump",
        "-vvvv",
        "-o",
        "dump.log",
        "-t",
        &pid,
        "--images-dir",
        &images,
        "--tcp-established",
        "--ext-unix-sk",
        "--file-locks",
        "--shell-job",
        "--link-remap",
        "--ghost-limit",
        "2M",
        "--manage-cgroups=ignore",
        "--external",
        "mnt[]",
        "--timeout",
        "20",
        "--cpu-cap=none",
        "--enable-fs",
        "hugetlbfs",
        "--force-irmap",
        "--evasive-devices",
    ];
    lab.done(&dump);
    target.is_gone();
    let before = target.count();
    lab.done(&[
        "restore",
        "-d",
        "-v4",
        "-o",
        "restore.log",
        "-D",
        &images,
        "--tcp-established",
        "-x",
        "-l",
        "-j",
        "--link-remap",
        "--manage-cgroups=ignore",
        "--external",
        "mnt[]",
        "--cpu-cap=none",
        "--evasive-devices",
        "--weak-sysctls",
        "--skip-file-rwx-check",
        "-t",
        &pid,
    ]);
    assert!(target.goes_on() > before);
    assert!(names(&images).contains(&"restore.log".into()));
}

fn before_the_word(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let pid = target.pid();
    lab.done(&["-v4", "-D", &images, "--leave-running", "dump", "-t", &pid]);
    lab.done(&["-v4", "-D", &images, "--overwrite", "-R", "-t", &pid, "dump"]);
    target.goes_on();
}

fn prefixes(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let pid = target.pid();
    let dump = ["dump", "--tre", &pid, "--image", &images, "--leave-r"];
    // It begins --images-dir and --image-io-mode.
    lab.coded(&dump).fails(2, &["--image may be --images-dir or --image-io-mode"]);
    lab.done(&["dump", "--tre", &pid, "--images", &images, "--leave-r", "--file-l", "--no-file-l"]);
    target.goes_on();
    lab.coded(&["dump", "--leave", "-t", &pid]).fails(2, &["--leave-running", "--leave-stopped"]);
}

fn verbosity(lab: &Lab) {
    let target = lab.start(&["count"]);
    let lines = |number: usize, given: &[&str]| {
        let images = lab.dir(&number.to_string());
        lab.done(&[&["dump", "-R", "-t", &target.pid(), "-D", &images], given].concat());
        fs::read_to_string(format!("{images}/dump.log")).unwrap().lines().count()
    };
    let few = lines(0, &[]);
    assert!(few < 20, "{few} lines without -v");
    let all: [&[&str]; 7] = [
        &["-v4"],
        &["-vvvv"],
        &["-vv"],
        &["-v", "-v"],
        &["--verbosity=4"],
        &["--verb", "--verb"],
        &["-v0", "-vvvvvv"],
    ];
    for (number, given) in (1..).zip(all) {
        let many = lines(number, given);
        assert!(many > 200, "{many} lines with {given:?}");
    }
    assert!(lines(8, &["-v4", "-v1"]) <= few);
    lab.coded(&["dump", "-t", "1", "-v", "4"]).fails(2, &["unexpected `4`", "as in -v4"]);
    // CRIU's own suite writes -verbosity=0: a level is what atoi(3) makes of it.
    assert!(lines(9, &["-v4", "-verbosity=0"]) <= few);
    assert!(lines(10, &["-v4x"]) > 200);
}

fn negation(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["lock"]);
    let dump = ["dump", "-R", "-t", &target.pid(), "-D", &images];
    let on_and_off = [&dump[..], &["--file-locks", "--no-file-locks"]].concat();
    lab.run(&on_and_off).fails(1, &["a process holds a file lock"]);
    lab.done(&[&dump[..], &["--no-file-locks", "-l"]].concat());
    lab.coded(&[&dump[..], &["--no-leave-running"]].concat())
        .fails(2, &["unknown option `--no-leave-running`"]);
}

fn log_file(lab: &Lab) {
    let (images, work) = (lab.dir("img"), lab.dir("work"));
    let target = lab.start(&["lock"]);
    let elsewhere = lab.path("a log.txt");
    let pid = target.pid();
    let dump = |log: &str| lab.run(&["dump", "-t", &pid, "-D", &images, "-W", &work, "-o", log]);
    let quote = "Some file locks are hold";
    dump("plain.log").fails(1, &[quote, &format!("{work}/plain.log:")]);
    dump(&elsewhere).fails(1, &[quote, &format!("{elsewhere}:"), "cause: a process holds"]);
    dump("../from-work.log").fails(1, &[quote, &format!("{work}/../from-work.log:")]);
    let printed = dump("-");
    printed.fails(1, &["cause: a process holds a file lock"]);
    assert!(printed.out.contains(quote), "{printed:?}");
    dump("no/such/folder.log").fails(1, &["CRIU failed"]);
    assert_eq!(names(&work), ["plain.log"]);
    assert!(names(&lab.dir).contains(&"from-work.log".into()));
    target.goes_on();
}

fn configuration(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["lock"]);
    let config = lab.path("criu.conf");
    fs::write(&config, "file-locks\nleave-running\nlog-file configured.log\n").unwrap();
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "--config", &config];
    lab.done(&dump);
    target.goes_on();
    fs::remove_file(format!("{images}/configured.log")).unwrap();
    let switched_off = [&dump[..], &["--overwrite", "--no-file-locks", "-o", "mine.log"]].concat();
    lab.run(&switched_off).fails(1, &["a process holds a file lock"]);
    let names = names(&images);
    assert!(names.contains(&"mine.log".into()) && !names.contains(&"configured.log".into()));
    lab.coded(&["dump", "-t", "1", "--config", "/no/such"]).fails(2, &["cannot read /no/such"]);

    // The default ones: the user's here.
    let home = lab.dir("home");
    fs::create_dir(format!("{home}/.criu")).unwrap();
    fs::write(format!("{home}/.criu/default.conf"), "file-locks\n").unwrap();
    let dump = ["dump", "-R", "-t", &target.pid(), "-D", &images, "--overwrite"];
    let at_home = |more: &[&str]| {
        crate::lab::run(lab.command(&[&dump[..], more].concat()).env("HOME", &home))
    };
    assert_eq!(at_home(&[]).code, Some(0));
    at_home(&["--no-default-config"]).fails(1, &["a process holds a file lock"]);
}

/// Tests a dump and a restore whose options all stand in a file, as in CRIU's own suite.
fn configured(lab: &Lab) {
    let (images, logs) = (lab.dir("img"), lab.dir("logs"));
    let mut target = lab.start(&["count"]);
    let config = lab.path("criu.conf");
    let write = |text: &str| fs::write(&config, text).unwrap();
    let pid = target.pid();
    write(&format!(
        "tree {pid} # the root\nimages-dir {images}\nwork-dir \"{logs}\"\nlog-file d.log\n\
         verbosity=4\nrestore-detached\nleave-running\npidfile pid\nghost-limit 4M\n"
    ));
    let run = |word: &str| lab.run(&[word, "--no-default-config", "--config", &config]);
    let dumped = run("dump");
    assert_eq!(dumped.code, Some(0), "{dumped:?}");
    assert!(!dumped.err.contains("no effect"), "{dumped:?}");
    target.goes_on();
    assert_eq!(names(&logs), ["d.log", "stats-dump"]);
    assert!(fs::read_to_string(format!("{logs}/d.log")).unwrap().contains("(00.00"));
    target.end();
    let restored = run("restore");
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert_eq!(fs::read_to_string(format!("{logs}/pid")).unwrap(), pid);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();

    for (text, part) in [
        ("\nno-such-option\n", ":2: no-such-option: CRIU has no such option"),
        ("json\n", ":1: json: CRIU has no such option"),
        ("tree nobody\n", ":1: tree: "),
        ("tree 1\nlog-file \"x\n", ":2: CRIU does not accept the line"),
        ("inherit-fd fd[3]:x\n", ":1: inherit-fd"),
    ] {
        write(text);
        run("dump").fails(1, &[&format!("{config}{part}")]);
    }
    // A pipe is read once, by this program alone.
    let script = "exec \"$0\" dump --config <(echo no-such-option)";
    let mut bash = lab.program("bash", &["-c", script, env!("CARGO_BIN_EXE_criu-rs")]);
    crate::lab::run(&mut bash).fails(1, &[":1: no-such-option: CRIU has no such option"]);
}

fn command_line_only(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["count"]);
    let script = lab.path("action script");
    let told = lab.path("told");
    let text = format!("#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION >> {told}\n");
    fs::write(&script, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    lab.done(&[
        "dump",
        "-t",
        &target.pid(),
        "-D",
        &images,
        "-v4",
        "--action-script",
        &script,
        "--file-validation",
        "filesize",
        "--no-ghost-fiemap",
    ]);
    let actions = fs::read_to_string(&told).unwrap();
    assert!(actions.contains("pre-dump\n") && actions.contains("post-dump\n"), "{actions}");
    target.is_gone();
    lab.done(&["restore", "-d", "-D", &images, "-v4", "--log-pid", "-o", "one.log"]);
    let own_log = format!("one.log.{}", target.pid());
    assert!(names(&images).contains(&own_log), "{:?}", names(&images));
    target.goes_on();
    lab.coded(&["dump", "-t", "1", "-L", "/a#b"])
        .fails(2, &["--libdir", "cannot be handed to CRIU"]);
}

fn sizes(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["ghost", "3000000"]);
    let dump = ["dump", "-R", "-t", &target.pid(), "-D", &images];
    lab.run(&dump).fails(1, &["larger than the limit", "do: raise --ghost-limit"]);
    lab.done(&[&dump[..], &["--ghost-limit", "3M"]].concat());
    target.goes_on();
}

fn close(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    lab.done(&["dump", "-R", "-t", &target.pid(), "-D", &images, "--close", "77"]);
    let closed = ["dump", "-R", "-t", &target.pid(), "-D", &images, "--close", "1", "-o", "-"];
    assert_eq!(lab.done(&closed).out, "");
}

fn newer(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let dump = ["dump", "-R", "-t", &target.pid(), "-D", &images, "--image-io-mode", "direct"];
    let ran = lab.coded(&dump);
    if lab.version < criu_rs::Version::new(4, 3, 0) {
        ran.fails(3, &["--image-io-mode", "needs CRIU 4.3"]);
    } else {
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    target.goes_on();
}
