//! A mapping of an address space.

use std::fmt;

use bitflags::bitflags;

use crate::files::FileTable;
use crate::proto::VmaEntry;
use crate::text::Text;

/// A mapping. Displays as a line of /proc/PID/maps.
#[derive(Clone, Copy)]
pub struct Vma<'a> {
    entry: &'a VmaEntry,
    files: &'a FileTable,
}

bitflags! {
    /// Facts that CRIU knows of a mapping: the bits of `vma_entry.status`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct VmaStatus: u32 {
        /// `VMA_AREA_REGULAR`: an ordinary mapping, which a restore maps again.
        const REGULAR = 1 << 0;
        /// `VMA_AREA_STACK`: the stack.
        const STACK = 1 << 1;
        /// `VMA_AREA_VSYSCALL`: the page of old system calls.
        const VSYSCALL = 1 << 2;
        /// `VMA_AREA_VDSO`: the kernel's code in user space.
        const VDSO = 1 << 3;
        /// `VMA_AREA_HEAP`: the heap, which brk(2) moves.
        const HEAP = 1 << 5;
        /// `VMA_FILE_PRIVATE`: a file, with private copies of written pages.
        const FILE_PRIVATE = 1 << 6;
        /// `VMA_FILE_SHARED`: a file, whose pages are shared.
        const FILE_SHARED = 1 << 7;
        /// `VMA_ANON_SHARED`: memory without a file, shared.
        const ANON_SHARED = 1 << 8;
        /// `VMA_ANON_PRIVATE`: memory without a file.
        const ANON_PRIVATE = 1 << 9;
        /// `VMA_AREA_SYSVIPC`: a System V segment.
        const SYSVIPC = 1 << 10;
        /// `VMA_AREA_SOCKET`: the ring of a packet socket.
        const SOCKET = 1 << 11;
        /// `VMA_AREA_VVAR`: data that the kernel gives to the vDSO.
        const VVAR = 1 << 12;
        /// `VMA_AREA_AIORING`: the ring of an asynchronous I/O context.
        const AIORING = 1 << 13;
        /// `VMA_AREA_MEMFD`: the file is a memory file.
        const MEMFD = 1 << 14;
        /// `VMA_AREA_SHSTK`: a shadow stack.
        const SHSTK = 1 << 15;
        /// `VMA_AREA_GUARD`: guard pages inside a mapping. Such an entry is not a mapping itself.
        const GUARD = 1 << 16;
        /// `VMA_AREA_UPROBES`: the kernel's trampolines.
        const UPROBES = 1 << 17;
        /// `VMA_AREA_NOT_ACCOUNTABLE`: not charged as memory (CRIU 4.3).
        const NOT_ACCOUNTABLE = 1 << 18;
        /// `VMA_EXT_PLUGIN`: a plugin saved the mapping.
        const EXT_PLUGIN = 1 << 27;
        const _ = !0;
    }
}

/// Sources of the bytes of a mapping that its task's pagemap does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// No source: untouched pages are zero.
    Zero,
    /// The mapped file, which is not in the set.
    File,
    /// Shared memory of this id.
    Shared(u64),
    /// The kernel, or another source outside the set.
    Kernel,
}

impl<'a> Vma<'a> {
    pub(crate) fn new(entry: &'a VmaEntry, files: &'a FileTable) -> Self {
        Self { entry, files }
    }

