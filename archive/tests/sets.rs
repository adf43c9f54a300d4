//! Sets of images in archives, read in place.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(unexpected_cfgs, reason = "the features of criu-images")]
#[path = "../../images/tests/common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use common::{ANON, PAGE, image, one_task, pagemap, run, scratch, store, vma};
use criu_archive::{Archive, Folder};
use criu_images::memory::PageSource;
use criu_images::proto::{FileEntry, FsEntry, RegFileEntry};
use criu_images::source::InMemory;
use criu_images::{ImageSet, kind};
use prost::Message;

const BASE: u64 = 0x40_0000;

/// A task of eight pages with directories and a program. The listed pages are stored, each filled
/// with a byte of its own.
fn pages(stored: &[(u64, u8)]) -> InMemory {
    let mut files = one_task(vec![vma(BASE, 8, ANON)]);
    let program = RegFileEntry { name: b"/bin/it".into(), ..Default::default() };
    let entry = FileEntry { r#type: 1, reg: Some(program), ..Default::default() };
    files.insert("files.img", image(kind::FILES, &[entry.encode_to_vec()]));
    files.insert("fs-1.img", image(kind::FS, &[FsEntry::default().encode_to_vec()]));
    let runs: Vec<_> = stored.iter().map(|(page, _)| run(BASE + page * PAGE, 1, 4)).collect();
    files.insert("pagemap-1.img", pagemap(1, &runs));
    let bytes: Vec<u8> = stored.iter().flat_map(|(_, byte)| vec![*byte; 4096]).collect();
    files.insert("pages-1.img", bytes);
    files
}

#[test]
fn an_archive_is_read_where_it_lies() {
    let directory = scratch("tar");
    for (name, byte) in [("parent", 1), ("child", 2)] {
        let folder = directory.join("sets").join(name);
        fs::create_dir_all(&folder).unwrap();
        store(&pages(&[(0, byte), (1, byte)]), &folder);
    }
    let child = directory.join("sets/child");
    let runs = [run(BASE, 1, 1), run(BASE + PAGE, 1, 4)];
    fs::write(child.join("pagemap-1.img"), pagemap(1, &runs)).unwrap();
    fs::write(child.join("pages-1.img"), [2; 4096]).unwrap();
    symlink("../parent", child.join("parent")).unwrap();
    let tar = |words: &[&str]| {
        let made = Command::new("tar").args(words).current_dir(&directory).status().unwrap();
        assert!(made.success());
        directory.join(words[1])
    };
    let archive = Archive::open(tar(&["-cf", "a.tar", "sets"])).unwrap();
    let mut sets: Vec<_> = archive.sets().collect();
    sets.sort_unstable();
    assert_eq!(sets, ["sets/child", "sets/parent"]);
    let read = |source: Folder| -> criu_images::Result<[u8; 2]> {
        let set = ImageSet::new(source)?;
        let memory = set.checkpoint()?.root().memory()?.unwrap();
        let mut both = vec![0; 8192];
        memory.read_at(BASE, &mut both)?;
        Ok([both[0], both[4096]])
    };
    assert_eq!(read(archive.folder("./sets/child/")).unwrap(), [1, 2]);

    // A parent outside; one that comes back; sparse and compressed ones; one that ends early.
    let error =
        |path| read(Archive::open(path).unwrap().folder("sets/child")).unwrap_err().to_string();
    fs::remove_file(child.join("parent")).unwrap();
    symlink("../../../parent", child.join("parent")).unwrap();
    let said = error(tar(&["-cf", "b.tar", "sets"]));
    assert!(said.ends_with("b.tar: parent: leads out of the archive"), "{said}");
    fs::remove_file(child.join("parent")).unwrap();
    symlink("../child", child.join("parent")).unwrap();
    let said = error(tar(&["-cf", "c.tar", "sets"]));
    assert_eq!(said, "parent: parent sets form a loop or more than 1 levels");
    fs::remove_file(child.join("parent")).unwrap();
    symlink("../parent", child.join("parent")).unwrap();
    let sparse = fs::File::create(child.join("pages-1.img")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[2; 4096], 0).unwrap();
    for format in ["gnu", "posix"] {
        let name = format!("{format}.tar");
        let said = error(tar(&["-cSf", &name, "--format", format, "sets"]));
        assert_eq!(said, "pages-1.img: sparse files in archives are not supported");
    }
    let packed = directory.join("d.tar");
    fs::write(&packed, b"\xfd7zXZ\0").unwrap();
    let said = Archive::open(packed).unwrap_err().to_string();
    assert!(
        said.ends_with("d.tar: is compressed with xz, which has to be unpacked first"),
        "{said}"
    );
    // A pipe, and what is no archive, which does not speak to the terminal.
    let said = Archive::open("/dev/null").unwrap_err().to_string();
    assert_eq!(said, "/dev/null: is not a regular file");
    let none = directory.join("none.tar");
    fs::write(&none, [&b"\x1b]0;title\x07\n"[..], &[b'A'; 600]].concat()).unwrap();
    let said = Archive::open(none).unwrap_err().to_string();
    assert!(
        !said.contains(char::is_control) && said.ends_with("none.tar: is not a tar archive"),
        "{said}"
    );
    let whole = fs::read(directory.join("a.tar")).unwrap();
    let cut = directory.join("cut.tar");
    for len in (0..whole.len()).step_by(97) {
        fs::write(&cut, &whole[..len]).unwrap();
        match Archive::open(&cut) {
            Ok(archive) => _ = read(archive.folder("sets/child")),
            Err(error) => assert!(error.to_string().contains("cut.tar: "), "{error}"),
        }
    }
    for at in (0..whole.len()).step_by(53) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x41;
        fs::write(&cut, &flipped).unwrap();
        if let Ok(archive) = Archive::open(&cut) {
            _ = read(archive.folder("sets/child"));
        }
    }
}

