//! The common parts of the measurements: CRIUs to measure, processes to dump, medians.

mod discard;
mod mapped;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criu_images::kind::{self, Kind};
use criu_images::proto::{
    CoreEntry, FdTypes, FileEntry, FownEntry, InventoryEntry, MmEntry, PagemapEntry, PagemapHead,
    PstreeEntry, RegFileEntry, TaskCoreEntry, TaskKobjIdsEntry, ThreadCoreEntry, VmaEntry,
};
pub use criu_lab::process::prepare;
use criu_rs::{Criu, Pid, Version};
pub use discard::discarded;
pub use mapped::mapped;
use prost::Message;

/// The result of a measurement.
pub type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The CRIUs below the target directory, where `cargo xtask setup --tests` puts them.
///
/// # Errors
/// Fails if a CRIU does not tell its version.
pub fn crius() -> Result<Vec<(Version, PathBuf)>> {
    Ok(criu_lab::place::crius(|path| Criu::at(path).version())?)
}

/// A process of four threads that counts into a file, so that it can be seen to live.
#[derive(Debug)]
pub struct Counter {
    child: Child,
    file: PathBuf,
}

/// The argument that makes a measurement's program the counter: `counter(FILE)`.
pub const COUNTER: &str = "--counter";

impl Counter {
    /// Starts one: this program again, with [`COUNTER`].
    ///
    /// # Errors
    /// Fails if it does not start.
    pub fn start(file: &Path) -> Result<Self> {
        let _ = std::fs::remove_file(file);
        let child = Command::new("/proc/self/exe")
            .arg(COUNTER)
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let counter = Self { child, file: file.into() };
        if counter.lives() { Ok(counter) } else { Err("the counter does not start".into()) }
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from(&self.child)
    }

