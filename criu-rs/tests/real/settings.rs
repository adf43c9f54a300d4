//! CRIU's configuration files: read as CRIU reads them, and counted as options.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use criu_lab::names;
use criu_rs::config::Setting;
use criu_rs::{AfterDump, Criu, Dump, Error, Restore, Version};

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("settings_are_cut_from_lines_as_criu_cuts_them", lines),
    ("settings_send_logs_elsewhere_and_decide_on_the_tasks", places),
    ("settings_are_not_asked_for_as_options", not_asked_for),
    ("settings_that_cannot_be_true_are_refused_before_anything_is_frozen", refused),
    ("settings_of_a_request_with_a_network_lock", network_lock),
    ("settings_of_files_are_unknown_to_a_service", service),
];

/// CRIU's word for a line that it cannot cut.
const REFUSED: &str = "Unsupported configuration file";

/// A criu whose home has a configuration file with this text.
fn configured(lab: &Lab, text: &str) -> Criu {
    let folder = lab.dir.join("home/.criu");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("default.conf"), text).unwrap();
    lab.criu.clone().env("HOME", lab.dir.join("home"))
}

/// CRIU names the value of `network-lock` that it does not know. So CRIU is asked which value it
/// has read from lines made of what its parser treats specially.
fn lines(lab: &Lab) {
    let file = lab.dir.join("lines.conf");
    let mut random = Random(4);
    let mut values = 0;
    let by_hand = [
        "network-lock a # b",
        "network-lock \"a # b\"",
        "network-lock \"a b\" c",
        "network-lock     \"a\\\"b c\"",
        "\tnetwork-lock\ta",
        "network-lock=a b",
        "netw a",
        "network-lock \"a\"b",
        "network-lock a bc",
        "t a",
        "tcp-close -R",
        "tcp-close -q",
        "manage-cgroups none",
        "external",
        "network-lock",
        "tcp-close=a",
        "network-lock \"",
        "network-lock \"\"",
        "network-lock a\0b",
        "# network-lock a",
        "network-lock a#b",
        "no-such-option",
        "network-lock \"a\\\" b",
        "network-lock a b c",
    ];
    let made = (0..300).map(|_| random.line());
    for line in by_hand.map(str::to_owned).into_iter().chain(made) {
        let text = format!("{line}\nnetwork-lock END\n");
        fs::write(&file, &text).unwrap();
        let mut said = checked(lab, &file);
        let settings = match Setting::parse(&file, text.as_bytes()) {
            Ok(settings) => {
                // CRIU looks for blanks behind the end of some values, in memory that has another
                // content in each process. So CRIU refuses such a line now and then.
                for _ in 0..20 {
                    if !said.contains(REFUSED) {
                        break;
                    }
                    said = checked(lab, &file);
                }
                settings
            }
            Err(error) => {
                let refused = [REFUSED, "Usage:", "option"];
                assert!(
                    refused.iter().any(|part| said.contains(part)),
                    "{line:?}: {error}: {said}"
                );
                assert!(!said.contains("Invalid value"), "{line:?}: {error}: {said}");
                continue;
            }
        };
        if settings.iter().any(|setting| !setting.is_known()) {
            assert!(said.contains("unrecognized option"), "{line:?}: {said}");
            continue;
        }
        let Some(lock) = settings.iter().find(|setting| setting.name == "network-lock") else {
            assert!(!said.contains("Invalid value"), "{line:?}: {said}");
            continue;
        };
        let value = lock.value.as_ref().unwrap().to_string_lossy();
        let expected = format!("Invalid value for --network-lock: {value}\n");
        assert!(said.contains(&expected), "{line:?}: expected {expected:?}: {said}");
        values += 1;
    }
    assert!(values > 100, "{values}");
}

/// Returns what CRIU says when it has read a configuration file.
fn checked(lab: &Lab, file: &Path) -> String {
    let said = Command::new(&lab.program)
        .args(["--no-default-config", "--config"])
        .arg(file)
        .arg("check")
        .output()
        .unwrap();
    String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
}

fn places(lab: &Lab) {
    let (logs, images) = (lab.dir("logs"), lab.dir("images"));
    let text = format!("leave-running\nwork-dir {}\nlog-file own.log\n", logs.display());
    let criu = configured(lab, &text);
    let mut target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images);
    let dumped = dump.run(&criu).unwrap();
    target.goes_on();
    assert!(dumped.stats.is_ok(), "{:?}", dumped.stats);
    assert_eq!(names(&logs), ["own.log", "stats-dump"]);
    assert!(!names(&images).iter().any(|name| name.ends_with(".log")));

    // What the caller says wins over the file, and an error quotes the log from where it is.
    let other = lab.dir("other");
    let error = Restore::new(&images).run(&criu).unwrap_err();
    let said = error.failure().unwrap().excerpt().unwrap();
    assert_eq!(said.file, "own.log");
    let dump = dump.overwrite(true).work_dir(&other).log_file("mine.log");
    dump.run(&criu).unwrap();
    target.goes_on();
    assert_eq!(names(&other), ["mine.log", "stats-dump"]);

    // The file of a request wins over the request.
    let last = lab.dir.join("last.conf");
    let place = lab.dir("last");
    fs::write(&last, format!("log-file last.log\nwork-dir {}\n", place.display())).unwrap();
    let dumped = dump.config_file(&last).run(&criu).unwrap();
    assert!(dumped.stats.is_ok());
    assert_eq!(names(&place), ["last.log", "stats-dump"]);

    // A restore reads the same file, and its tasks stay stopped.
    target.end();
    let criu = configured(lab, "leave-stopped\n");
    let restored = Restore::new(&images).run(&criu).unwrap();
    assert!(criu_lab::soon(|| criu_lab::process::state(restored.pid) == Some('T')));
    restored.signal(9).unwrap();
}

