//! Findings of `check` in sets made by hand. In real dumps it finds nothing (`real.rs`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{ANON, PAGE, image, load, one_task, pagemap, pattern, run, vma};
use criu_images::kind::Kind;
use criu_images::proto::{
    FileEntry, FileLockEntry, InetSkEntry, PipeDataEntry, PstreeEntry, RegFileEntry,
    RemapFilePathEntry, SkPacketEntry, TaskKobjIdsEntry, UtsnsEntry,
};
use criu_images::source::InMemory;
use criu_images::{ImageSet, check, check_pages, kind};
use prost::Message;

const BASE: u64 = 0x40_0000;

fn sample() -> InMemory {
    load(Path::new("tests/data/pipeline"))
}

/// A task of four pages, the first two of which are stored.
fn small() -> InMemory {
    let mut files = one_task(vec![vma(BASE, 4, ANON)]);
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE, 2, 4)]));
    files.insert("pages-1.img", [pattern(BASE), pattern(BASE + PAGE)].concat());
    files
}

/// Findings in `files` that are not in `small`.
fn found(files: InMemory) -> Vec<String> {
    let lines = |files| {
        let findings = check(&ImageSet::new(files).unwrap());
        findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let before = lines(small());
    lines(files).into_iter().filter(|line| !before.contains(line)).collect()
}

#[test]
fn a_whole_set_has_no_errors() {
    // Its pages are not among the test data.
    let findings = check(&ImageSet::new(sample()).unwrap());
    for finding in &findings {
        assert!(finding.error.image().starts_with("pages-"), "{finding}");
    }
    assert_eq!(findings.len(), 3);
}

#[test]
fn missing_images_are_found() {
    for name in ["core-10141.img", "ids-10142.img", "fdinfo-3.img", "mm-10141.img"] {
        let mut files = sample();
        files.remove(name);
        let findings = check(&ImageSet::new(files).unwrap());
        let named = findings
            .iter()
            .any(|finding| finding.to_string() == format!("error: {name}: is missing"));
        // Descriptor tables are left out when there is nothing open.
        assert_eq!(named, name != "fdinfo-3.img", "{name} {findings:?}");
    }
    let mut files = sample();
    files.remove("files.img");
    let findings = check(&ImageSet::new(files).unwrap());
    assert!(
        findings.iter().any(|finding| finding.to_string().contains("no file ")),
        "{findings:?}"
    );
}

#[test]
fn pages_files_of_another_size_are_found() {
    let mut files = small();
    files.insert("pages-1.img", pattern(BASE));
    assert_eq!(
        found(files),
        ["error: pages-1.img: ends early: 8192 bytes are needed, 4096 are left"]
    );
    let mut files = small();
    files.insert("pages-1.img", vec![0; 3 * 4096]);
    let warning = "warning: pages-1.img: is 0x3000, wanted the bytes its pagemap lists";
    assert_eq!(found(files), [warning]);
    let mut files = small();
    files.remove("pages-1.img");
    assert_eq!(found(files), ["error: pages-1.img: is missing"]);
}

#[test]
fn pages_of_nobody_are_found() {
    let mut files = small();
    files.insert("pages-7.img", vec![]);
    files.insert("strange.img", vec![]);
    files.insert("dump.log", vec![]);
    assert_eq!(
        found(files),
        [
            "warning: pages-7.img: does not belong to a pagemap",
            "note: strange.img: is not an image of CRIU"
        ]
    );
    let mut files = small();
    files.insert("pagemap-shmem-3.img", pagemap(1, &[run(0, 2, 4)]));
    assert_eq!(
        found(files),
        ["error: pagemap-shmem-3.img: shares its pages file with another pagemap"]
    );
}

#[test]
fn pagemaps_that_an_earlier_dump_has_left_stop_no_restore() {
    let found = |files| check_pages(&ImageSet::new(files).unwrap()).len();
    let mut files = small();
    // Both name the pages file that the dump has written anew, and more pages than it has.
    files.insert("pagemap-9.img", pagemap(1, &[run(BASE, 3, 4)]));
    files.insert("pagemap-shmem-9.img", pagemap(1, &[run(0, 3, 4)]));
    assert_eq!(found(files), 0);
    let mut files = small();
    files.insert("pages-1.img", pattern(BASE));
    assert_eq!(found(files), 1);
    let mut files = small();
    files.remove("pages-1.img");
    assert_eq!(found(files), 1);
}

#[test]
fn pages_outside_mappings_and_faults_of_a_pagemap_are_found() {
    let mut files = small();
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE + 3 * PAGE, 2, 4)]));
    let warning = "warning: pagemap-1.img: is 0x404000, wanted a page of a private mapping";
    assert_eq!(found(files), [warning]);
    let mut files = small();
    files.insert("pagemap-1.img", pagemap(1, &[run(BASE + PAGE, 1, 4), run(BASE, 1, 4)]));
    let lines = found(files);
    assert!(lines[0].contains("pagemap_entry.vaddr: is 0x400000"), "{lines:?}");
}

