//! Records made to do harm.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use criu_archive::record::{Holder, RECORD, Record};
use criu_archive::{ErrorKind, UNWATCHED};
use criu_lab::memory::grown;
use criu_lab::{in_own_process, scratch};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::made::whole;

fn said(record: &Value) -> String {
    Record::parse(record.to_string().as_bytes()).unwrap_err().to_string()
}

/// A record with one file.
fn with_file(path: &str) -> Value {
    json!({"version": 1, "containers": [{"name": "a", "files": [{"path": path, "role": "image"}]}]})
}

#[test]
fn a_path_that_leads_out_is_refused() {
    for path in [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../a",
        "a/../../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a/./b",
        "a\0b",
        RECORD,
    ] {
        let error = Record::parse(with_file(path).to_string().as_bytes()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Refused(_)), "{path:?}: {error}");
        assert_eq!(error.member(), Some(path));
    }
    let long = "a/".repeat(2048) + "a";
    assert!(said(&with_file(&long)).contains("does not lead to a file beside the record"));
    for path in ["a", "a/b.img", ".hidden", "a..b", "...", "ä"] {
        Record::parse(with_file(path).to_string().as_bytes()).unwrap();
    }
}

#[test]
fn a_record_that_nobody_may_act_upon_is_refused() {
    let container = |name: &str| json!({"name": name});
    let twice = json!({"version": 1, "files": [{"path": "a"}, {"path": "a"}]});
    let many: Vec<Value> = (0..1025).map(|at| container(&at.to_string())).collect();
    for (record, expected) in [
        (json!({}), "is 0x0, wanted 1, the version of the record"),
        (json!({"version": 2}), "is 0x2, wanted 1, the version of the record"),
        (json!({"version": -1}), "is no valid JSON: invalid value"),
        (json!([]), "is no valid JSON"),
        (json!({"version": 1, "containers": {}}), "is no valid JSON: invalid type"),
        (json!({"version": 1, "containers": [{}]}), "or a container has none"),
        (
            json!({"version": 1, "containers": [container("a"), container("a")]}),
            "two of its containers have one name",
        ),
        (json!({"version": 1, "containers": many}), "has more than 1024 containers"),
        (twice, "a: is refused: the record names the file twice"),
        (json!({"version": 1, "time": "yesterday"}), "is no time of RFC 3339"),
        (json!({"version": 1, "pod": {"config": "%"}}), "text that is no base64"),
        (
            json!({"version": 1, "files": [{"path": "a", "sha256": "A".repeat(64)}]}),
            "is no SHA-256, which has 64 hexadecimal digits",
        ),
        (json!({"version": 1, "files": [{"path": "a", "size": 1.5}]}), "is no valid JSON"),
    ] {
        let said = said(&record);
        assert!(said.starts_with("criu-record.json: ") && said.contains(expected), "{said}");
    }
    let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
    assert!(Record::parse(nested.as_bytes()).is_err());
    assert!(Record::parse(b"{\"version\":1,\"version\":1}").is_err());
    let said = said(&with_file("\u{1b}[2J/../x"));
    assert!(!said.contains(char::is_control), "{said:?}");
}

#[test]
fn a_record_that_is_no_regular_file_is_refused() {
    let directory = scratch("record-hostile");
    let path = directory.join(RECORD);
    let error = |what: &str| {
        let error = Record::open(&directory).unwrap_err();
        assert_eq!(error.member(), Some(RECORD), "{what}: {error}");
        error.to_string()
    };
    assert!(error("nothing").ends_with("criu-record.json: is missing"));
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    assert!(error("a FIFO").ends_with("is not a regular file"));
    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert!(error("a link").ends_with("is not a regular file"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(error("a directory").ends_with("is not a regular file"));
    fs::remove_dir(&path).unwrap();
    // 17 MiB that take no room.
    fs::File::create(&path).unwrap().set_len(17 << 20).unwrap();
    assert!(error("a large file").ends_with("has 17825792 bytes, at most 16777216 are read"));
}

#[test]
fn no_link_is_followed_to_a_file() {
    let directory = scratch("record-links");
    fs::create_dir(directory.join("real")).unwrap();
    fs::write(directory.join("real/a"), b"1").unwrap();
    symlink("real", directory.join("to")).unwrap();
    symlink("real/a", directory.join("a")).unwrap();
    let holder = Holder::open(&directory).unwrap();
    assert_eq!(holder.bytes("real/a").unwrap().unwrap().len(), 1);
    for path in ["to/a", "a", "real", "real/a/b"] {
        let error = holder.bytes(path).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotAFile), "{path}: {error}");
    }
    assert!(holder.bytes("none").unwrap().is_none());
    assert!(holder.bytes("none/a").unwrap().is_none());
    assert!(matches!(holder.bytes("../a").unwrap_err().kind(), ErrorKind::Refused(_)));
    // The directory is held.
    fs::rename(&directory, directory.with_extension("moved")).unwrap();
    assert_eq!(holder.bytes("real/a").unwrap().unwrap().len(), 1);
    fs::rename(directory.with_extension("moved"), &directory).unwrap();
}

