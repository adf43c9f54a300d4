//! Archives that are cut, changed in a byte, or changed while they are read.

use std::fs::{self, File};
use std::io::Cursor;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_archive::metadata::Metadata;
use criu_archive::write::{Draft, Options, Pack};
use criu_archive::{Archive, Digests, Error, ErrorKind, Extraction, MemberKind, UNWATCHED, bounds};
use criu_images::source::Blob;
use criu_lab::{names, scratch};

use crate::made::{BLOCK, extended, file, header, record};

/// Paths, kinds and contents of all members; `None` if one cannot be read.
fn contents(archive: &Archive) -> Option<Vec<(String, MemberKind, Vec<u8>)>> {
    let read = |path: &str| {
        let blob = archive.bytes(path).ok()?;
        let mut bytes = vec![0; usize::try_from(blob.len()).ok()?];
        blob.read_at(0, &mut bytes).ok()?;
        Some(bytes)
    };
    let row = |member: &criu_archive::Member| {
        let has_bytes = *member.kind() == MemberKind::File;
        let bytes = if has_bytes { read(member.path())? } else { Vec::new() };
        Some((member.path().to_owned(), member.kind().clone(), bytes))
    };
    archive.members().map(row).collect()
}

/// An archive with names and links of every form.
fn plain() -> Vec<u8> {
    let members = [
        file("config.dump", b"{}"),
        header("checkpoint", b'5', 0).to_vec(),
        extended(b'x', &record("path", b"checkpoint/core-1.img")),
        file("cut", &[7; 700]),
        extended(b'L', b"checkpoint/pages-1.img\0"),
        file("cut", &[9; 1200]),
        file("last", b"1"),
    ];
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

/// The archive with a table of contents.
fn seekable(directory: &Path, has_digests: bool) -> Vec<u8> {
    let archive = Archive::new("a.tar", Blob::from(plain())).unwrap();
    let mut draft = Draft::new();
    for member in archive.members() {
        draft.add_member(&archive, member).unwrap();
    }
    let mut options = Options::default();
    options.pack = Pack::Seekable { level: 1, threads: 1 };
    options.has_digests = has_digests;
    let path = directory.join("seekable.tar.zst");
    draft.save(&path, &options, UNWATCHED).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn an_archive_cut_at_any_byte_shows_no_wrong_member() {
    let plain = plain();
    let whole = contents(&Archive::new("a.tar", Blob::from(plain.clone())).unwrap()).unwrap();
    let mut opened = 0;
    for len in 0..plain.len() {
        let Ok(archive) = Archive::new("a.tar", Blob::from(plain[..len].to_vec())) else {
            continue;
        };
        opened += 1;
        let found = contents(&archive).unwrap();
        assert!(found.iter().all(|member| whole.contains(member)), "{len}");
        // A cut is seen unless a header would come next. The last block may be cut.
        let next = plain.get(len.next_multiple_of(BLOCK) + 156).copied().unwrap_or(0);
        assert!(found.len() == whole.len() || b"05xL".contains(&next), "{len}");
    }
    assert!(opened > 5, "{opened}");
    let directory = scratch("cut");
    let forms = crate::forms(&plain).into_iter().skip(1);
    for (form, packed) in forms.chain([("seekable", seekable(&directory, true))]) {
        for len in 0..packed.len() {
            let cut = packed[..len].to_vec();
            let both = [
                Archive::new("a.tar", Blob::from(cut.clone())),
                Archive::read("a.tar", Cursor::new(cut)),
            ];
            for archive in both.into_iter().flatten() {
                // The tables of a seekable archive are not needed.
                assert_eq!(form, "seekable", "{len}");
                assert_eq!(contents(&archive).unwrap().len(), whole.len(), "{len}");
            }
        }
    }
}

#[test]
fn a_changed_byte_of_a_seekable_archive_is_found_or_changes_nothing() {
    for has_digests in [false, true] {
        change_each_byte(&seekable(&scratch("changed"), has_digests));
    }
}

fn change_each_byte(packed: &[u8]) {
    let whole = contents(&Archive::new("a.tar", Blob::from(packed.to_vec())).unwrap());
    let whole = whole.unwrap();
    let (mut refused, mut same) = (0, 0);
    for at in 0..packed.len() {
        for bit in [1, 0x80] {
            let mut changed = packed.to_vec();
            changed[at] ^= bit;
            let Ok(archive) = Archive::new("a.tar", Blob::from(changed)) else {
                refused += 1;
                continue;
            };
            let found = contents(&archive);
            if archive.verify(UNWATCHED).is_ok() {
                assert_eq!(found.as_ref(), Some(&whole), "byte {at}");
                same += 1;
            } else {
                // A checksum finds a change of content where it is read.
                assert!(found.is_none_or(|found| found == whole), "byte {at}");
                refused += 1;
            }
        }
    }
    assert!(refused > 5 * same, "{refused} refused, {same} as before");
}

#[test]
fn an_archive_that_changes_while_it_is_read_is_refused() {
    let directory = scratch("changing");
    let path = directory.join("a.tar");
    let changed = |error: Error| {
        let said = error.to_string();
        assert!(said.ends_with("its file has changed since it was opened"), "{said}");
    };
    fs::write(&path, plain()).unwrap();
    let archive = Archive::open(&path).unwrap();
    Digests::compute(&archive, UNWATCHED).unwrap();
    // The size stays, and so does the time that everybody can set.
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let same = File::options().write(true).open(&path).unwrap();
    same.write_all_at(b"[]", BLOCK as u64).unwrap();
    same.set_modified(before).unwrap();
    changed(Digests::compute(&archive, UNWATCHED).unwrap_err());
    changed(archive.verify(UNWATCHED).unwrap_err());
    changed(Extraction::of(&archive).into_new(directory.join("to")).unwrap_err());
    assert_eq!(names(&directory), ["a.tar"]);

    // A packed archive is unpacked a second time: what has moved is not read.
    for (form, packed) in crate::forms(&plain()).into_iter().skip(1) {
        fs::write(&path, packed).unwrap();
        let archive = Archive::open(&path).unwrap();
        let other = [file("evil", &[0; 2000]), plain()].concat();
        let (_, packed) =
            crate::forms(&other).into_iter().find(|(other, _)| *other == form).unwrap();
        fs::write(&path, packed).unwrap();
        let pages = archive.bytes("checkpoint/pages-1.img").unwrap();
        let said = pages.read_at(0, &mut [0; 10]).unwrap_err().to_string();
        assert!(said.contains("its file has changed since it was opened"), "{said}");
    }
}

#[test]
fn a_directory_swapped_for_a_link_gets_no_file() {
    let directory = scratch("swapped");
    let (outside, to) = (directory.join("outside"), directory.join("to"));
    fs::create_dir(&outside).unwrap();
    let members = [
        header("a", b'5', 0).to_vec(),
        file("a/first", b"1"),
        file("b", b"2"),
        file("a/second", b"3"),
    ];
    let bytes = [members.concat(), vec![0; 2 * BLOCK]].concat();
    let archive = Archive::new("a.tar", Blob::from(bytes)).unwrap();
    let hidden = || -> Option<PathBuf> {
        let name = names(&directory).into_iter().find(|name| name.starts_with(".to."))?;
        Some(directory.join(name))
    };
    let mut is_swapped = false;
    let swap = |done: criu_archive::Extracted| {
        // After `b`, so that `a` is opened again.
        if done.members == 3 && !std::mem::replace(&mut is_swapped, true) {
            let hidden = hidden().unwrap();
            fs::rename(hidden.join("a"), hidden.join("moved")).unwrap();
            symlink(&outside, hidden.join("a")).unwrap();
        }
        ControlFlow::Continue(())
    };
    let error = Extraction::of(&archive).progress(swap).into_new(&to).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Write(_)), "{error}");
    assert!(names(&outside).is_empty());
    assert_eq!(names(&directory), ["outside"]);
}