#[test]
fn what_a_parent_lacks_is_found_at_every_level() {
    let runs = |pages: &[(u64, u64, u32)]| {
        let runs: Vec<_> =
            pages.iter().map(|&(at, n, flags)| run(BASE + at * PAGE, n, flags)).collect();
        pagemap(1, &runs)
    };
    // The grandparent has pages 0 and 1, the parent leaves 0 to 2 to it.
    let mut oldest = InMemory::default();
    oldest.insert("pagemap-1.img", runs(&[(0, 1, 4), (1, 1, 4)]));
    oldest.insert("pages-1.img", vec![0; 8192]);
    let mut parent = InMemory::default();
    parent.insert("pagemap-1.img", runs(&[(0, 3, 1)]));
    parent.set_parent(oldest);
    let mut files = small();
    files.insert("pagemap-1.img", runs(&[(0, 2, 1), (3, 1, 1)]));
    files.remove("pages-1.img");
    files.set_parent(parent);
    assert_eq!(
        found(files),
        [
            "error: pagemap-1.img: leaves 0x403000 to a parent set, which lacks it",
            "error: parent/pagemap-1.img: leaves 0x402000 to a parent set, which lacks it"
        ]
    );
    // No parent at all.
    let mut files = small();
    files.insert("pagemap-1.img", runs(&[(0, 2, 1)]));
    files.remove("pages-1.img");
    let error = "error: pagemap-1.img: leaves 0x400000 to a parent set, which lacks it";
    assert_eq!(found(files), [error]);
}

#[test]
fn trees_and_namespaces_that_do_not_hang_together_are_found() {
    let mut files = small();
    let task = PstreeEntry { pid: 1, threads: vec![5], ..Default::default() };
    files.insert("pstree.img", image(kind::PSTREE, &[task.encode_to_vec()]));
    let lines = found(files);
    let first = "error: pstree.img: is 0x5, wanted the task itself as first thread";
    assert_eq!(lines, [first, "error: core-5.img: is missing"]);

    let mut files = small();
    let ids = TaskKobjIdsEntry { uts_ns_id: Some(9), ..Default::default() };
    files.insert("ids-1.img", image(kind::IDS, &[ids.encode_to_vec()]));
    assert_eq!(found(files), ["error: utsns-9.img: is missing"]);
}

