//! The modes of the files that the words make, compared with `docs/files.md`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use criu_lab::soon;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[("the_modes_of_files_are_those_of_the_table", modes)];

/// The file of a row in the table.
#[derive(Debug)]
struct Row {
    words: Vec<&'static str>,
    names: Vec<&'static str>,
    mode: u32,
    is_masked: bool,
}

fn table() -> Vec<Row> {
    let text = include_str!("../../../docs/files.md");
    let ticked = |cell: &'static str| -> Vec<&'static str> {
        cell.split('`').skip(1).step_by(2).filter(|word| !word.starts_with('-')).collect()
    };
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [words, names, mode, umask, _] = cells[..] else { return None };
        let mode = u32::from_str_radix(mode, 8).unwrap();
        let is_masked = umask == "yes";
        assert!(is_masked || umask == "no", "{line}");
        Some(Row { words: ticked(words), names: ticked(names), mode, is_masked })
    })
    .collect()
}

/// `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((begin, end)) => {
            name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
        }
        None => pattern == name,
    }
}

/// Compares a directory, and what is in it, with the rows of these words.
#[track_caller]
fn compare(directory: &str, words: &[&str], umask: u32, made: bool) {
    let rows = table();
    let check = |name: &str, mode: u32| {
        let of_words = |row: &&Row| row.words.iter().any(|word| words.contains(word));
        let row = rows.iter().filter(of_words).find(|row| row.names.iter().any(|p| fits(p, name)));
        let row = row.unwrap_or_else(|| panic!("{name} of {words:?} has no row"));
        let wanted = if row.is_masked { row.mode & !umask } else { row.mode };
        assert_eq!(mode & 0o7777, wanted, "{name} of {words:?}, umask {umask:o}: {mode:o}");
    };
    if made {
        check("DIR/", fs::metadata(directory).unwrap().mode());
    }
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if !meta.is_symlink() {
            check(entry.file_name().to_str().unwrap(), meta.mode());
            count += 1;
        }
    }
    assert!(count > 0, "{words:?} has made nothing");
}

/// The words that write checkpoints as people ship them.
fn shipped(umask: u32, images: &str, dir: impl Fn(&str) -> String, done: impl Fn(&[&str])) {
    let place = dir("shipped");
    fs::create_dir(&place).unwrap();
    let at = |name: &str| format!("{place}/{name}");
    let (tar, age, secret) = (at("made.tar"), at("made.age"), dir("passphrase"));
    done(&["archive", "create", images, &tar, "--engine", "none"]);
    done(&["archive", "convert", &tar, &at("converted.tar")]);
    fs::write(&secret, "of a test").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let key = ["--passphrase-file", &secret];
    done(&[&["archive", "encrypt", &tar, &age], &key[..]].concat());
    done(&[&["archive", "decrypt", &age, &at("made.plain")], &key[..]].concat());
    done(&["inspect", &tar, "-o", &at("screen.txt")]);
    done(&["inspect", &tar, "--html", &at("page.html")]);
    let layout = dir("layout");
    let name = format!("oci:{layout}:v1");
    done(&["push", &tar, &name]);
    done(&["pull", &name, &at("pulled.tar")]);
    let words = ["create", "convert", "encrypt", "decrypt"].map(|word| format!("archive {word}"));
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["inspect"]).collect();
    compare(&place, &words, umask, false);
    for entry in fs::read_dir(format!("{layout}/blobs/sha256")).unwrap().flatten() {
        assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o600, "{entry:?}");
    }
    compare(&layout, &["push"], umask, true);
    for (words, out) in [(["archive", "extract", &tar], "out"), (["pull", &name, ""], "unpacked")] {
        let out = dir(out);
        match words {
            ["pull", name, _] => done(&["pull", name, &format!("{out}/")]),
            words => done(&[&words[..], &[&out]].concat()),
        }
        assert_eq!(fs::metadata(&out).unwrap().mode() & 0o7777, 0o700, "{out}");
    }
}

