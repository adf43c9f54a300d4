//! `archive anonymise`, on dumps of a process whose secrets are known.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[("an_anonymous_copy_has_no_secret", anonymous)];

fn anonymous(lab: &Lab) {
    let images = lab.dir("checkpoint");
    let target = lab.start_with(&["count"], |command| command.env("LAB_TOKEN", SECRET));
    lab.done(&["dump", "-t", &target.pid(), "-D", &images, "--leave-running"]);
    fs::write(format!("{images}/dump.log"), SECRET).unwrap();
    fs::write(format!("{images}/plugin-secret.img"), SECRET).unwrap();
    fs::write(format!("{images}/descriptors.json"), format!("[\"/tmp/{SECRET}\"]")).unwrap();
    assert!(has_secret(&images));
    let test = lab.dir.file_name().unwrap().to_str().unwrap();

    // A directory of one set is a directory of one set.
    let made = lab.done(&["archive", "anonymise", &images, "-o", "copy"]);
    for said in [
        "copy: ",
        "left out: checkpoint/dump.log: a log",
        "left out: checkpoint/plugin-secret.img: of no known kind",
    ] {
        assert!(made.out.contains(said), "{said}: {made:?}");
    }
    let copy = lab.path("copy");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!has_secret(&copy) && !holds(&copy, test.as_bytes()));
    // Severity, image, and text up to a path, which has another name in a copy.
    let findings = |set: &str| -> Vec<String> {
        let check = lab.run(&["crit", "check", set]);
        let lines: Vec<&str> = check.out.lines().collect();
        if lines == [format!("nothing is wrong with {set}")] {
            return Vec::new();
        }
        let is_finding = |line: &&str| {
            ["error: ", "warning: ", "note: "].iter().any(|severity| line.starts_with(severity))
        };
        assert!(!lines.is_empty() && lines.iter().all(is_finding), "{check:?}");
        lines.iter().map(|line| line.split('/').next().unwrap().to_owned()).collect()
    };
    // The image of nobody's kind is noted, and left out.
    let mut expected = findings(&images);
    let all = expected.len();
    expected.retain(|finding| !finding.starts_with("note: plugin-secret.img: "));
    assert_eq!(expected.len() + 1, all, "{expected:?}");
    assert_eq!(findings("copy"), expected);
    for entry in fs::read_dir(&copy).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_framed = name.ends_with(".img") && !name.starts_with("pages-");
        if is_framed {
            lab.done(&["crit", "decode", "-i", path.to_str().unwrap(), "-o", "decoded"]);
        }
        if !name.starts_with("core-") && name != "descriptors.json" {
            let size = |path: &Path| fs::metadata(path).unwrap().len();
            assert_eq!(size(&path), size(&Path::new(&images).join(&name)), "{name}");
        }
    }

    // A chain, in an archive and out of it.
    let chained = lab.dir("chained");
    copy_files(&images, &chained);
    symlink(&images, format!("{chained}/parent")).unwrap();
    let words = ["archive", "anonymise", "--json", "chained", "-o", "copy.tar.zst"];
    let json = lab.done(&words).json();
    assert_eq!(json["packing"], "seekable zstd");
    assert_eq!(json["notes"].as_array().unwrap().len(), 4, "{json}");
    lab.done(&["archive", "extract", "copy.tar.zst", "unpacked"]);
    let unpacked = lab.path("unpacked");
    assert!(!has_secret(&unpacked) && !holds(&unpacked, test.as_bytes()));
    let parent = fs::read_link(format!("{unpacked}/checkpoint/parent")).unwrap();
    assert_eq!(parent, Path::new("../pre-checkpoint"));
    assert_eq!(findings("copy.tar.zst"), expected);
    // A copy of the archive, and of the directory that it was unpacked into.
    for source in ["copy.tar.zst", "unpacked"] {
        lab.done(&["archive", "anonymise", source, "-o", "again"]);
        assert_eq!(findings("again"), expected);
        fs::remove_dir_all(lab.path("again")).unwrap();
    }

    // Nothing is written over, and nothing is left of what fails.
    let again = lab.run(&["archive", "anonymise", &images, "-o", "copy"]);
    again.fails(1, &["copy: cannot be written: is not empty; name a new directory"]);
    let strict = lab.run(&["archive", "anonymise", "--strict", &images, "-o", "strict"]);
    strict.fails(1, &["--strict: the copy would lack something", "dump.log"]);
    let empty = lab.dir("empty");
    let none = lab.run(&["archive", "anonymise", &empty, "-o", "none"]);
    none.fails(1, &["empty: has no images of CRIU"]);
    let both = lab.run(&["archive", "anonymise", "--json", &images, "-o", "-"]);
    assert!(both.code == Some(2) && both.out.contains("--json cannot both go"), "{both:?}");
    assert!(!Path::new(&lab.path("strict")).exists() && !Path::new(&lab.path("none")).exists());
}

fn copy_files(from: &str, to: &str) {
    let copied = Command::new("cp").args(["-a", &format!("{from}/."), to]).status().unwrap();
    assert!(copied.success());
}

fn has_secret(directory: &str) -> bool {
    let wide: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
    holds(directory, SECRET.as_bytes()) || holds(directory, &wide)
}

/// Returns true if a file below a directory, or its name, holds a text.
fn holds(directory: &str, text: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().as_encoded_bytes().to_vec();
        let bytes = match path.symlink_metadata().unwrap() {
            found if found.is_dir() => return holds(path.to_str().unwrap(), text),
            found if found.is_symlink() => Vec::new(),
            _ => fs::read(&path).unwrap(),
        };
        [name, bytes].iter().any(|bytes| bytes.windows(text.len()).any(|part| part == text))
    })
}

const SECRET: &str = "hunter2-in-the-lab";
