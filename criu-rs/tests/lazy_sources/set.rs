//! Sets made by hand.

use std::fs;
use std::path::Path;

use criu_images::kind::{self, Kind};
use criu_images::proto::{
    CoreEntry, InventoryEntry, MmEntry, PagemapEntry, PagemapHead, PstreeEntry, TaskCoreEntry,
    TaskKobjIdsEntry, ThreadCoreEntry, VmaEntry,
};
use criu_rs::lazy::{LazyError, Reader, Wanted};
use prost::Message;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const BASE: u64 = 0x7f00_0000_0000;
pub(crate) const PARENT: u32 = 1;
pub(crate) const LAZY: u32 = 2;
pub(crate) const PRESENT: u32 = 4;

/// Writes a set whose tasks have these mappings, and zombies.
pub(crate) fn tasks(directory: &Path, tasks: &[(u32, Vec<VmaEntry>)], zombies: &[u32]) {
    let write = |kind: &'static Kind, id: u32, messages: &[Vec<u8>]| {
        fs::write(directory.join(kind.file_name(id.into())), image(kind, messages)).unwrap();
    };
    let inventory =
        InventoryEntry { img_version: 2, fdinfo_per_id: Some(true), ..Default::default() };
    write(kind::INVENTORY, 0, &[inventory.encode_to_vec()]);
    let root = tasks[0].0;
    let entry = |pid: u32| {
        let ppid = if pid == root { 0 } else { root };
        PstreeEntry { pid, ppid, threads: vec![pid], ..Default::default() }.encode_to_vec()
    };
    let pids = tasks.iter().map(|(pid, _)| pid).chain(zombies);
    write(kind::PSTREE, 0, &pids.map(|pid| entry(*pid)).collect::<Vec<_>>());
    let core = |pid: u32, task_state: u32| {
        let tc = TaskCoreEntry { task_state, comm: b"one".to_vec(), ..Default::default() };
        let thread_core = (task_state == 1).then(ThreadCoreEntry::default);
        let core = CoreEntry { mtype: 1, tc: Some(tc), thread_core, ..Default::default() };
        write(kind::CORE, pid, &[core.encode_to_vec()]);
    };
    for pid in zombies {
        core(*pid, 2);
    }
    for (pid, vmas) in tasks {
        core(*pid, 1);
        write(kind::IDS, *pid, &[TaskKobjIdsEntry::default().encode_to_vec()]);
        memory(directory, *pid, PAGE, vmas.clone());
    }
}

/// Writes the address space of a task on a machine with pages of a size.
pub(crate) fn memory(directory: &Path, pid: u32, page: u64, vmas: Vec<VmaEntry>) {
    let mm = MmEntry { mm_saved_auxv: vec![33, 0, 6, page], vmas, ..Default::default() };
    let name = kind::MM.file_name(pid.into());
    fs::write(directory.join(name), image(kind::MM, &[mm.encode_to_vec()])).unwrap();
}

/// A private mapping without a file.
pub(crate) fn vma(start: u64, pages: u64) -> VmaEntry {
    let status = 1 | 1 << 9;
    let end = start + pages * PAGE;
    VmaEntry { start, end, status, prot: 3, flags: 0x22, fd: -1, ..Default::default() }
}

pub(crate) fn run(vaddr: u64, pages: u64, flags: u32) -> PagemapEntry {
    PagemapEntry { vaddr, nr_pages: Some(pages), flags: Some(flags), ..Default::default() }
}

/// Writes the pagemap of a task, whose bytes are in `pages-PID.img`.
pub(crate) fn pagemap(directory: &Path, pid: u32, runs: &[PagemapEntry]) {
    let head = PagemapHead { pages_id: pid }.encode_to_vec();
    let runs = runs.iter().map(Message::encode_to_vec);
    let messages: Vec<_> = [head].into_iter().chain(runs).collect();
    let name = kind::PAGEMAP.file_name(pid.into());
    fs::write(directory.join(name), image(kind::PAGEMAP, &messages)).unwrap();
}

/// Writes the pages file of a task: a page of words for each address.
pub(crate) fn pages(directory: &Path, pid: u32, addresses: impl Iterator<Item = u64>) {
    let bytes: Vec<u8> = addresses.flat_map(page).collect();
    fs::write(directory.join(kind::PAGES.file_name(pid.into())), bytes).unwrap();
}

/// A page that says where it is.
pub(crate) fn page(address: u64) -> Vec<u8> {
    address.to_le_bytes().repeat(512)
}

/// The addresses of pages.
pub(crate) fn addresses(start: u64, pages: u64) -> impl Iterator<Item = u64> {
    (0..pages).map(move |page| start + page * PAGE)
}

fn image(kind: &Kind, messages: &[Vec<u8>]) -> Vec<u8> {
    let words = kind.head_magic().into_iter().chain([kind.magic]);
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    for message in messages {
        bytes.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
        bytes.extend(message);
    }
    bytes
}

/// Reads pages as a handler does: until all have come.
pub(crate) fn read(
    reader: &mut dyn Reader,
    pid: u32,
    address: u64,
    pages: u64,
) -> Result<Vec<u8>, LazyError> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < pages * PAGE {
        let address = address + bytes.len() as u64;
        let pages = pages - bytes.len() as u64 / PAGE;
        let found = reader.read(Wanted { pid, address, pages })?;
        let size = found.size();
        assert!((PAGE..=pages * PAGE).contains(&size) && size % PAGE == 0, "{size}");
        let mut piece = vec![0xee; usize::try_from(size).unwrap()];
        found.read_at(0, &mut piece).unwrap();
        bytes.extend(piece);
    }
    Ok(bytes)
}