#[test]
fn a_record_of_empty_objects_takes_bounded_memory() {
    if !in_own_process("hostile::a_record_of_empty_objects_takes_bounded_memory", || ()) {
        return;
    }
    let files = vec!["{}"; 130_000].join(",");
    let json = format!("{{\"version\":1,\"files\":[{files}]}}");
    let (error, grown) = grown(|| Record::parse(json.as_bytes()).unwrap_err());
    assert!(matches!(error.kind(), ErrorKind::Refused(_)), "{error}");
    assert!(grown < 128 << 10, "{grown} KiB");
}

#[test]
fn a_damaged_record_ends_in_a_result() {
    let json = whole().to_string().into_bytes();
    // A sequence of numbers without a pattern that matters.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let directory = scratch("record-damaged");
    let holder = Holder::open(&directory).unwrap();
    let host = criu_archive::record::Host::here();
    let mut read = 0;
    for _ in 0..3000 {
        let mut bytes = json.clone();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] = b"{}[],:\"\\0-9ex"[next(13)],
                1 => drop(bytes.drain(at..(at + next(40)).min(bytes.len()))),
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let piece = bytes[at..(at + next(60)).min(bytes.len())].to_vec();
                    let to = next(bytes.len());
                    drop(bytes.splice(to..to, piece));
                }
            }
        }
        if let Ok(record) = Record::parse(&bytes) {
            read += 1;
            let findings = record.verify(&host, &holder, UNWATCHED).unwrap();
            assert!(findings.iter().all(|found| !found.to_string().contains(char::is_control)));
            // What is read can be written.
            assert_eq!(Record::parse(&record.to_json().unwrap()).unwrap(), record);
        }
    }
    assert!(read > 50, "{read}");
}

/// A thousand containers share images: without care, each image is read and blamed for
/// each container.
#[test]
fn shared_images_are_read_once_and_the_findings_have_a_bound() {
    let directory = scratch("record-shared-heads");
    let map = json!({"a": "b".repeat(1 << 20)}).to_string();
    let length = (map.len() as u64).to_be_bytes();
    let head = [b"gVisorSF", &length[..], map.as_bytes(), b"state"].concat();
    fs::write(directory.join("0"), head).unwrap();
    for at in 1..IMAGES {
        fs::hard_link(directory.join("0"), directory.join(at.to_string())).unwrap();
    }
    let files: Vec<Value> =
        (0..IMAGES).map(|at| json!({"path": at.to_string(), "role": "image"})).collect();
    let containers: Vec<Value> =
        (0..1024).map(|at| json!({"name": at.to_string(), "tool": {"kind": "qemu"}})).collect();
    let record = json!({"version": 1, "containers": containers, "files": files});
    let record = Record::parse(record.to_string().as_bytes()).unwrap();
    let holder = Holder::open(&directory).unwrap();
    let calls = AtomicUsize::new(0);
    let found = record.verify_files(&holder, &|_| {
        calls.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    let found = found.unwrap();
    // Once as a file, and once for its head.
    assert_eq!(calls.into_inner(), 2 * IMAGES);
    let wrong = found.iter().filter(|one| one.text == "is of runsc, the record says qemu").count();
    assert_eq!((wrong, found.len()), (IMAGES, IMAGES + 1), "{:?}", found.last());
    // 16 MiB of heads are enough.
    assert_eq!(record.heads(&holder).len(), 16);
    // The work can be stopped between two heads.
    let left = AtomicUsize::new(IMAGES + 2);
    let error = record.verify_files(&holder, &|_| match left.fetch_sub(1, Ordering::Relaxed) {
        0 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(error.unwrap_err().kind(), ErrorKind::Stopped));
}

const IMAGES: usize = 20;
