//! A task's memory: its mappings, which of their pages the set has, and the bytes.

mod blocks;
mod object;
mod pagemap;
mod shared;
mod totals;
mod vma;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, NoPage, Result};
use crate::files::FileTable;
use crate::kind;
use crate::proto::{MmEntry, VmaEntry};
use crate::set::ImageSet;
pub(crate) use object::next_place;
use object::{Object, Place};
pub use pagemap::{PageFlags, PageSize, Pagemap, Run, Runs};
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
    set: &'a ImageSet,
    files: &'a FileTable,
    name: String,
    /// Its `vmas` are the mappings only, ascending.
    mm: MmEntry,
    /// Guard pages, ascending.
    guards: Vec<VmaEntry>,
    page_size: PageSize,
    private: Object<'a>,
    shared: Mutex<BTreeMap<u64, Arc<SharedMemory<'a>>>>,
}

impl<'a> Memory<'a> {
    pub(crate) fn open(set: &'a ImageSet, pid: u32) -> Result<Self> {
        let name = kind::MM.file_name(pid.into());
        let files = set.files()?;
        let mut mm: MmEntry = set.single(kind::MM, pid.into())?;
        let page_size = auxv_page_size(&mm, &name)?;
        let guard = |vma: &VmaEntry| Vma::new(vma, files).status().contains(VmaStatus::GUARD);
        let (guards, vmas) = mm.vmas.into_iter().partition(guard);
        mm.vmas = vmas;
        for list in [&mm.vmas, &guards] {
            check_order(list, page_size).map_err(|kind| Error::new(&name, kind))?;
        }
        let missing = || Error::new(kind::PAGEMAP.file_name(pid.into()), ErrorKind::Missing);
        let private = Object::open(set.level(), kind::PAGEMAP, pid.into(), page_size)?;
        Ok(Self {
            set,
            files,
            name,
            mm,
            guards,
            page_size,
            private: private.ok_or_else(missing)?,
            shared: Mutex::default(),
        })
    }

    /// The address space as the set has it, guard pages left out of its `vmas`.
    pub fn mm(&self) -> &MmEntry {
        &self.mm
    }

    /// Bytes of a page on the dumping machine.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The mappings, ascending.
    pub fn vmas(&self) -> impl Iterator<Item = Vma<'_>> {
        self.mm.vmas.iter().map(|entry| Vma::new(entry, self.files))
    }

    /// The mapping that covers an address.
    pub fn vma(&self, address: u64) -> Option<Vma<'_>> {
        let entry = covering(&self.mm.vmas, address)?;
        Some(Vma::new(entry, self.files))
    }

    /// Guard pages inside mappings, ascending.
    pub(crate) fn guards(&self) -> &[VmaEntry] {
        &self.guards
    }

    /// The runs of the task's own pages that this set lists, ascending. Not shared memory.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.private.runs()
    }

    /// Shared memory that a mapping of this task leads to.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] and others of its pagemap and pages.
    pub fn shared(&self, id: u64) -> Result<Arc<SharedMemory<'a>>> {
        let mut known = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = known.get(&id) {
            return Ok(Arc::clone(shared));
        }
        let shared = SharedMemory::open(self.set, id, self.page_size)?;
        let shared = Arc::new(shared);
        known.insert(id, Arc::clone(&shared));
        Ok(shared)
    }

    /// Reads `buf.len()` bytes of the task's memory from `address` on.
    ///
    /// Pages without a file that the task never touched read as zero. On an error the content of `buf`
    /// is unspecified.
    ///
    /// # Errors
    /// [`ErrorKind::NoPage`] when the set has no bytes for an address, and why: nothing is mapped
    /// there, a mapped file or the kernel has them, or the dump kept them back;
    /// [`ErrorKind::BrokenParent`] when a parent set lacks a page that was left to it; those of the
    /// shared memory's images; [`ErrorKind::Missing`] or [`ErrorKind::Io`] when a pages file is not
    /// there or ends early.
    ///
    /// ```no_run
    /// # let set = criu_images::ImageSet::open("/ckpt")?;
    /// # let memory = set.checkpoint()?.root().memory()?.expect("the root is alive");
    /// let mut environ = vec![0; 100];
    /// memory.read_at(memory.mm().mm_env_start, &mut environ)?;
    /// # Ok::<(), criu_images::Error>(())
    /// ```
    pub fn read_at(&self, mut address: u64, mut buf: &mut [u8]) -> Result<()> {
        while !buf.is_empty() {
            let no_page = |why| Error::new(&self.name, ErrorKind::NoPage { address, why });
            let vma = self.vma(address).ok_or_else(|| no_page(NoPage::Unmapped))?;
            let (place, mut until) = match vma.is_private() {
                true => self.private.locate(address)?,
                false => (Place::Hole, u64::MAX),
            };
            if covering(&self.guards, address).is_some() {
                return Err(no_page(NoPage::Guard));
            }
            let guard = self.guards.partition_point(|guard| guard.start <= address);
            let guard = self.guards.get(guard).map_or(u64::MAX, |guard| guard.start);
            until = until.min(vma.end()).min(guard);
            let (now, later) = split(buf, until - address);
            match (place, vma.backing()) {
                (place @ (Place::Stored(..) | Place::Packed(..)), _) => place.read(now)?,
                (Place::Hole, Backing::Zero) => now.fill(0),
                (Place::Hole, Backing::Shared(id)) => {
                    let offset = vma.entry().pgoff.saturating_add(address - vma.start());
                    self.shared(id)?.read_at(offset, now)?;
                }
                (Place::Hole, Backing::File) => return Err(no_page(NoPage::File)),
                (Place::Hole, Backing::Kernel) => return Err(no_page(NoPage::Kernel)),
            }
            address += now.len() as u64;
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

/// The page size of the machine that a task was dumped on.
pub(crate) fn page_size(set: &ImageSet, pid: u32) -> Result<PageSize> {
    let mm = set.single(kind::MM, pid.into())?;
    auxv_page_size(&mm, &kind::MM.file_name(pid.into()))
}

/// The page size, which only the auxiliary vector tells.
fn auxv_page_size(mm: &MmEntry, name: &str) -> Result<PageSize> {
    let mut pairs = mm.mm_saved_auxv.chunks_exact(2);
    let found = pairs.find_map(|pair| match pair {
        [AT_PAGESZ, size] => Some(*size),
        _ => None,
    });
    let found = found.unwrap_or(0);
    PageSize::new(found).ok_or_else(|| {
        let want = "a page size in the auxiliary vector";
        Error::new(name, ErrorKind::Value { found, want })
    })
}

/// Checks that mappings ascend, do not overlap, and consist of pages.
fn check_order(vmas: &[VmaEntry], page_size: PageSize) -> Result<(), ErrorKind> {
    let mut free = 0;
    for vma in vmas {
        let wrong = |found, want| Err(ErrorKind::Value { found, want });
        if vma.start < free {
            return wrong(vma.start, "a mapping above the one before");
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
