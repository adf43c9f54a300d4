//! Shared parts of the tests: images made by hand, and a walk through everything that a set says.

#![allow(dead_code, reason = "no test uses all of it")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[cfg(feature = "json")]
pub(crate) mod anonymised;
#[cfg(feature = "json")]
pub(crate) mod crit;
#[cfg(feature = "json")]
pub(crate) mod kitchen;
pub(crate) mod mapped;
pub(crate) mod old;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use criu_images::kind::{self, Kind};
use criu_images::memory::{Content, PageSource};
use criu_images::proto::{
    CoreEntry, InventoryEntry, MmEntry, PagemapEntry, PagemapHead, PstreeEntry, TaskCoreEntry,
    TaskKobjIdsEntry, ThreadCoreEntry, VmaEntry,
};
use criu_images::source::{InMemory, Source};
use criu_images::{ErrorKind, ImageSet, Result};
use criu_lab::place;
#[allow(unused_imports, reason = "no test uses all of it")]
pub(crate) use criu_lab::scratch;
use prost::Message;

/// An image of these messages, framed as CRIU frames it.
pub(crate) fn image(kind: &Kind, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(kind.head_magic().into_iter().flat_map(u32::to_le_bytes));
    bytes.extend(kind.magic.to_le_bytes());
    for message in messages {
        bytes.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
        bytes.extend(message);
    }
    bytes
}

/// A pagemap image that names `pages-ID.img`.
pub(crate) fn pagemap(pages_id: u32, entries: &[PagemapEntry]) -> Vec<u8> {
    let head = PagemapHead { pages_id };
    let messages = entries.iter().map(Message::encode_to_vec);
    let messages: Vec<_> = [head.encode_to_vec()].into_iter().chain(messages).collect();
    image(kind::PAGEMAP, &messages)
}

/// A run as CRIU 4.2 and later write it.
pub(crate) fn run(vaddr: u64, pages: u64, flags: u32) -> PagemapEntry {
    PagemapEntry { vaddr, nr_pages: Some(pages), flags: Some(flags), ..Default::default() }
}

/// A mapping.
pub(crate) fn vma(start: u64, pages: u64, status: u32) -> VmaEntry {
    VmaEntry {
        start,
        end: start + pages * PAGE,
        status,
        prot: 3,
        flags: 0x22,
        fd: -1,
        ..Default::default()
    }
}

/// A set with one task, pid 1, which has only these mappings.
pub(crate) fn one_task(vmas: Vec<VmaEntry>) -> InMemory {
    let mut files = InMemory::default();
    let mut one = |kind: &Kind, message: Vec<u8>| {
        files.insert(kind.file_name(1), image(kind, &[message]));
    };
    let inventory =
        InventoryEntry { img_version: 2, fdinfo_per_id: Some(true), ..Default::default() };
    let task = PstreeEntry { pid: 1, threads: vec![1], ..Default::default() };
    let core = CoreEntry {
        mtype: 1,
        tc: Some(TaskCoreEntry { task_state: 1, comm: b"one".to_vec(), ..Default::default() }),
        thread_core: Some(ThreadCoreEntry::default()),
        ..Default::default()
    };
    let mm = MmEntry { mm_saved_auxv: vec![33, 0, 6, PAGE], vmas, ..Default::default() };
    one(kind::INVENTORY, inventory.encode_to_vec());
    one(kind::PSTREE, task.encode_to_vec());
    one(kind::CORE, core.encode_to_vec());
    one(kind::IDS, TaskKobjIdsEntry::default().encode_to_vec());
    one(kind::MM, mm.encode_to_vec());
    files
}

/// A page that names its address.
pub(crate) fn pattern(address: u64) -> Vec<u8> {
    let words = (address..address + PAGE).step_by(8);
    words.flat_map(|at| (at ^ 0x5a5a_0000).to_le_bytes()).collect()
}

/// The files of a directory.
pub(crate) fn load(directory: &Path) -> InMemory {
    let mut files = InMemory::default();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        files.insert(name, fs::read(entry.path()).unwrap());
    }
    files
}

/// Writes the files of a set into a directory.
pub(crate) fn store(files: &InMemory, directory: &Path) {
    for name in files.names().unwrap() {
        let blob = files.open(&name).unwrap().unwrap();
        let bytes = blob.to_vec(u64::MAX).unwrap();
        fs::write(directory.join(name), bytes).unwrap();
    }
}