    /// Returns the entry in the mm image.
    pub fn entry(&self) -> &'a VmaEntry {
        self.entry
    }

    /// Returns the first address.
    pub fn start(&self) -> u64 {
        self.entry.start
    }

    /// Returns the address after the last byte.
    pub fn end(&self) -> u64 {
        self.entry.end
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.entry.end.saturating_sub(self.entry.start)
    }

    /// Returns the facts that CRIU knows of the mapping.
    pub fn status(&self) -> VmaStatus {
        VmaStatus::from_bits_retain(self.entry.status)
    }

    /// Returns true if the task has pages of its own here, which its pagemap lists.
    pub fn is_private(&self) -> bool {
        let status = self.status();
        let private = VmaStatus::ANON_PRIVATE | VmaStatus::FILE_PRIVATE;
        let kernel = VmaStatus::VVAR | VmaStatus::UPROBES | VmaStatus::EXT_PLUGIN;
        status.contains(VmaStatus::REGULAR)
            && status.intersects(private)
            && !status.intersects(kernel)
            || status.intersects(VmaStatus::SHSTK | VmaStatus::AIORING)
    }

    /// Returns true if the pages may come after a restore: memory of the task's own without a file,
    /// which is not locked and has no huge pages of hugetlbfs.
    pub fn can_be_lazy(&self) -> bool {
        let kernel = VmaStatus::VDSO | VmaStatus::VVAR | VmaStatus::VSYSCALL;
        let private = MAP_PRIVATE | MAP_ANONYMOUS;
        self.entry.flags & (private | MAP_LOCKED | MAP_HUGETLB) == private
            && !self.status().intersects(kernel | VmaStatus::EXT_PLUGIN)
    }

    /// Returns the source of the bytes that the pagemap does not list.
    pub fn backing(&self) -> Backing {
        let status = self.status();
        let file = VmaStatus::FILE_SHARED | VmaStatus::FILE_PRIVATE;
        if status.intersects(file) {
            let shmid = u32::try_from(self.entry.shmid);
            return match shmid.ok().and_then(|id| self.files.shared_memory(id)) {
                Some(id) => Backing::Shared(id.into()),
                None => Backing::File,
            };
        }
        if status.intersects(VmaStatus::ANON_SHARED | VmaStatus::SYSVIPC) {
            return Backing::Shared(self.entry.shmid);
        }
        if self.is_private() { Backing::Zero } else { Backing::Kernel }
    }

    /// Returns the permissions, as in /proc/PID/maps: "rw-p".
    pub fn permissions(&self) -> String {
        let VmaEntry { prot, flags, .. } = self.entry;
        let letter = |bit, yes| if prot & bit != 0 { yes } else { '-' };
        let shared = if flags & MAP_SHARED != 0 { 's' } else { 'p' };
        let letters =
            [letter(PROT_READ, 'r'), letter(PROT_WRITE, 'w'), letter(PROT_EXEC, 'x'), shared];
        letters.iter().collect()
    }

    /// Returns the name, as in /proc/PID/maps: the file, the kernel's name in brackets, or both.
    pub fn name(&self) -> Option<String> {
        let names = [
            (VmaStatus::HEAP, "[heap]"),
            (VmaStatus::VDSO, "[vdso]"),
            (VmaStatus::VVAR, "[vvar]"),
            (VmaStatus::VSYSCALL, "[vsyscall]"),
            (VmaStatus::SYSVIPC, "[sysv]"),
            (VmaStatus::AIORING, "[aio]"),
            (VmaStatus::SHSTK, "[shadow stack]"),
            (VmaStatus::UPROBES, "[uprobes]"),
        ];
        let known = names.iter().find(|(bit, _)| self.status().contains(*bit));
        let stack = (self.entry.flags & MAP_GROWSDOWN != 0).then_some("[stack]");
        let known = known.map(|(_, name)| *name).or(stack);
        match (self.path(), known) {
            (Some(path), Some(known)) => Some(format!("{} {known}", Text(path))),
            (Some(path), None) => Some(Text(path).to_string()),
            (None, known) => known.map(str::to_owned),
        }
    }

    /// Returns the path of the mapped file, or the name of the memory file.
    pub fn path(&self) -> Option<&'a [u8]> {
        let file = VmaStatus::FILE_SHARED | VmaStatus::FILE_PRIVATE;
        let id = u32::try_from(self.entry.shmid).ok()?;
        if self.status().intersects(file) { self.files.get(id)?.path() } else { None }
    }
}

impl fmt::Debug for Vma<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

impl fmt::Display for Vma<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VmaEntry { start, end, pgoff, .. } = self.entry;
        write!(f, "{start:x}-{end:x} {} {pgoff:08x}", self.permissions())?;
        match self.name() {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

// From mmap(2). The numbers hold on all architectures that CRIU knows, except that MIPS has its own
// from MAP_GROWSDOWN on, and Power its own MAP_LOCKED.
const PROT_READ: u32 = 1;
const PROT_WRITE: u32 = 2;
const PROT_EXEC: u32 = 4;
const MAP_SHARED: u32 = 1;
const MAP_PRIVATE: u32 = 2;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_GROWSDOWN: u32 = 0x100;
const MAP_LOCKED: u32 = 0x2000;
const MAP_HUGETLB: u32 = 0x4_0000;
