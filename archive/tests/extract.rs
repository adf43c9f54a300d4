//! Extraction and digests: inside a new directory, whole or not at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use criu_archive::{Archive, Digests, ErrorKind, Extraction, UNWATCHED};
use criu_lab::{names, scratch};

/// An archive as Podman exports one, packed by a program of tar.
fn export(name: &str, options: &[&str]) -> (PathBuf, PathBuf) {
    let directory = scratch(name);
    let from = directory.join("from");
    fs::create_dir_all(from.join("checkpoint")).unwrap();
    fs::create_dir_all(from.join("volumes")).unwrap();
    fs::write(from.join("config.dump"), "{}").unwrap();
    fs::write(from.join("empty"), "").unwrap();
    fs::write(from.join("checkpoint/inventory.img"), b"123").unwrap();
    fs::write(from.join("volumes/data.tar"), vec![9; 3000]).unwrap();
    fs::hard_link(from.join("config.dump"), from.join("volumes/same")).unwrap();
    symlink("../pre-checkpoint", from.join("checkpoint/parent")).unwrap();
    let pages = File::create(from.join("checkpoint/pages-1.img")).unwrap();
    pages.set_len(4 << 20).unwrap();
    pages.write_all_at(&[7; 4096], 0).unwrap();
    pages.write_all_at(&[8; 4096], (3 << 20) + 5).unwrap();
    let set = |path: &str, mode| {
        fs::set_permissions(from.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("config.dump", 0o6640);
    set("checkpoint/inventory.img", 0o400);
    set("volumes", 0o555);
    let mut tar = Command::new("tar");
    let sorted = ["--mtime=@1234567", "--sort=name", "-cf", "../a.tar", "."];
    let made = tar.args(options).args(sorted).current_dir(&from).status();
    assert!(made.unwrap().success());
    set("volumes", 0o755);
    (directory.join("a.tar"), from)
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn members_come_out_as_they_went_in() {
    for options in [&[][..], &["--gzip"], &["--zstd"], &["--format=posix"]] {
        let (path, from) = export("whole", options);
        let archive = Archive::open(&path).unwrap();
        let to = path.with_file_name("to");
        let told = AtomicU64::new(0);
        let done = Extraction::of(&archive)
            .progress(|done| {
                assert!(done.bytes <= done.total);
                told.store(done.bytes, Ordering::Relaxed);
                ControlFlow::Continue(())
            })
            .into_new(&to)
            .unwrap();
        let bytes = (4 << 20) + 2 + 3 + 3000;
        assert_eq!((done.members, done.bytes, done.total), (9, bytes, bytes), "{options:?}");
        assert_eq!(told.into_inner(), bytes);
        let same =
            Command::new("diff").args(["-r", "--no-dereference"]).args([&from, &to]).status();
        assert!(same.unwrap().success(), "{options:?}");
        // Private, without dangerous bits, with times and holes; hard links stay links.
        assert_eq!(mode(&to), 0o700);
        assert_eq!(mode(to.join("config.dump")), 0o640);
        assert_eq!(mode(to.join("checkpoint/inventory.img")), 0o400);
        assert_eq!(mode(to.join("volumes")), 0o755);
        let pages = fs::metadata(to.join("checkpoint/pages-1.img")).unwrap();
        assert!(pages.blocks() < 1024, "{} blocks", pages.blocks());
        assert_eq!((pages.mtime(), pages.uid()), (1_234_567, nix::unistd::geteuid().as_raw()));
        assert_eq!(fs::metadata(to.join("volumes")).unwrap().mtime(), 1_234_567);
        let inode = |name: &str| fs::metadata(to.join(name)).unwrap().ino();
        assert_eq!(inode("config.dump"), inode("volumes/same"));
        assert_eq!(names(path.parent().unwrap()), ["a.tar", "from", "to"]);
    }
}

#[test]
fn the_directory_may_have_the_longest_name() {
    let (path, _) = export("long-name", &[]);
    let to = path.with_file_name("n".repeat(255));
    let archive = Archive::open(&path).unwrap();
    Extraction::of(&archive).into_new(&to).unwrap();
    assert!(to.join("config.dump").exists());
}

#[test]
fn only_what_is_asked_for_comes_out() {
    let (path, _) = export("some", &["--zstd"]);
    let archive = Archive::open(&path).unwrap();
    let to = path.with_file_name("to");
    // An empty directory is taken. A link whose target stays behind becomes a file.
    fs::create_dir(&to).unwrap();
    let some =
        Extraction::of(&archive).only("checkpoint/*.img").only("volumes").with_special_bits();
    some.into_new(&to).unwrap();
    assert_eq!(names(&to), ["checkpoint", "volumes"]);
    assert_eq!(names(to.join("checkpoint")), ["inventory.img", "pages-1.img"]);
    assert_eq!(fs::read_to_string(to.join("volumes/same")).unwrap(), "{}");
    assert_eq!(mode(to.join("volumes/same")), 0o6640);
    let refused = Extraction::of(&archive).only("absent*").into_new(path.with_file_name("b"));
    let said = refused.unwrap_err().to_string();
    assert!(said.ends_with("a.tar: absent*: is missing"), "{said}");
}

#[test]
fn an_extraction_that_fails_or_is_stopped_leaves_nothing() {
    let (path, _) = export("fails", &[]);
    let archive = Archive::open(&path).unwrap();
    let (above, to) = (path.parent().unwrap(), path.with_file_name("to"));
    let stopped = Extraction::of(&archive)
        .progress(|done| match done.bytes {
            0..0x10_0000 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        })
        .into_new(&to);
    assert!(matches!(stopped.unwrap_err().kind(), ErrorKind::Stopped));
    let error = Extraction::of(&archive).limit(1 << 20).into_new(&to).unwrap_err();
    let ErrorKind::TooLarge { size, limit } = *error.kind() else { panic!("{error}") };
    assert!((size, limit) > (4 << 20, 0) && limit == 1 << 20, "{error}");
    // A file that becomes shorter.
    let packed = File::options().write(true).open(&path).unwrap();
    packed.set_len(packed.metadata().unwrap().len() / 2).unwrap();
    let said = Extraction::of(&archive).into_new(&to).unwrap_err().to_string();
    assert!(said.contains("a.tar: checkpoint/pages-1.img: cannot be read: "), "{said}");
    // Places that are taken.
    fs::create_dir(&to).unwrap();
    fs::write(to.join("mine"), "kept").unwrap();
    symlink("to", above.join("link")).unwrap();
    for (place, why) in [
        ("to", "is not empty; name a new directory"),
        ("from/empty", "exists and is not a directory"),
        ("link", "exists and is not a directory"),
        ("absent/to", "No such file or directory"),
        ("to/..", "has no name of its own; name a new directory"),
    ] {
        let error = Extraction::of(&archive).into_new(above.join(place)).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(names(&to), ["mine"]);
    assert_eq!(names(above), ["a.tar", "from", "link", "to"]);
}

#[test]
fn owners_are_kept_only_if_asked() {
    criu_lab::needs_root();
    let (path, _) = export("owners", &["--owner=user:1234", "--group=group:2345"]);
    let archive = Archive::open(&path).unwrap();
    for (with, wanted) in [(false, (0, 0)), (true, (1234, 2345))] {
        let to = path.with_file_name(format!("to-{with}"));
        let all = Extraction::of(&archive);
        if with { all.with_owners() } else { all }.into_new(&to).unwrap();
        for name in ["config.dump", "checkpoint"] {
            let found = fs::metadata(to.join(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), wanted, "{name}");
        }
        assert_eq!(mode(to.join("config.dump")), 0o640);
    }
}

#[test]
fn digests_of_all_members_are_those_of_sha256sum() {
    for options in [&[][..], &["--gzip"], &["--zstd"]] {
        let (path, from) = export("digests", options);
        let archive = Archive::open(&path).unwrap();
        let seen = AtomicU64::new(0);
        let digests = Digests::compute(&archive, &|bytes| {
            seen.fetch_max(bytes, Ordering::Relaxed);
            ControlFlow::Continue(())
        });
        let digests = digests.unwrap();
        let names: Vec<&str> = digests.iter().map(|(name, _)| name).collect();
        let wanted = Command::new("sha256sum").args(&names).current_dir(&from).output().unwrap();
        let found: String =
            digests.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
        assert_eq!(found, String::from_utf8(wanted.stdout).unwrap());
        assert_eq!(names.len(), 6);
        assert_eq!(seen.into_inner(), (4 << 20) + 2 + 3 + 3000);
        assert_eq!(Digests::recorded(&archive).unwrap(), None);
        let read = archive.verify(UNWATCHED).unwrap();
        assert_eq!((read.members, read.has_digests), (6, false));
        let stopped = Digests::compute(&archive, &|_| ControlFlow::Break(())).unwrap_err();
        assert!(matches!(stopped.kind(), ErrorKind::Stopped), "{stopped}");
    }
}
