//! Restores from archives.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criu_archive::UNWATCHED;
use criu_archive::write::{Draft, Options, Pack};
use criu_images::source::Directory;
use criu_lab::names;
use criu_rs::Restore;
use criu_rs::archive::{Archive, LaidOut};
use criu_rs::lazy::LazyOptions;

use crate::lab::{Lab, TestFn};
use crate::lazy::{is_right, patterned};

pub const TESTS: &[(&str, TestFn)] =
    &[("an_archive_is_restored_whole_and_with_pages_that_come_later", restore)];

fn restore(lab: &Lab) {
    let (mut target, images) = patterned(lab, 1);
    let above = images.parent().unwrap().join("archive");
    fs::create_dir(&above).unwrap();
    let file = above.join("a.tar.zst");
    pack(&images, &file);
    let archive = Archive::open(&file).unwrap();

    let lazy = LaidOut::lazy(&archive, "checkpoint", &above).unwrap();
    // Twice 4 MiB come later, and nothing of these is in the directory.
    let (copied, later) = (lazy.outline().copied, lazy.outline().later);
    assert!(later >= 8 << 20 && copied < 4 << 20, "{copied} bytes copied, {later} later");
    let restore = Restore::new(lazy.directory()).rst_sibling(true);
    let pages = lazy.pages(LazyOptions::default()).unwrap().unwrap();
    let (restored, memory) = restore.lazy(&pages).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    is_right(&target, 1);
    assert!(memory.wait(Some(Duration::from_secs(20))).unwrap());
    assert!(memory.statistics().bytes >= later, "{:?}", memory.statistics());
    drop((memory, pages, lazy));
    assert_eq!(names(&above), ["a.tar.zst"]);

    target.end();
    let whole = LaidOut::whole(&archive, "checkpoint", &above).unwrap();
    assert_eq!(whole.outline().later, 0);
    assert!(whole.pages(LazyOptions::default()).unwrap().is_none());
    let restored = Restore::new(whole.directory()).rst_sibling(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    drop(whole);
    is_right(&target, 1);
    assert_eq!(names(&above), ["a.tar.zst"]);
}

/// Makes a seekable archive of images.
fn pack(images: &Path, file: &Path) {
    let mut draft = Draft::new();
    let source = Directory::open(images).unwrap();
    draft.add_images("checkpoint", "images", Arc::new(source)).unwrap();
    let mut options = Options::default();
    options.pack = Pack::Seekable { level: 1, threads: 2 };
    draft.save(file, &options, UNWATCHED).unwrap();
}
