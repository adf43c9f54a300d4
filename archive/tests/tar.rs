//! Archives made to cost memory or time. What a header claims is bounded before it is read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "hostile/made.rs"]
mod made;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use criu_archive::{Archive, Error, ErrorKind, MemberKind};
use criu_images::source::Source;
use criu_lab::memory::grown;
use criu_lab::{in_own_process, scratch};
use made::{BLOCK, extended, file, filled, header, record, signed};

fn archive(name: &str, parts: &[Vec<u8>]) -> PathBuf {
    let path = scratch(name).join("a.tar");
    fs::write(&path, [parts.concat(), vec![0; 2 * BLOCK]].concat()).unwrap();
    path
}

fn refused(path: &Path) -> Error {
    Archive::open(path).map(drop).unwrap_err()
}

#[test]
fn a_small_archive_that_claims_long_names_takes_no_memory() {
    if !in_own_process("a_small_archive_that_claims_long_names_takes_no_memory", || ()) {
        return;
    }
    let path = scratch("long_names").join("a.tar");
    for sort in *b"LKxg" {
        for size in [2 << 30, 3 << 30, 8 << 30] {
            // The content is a hole: the archive takes 4 KiB on the disk.
            let sparse = File::create(&path).unwrap();
            sparse.write_all_at(&header("x", sort, size), 0).unwrap();
            sparse.set_len(size + (1 << 20)).unwrap();
            let (error, grown) = grown(|| refused(&path));
            let ErrorKind::TooLarge { size: found, limit: most } = *error.kind() else {
                panic!("{error}")
            };
            assert_eq!((found, most), (size, 1 << 20));
            assert!(grown < 16 << 10, "{grown} KiB");
        }
    }
}

#[test]
fn sizes_below_zero_or_past_the_end_are_refused() {
    let with = |size: [u8; 12], sort: u8| {
        let mut block = header("a", sort, 0);
        block[124..136].copy_from_slice(&size);
        refused(&archive("sizes", &[signed(block).to_vec()])).to_string()
    };
    for sort in *b"0LKxg5S2" {
        for size in [[0xff; 12], [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]] {
            let said = with(size, sort);
            assert!(said.ends_with("byte 0: has a number below 0 or above 64 bits"), "{said}");
        }
        assert!(with(*b"00000000009\0", sort).ends_with("has a number that is not octal"));
        // Directories and links have no content, and no size.
        if b"52".contains(&sort) {
            continue;
        }
        let mut most = [0xff; 12];
        most[..4].copy_from_slice(&[0x80, 0, 0, 0]);
        let said = with(most, sort);
        assert!(said.contains("18446744073709551615 bytes"), "{said}");
    }
    // The size in a record counts, not the size in the header.
    let records = extended(b'x', &record("size", b"99999999999"));
    let error = refused(&archive("sizes", &[records, file("a", b"1")]));
    assert!(matches!(error.kind(), ErrorKind::Truncated { need: 99_999_999_999, .. }), "{error}");
}

#[test]
fn records_that_are_broken_doubled_or_for_all_are_refused() {
    let said = |parts: &[Vec<u8>]| refused(&archive("records", parts)).to_string();
    for broken in ["x", "9", "0 a=b\n", "6 a=b\n\n", "6 a=bc", "99999999999999999999999 a=\n"] {
        let said = said(&[extended(b'x', broken.as_bytes()), file("a", b"1")]);
        assert!(said.ends_with("has PAX records that are broken"), "{broken:?}: {said}");
    }
    let path = extended(b'x', &record("path", b"b"));
    let twice = said(&[path.clone(), path.clone(), file("a", b"1")]);
    assert!(twice.ends_with("describes one member twice"), "{twice}");
    let missing = said(&[path]);
    assert!(missing.ends_with("describes a member that is missing"), "{missing}");
    for key in ["path", "linkpath", "size", "GNU.sparse.major"] {
        let said = said(&[extended(b'g', &record(key, b"1")), file("a", b"1")]);
        assert!(said.contains("PAX records that rename or resize all members"), "{said}");
    }
}

fn names(archive: &Archive) -> Vec<String> {
    archive.folder("").names().unwrap()
}