    /// Returns true once it counts on, or false after two seconds.
    pub fn lives(&self) -> bool {
        let count = || std::fs::read(&self.file).unwrap_or_default();
        let before = count();
        criu_lab::within(Duration::from_secs(2), || count() != before)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts until it is killed.
///
/// # Errors
/// Fails if the file cannot be written.
pub fn count(file: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let _ = nix::unistd::setsid();
    for _ in 0..3 {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }
    let file = std::fs::File::create(file)?;
    for n in 1u64.. {
        file.write_all_at(&n.to_le_bytes(), 0)?;
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// The middle of the measured times, and their extremes, in milliseconds.
pub fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("{:8.2} ({:.2}..{:.2})", at(times.len() / 2), at(0), at(times.len().saturating_sub(1)))
}

/// An image of these messages.
///
/// # Errors
/// Fails if a message is larger than 4 GiB.
pub fn image(kind: &Kind, messages: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.extend(kind.head_magic().into_iter().flat_map(u32::to_le_bytes));
    bytes.extend(kind.magic.to_le_bytes());
    for message in messages {
        bytes.extend(u32::try_from(message.len())?.to_le_bytes());
        bytes.extend(message);
    }
    Ok(bytes)
}

/// The messages of a pagemap with so many runs of one page, every second page left out.
pub fn pagemap(runs: u64) -> Vec<Vec<u8>> {
    let entry = |n: u64| PagemapEntry {
        vaddr: 0x7f00_0000_0000 + n * 8192,
        flags: Some(4),
        nr_pages: Some(1),
        ..Default::default()
    };
    let head = PagemapHead { pages_id: 1 }.encode_to_vec();
    std::iter::once(head).chain((0..runs).map(|n| entry(n).encode_to_vec())).collect()
}

/// The message of an address space with so many mappings of one page.
pub fn mm(mappings: u64) -> Vec<u8> {
    let vma = |n: u64| VmaEntry {
        start: 0x7f00_0000_0000 + n * 8192,
        end: 0x7f00_0000_1000 + n * 8192,
        prot: 3,
        flags: 0x22,
        status: 0x201,
        fd: -1,
        ..Default::default()
    };
    MmEntry { vmas: (0..mappings).map(vma).collect(), ..Default::default() }.encode_to_vec()
}

/// The messages of so many open files.
pub fn files(count: u32) -> Vec<Vec<u8>> {
    let file = |id: u32| FileEntry {
        r#type: FdTypes::Reg.into(),
        id,
        reg: Some(RegFileEntry {
            id,
            flags: 0o100002,
            pos: id.into(),
            fown: FownEntry::default(),
            name: format!("/var/lib/service/data/segment-{id}").into_bytes(),
            size: Some(4096),
            mode: Some(0o100644),
            ..Default::default()
        }),
        ..Default::default()
    };
    (1..=count).map(|id| file(id).encode_to_vec()).collect()
}

/// Writes a set with one task, whose memory from [`BASE`] on is stored in one run.
///
/// # Errors
/// Fails if it cannot be written.
pub fn task_with_pages(directory: &Path, bytes: &[u8]) -> Result<()> {
    let pages = u64::try_from(bytes.len())? / 4096;
    let vma = VmaEntry {
        start: BASE,
        end: BASE + pages * 4096,
        // VMA_AREA_REGULAR | VMA_ANON_PRIVATE
        status: 1 | 1 << 9,
        prot: 3,
        flags: 0x22,
        fd: -1,
        ..Default::default()
    };
    // The page size.
    let auxv = vec![6, 4096];
    let mm = MmEntry { mm_saved_auxv: auxv, vmas: vec![vma], ..Default::default() };
    let run =
        PagemapEntry { vaddr: BASE, nr_pages: Some(pages), flags: Some(4), ..Default::default() };
    let files = [
        (kind::MM, vec![mm.encode_to_vec()]),
        (kind::PAGEMAP, vec![PagemapHead { pages_id: 1 }.encode_to_vec(), run.encode_to_vec()]),
    ];
    task(directory, 1, 0, b"task")?;
    for (kind, messages) in files {
        std::fs::write(directory.join(kind.file_name(1)), image(kind, &messages)?)?;
    }
    let tree = PstreeEntry { pid: 1, threads: vec![1], ..Default::default() };
    set(directory, &[tree.encode_to_vec()])?;
    Ok(std::fs::write(directory.join("pages-1.img"), bytes)?)
}

/// Writes the images that a set has once: its inventory and this tree.
///
/// # Errors
/// Fails if they cannot be written.
pub fn set(directory: &Path, tree: &[Vec<u8>]) -> Result<()> {
    let inventory =
        InventoryEntry { img_version: 2, fdinfo_per_id: Some(true), ..Default::default() };
    let inventory = image(kind::INVENTORY, &[inventory.encode_to_vec()])?;
    std::fs::write(directory.join(kind::INVENTORY.file), inventory)?;
    Ok(std::fs::write(directory.join(kind::PSTREE.file), image(kind::PSTREE, tree)?)?)
}

/// Writes the images that every set has of a task.
///
/// # Errors
/// Fails if they cannot be written.
pub fn task(directory: &Path, pid: u32, files_id: u32, name: &[u8]) -> Result<()> {
    let core = CoreEntry {
        mtype: 1,
        tc: Some(TaskCoreEntry { task_state: 1, comm: name.to_vec(), ..Default::default() }),
        thread_core: Some(ThreadCoreEntry::default()),
        ..Default::default()
    };
    let ids = TaskKobjIdsEntry { files_id, ..Default::default() };
    for (kind, message) in [(kind::CORE, core.encode_to_vec()), (kind::IDS, ids.encode_to_vec())] {
        std::fs::write(directory.join(kind.file_name(pid.into())), image(kind, &[message])?)?;
    }
    Ok(())
}

/// The address at which the memory of [`task_with_pages`] begins.
pub const BASE: u64 = 0x7f00_0000_0000;

/// Numbers that look random and are the same in every run (splitmix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}