#[test]
fn an_archive_opened_for_its_pages_is_read_once() {
    let directory = scratch("once");
    fs::create_dir(directory.join("set")).unwrap();
    store(&pages(&[(0, 1), (5, 2)]), &directory.join("set"));
    let read = |archive: &Archive| -> criu_images::Result<Vec<u8>> {
        let set = ImageSet::new(archive.folder("set"))?;
        let memory = set.checkpoint()?.root().memory()?.unwrap();
        let mut bytes = vec![0; 8 * 4096];
        memory.read_at(BASE, &mut bytes)?;
        Ok(bytes)
    };
    for (name, word) in [("a.tar", "-cf"), ("a.tar.gz", "-czf"), ("a.tar.zst", "--zstd -cf")] {
        let path = directory.join(name);
        let mut tar = Command::new("tar");
        tar.args(word.split(' ')).arg(&path).arg("set").current_dir(&directory);
        assert!(tar.status().unwrap().success());
        let want = read(&Archive::open(&path).unwrap()).unwrap();
        let firsts: Vec<u8> = want.chunks(4096).map(|page| page[0]).collect();
        assert_eq!(firsts, [1, 0, 0, 0, 0, 2, 0, 0]);

        let (once, twice) = (Archive::open_with_pages(&path), Archive::open(&path));
        let (once, twice) = (once.unwrap(), twice.unwrap());
        assert_eq!(once.packing(), twice.packing());
        assert!(once.members().eq(twice.members()));
        assert!(read(&once).unwrap() == want, "{name}");
        // What is not in memory is in the file, or was kept when the archive was opened.
        fs::File::create(&path).unwrap();
        assert!(read(&twice).is_err(), "{name}");
        assert_eq!(read(&once).is_ok_and(|bytes| bytes == want), name != "a.tar", "{name}");

        fs::write(&path, b"\x28\xb5\x2f\xfd is no archive").unwrap();
        assert!(Archive::open_with_pages(&path).is_err());
    }
}