/// Compares the chunks of memory with what is read from it. Returns the number of bytes that were
/// available without a copy.
pub(crate) fn check_chunks(memory: &impl PageSource) -> u64 {
    let (mut next, mut borrowed) = (0, 0);
    for chunk in memory.chunks(0..u64::MAX) {
        let chunk = chunk.unwrap();
        assert_eq!(chunk.start, next, "{chunk:x?}");
        assert!(chunk.end > chunk.start, "{chunk:x?}");
        next = chunk.end;
        let mut found = vec![0xee; chunk.size().min(64 * PAGE) as usize];
        let read = memory.read_at(chunk.start, &mut found);
        match chunk.content {
            Content::Bytes(bytes) => {
                assert_eq!(bytes.len() as u64, chunk.size());
                assert!(bytes[..found.len()] == found, "{chunk:x?}");
                borrowed += chunk.size();
            }
            Content::Stored => read.unwrap(),
            Content::Zero => assert!(found.iter().all(|byte| *byte == 0), "{chunk:x?}"),
            Content::Absent(expected) => match read.unwrap_err().kind() {
                ErrorKind::NoPage { address, why } => {
                    assert_eq!((*address, *why), (chunk.start, expected));
                }
                other => panic!("{chunk:x?}: {other}"),
            },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next, u64::MAX);
    borrowed
}

/// Asks a set all questions there are, and returns the answers as text.
pub(crate) fn tour(set: &ImageSet) -> Result<String> {
    let checkpoint = set.checkpoint()?;
    let mut said = checkpoint.tree().to_string();
    for task in checkpoint.tasks() {
        said += &format!("{task} {:?} {:?} {:?}\n", task.creds(), task.core(), task.namespaces()?);
        for thread in task.threads()? {
            said += &format!("{} {} {:?}\n", thread.tid(), thread.name(), thread.thread_core());
        }
        for fd in task.files()? {
            said += &format!("{fd} {:?}\n", fd.file.peer().map(|peer| peer.id()));
        }
        let (cwd, root, exe) = (task.cwd()?, task.root_dir()?, task.exe()?);
        for file in [cwd, root, exe].into_iter().flatten() {
            said += &format!("{file} {file:?}\n");
        }
        if let Some(memory) = task.memory()? {
            for vma in memory.vmas() {
                // Bounded: a mapping may claim any size.
                let mut head = [0; 64];
                let read = memory.read_at(vma.start(), &mut head);
                said += &format!("{vma} {read:?} {head:?}\n");
            }
            said += &format!("{:?}\n", memory.totals());
        }
    }
    for shared in checkpoint.shared_memory()? {
        let pages: u64 = shared.runs().map(|run| run.pages).sum();
        said += &format!("{} {pages}\n", shared.id());
    }
    // Claims of images about what they need are as hostile as all others.
    for requirement in checkpoint.requirements().into_iter().flatten() {
        said += &format!("{requirement:?}\n");
    }
    Ok(said)
}

pub(crate) const PAGE: u64 = 4096;
/// Status of an anonymous private mapping.
pub(crate) const ANON: u32 = 1 | 1 << 9;

/// Dumps a process with the CRIU of a suite and lets it run on, or stopped.
pub(crate) fn dump(suite: &str, pid: u32, after: &str, images: &Path) {
    let output = Command::new(place::criu(suite))
        .args(["dump", after, "-v4", "-o", "dump.log", "-t", &pid.to_string(), "-D"])
        .arg(images)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = fs::read_to_string(images.join("dump.log")).unwrap_or_default();
    let errors: Vec<_> = log.lines().filter(|line| line.contains("Error")).collect();
    assert!(output.status.success(), "{output:?} {errors:#?}");
}

/// Python with the library of a suite's crit.
pub(crate) fn python(suite: &str, program: &str) -> Command {
    let mut python = Command::new("/usr/bin/python3");
    python
        .args(["-c", program])
        .env("PYTHONPATH", place::suite(suite).join("usr/lib/python3/dist-packages"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    python
}

/// A command in a session of its own. Dropping it kills the process group.
pub(crate) struct Payload(pub(crate) Child);

impl Payload {
    pub(crate) fn start(words: &[&str]) -> Self {
        let mut command = Command::new("setsid");
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