fn content(archive: &Archive, name: &str) -> Vec<u8> {
    let blob = archive.bytes(name).unwrap();
    let mut content = vec![0; usize::try_from(blob.len()).unwrap()];
    blob.read_at(0, &mut content).unwrap();
    content
}

#[test]
fn a_member_with_a_name_that_no_file_has_is_refused() {
    let long = [b'a'; 5000];
    for (before, sort, why) in [
        (extended(b'x', &record("path", &long)), b'0', "its name is longer than any path"),
        (extended(b'L', &long), b'0', "its name is longer than any path"),
        (extended(b'x', &record("linkpath", &long)), b'2', "the target of the link is longer"),
        (extended(b'K', &long), b'1', "the target of the link is longer than any path"),
    ] {
        let last = file("b", b"22");
        let path = archive("long_name", &[before, header("a", sort, 0).to_vec(), last]);
        let said = refused(&path).to_string();
        assert!(said.contains(&format!("is refused: {why}")), "{said}");
    }
}

#[test]
fn an_empty_record_leaves_what_the_header_says() {
    let all = [record("path", b"c"), record("size", b"2"), record("GNU.sparse.name", b"d")];
    let none = [record("path", b""), record("size", b""), record("GNU.sparse.name", b"")];
    let other = [record("path", b""), record("linkpath", b""), record("size", b"")];
    let sparse = record("GNU.sparse.name", b"");
    let path = archive(
        "empty_record",
        &[
            extended(b'g', &[&other.concat()[..], &sparse].concat()),
            extended(b'x', &[all[..2].concat(), none.concat()].concat()),
            file("a", b"1"),
            extended(b'x', &[all[0].clone(), all[1].clone()].concat()),
            file("b", b"22"),
        ],
    );
    let archive = Archive::open(&path).unwrap();
    assert_eq!(names(&archive), ["a", "c"]);
    assert_eq!((content(&archive, "a"), content(&archive, "c")), (b"1".into(), b"22".into()));
}

#[test]
fn links_directories_and_devices_have_no_content() {
    for sort in *b"123456" {
        let mut bare = header("bare", sort, 700);
        bare[157..161].copy_from_slice(b"file");
        let bare = signed(bare).to_vec();
        let parts = [file("file", b"1"), bare.clone(), file("last", b"22")];
        let path = self::archive("bare", &parts);
        let why = |at: u64| {
            format!("bare: byte {at}: is refused: it has content, which its kind has not")
        };
        if b"15".contains(&sort) {
            // Some programs write the size of the directory, or of the link's target, in a header.
            let archive = Archive::open(path).unwrap();
            assert_eq!(names(&archive), ["bare", "file", "last"], "{}", char::from(sort));
            assert_eq!(content(&archive, "last"), b"22");
        } else {
            // GNU tar would pass over content here, and Go would not.
            let said = refused(&path).to_string();
            assert!(said.ends_with(&why(1024)), "{said}");
        }
        let with = [extended(b'x', &record("size", b"5")), bare, filled(b"12345")];
        let path = self::archive("bare", &[file("file", b"1"), with.concat()]);
        let said = refused(&path).to_string();
        assert!(said.ends_with(&why(2048)), "{said}");
    }
}

#[test]
fn a_header_may_have_a_sum_of_signed_bytes() {
    let with = |more: i32| {
        let mut block = header("gr\u{fc}n", b'0', 0);
        block[148..156].copy_from_slice(b"        ");
        let sum: i32 = block.iter().map(|byte| i32::from(i8::from_ne_bytes([*byte]))).sum();
        block[148..156].copy_from_slice(format!("{:06o}\0 ", sum + more).as_bytes());
        archive("signed", &[block.to_vec()])
    };
    assert_eq!(names(&Archive::open(with(0)).unwrap()), ["gr\u{fc}n"]);
    refused(&with(1));
}