/// The list of changed files is an archive in the archive, and may be packed again.
#[test]
fn a_bomb_in_an_archive_is_refused() {
    let directory = scratch("nested-bomb");
    let mut claim = header("zeros", b'0', 1 << 40).to_vec();
    claim.extend([0; 4 * BLOCK]);
    for (form, bytes) in crate::forms(&claim).into_iter().skip(1) {
        let path = directory.join("a.tar");
        fs::write(&path, [file("rootfs-diff.tar", &bytes), vec![0; 2 * BLOCK]].concat()).unwrap();
        let archive = Archive::open(&path).unwrap();
        let top = archive.folder("");
        let error = Metadata::of("a.tar", &top).rootfs_diff().unwrap_err();
        let limit = bounds::UNPACKED.get();
        let ErrorKind::TooLarge { limit: found, .. } = *error.kind() else {
            panic!("{form}: {error}")
        };
        assert_eq!(found, limit, "{form}");
    }
}

/// Sparse files of GNU tar, in each of its forms, are listed and not read.
#[test]
fn sparse_files_of_gnu_tar_are_not_read() {
    let directory = scratch("sparse-forms");
    let holes = File::create(directory.join("holes")).unwrap();
    // More pieces than the map in a header has room for.
    (0..40).for_each(|piece| holes.write_all_at(&[1; 4096], piece << 20).unwrap());
    fs::write(directory.join("other"), "1").unwrap();
    let path = directory.join("a.tar");
    let forms: [&[&str]; 5] = [
        &["--format=gnu"],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for form in forms {
        let mut tar = Command::new("tar");
        tar.arg("-cSf").arg(&path).args(form).arg("-C").arg(&directory).args(["holes", "other"]);
        assert!(tar.status().unwrap().success());
        let archive = Archive::open(&path).unwrap();
        let kinds: Vec<_> = archive.members().map(|member| member.kind().clone()).collect();
        assert_eq!(kinds, [MemberKind::Sparse, MemberKind::File], "{form:?}");
        let error = archive.bytes("holes").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unsupported(_)), "{error}");
        assert_eq!(archive.bytes("other").unwrap().len(), 1);
    }
}
