//! Archives that are written: what other programs read in them, and what happens when it fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "common/engines.rs"]
mod engines;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criu_archive::metadata::Engine;
use criu_archive::write::{Draft, Options, Pack};
use criu_archive::{Archive, Digests, ErrorKind, Extraction, Packing, UNWATCHED};
use criu_images::source::{Blob, Directory, ReadAt, Source};
use criu_lab::place::Short;
use criu_lab::scratch;
use engines::{archive_of, run};

fn options(pack: Pack) -> Options {
    let mut options = Options::default();
    options.pack = pack;
    options
}

fn draft_of(archive: &Archive) -> Draft {
    let mut draft = Draft::new();
    for member in archive.members() {
        draft.add_member(archive, member).unwrap();
    }
    draft
}

#[test]
fn tar_reads_what_is_written() {
    let directory = scratch("written");
    let files = directory.join("files");
    // Names that have no room in a header, letters outside of ASCII, an empty file, a folder,
    // links.
    let deep = format!("{}/{}", "d".repeat(120), "e".repeat(130));
    fs::create_dir_all(files.join(&deep)).unwrap();
    fs::write(files.join(&deep).join("f".repeat(200)), "deep").unwrap();
    fs::write(files.join("z\u{fc}rich \u{1f600}"), "unicode").unwrap();
    fs::write(files.join("n".repeat(100)), "hundred").unwrap();
    fs::write(files.join("empty"), "").unwrap();
    fs::write(files.join("block"), [7; 512]).unwrap();
    fs::set_permissions(files.join("block"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::create_dir(files.join("folder")).unwrap();
    symlink("../block", files.join("folder/link")).unwrap();
    symlink("x".repeat(150), files.join("long")).unwrap();
    fs::hard_link(files.join("block"), files.join("a-second-name")).unwrap();
    let pages = File::create(files.join("pages-1.img")).unwrap();
    pages.set_len(3 << 20).unwrap();
    let old = directory.join("old.tar");
    run(Command::new("tar")
        .arg("--format=pax")
        .arg("-C")
        .arg(&files)
        .arg("-cf")
        .arg(&old)
        .arg("."));
    let archive = Archive::open(&old).unwrap();
    let listed = |path: &Path| -> Vec<String> {
        let list = run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(path));
        let list = String::from_utf8(list).unwrap();
        // GNU tar shows which of two names comes first.
        let rows =
            list.lines().map(|row| row.replace(" ./", " ").replace("link to ./", "link to "));
        let mut rows: Vec<_> = rows.filter(|row| !row.ends_with(' ')).collect();
        rows.sort_unstable();
        rows
    };
    let plain = directory.join("plain.tar");
    draft_of(&archive).save(&plain, &Options::default(), UNWATCHED).unwrap();
    let want = listed(&old);
    assert_eq!(listed(&plain), want);
    // GNU tar tells the packing by the bytes.
    for (pack, packing) in [
        (Pack::Gzip { level: 6 }, Packing::Gzip),
        (Pack::Seekable { level: 1, threads: 2 }, Packing::Seekable),
    ] {
        let packed = directory.join("packed.tar");
        draft_of(&archive).save(&packed, &options(pack), UNWATCHED).unwrap();
        assert_eq!(Archive::open(&packed).unwrap().packing(), packing);
        assert_eq!(listed(&packed), want);
        let out = directory.join(format!("{packing:?}"));
        fs::create_dir(&out).unwrap();
        run(Command::new("tar").arg("-C").arg(&out).arg("-xpf").arg(&packed));
        run(Command::new("diff").arg("-r").arg("--no-dereference").arg(&files).arg(&out));
    }
    // The mode is that of the file alone.
    assert_eq!(fs::metadata(&plain).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn hard_links_follow_a_member_that_is_renamed_and_outlive_one_that_is_gone() {
    let directory = scratch("renamed");
    fs::write(directory.join("a"), "old").unwrap();
    for link in ["b", "c", "d"] {
        fs::hard_link(directory.join("a"), directory.join(link)).unwrap();
    }
    let tar = directory.join("links.tar");
    run(Command::new("tar")
        .arg("-C")
        .arg(&directory)
        .arg("-cf")
        .arg(&tar)
        .args(["a", "b", "c", "d"]));
    let archive = Archive::open(&tar).unwrap();
    let read = |draft: &Draft| -> Vec<(String, String)> {
        let mut bytes = Vec::new();
        draft.write("out", &mut bytes, &Options::default(), UNWATCHED).unwrap();
        let written = Archive::new("out", Blob::from(bytes)).unwrap();
        let content = |path: &str| {
            let blob = written.bytes(path).unwrap();
            let mut bytes = vec![0; usize::try_from(blob.len()).unwrap()];
            blob.read_at(0, &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        written.members().map(|member| (member.path().into(), content(member.path()))).collect()
    };
    let all = |paths: &[&str]| -> Vec<(String, String)> {
        paths.iter().map(|path| ((*path).into(), "old".into())).collect()
    };
    let mut draft = draft_of(&archive);
    draft.rename("a", "z");
    assert_eq!(read(&draft), all(&["b", "c", "d", "z"]));
    // In the place of a link, and of the member that the link names.
    draft.rename("z", "c");
    assert_eq!(read(&draft), all(&["b", "c", "d"]));
    draft.rename("d", "c");
    assert_eq!(read(&draft), all(&["b", "c"]));
    draft.remove("c");
    assert_eq!(read(&draft), all(&["b"]));
    let mut draft = draft_of(&archive);
    draft.add_bytes("a", &b"new"[..]).unwrap();
    let mut want = all(&["a", "b", "c", "d"]);
    want[0].1 = "new".into();
    assert_eq!(read(&draft), want);
    // A link alone, whose target is in the other archive only.
    let mut draft = Draft::new();
    draft.add_member(&archive, archive.member("b").unwrap()).unwrap();
    assert_eq!(read(&draft), all(&["b"]));
}

#[test]
fn a_name_as_long_as_names_may_be_is_written() {
    let path = scratch("long-name").join("n".repeat(255));
    let mut draft = Draft::new();
    draft.add_bytes("a", &b"1"[..]).unwrap();
    for _ in 0..2 {
        draft.save(&path, &Options::default(), UNWATCHED).unwrap();
    }
    assert!(Archive::open(path).unwrap().member("a").is_some());
}

#[test]
fn an_archive_in_a_directory_that_may_not_be_read_is_written() {
    // Folders above a checkout may be closed to others.
    let directory = Short::folder();
    let (directory, path) = (directory.path(), directory.join("a.tar"));
    fs::write(&path, "old").unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(directory, Some(NOBODY), None).unwrap();
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o300)).unwrap();
    let saved = std::thread::scope(|scope| {
        let save = || {
            if is_root {
                criu_lab::raw::thread_becomes(NOBODY).unwrap();
            }
            fs::read_dir(directory).unwrap_err();
            let mut draft = Draft::new();
            draft.add_bytes("a", &b"1"[..]).unwrap();
            draft.save(&path, &Options::default(), UNWATCHED)
        };
        scope.spawn(save).join().unwrap()
    });
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(saved.unwrap().members, 1);
    assert!(Archive::open(path).unwrap().member("a").is_some());
}

#[test]
fn small_members_come_first_and_pages_last() {
    let (old, _) = archive_of(Engine::Podman, "order");
    let new = old.with_extension("new");
    let draft = draft_of(&Archive::open(&old).unwrap());
    let seen = AtomicU64::new(0);
    draft
        .save(&new, &Options::default(), &|done| {
            seen.store(done, Ordering::Relaxed);
            UNWATCHED(done)
        })
        .unwrap();
    assert_eq!(seen.into_inner(), draft.size());
    let list = String::from_utf8(run(Command::new("tar").arg("-tf").arg(&new))).unwrap();
    let want = [
        "artifacts/",
        "checkpoint/",
        "volumes/",
        "config.dump",
        "spec.dump",
        "deleted.files",
        "network.status",
        "site.note",
        "stats-dump",
        "checkpoint/descriptors.json",
        "checkpoint/inventory.img",
        "volumes/data.tar",
        "ctr.log",
        "devshm-checkpoint.tar",
        "rootfs-diff.tar",
        "checkpoint/pages-1.img",
    ];
    assert_eq!(list.lines().collect::<Vec<_>>(), want);
}

#[test]
fn an_archive_has_digests_of_members_on_request_and_is_verified_without() {
    let (old, _) = archive_of(Engine::CriO, "digests");
    let draft = draft_of(&Archive::open(old).unwrap());
    let write = |has_digests| {
        let mut options = options(Pack::Seekable { level: 1, threads: 2 });
        options.has_digests = has_digests;
        let mut bytes = Vec::new();
        let saved = draft.write("out", &mut bytes, &options, UNWATCHED).unwrap();
        (Archive::new("out", Blob::from(bytes)).unwrap(), saved)
    };
    let (archive, saved) = write(false);
    assert_eq!(saved.diff_id, None);
    assert_eq!(Digests::recorded(&archive).unwrap(), None);
    let verified = archive.verify(UNWATCHED).unwrap();
    let digests = Digests::compute(&archive, UNWATCHED).unwrap();
    let (archive, saved) = write(true);
    assert!(saved.diff_id.is_some());
    assert_eq!(Digests::recorded(&archive).unwrap(), Some(digests));
    assert_eq!(archive.verify(UNWATCHED).unwrap(), verified);
    assert!(verified.has_digests && verified.members > 5);
}

#[test]
fn a_reproducible_archive_has_the_same_bytes_each_time() {
    let (old, files) = archive_of(Engine::CriO, "reproducible");
    let write = |tar: &Path, threads| {
        let mut options = options(Pack::Seekable { level: 3, threads });
        options.is_reproducible = true;
        options.has_digests = true;
        let mut bytes = Vec::new();
        let draft = draft_of(&Archive::open(tar).unwrap());
        let saved = draft.write("out", &mut bytes, &options, UNWATCHED).unwrap();
        (bytes, saved.diff_id)
    };
    let first = write(&old, 1);
    // Other times, another owner, another order.
    let other = old.with_extension("other");
    run(Command::new("touch").arg("-d").arg("2001-01-01").arg(files.join("spec.dump")));
    let mut tar = Command::new("tar");
    tar.arg("--owner=someone:1234").arg("-C").arg(&files).arg("-cf").arg(&other).arg(".");
    run(&mut tar);
    assert!(first == write(&other, 4));
    // Not without being asked.
    let plain = |tar: &Path| {
        let mut bytes = Vec::new();
        let draft = draft_of(&Archive::open(tar).unwrap());
        draft.write("out", &mut bytes, &Options::default(), UNWATCHED).unwrap();
        bytes
    };
    assert!(plain(&old) != plain(&other));
}

/// A file that has another size each time it is looked at.
#[derive(Debug)]
struct Moving {
    sizes: [u64; 2],
    looks: AtomicU64,
}

#[derive(Debug)]
struct Cut(u64, u64);

impl ReadAt for Cut {
    fn size(&self) -> u64 {
        self.0
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        if offset + buf.len() as u64 > self.1 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buf.fill(7);
        Ok(())
    }
}

impl Source for Moving {
    fn names(&self) -> criu_images::Result<Vec<String>> {
        Ok(vec!["pages-1.img".into()])
    }

    fn open(&self, _: &str) -> criu_images::Result<Option<Blob>> {
        Ok(Some(Blob::new(Cut(self.sizes[0], self.sizes[1]))))
    }

    fn size(&self, _: &str) -> criu_images::Result<Option<u64>> {
        let look = self.looks.fetch_add(1, Ordering::Relaxed).min(1);
        Ok(Some(self.sizes[usize::try_from(look).unwrap()]))
    }

    fn parent(&self) -> criu_images::Result<Option<Box<dyn Source>>> {
        Ok(None)
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_and_the_old_archive_stays() {
    let path = scratch("moving").join("a.tar");
    fs::write(&path, "old").unwrap();
    for sizes in [[5 << 20, 3 << 20], [3 << 20, 5 << 20]] {
        let mut draft = Draft::new();
        let source = Moving { sizes, looks: AtomicU64::new(0) };
        draft.add_images("checkpoint", "img", Arc::new(source)).unwrap();
        let error = draft.save(&path, &Options::default(), UNWATCHED).unwrap_err();
        let ErrorKind::Changed { before, now } = *error.kind() else { panic!("{error}") };
        assert_eq!([before, now], sizes);
        let [before, now] = sizes;
        let want = format!(
            "img: pages-1.img: has changed while it was read: it had {before} bytes and has {now}"
        );
        assert_eq!(error.to_string(), want);
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_link_that_is_not_extracted_is_not_written() {
    let directory = scratch("link-not-extracted");
    symlink("folder/../file", directory.join("link")).unwrap();
    run(Command::new("tar").args(["-cf", "a.tar", "link"]).current_dir(&directory));
    let archive = Archive::open(directory.join("a.tar")).unwrap();
    let mut draft = Draft::new();
    let error = draft.add_member(&archive, archive.member("link").unwrap()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused(_)), "{error}");
    assert_eq!(error.member(), Some("link"));
    assert!(Extraction::of(&archive).into_new(directory.join("to")).is_err());
}

#[test]
fn a_full_disk_is_an_error_that_names_the_member() {
    let (old, _) = archive_of(Engine::Podman, "full");
    let draft = draft_of(&Archive::open(&old).unwrap());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = draft.write("out.tar", full, &Options::default(), UNWATCHED).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Write(_)), "{error}");
    let cause = std::error::Error::source(&error).unwrap();
    assert!(cause.is::<std::io::Error>(), "{cause}");
    let said = error.to_string();
    assert!(said.starts_with("out.tar: artifacts: cannot be written: No space left"), "{said}");
}

#[test]
fn paths_and_links_that_lead_out_are_refused() {
    let mut draft = Draft::new();
    for path in ["../a", "a/../../b", "", "."] {
        assert!(draft.add_bytes(path, "x").is_err(), "{path}");
    }
    for target in ["../out", "/etc/shadow", "a/../../out", "a/../b", "a\0b"] {
        assert!(draft.add_link("link", target).is_err(), "{target}");
    }
    draft.add_link("folder/link", "../inside").unwrap();
    draft.add_bytes("/absolute", "x").unwrap();
    assert_eq!(draft.paths().collect::<Vec<_>>(), ["absolute", "folder/link"]);
}

#[test]
fn sizes_above_eight_gibibytes_are_written() {
    #[derive(Debug)]
    struct Zeros(u64);
    impl ReadAt for Zeros {
        fn size(&self) -> u64 {
            self.0
        }
        fn read_at(&self, _: u64, buf: &mut [u8]) -> std::io::Result<()> {
            buf.fill(0);
            Ok(())
        }
    }
    /// Keeps the first bytes, and stops the writer behind them.
    struct First(Vec<u8>);
    impl std::io::Write for First {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(bytes);
            if self.0.len() < 64 << 10 {
                Ok(bytes.len())
            } else {
                Err(std::io::Error::other("enough"))
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let size = (8 << 30) + 5;
    let mut draft = Draft::new();
    draft.add_blob("big", Blob::new(Zeros(size))).unwrap();
    draft.add_bytes("next", "small").unwrap();
    let mut first = First(Vec::new());
    draft.write("out", &mut first, &Options::default(), UNWATCHED).unwrap_err();
    // The small one comes first; behind it the headers of the big one, and then a hole.
    let directory = scratch("eight-gib");
    let path = directory.join("a.tar");
    let at = 1024 + 3 * 512;
    fs::write(&path, &first.0[..at]).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(at as u64 + size.next_multiple_of(512) + 1024).unwrap();
    let archive = Archive::open(&path).unwrap();
    assert_eq!(archive.member("big").unwrap().size(), size);
    let list = String::from_utf8(run(Command::new("tar").arg("-tvf").arg(&path))).unwrap();
    assert!(list.lines().nth(1).unwrap().contains(&format!(" {size} ")), "{list}");
}

#[test]
fn a_directory_of_images_is_written_as_it_is() {
    let directory = scratch("images");
    fs::write(directory.join("inventory.img"), "inventory").unwrap();
    let pages = File::create(directory.join("pages-1.img")).unwrap();
    pages.set_len(1 << 20).unwrap();
    let mut draft = Draft::new();
    let images = Arc::new(Directory::open(&directory).unwrap());
    assert!(draft.add_images("checkpoint", "img", images).unwrap().is_empty());
    let path = directory.with_extension("tar");
    draft.save(&path, &Options::default(), UNWATCHED).unwrap();
    let out = scratch("images-out");
    run(Command::new("tar").arg("-C").arg(&out).arg("-xf").arg(&path));
    run(Command::new("diff").arg("-r").arg(&directory).arg(out.join("checkpoint")));
}

const NOBODY: u32 = 65534;
