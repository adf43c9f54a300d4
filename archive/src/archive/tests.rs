//! Tables of contents that lie about the headers. The writer is made to write them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of tests are small")]

use std::io::Write;

use criu_images::source::{Blob, Source};

use super::Archive;
use crate::digest::Digests;
use crate::error::Result;
use crate::member::MemberKind;
use crate::packing::{Entry, Form, Packing, Sink};
use crate::watch::UNWATCHED;

/// A header of tar.
fn header(name: &str, sort: u8, mode: u32, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, &format!("{mode:07o}\0"));
    put(124, &format!("{size:011o}\0"));
    put(148, "        ");
    put(257, "ustar\x0000");
    header[156] = sort;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A seekable archive with three members. The table says `listed` of the second, the stream
/// `found`.
fn opened(listed: (&str, MemberKind, u32), found: (&str, u8, u32, usize)) -> Result<Archive> {
    let mut sink = Sink::new(Vec::new(), Form::Seekable { level: 1, threads: 1 }, true).unwrap();
    let first = ("a", MemberKind::File, 0o600);
    let last = ("z", MemberKind::File, 0o600);
    let members = [
        (first, header("a", b'0', 0o600, 3)),
        (listed, header(found.0, found.1, found.2, found.3)),
        (last, header("z", b'0', 0o600, 3)),
    ];
    for ((path, kind, mode), header) in members {
        let path = path.as_bytes().to_vec();
        let (uid, gid, modified, size) = (0, 0, 0, 3);
        sink.begin(Entry { path, kind, mode, uid, gid, modified, size }).unwrap();
        sink.write_all(&header).unwrap();
        sink.content().unwrap();
        sink.write_all(b"123").unwrap();
        sink.write_all(&[0; 509]).unwrap();
    }
    sink.end().unwrap();
    sink.write_all(&[0; 1024]).unwrap();
    Archive::new("a.tar", Blob::from(sink.finish().unwrap().out))
}

#[test]
fn a_member_whose_header_is_not_as_listed_is_refused_when_it_is_opened() {
    let honest = opened(("b", MemberKind::File, 0o644), ("b", b'0', 0o644, 3)).unwrap();
    assert_eq!(honest.packing(), Packing::Seekable);
    assert!(honest.verify(UNWATCHED).unwrap().has_digests);
    let recorded = Digests::recorded(&honest).unwrap().unwrap();
    assert_eq!(recorded, Digests::compute(&honest, UNWATCHED).unwrap());
    for found in [
        ("c", b'0', 0o644, 3),
        ("../b", b'0', 0o644, 3),
        ("b", b'2', 0o644, 0),
        ("b", b'5', 0o644, 0),
        ("b", b'0', 0o4755, 3),
        ("b", b'0', 0o644, 2),
        ("b", b'0', 0o644, 600),
        ("b", b'x', 0o644, 3),
    ] {
        let archive = opened(("b", MemberKind::File, 0o644), found).unwrap();
        for path in ["a", "z"] {
            assert_eq!(archive.bytes(path).unwrap().len(), 3);
        }
        let error = archive.bytes("b").unwrap_err();
        assert_eq!(error.member(), Some(if found.0 == "../b" { "../b" } else { "b" }), "{error}");
        assert!(archive.folder("").open("b").is_err(), "{found:?}");
        assert!(archive.verify(UNWATCHED).is_err(), "{found:?}");
    }
}

#[test]
fn what_the_table_lists_keeps_the_rules_too() {
    for (path, why) in [
        ("../b", "its name has `..`"),
        ("/b", "its name is an absolute path"),
        ("a", "there are two members of this name"),
        ("a/b", "it lies in a member that is not a directory"),
    ] {
        let error = opened((path, MemberKind::File, 0o644), ("b", b'0', 0o644, 3)).unwrap_err();
        assert_eq!(error.member(), Some(path));
        assert!(error.to_string().ends_with(why), "{error}");
    }
}

#[test]
fn every_frame_of_headers_is_compared_with_its_digest() {
    // 300 directories fill two frames. The table of contents does not have the name of the owner.
    let written = |owner: &[u8; 4]| {
        let form = Form::Seekable { level: 1, threads: 1 };
        let mut sink = Sink::new(Vec::new(), form, false).unwrap();
        for at in 0..300 {
            let name = format!("{at:03}/");
            let mut header = header(&name, b'5', 0o700, 0);
            header[265..269].copy_from_slice(owner);
            header[148..156].copy_from_slice(b"        ");
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            let (path, kind) = (name.into_bytes(), MemberKind::Directory);
            let (uid, gid, modified, size, mode) = (0, 0, 0, 0, 0o700);
            sink.begin(Entry { path, kind, mode, uid, gid, modified, size }).unwrap();
            sink.write_all(&header).unwrap();
            sink.content().unwrap();
        }
        sink.end().unwrap();
        sink.write_all(&[0; 1024]).unwrap();
        sink.finish().unwrap().out
    };
    let (honest, other) = (written(b"root"), written(b"toor"));
    assert_eq!(honest.len(), other.len());
    // Frames of the other archive, tables of this one.
    let tables = honest.windows(4).position(|bytes| bytes == [0x5c, 0x2a, 0x4d, 0x18]).unwrap();
    let forged = [&other[..tables], &honest[tables..]].concat();
    let verify = |bytes: Vec<u8>| {
        let archive = Archive::new("a.tar", Blob::from(bytes)).unwrap();
        archive.verify(UNWATCHED)
    };
    verify(honest).unwrap();
    let error = verify(forged).unwrap_err().to_string();
    assert!(error.contains("frame 0 of the archive is not the one that was written"), "{error}");
}

#[test]
fn a_frame_that_no_member_needs_is_verified_too() {
    let content = vec![7; (1 << 20) + 1];
    let start = [&header("a", b'0', 0o600, content.len())[..], &content].concat();
    let last = [&header("z", b'0', 0o600, 0)[..], &[0; 1024]].concat();
    let hidden = [&[0; 511][..], &header("hidden", b'0', 0o600, 0)].concat();
    for (filler, is_right) in [(vec![0; 511], true), (hidden, false)] {
        // The seek table says that 511 bytes fill the last block of the content.
        let frames = [(&start, start.len()), (&filler, 511), (&last, last.len())];
        let (mut packed, mut table) = (Vec::new(), Vec::new());
        for (bytes, len) in frames {
            let frame = zstd::encode_all(&bytes[..], 1).unwrap();
            table.extend([frame.len(), len].map(|size| (size as u32).to_le_bytes()).concat());
            packed.extend(frame);
        }
        packed.extend(0x184d_2a5eu32.to_le_bytes());
        packed.extend((table.len() as u32 + 9).to_le_bytes());
        packed.extend(table);
        packed.extend([3, 0, 0, 0, 0]);
        packed.extend(0x8f92_eab1u32.to_le_bytes());
        let archive = Archive::new("a.tar", Blob::from(packed)).unwrap();
        assert_eq!(archive.packing(), Packing::Seekable);
        assert_eq!(archive.members().count(), 2);
        let verified = archive.verify(UNWATCHED);
        assert_eq!(verified.is_ok(), is_right, "{verified:?}");
    }
}
