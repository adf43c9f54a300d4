//! Memory of a task: its mappings, the pages that the set has, and the bytes.

mod arguments;
mod blocks;
mod chunk;
mod hexdump;
mod object;
mod page_set;
mod pagemap;
mod pagemap_writer;
mod shared;
mod totals;
mod vma;

use std::fmt;
use std::sync::OnceLock;

use crate::error::{Error, ErrorKind, NoPage, Result};
use crate::files::FileTable;
use crate::kind;
use crate::proto::{MmEntry, VmaEntry};
use crate::store::Store;
pub use chunk::{Chunk, Chunks, Content, PageSource};
pub use hexdump::Hexdump;
pub(crate) use object::next_place;
use object::{Object, Place};
pub use page_set::{PageObject, PageSet, StoredPages, StoredRun};
pub use pagemap::{PageFlags, PageSize, Pagemap, Run, Runs};
pub use pagemap_writer::PagemapWriter;
pub use shared::SharedMemory;
use shared::split;
pub use totals::Totals;
pub use vma::{Backing, Vma, VmaStatus};

/// The memory of one task.
///
/// ```
/// use criu_images::ImageSet;
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// let memory = set.checkpoint()?.root().memory()?.expect("the root is alive");
/// for vma in memory.vmas() {
///     println!("{vma}");
/// }
/// let totals = memory.totals();
/// assert!(totals.present < totals.mapped);
/// # Ok::<(), criu_images::Error>(())
/// ```
pub struct Memory<'a> {
    store: &'a Store,
    files: &'a FileTable,
    name: String,
    /// The address space. Its `vmas` lack guard pages, and ascend.
    mm: MmEntry,
    /// Guard pages, ascending.
    guards: Vec<VmaEntry>,
    page_size: PageSize,
    private: Object<'a>,
    /// Shared memory by id, for every mapping that leads to some.
    shared: Vec<(u64, OnceLock<SharedMemory<'a>>)>,
}

impl<'a> Memory<'a> {
    pub(crate) fn open(store: &'a Store, files: &'a FileTable, pid: u32) -> Result<Self> {
        let name = kind::MM.file_name(pid.into());
        let mut mm = mm(store, pid)?;
        let page_size = page_size_of(&mm);
        let guard = |vma: &VmaEntry| Vma::new(vma, files).status().contains(VmaStatus::GUARD);
        let (guards, vmas) = mm.vmas.into_iter().partition(guard);
        mm.vmas = vmas;
        for list in [&mm.vmas, &guards] {
            check_order(list, page_size).map_err(|kind| Error::new(&name, kind))?;
        }
        let shared = mm.vmas.iter().filter_map(|vma| match Vma::new(vma, files).backing() {
            Backing::Shared(id) => Some(id),
            _ => None,
        });
        let mut shared: Vec<u64> = shared.collect();
        shared.sort_unstable();
        shared.dedup();
        let missing = || Error::new(kind::PAGEMAP.file_name(pid.into()), ErrorKind::Missing);
        let private = Object::open(store.level(), kind::PAGEMAP, pid.into(), page_size)?;
        Ok(Self {
            store,
            files,
            name,
            mm,
            guards,
            page_size,
            private: private.ok_or_else(missing)?,
            shared: shared.into_iter().map(|id| (id, OnceLock::new())).collect(),
        })
    }

    /// Returns the address space as the set has it, except that its `vmas` lack guard pages.
    pub fn mm(&self) -> &MmEntry {
        &self.mm
    }

    /// Iterates over the mappings, ascending.
    pub fn vmas(&self) -> impl Iterator<Item = Vma<'_>> {
        self.mm.vmas.iter().map(|entry| Vma::new(entry, self.files))
    }

    /// Returns the mapping that covers an address.
    pub fn vma(&self, address: u64) -> Option<Vma<'_>> {
        let entry = covering(&self.mm.vmas, address)?;
        Some(Vma::new(entry, self.files))
    }

    /// Returns guard pages inside mappings, ascending.
    pub(crate) fn guards(&self) -> &[VmaEntry] {
        &self.guards
    }

    /// Iterates over the runs of the task's own pages that this set lists, ascending. Shared memory
    /// is not included.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.private.runs()
    }

    /// Returns shared memory that a mapping of this task leads to.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] and other errors of reading its pagemap; [`ErrorKind::Dangling`] if
    /// no mapping leads to it.
    pub fn shared(&self, id: u64) -> Result<&SharedMemory<'a>> {
        let known = self.shared.binary_search_by_key(&id, |(id, _)| *id).ok();
        let dangling = || {
            let what = "mapping of shared memory";
            Error::new(&self.name, ErrorKind::Dangling { what, id })
        };
        let (_, cell) = known.and_then(|index| self.shared.get(index)).ok_or_else(dangling)?;
        if let Some(shared) = cell.get() {
            return Ok(shared);
        }
        let shared = SharedMemory::open(self.store, self.files, id, self.page_size)?;
        Ok(cell.get_or_init(|| shared))
    }

    /// Finds the source of the bytes at an address, and the address at which this source ends.
    fn locate(&self, address: u64) -> Result<(Place<'_, 'a>, u64)> {
        let absent = |why, until| Ok((Place::Absent(why, None), until));
        let vmas = &self.mm.vmas;
        let Some(vma) = self.vma(address) else {
            let next = vmas.get(vmas.partition_point(|vma| vma.start <= address));
            return absent(NoPage::Unmapped, next.map_or(u64::MAX, |vma| vma.start));
        };
        if let Some(guard) = covering(&self.guards, address) {
            return absent(NoPage::Guard, guard.end.min(vma.end()));
        }
        let guard = self.guards.partition_point(|guard| guard.start <= address);
        let guard = self.guards.get(guard).map_or(u64::MAX, |guard| guard.start);
        let limit = vma.end().min(guard);
        let (place, until) =
            if vma.is_private() { self.private.locate(address)? } else { (Place::Zero, u64::MAX) };
        let until = until.min(limit);
        match (&place, vma.backing()) {
            (Place::Zero, Backing::Zero) => Ok((place, until)),
            (Place::Zero, Backing::Shared(id)) => {
                let offset = vma.entry().pgoff.saturating_add(address - vma.start());
                let (place, end) = self.shared(id)?.locate(offset)?;
                match end.saturating_sub(offset) {
                    // No object has this offset.
                    0 => Ok((Place::Zero, until)),
                    size => Ok((place, until.min(address.saturating_add(size)))),
                }
            }
            (Place::Zero, Backing::File) => absent(NoPage::File, until),
            (Place::Zero, Backing::Kernel) => absent(NoPage::Kernel, until),
            _ => Ok((place, until)),
        }
    }
}