#[test]
fn archives_of_all_formats_are_read() {
    let directory = scratch("formats");
    let set = directory.join("checkpoint");
    fs::create_dir_all(set.join("below")).unwrap();
    fs::write(set.join("inventory.img"), b"123").unwrap();
    fs::write(set.join("below/pages-1.img"), vec![7; 5000]).unwrap();
    fs::hard_link(set.join("inventory.img"), set.join("other.img")).unwrap();
    std::os::unix::fs::symlink("../0", set.join("parent")).unwrap();
    nix::unistd::mkfifo(&set.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = directory.join("a.tar");
    for format in ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"] {
        let mut command = std::process::Command::new("tar");
        command.args(["-cf", "../a.tar", &format!("--format={format}")]);
        if ["pax", "posix"].contains(&format) {
            command.args(["--xattrs", "--acls", "--selinux"]);
        }
        if format == "v7" {
            fs::remove_file(set.join("fifo")).unwrap();
        }
        let made = command.args([".", "--warning=no-file-ignored"]).current_dir(&set).status();
        assert!(made.unwrap().success(), "{format}");
        let archive = Archive::open(&path).unwrap();
        let mut names = names(&archive);
        // The format of Unix V7 has no FIFOs.
        names.retain(|name| name != "fifo");
        assert_eq!(names, ["below", "inventory.img", "other.img", "parent"], "{format}");
        for name in ["inventory.img", "other.img"] {
            assert_eq!(content(&archive, name), b"123", "{format}");
        }
        assert_eq!(content(&archive, "below/pages-1.img"), [7; 5000], "{format}");
    }
}

#[test]
fn a_fifo_is_no_archive_and_is_not_waited_for() {
    let path = scratch("fifo").join("a.tar");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (told, ends) = std::sync::mpsc::channel();
    let opened = path.clone();
    std::thread::spawn(move || told.send(refused(&opened)));
    let error = ends.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    assert!(matches!(error.kind(), ErrorKind::NotAFile), "{error}");
}

#[test]
fn names_and_records_of_honest_archives_are_read() {
    let long = format!("sets/{}", "n".repeat(300));
    let value: Vec<u8> = (0..=255).collect();
    let records = [
        record("SCHILY.xattr.security.capability", &value),
        record("path", b"other/first"),
        record("path", b"other/./last"),
    ];
    let path = archive(
        "honest",
        &[
            extended(b'g', &record("comment", b"of all")),
            extended(b'L', format!("{long}\0").as_bytes()),
            file("cut", b"12"),
            extended(b'x', &records.concat()),
            file("cut", b"345"),
            header("./", b'5', 0).to_vec(),
            header("old/", b'0', 0).to_vec(),
            header("twice", b'5', 0).to_vec(),
            header("twice/", b'5', 0).to_vec(),
            file("./old//in", b"6"),
        ],
    );
    let archive = Archive::open(&path).unwrap();
    let content = |folder: &str, name: &str| {
        let blob = archive.folder(folder).open(name).unwrap().unwrap();
        let mut content = vec![0; usize::try_from(blob.len()).unwrap()];
        blob.read_at(0, &mut content).unwrap();
        content
    };
    assert_eq!(content("sets", &long[5..]), b"12");
    assert_eq!(content("other", "last"), b"345");
    let mut names = names(&archive);
    names.sort_unstable();
    assert_eq!(names, ["old", "twice"]);
    assert_eq!(content("old", "in"), b"6");
    for folder in ["old", "twice"] {
        assert_eq!(*archive.member(folder).unwrap().kind(), MemberKind::Directory);
    }
}

#[test]
fn an_archive_of_many_members_takes_little_more_than_its_size() {
    if !in_own_process("an_archive_of_many_members_takes_little_more_than_its_size", || ()) {
        return;
    }
    let path = scratch("members").join("a.tar");
    let members = 40_000;
    let link: Vec<u8> = vec![b'l'; 4000];
    let mut parts = vec![extended(b'K', &link), header("link", b'2', 0).to_vec()];
    for i in 0..members {
        // Deep folders, and hard links that share a long target.
        let name = format!("{i}/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a");
        let sort = if i % 2 == 0 { b'1' } else { b'0' };
        let mut block = header(&name, sort, 0);
        block[157..161].copy_from_slice(b"link");
        parts.push(signed(block).to_vec());
    }
    fs::write(&path, parts.concat()).unwrap();
    drop(parts);
    let (archive, grown) = grown(|| Archive::open(&path).unwrap());
    assert_eq!(names(&archive), ["link"]);
    assert!(grown < 40 << 10, "{grown} KiB");
}

#[test]
fn a_member_repeated_is_refused() {
    let path = archive("repeated", &vec![file("a", b""); 20_000]);
    let said = refused(&path).to_string();
    assert!(said.ends_with("a: is refused: there are two members of this name"), "{said}");
}