fn modes(lab: &Lab) {
    for umask in [0o000, 0o077] {
        let with = |words: &[&str]| -> Command {
            let program = env!("CARGO_BIN_EXE_criu-rs");
            let script = format!("umask {umask:o}; exec \"$0\" \"$@\"");
            lab.program("sh", &[&["-c", &script, program], words].concat())
        };
        let done = |words: &[&str]| {
            let ran = run(with(words));
            assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        };
        let dir = |name: &str| lab.path(&format!("{umask:o}-{name}"));
        let mut target = lab.start_with(&["memory", "2"], |command| command.arg("x"));
        let pid = target.pid();

        let images = dir("captured");
        done(&["dump", "-t", &pid, "-D", &images, "-R", "--capture", "8M"]);
        compare(&images, &["dump", "dump --capture"], umask, true);
        let images = dir("instant");
        let least = ["--instant", "--instant-least", "4K"];
        done(&[&["dump", "-t", &pid, "-D", &images, "-R"], &least[..]].concat());
        compare(&images, &["dump", "dump --instant"], umask, true);
        let archived = dir("archived");
        fs::create_dir(&archived).unwrap();
        let into = ["--archive", &format!("{archived}/made.tar")];
        done(&[&["dump", "-t", &pid, "-R"], &least[..], &into].concat());
        compare(&archived, &["dump --archive"], umask, false);
        let kept = dir("kept");
        // The next dump of the process needs the end of the forks.
        let (last, prev) = (dir("last"), format!("../{umask:o}-kept"));
        done(&[&["pre-dump", "-t", &pid, "-D", &kept], &least[..]].concat());
        compare(&kept, &["pre-dump", "pre-dump --instant"], umask, true);
        let more = ["-R", "--prev-images-dir", &prev];
        done(&[&["dump", "-t", &pid, "-D", &last], &more[..], &least[..]].concat());
        compare(&kept, &["pre-dump", "pre-dump --instant"], umask, true);
        compare(&last, &["dump", "dump --instant"], umask, true);
        let copy = dir("copy");
        done(&["archive", "anonymise", &images, "-o", &copy]);
        compare(&copy, &["archive anonymise"], umask, true);
        // A pre-dump is refused on some kernels, and leaves its log.
        let images = dir("pre");
        run(with(&["pre-dump", "-t", &pid, "-D", &images]));
        compare(&images, &["pre-dump"], umask, true);

        let images = dir("pages");
        let server = ["page-server", "-D", &images, "-o", "ps.log", "--pidfile", "ps.pid"];
        let port = (26_000 + std::process::id() % 4_000).to_string();
        let reach = ["--address", "127.0.0.1", "--port", &port];
        done(&[&server[..], &reach, &["--daemon"]].concat());
        let served = dir("served");
        done(&[&["dump", "-t", &pid, "-D", &served, "-R", "--page-server"], &reach[..]].concat());
        let is_there = || fs::exists(format!("{images}/pagemap-{pid}.img")).unwrap();
        assert!(soon(is_there));
        compare(&images, &["page-server"], umask, true);
        compare(&served, &["dump"], umask, true);

        // Others read what a server receives only if that is asked for.
        let images = dir("open");
        let server = ["page-server", "-D", &images, "--others-read", "--daemon"];
        done(&[&server[..], &reach].concat());
        let dump = ["dump", "-t", &pid, "-D", &dir("other"), "-R", "--page-server"];
        done(&[&dump[..], &reach].concat());
        let pagemap = format!("{images}/pagemap-{pid}.img");
        assert!(soon(|| fs::exists(&pagemap).unwrap()));
        for (path, mode) in [(&pagemap, 0o644), (&images, 0o755)] {
            let found = fs::metadata(path).unwrap().mode() & 0o777;
            assert_eq!(found, mode & !umask, "{path} has mode {found:o}");
        }

        let images = dir("img");
        done(&["dump", "-t", &pid, "-D", &images, "--copy-signal", "WINCH"]);
        compare(&images, &["dump"], umask, true);
        target.is_gone();
        shipped(umask, &images, dir, done);
        let logs = dir("logs");
        fs::create_dir(&logs).unwrap();
        let mut start = with(&["start", &images, "--log-dir", &logs]);
        let mut start = start.stdout(Stdio::piped()).spawn().unwrap();
        // It says that the copy runs.
        start.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        start.stdout = None;
        kill(Pid::from_raw(start.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(start.wait().unwrap().success());
        compare(&logs, &["start"], umask, false);
        let work = dir("work");
        fs::create_dir(&work).unwrap();
        done(&["restore", "-d", "-D", &images, "-W", &work, "--pidfile", "restore.pid"]);
        compare(&work, &["restore"], umask, false);
        compare(&images, &["dump"], umask, true);
        target.restored_as(target.pid);
        target.end();

        let lazy = dir("lazy");
        fs::create_dir(&lazy).unwrap();
        let words = ["lazy-pages", "-D", &images, "-W", &lazy, "-o", "lazy.log"];
        let mut daemon = with(&words).spawn().unwrap();
        assert!(soon(|| fs::exists(format!("{lazy}/lazy-pages.socket")).unwrap()));
        compare(&lazy, &["lazy-pages"], umask, false);
        daemon.kill().unwrap();
        daemon.wait().unwrap();

        // The restore of a user namespace reads its images as a user of that namespace.
        let mut other = Command::new("setsid");
        other.args(["unshare", "--user", "--map-root-user", "sleep", "1000"]);
        other.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let other = Target::started(other.spawn().unwrap(), lab.dir.join("none"));
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
        let comm = || fs::read_to_string(format!("/proc/{}/comm", other.pid())).unwrap();
        assert!(soon(|| comm() == "sleep\n"));
        assert_ne!(namespace(&other.pid()), namespace("self"));
        // Not every kernel lets criu save such a tree, so its umask is asked for, by a script.
        let (script, told) = (dir("script"), dir("umask"));
        fs::write(&script, format!("#!/bin/sh\numask > {told}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        let dump = ["dump", "-D", &dir("user"), "-R", "--action-script", &script, "-t"];
        run(with(&[&dump[..], &[&other.pid()]].concat()));
        assert_eq!(fs::read_to_string(&told).unwrap(), format!("{umask:04o}\n"));

        let work = dir("check");
        fs::create_dir(&work).unwrap();
        run(with(&["check", "-W", &work, "-o", "check.log"]));
        compare(&work, &["check"], umask, false);
        let work = dir("cpuinfo");
        fs::create_dir(&work).unwrap();
        run(with(&["cpuinfo", "dump", "-D", &work, "-o", "cpuinfo.log"]));
        compare(&work, &["cpuinfo"], umask, false);
        let pages = dir("man");
        fs::create_dir(&pages).unwrap();
        done(&["man", &pages]);
        compare(&pages, &["man"], umask, false);
        assert!(!Path::new(&images).join(".criu-rs-earlier").exists());
    }
}
