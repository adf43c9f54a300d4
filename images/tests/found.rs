//! The faults that fuzzing has found, each as a test of its own.

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{ANON, PAGE, image, one_task, pagemap, run, vma};
use criu_images::json::{Style, decode, encode};
use criu_images::memory::{PageObject, PageSet, PageSize};
use criu_images::proto::{
    FileEntry, FownEntry, FsEntry, InetSkEntry, RegFileEntry, SkOptsEntry, VmaEntry,
};
use criu_images::source::InMemory;
use criu_images::{Diff, Image, ImageSet, kind};
use prost::Message;

// It is not exhaustive, and so cannot be written in one piece.
#[allow(clippy::field_reassign_with_default)]
fn json(bytes: &[u8], pretty: bool) -> String {
    let mut text = Vec::new();
    let style = Style { pretty, no_payload: false };
    decode(Image::detect("image", bytes).unwrap(), style, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn round_trip(bytes: &[u8], pretty: bool) -> String {
    let text = json(bytes, pretty);
    let mut back = Vec::new();
    encode(text.as_bytes(), &mut back).unwrap();
    assert_eq!(json(&back, pretty), text);
    text
}

#[test]
fn a_word_of_an_address_that_is_too_long_is_cut_before_it_is_shown() {
    let socket = InetSkEntry {
        fown: FownEntry::default(),
        opts: SkOptsEntry::default(),
        ..Default::default()
    };
    let mut message = socket.encode_to_vec();
    // dst_addr, in ten bytes.
    message.push(12 << 3);
    message.extend([0xff; 9]);
    message.push(1);
    let text = round_trip(&image(kind::INETSK, &[message]), true);
    assert!(text.contains("\"255.255.255.255\""), "{text}");
}

#[test]
fn a_number_that_is_too_long_is_cut_before_its_name_is_found() {
    // A core: x86-64, and its task, whose state is 2 in nine bytes.
    let task = b"\x08\x82\x80\x80\x80\x80\x80\x80\x80\x08\x10\x00\x18\x00\x20\x00\x28\x00\x32\x01x";
    let mut message = vec![0x08, 1, 0x1a, u8::try_from(task.len()).unwrap()];
    message.extend(task);
    let text = round_trip(&image(kind::CORE, &[message]), true);
    assert!(text.contains("\"task_state\": \"Dead\""), "{text}");
}

/// A task of these mappings with directories and a program.
fn task(vmas: Vec<VmaEntry>) -> InMemory {
    let mut files = one_task(vmas);
    let program = RegFileEntry { name: b"/bin/it".into(), ..Default::default() };
    let entry = FileEntry { r#type: 1, reg: Some(program), ..Default::default() };
    files.insert("files.img", image(kind::FILES, &[entry.encode_to_vec()]));
    files.insert("pagemap-1.img", pagemap(1, &[]));
    files.insert("pages-1.img", Vec::new());
    files.insert("fs-1.img", image(kind::FS, &[FsEntry::default().encode_to_vec()]));
    files
}

#[test]
fn a_huge_mapping_with_nothing_in_it_is_compared_in_one_step() {
    // As large as an address can be: in steps of a MiB this took hours.
    let set = ImageSet::new(task(vec![vma(0x40_0000, (1 << 51) - 0x400, ANON)])).unwrap();
    let (old, new) = (set.checkpoint().unwrap(), set.checkpoint().unwrap());
    assert!(Diff::new(old, new).unwrap().is_empty());
}

#[test]
fn pages_that_are_lacking_are_passed_over_together() {
    const BASE: u64 = 0x40_0000;
    let many = 1 << 40;
    let covered = |files: InMemory| {
        let set = PageSet::new(files, PageSize::K4);
        set.pages(PageObject::Task(1)).unwrap().unwrap().covered().unwrap()
    };
    // Kept back, as a client of a page server may say of as many pages as it likes.
    let mut files = InMemory::default();
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE, many, 2), run(BASE + many * PAGE, 1, 4)]));
    files.insert("pages-1.img", vec![7; 4096]);
    let end = BASE + many * PAGE;
    assert_eq!(covered(files.clone()), [(end, end + PAGE)]);
    // Left to a parent set that has one page of them.
    let mut child = InMemory::default();
    child.insert("pagemap-1.img", pagemap(1, &[run(0, 2 * many, 1)]));
    child.insert("pages-1.img", Vec::new());
    assert_eq!(covered(child.clone()), []);
    child.set_parent(files);
    assert_eq!(covered(child), [(end, end + PAGE)]);
}
