//! Bounds set by a program. They belong to the whole process: no two tests set the same one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use criu_archive::inspection::{Inspection, Part, Place};
use criu_archive::metadata::Metadata;
use criu_archive::report::Report;
use criu_archive::{Archive, Extraction, bounds};
use criu_images::source::InMemory;
use criu_lab::scratch;

#[test]
fn an_archive_has_bounds() {
    let path = scratch("bounds").join("a.tar");
    let made = Command::new("tar").arg("-cf").arg(&path).arg("src").status();
    assert!(made.unwrap().success());
    let counted =
        [(&bounds::MEMBERS, "members"), (&bounds::NAMES, "bytes of names and PAX records")];
    for (bound, what) in counted {
        bound.raise(3);
        let refused = Archive::open(&path).unwrap_err().to_string();
        assert!(refused.ends_with(&format!("has more than 3 {what}")), "{refused}");
        bound.raise(bound.default_value());
        Archive::open(&path).unwrap();
    }
    // Directories that only the name of a member tells of.
    let deep = path.with_file_name("deep");
    std::fs::create_dir_all(deep.join("a/b/c")).unwrap();
    std::fs::write(deep.join("a/b/c/file"), "").unwrap();
    let packed = path.with_extension("deep");
    let mut tar = Command::new("tar");
    let made = tar.arg("-cf").arg(&packed).arg("-C").arg(&deep).arg("a/b/c/file").status();
    assert!(made.unwrap().success());
    let archive = Archive::open(&packed).unwrap();
    let to = path.with_file_name("to");
    bounds::MEMBERS.raise(3);
    let refused = Extraction::of(&archive).into_new(&to).unwrap_err().to_string();
    assert!(refused.ends_with("has more than 3 files and directories"), "{refused}");
    bounds::MEMBERS.raise(4);
    Extraction::of(&archive).into_new(&to).unwrap();
    bounds::MEMBERS.raise(bounds::MEMBERS.default_value());
    bounds::METADATA.raise(3);
    let mut members = InMemory::default();
    members.insert("deleted.files", "[  ]");
    let refused = Metadata::of("a", &members).deleted_files().unwrap_err().to_string();
    assert_eq!(refused, "a: deleted.files: has 4 bytes, at most 3 are read");
    members.insert("deleted.files", "[ ]");
    assert_eq!(Metadata::of("a", &members).deleted_files().unwrap(), Some(Vec::new()));
    bounds::METADATA.raise(bounds::METADATA.default_value());
    // A packed archive, without and with room for its content in memory.
    let packed = path.with_extension("gz");
    let made = Command::new("tar").arg("-czf").arg(&packed).arg("src").status();
    assert!(made.unwrap().success());
    let read = |archive: &Archive| {
        let blob = archive.bytes("src/bounds.rs").unwrap();
        let mut bytes = vec![0; usize::try_from(blob.len()).unwrap()];
        blob.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, std::fs::read("src/bounds.rs").unwrap());
    };
    for room in [0, 4000, bounds::KEPT.default_value()] {
        bounds::KEPT.raise(room);
        read(&Archive::open(&packed).unwrap());
    }
    // 10 MiB of zeros have 10 KiB.
    let zeros = path.with_file_name("zeros");
    std::fs::File::create(&zeros).unwrap().set_len(10 << 20).unwrap();
    let made = Command::new("tar").arg("-czf").arg(&packed).arg("-C").arg("/").arg(&zeros).status();
    assert!(made.unwrap().success());
    Archive::open(&packed).unwrap();
    bounds::UNPACKED.raise(1 << 20);
    let limit = std::fs::metadata(&packed).unwrap().len() * 256;
    let refused = Archive::open(&packed).unwrap_err();
    assert_eq!(refused.member(), Some(&zeros.to_str().unwrap()[1..]));
    let said = refused.to_string();
    assert!(said.ends_with(&format!("at most {limit} are read")), "{said}");
    let pipe = std::fs::File::open(&packed).unwrap();
    let said = Archive::read("pipe", pipe).unwrap_err().to_string();
    assert!(said.ends_with("at most 1048576 are read"), "{said}");
    bounds::UNPACKED.raise(bounds::UNPACKED.default_value());
}

#[test]
fn a_report_has_a_bound() {
    // A report has fewer rows, and says how many are missing.
    let place = Place::directory("../images/tests/data/pipeline", "").unwrap();
    let inspection = Inspection::new(&place, Part::ALL).unwrap();
    let report = || {
        let mut html = Vec::new();
        Report::new(&inspection).write(&mut html).unwrap();
        let html = String::from_utf8(html).unwrap();
        html.split_once("application/json\">").unwrap().1.split_once('<').unwrap().0.to_owned()
    };
    let whole = report();
    assert_eq!(whole.matches("\"left\":0").count(), 11, "{whole}");
    for bytes in [1 << 10, 8 << 10] {
        bounds::REPORT.raise(bytes);
        let cut = report();
        assert!(cut.len() < usize::try_from(bytes).unwrap() + 1024, "{}", cut.len());
        assert!(cut.matches("\"left\":0").count() < 10, "{cut}");
    }
    bounds::REPORT.raise(bounds::REPORT.default_value());
}