fn not_asked_for(lab: &Lab) {
    let target = lab.start(&["lock"]);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let needs = |criu: &Criu| dump.preflight(criu).unwrap().needs().count();
    assert_eq!(needs(&lab.criu), 1);
    assert_eq!(needs(&configured(lab, "file-locks\n")), 0);
    assert_eq!(needs(&configured(lab, "file-locks\nno-file-locks # undone\n")), 1);
    // An option of which there can be several is told to CRIU once, by the file.
    let criu = configured(lab, "file-locks\nexternal file[1:2]\nskip-mnt /nowhere\n");
    dump.after_dump(AfterDump::LeaveRunning).run(&criu).unwrap();
}

fn refused(lab: &Lab) {
    let (images, other) = (lab.dir("images"), lab.dir("other"));
    let mut target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::Kill);
    let file = lab.dir.join("request.conf");
    let fails = |dump: Dump<'_>, criu: &Criu, line: usize, parts: &[&str]| {
        let error = dump.run(criu).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error:?}");
        let said = error.to_string();
        let place = format!(".conf:{line}: ");
        assert!(parts.iter().all(|part| said.contains(part)) && said.contains(&place), "{said}");
        let report = dump.preflight(criu).unwrap();
        let told = report.to_string();
        assert!(!report.will_work() && told.contains(&place), "{told}");
        assert_eq!(names(&images), Vec::<String>::new());
    };
    for (text, line, part) in [
        ("tcp-close\nleave-running\n", 2, "leave-running: the tasks are to end"),
        ("leave-stopped\n", 1, "leave-stopped: the tasks are to end"),
        ("\n# note\nstatus-fd 3\n", 3, "status-fd"),
        ("close 3\n", 1, "close"),
        ("version\n", 1, "version: criu prints its version"),
        ("lsm-profile \"a\n", 1, "quote"),
        ("no-such-option\n", 1, "no-such-option: CRIU 4"),
    ] {
        fails(dump.clone(), &configured(lab, text), line, &[part, "home/.criu/default.conf"]);
        fs::write(&file, text).unwrap();
        fails(dump.clone().config_file(&file), &configured(lab, ""), line, &[part, "request.conf"]);
    }
    fs::write(&file, format!("images-dir {}\n", other.display())).unwrap();
    fails(dump.clone().config_file(&file), &lab.criu, 1, &["images-dir", "other", "images"]);
    target.goes_on();

    // The same directory under another name is no other directory.
    fs::write(&file, format!("images-dir {}\n", other.join("../images").display())).unwrap();
    let result = dump.config_file(&file).run(&lab.criu);
    if lab.version < Version::new(4, 2, 0) {
        // It wants the name of a symbolic link there.
        assert!(matches!(result, Err(Error::Failed(_))), "{result:?}");
        target.goes_on();
    } else {
        result.unwrap();
        target.is_gone();
    }
    assert_eq!(names(&other), Vec::<String>::new());
}

fn network_lock(lab: &Lab) {
    let file = lab.dir.join("request.conf");
    fs::write(&file, "network-lock skip\n").unwrap();
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let result = dump.clone().config_file(&file).run(&lab.criu);
    if lab.version < Version::new(4, 3, 0) {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{error}");
        assert!(error.to_string().contains("request.conf:1: network-lock: CRIU 4"), "{error}");
    } else {
        result.unwrap();
    }
    // In a file that criu reads when it starts the option is fine.
    dump.overwrite(true).run(&configured(lab, "network-lock skip\n")).unwrap();
    target.goes_on();
}

fn service(lab: &Lab) {
    let home = lab.dir.join("home");
    let own = configured(lab, "leave-running\nlog-file own.log\n").config_files();
    assert_eq!(own.paths[1], home.join(".criu/default.conf"));
    assert_eq!(own.settings().unwrap().len(), 2);
    let script = lab.dir.join("criu-with-home");
    let (place, program) = (home.display(), lab.program.display());
    fs::write(&script, format!("#!/bin/sh\nHOME={place} exec {program} \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let answers = |socket: &Path| Criu::service(socket).version().is_ok();
    let service = criu_lab::Service::start(&script, &lab.dir, answers);
    let criu = Criu::service(service.socket());
    assert!(criu.config_files().paths.is_empty());
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    Dump::new(target.pid, &images).run(&criu).unwrap();
    target.is_gone();
    assert!(names(&images).contains(&"dump.log".into()));
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// A line that is likely to have a value.
    fn line(&mut self) -> String {
        const PARTS: &[&str] =
            &["a", "bcd", " ", "  ", "\t", "\"", "\"", "\\\"", "#", "\\", "e f", "    ", "=", "'"];
        let mut line = String::from("network-lock");
        line += &" ".repeat(1 + self.below(12));
        for _ in 0..self.below(8) {
            line += PARTS[self.below(PARTS.len())];
        }
        line
    }
}