#[test]
fn a_network_namespace_saved_empty_is_no_error() {
    let with_net = |others: &[&'static Kind]| {
        let mut files = small();
        let ids = TaskKobjIdsEntry { net_ns_id: Some(9), ..Default::default() };
        files.insert("ids-1.img", image(kind::IDS, &[ids.encode_to_vec()]));
        for kind in others {
            files.insert(kind.file_name(9), image(kind, &[]));
        }
        found(files)
    };
    let note = "note: netns-9.img: is absent: the network namespace was saved empty, \
                a restore must set it up";
    assert_eq!(with_net(&[]), [note]);
    // Tracked connections are saved in any case.
    assert_eq!(with_net(&[kind::NETNF_CT, kind::NETNF_EXP]), [note]);
    // A namespace that was saved has lost its main image.
    let error = "error: netns-9.img: is missing";
    for kind in [kind::NETDEV, kind::ROUTE6, kind::NFTABLES] {
        assert_eq!(with_net(&[kind]), [error], "{}", kind.name);
    }
}

#[test]
fn what_belongs_to_files_leads_to_them() {
    let data = |kind: &'static Kind, message: Vec<u8>, payload: &[u8]| {
        let mut bytes = image(kind, &[message]);
        bytes.extend(payload);
        (kind, bytes)
    };
    let pipe = PipeDataEntry { pipe_id: 7, bytes: 2, size: None };
    let packet = SkPacketEntry { id_for: 8, length: 1, ..Default::default() };
    let remap = RemapFilePathEntry { orig_id: 9, remap_id: 0xa, remap_type: Some(1) };
    let lock = FileLockEntry { pid: 99, ..Default::default() };
    for ((kind, bytes), line) in [
        (data(kind::PIPES_DATA, pipe.encode_to_vec(), b"ab"), "pipes-data.img: byte 12: no pipe 7"),
        (
            data(kind::SK_QUEUES, packet.encode_to_vec(), b"a"),
            "sk-queues.img: byte 12: no socket 8",
        ),
        (
            data(kind::REMAP_FPATH, remap.encode_to_vec(), b""),
            "remap-fpath.img: byte 12: no file 9",
        ),
        (data(kind::FILE_LOCKS, lock.encode_to_vec(), b""), "filelocks.img: no task 99"),
    ] {
        let mut files = small();
        files.insert(kind.file, bytes);
        let lines = found(files);
        assert!(lines.contains(&format!("error: {line}")), "{lines:?}");
    }
    // The file of a path that is gone, and what a connection had in its queues.
    let mut files = small();
    files.insert("remap-fpath.img", image(kind::REMAP_FPATH, &[remap.encode_to_vec()]));
    let regular = RegFileEntry { id: 9, ..Default::default() };
    let regular = FileEntry { r#type: 1, id: 9, reg: Some(regular), ..Default::default() };
    let socket = InetSkEntry {
        id: 3,
        ino: 0xab,
        family: 2,
        proto: 6,
        state: 1,
        src_port: 80,
        dst_port: 81,
        src_addr: vec![1],
        dst_addr: vec![2],
        ..Default::default()
    };
    let socket = FileEntry { r#type: 4, id: 3, isk: Some(socket), ..Default::default() };
    let entries = [regular.encode_to_vec(), socket.encode_to_vec()];
    files.insert("files.img", image(kind::FILES, &entries));
    let lines = found(files);
    for line in ["error: ghost-file-a.img: is missing", "error: tcp-stream-ab.img: is missing"] {
        assert!(lines.iter().any(|found| found == line), "{line} {lines:?}");
    }
}

#[test]
fn images_that_no_task_leads_to_are_read_to_their_ends() {
    let names = UtsnsEntry { nodename: b"host".into(), domainname: b"none".into() };
    let whole = image(kind::UTSNS, &[names.encode_to_vec()]);
    let mut files = small();
    files.insert("utsns-9.img", &whole[..]);
    assert_eq!(found(files), [""; 0]);
    let mut files = small();
    files.insert("utsns-9.img", &whole[..whole.len() - 1]);
    let line = "error: utsns-9.img: byte 12: ends early: 12 bytes are needed, 11 are left";
    assert_eq!(found(files), [line]);
    let mut files = small();
    files.insert("utsns-9.img", [&whole[..], &whole[8..]].concat());
    assert_eq!(found(files), ["error: utsns-9.img: has 2 entries, wanted 1"]);
}