/// Pages without a file that the task never touched read as zero.
///
/// Bytes are [absent](Content::Absent) if nothing is mapped there, if a mapped file or the kernel
/// has them, if they are in guard pages, or if the dump kept them back.
///
/// ```no_run
/// use criu_images::memory::PageSource;
///
/// # let set = criu_images::ImageSet::open("/ckpt")?;
/// # let memory = set.checkpoint()?.root().memory()?.expect("the root is alive");
/// let mut environ = vec![0; 100];
/// memory.read_at(memory.mm().mm_env_start, &mut environ)?;
/// # Ok::<(), criu_images::Error>(())
/// ```
impl PageSource for Memory<'_> {
    fn page_size(&self) -> PageSize {
        self.page_size
    }

    fn chunk(&self, start: u64) -> Result<Chunk<'_>> {
        let (place, end) = self.locate(start)?;
        Ok(Chunk { start, end, content: place.content(end.saturating_sub(start))? })
    }

    fn hole(&self, address: u64) -> Result<Option<u64>> {
        let (place, until) = self.locate(address)?;
        let size = place.hole()?;
        Ok(size.map(|size| address.saturating_add(size).min(until)))
    }

    fn read_at(&self, mut address: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let (place, until) = self.locate(address)?;
            let (now, later) = split(buf, until.saturating_sub(address).max(1));
            place.read(now, |why| Error::new(&self.name, ErrorKind::NoPage { address, why }))?;
            address = address.saturating_add(now.len() as u64);
            buf = later;
        }
        Ok(())
    }
}

impl fmt::Debug for Memory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Memory").field(&self.mm).finish()
    }
}

/// Reads the address space of a task. Older sets have its mappings in another image.
pub(crate) fn mm(store: &Store, pid: u32) -> Result<MmEntry> {
    let mut mm: MmEntry = store.single(kind::MM, pid.into())?;
    if mm.vmas.is_empty() {
        store.for_each(kind::VMAS, pid.into(), |vma| {
            mm.vmas.push(vma);
            Ok(())
        })?;
    }
    Ok(mm)
}

/// Reads the page size of the machine that a task was dumped on.
pub(crate) fn page_size(store: &Store, pid: u32) -> Result<PageSize> {
    Ok(page_size_of(&mm(store, pid)?))
}

/// Returns the page size. CRIU saves it only as part of the auxiliary vector, which a program may
/// replace by another one (`PR_SET_MM_MAP`). The vector counts if it agrees with the mappings,
/// which consist of whole pages. Without a vector that counts, the page size is the largest to
/// which all mappings agree: among the mappings of a program, many have an odd number of pages.
pub(crate) fn page_size_of(mm: &MmEntry) -> PageSize {
    let bits = mm.vmas.iter().fold(0, |bits, vma| bits | vma.start | vma.end);
    let mut pairs = mm.mm_saved_auxv.chunks_exact(2);
    let stated = pairs.find_map(|pair| match pair {
        [AT_PAGESZ, size] => PageSize::new(*size),
        _ => None,
    });
    let stated = stated.filter(|size| bits & (size.bytes() - 1) == 0);
    let agreed = || PageSize::new(bits & bits.wrapping_neg());
    stated.or_else(agreed).unwrap_or(PageSize::K4)
}

/// Checks that mappings ascend, do not overlap, and consist of pages.
fn check_order(vmas: &[VmaEntry], page_size: PageSize) -> Result<(), ErrorKind> {
    let mut free = 0;
    for vma in vmas {
        let wrong = |found, want| Err(ErrorKind::Value { found, want });
        if vma.start < free {
            return wrong(vma.start, "a mapping above the last one");
        }
        if vma.end <= vma.start {
            return wrong(vma.end, "a mapping's end above its start");
        }
        if (vma.start | vma.end) % page_size.bytes() != 0 {
            return wrong(vma.start | vma.end, "mappings made of whole pages");
        }
        free = vma.end;
    }
    Ok(())
}

fn covering(vmas: &[VmaEntry], address: u64) -> Option<&VmaEntry> {
    let after = vmas.partition_point(|vma| vma.start <= address);
    let vma = vmas.get(after.checked_sub(1)?)?;
    (address < vma.end).then_some(vma)
}

/// Type of the page size in the auxiliary vector.
const AT_PAGESZ: u64 = 6;
