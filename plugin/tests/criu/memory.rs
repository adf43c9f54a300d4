//! Kinds of memory that a payload has, with a pattern in each page.

#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect};
use nix::unistd::{ForkResult, fork};

/// Words for memory of all kinds but hugetlb, which not every machine has.
pub const KINDS: &[&str] = &[
    "small:4096",
    "huge:2048",
    "shared:256",
    "file:2048",
    "dontfork:1024",
    "wipe:1024",
    "none:1024",
    "split:700",
    "small:3",
];

/// Memory of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The number by which the pattern is told from that of other parts.
    pub number: u64,
    pub kind: Kind,
    pub address: u64,
    pub pages: u64,
}

/// The kind of memory of a part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Private pages of 4 KiB.
    Small,
    /// Private memory in huge pages.
    Huge,
    /// Private memory in huge pages of hugetlbfs.
    Hugetlb,
    /// Shared memory without a file.
    Shared,
    /// Pages of a file, changed by a private mapping.
    File,
    /// Private pages that a fork does not get.
    DontFork,
    /// Private pages that a fork finds empty.
    WipeOnFork,
    /// Private pages that cannot be read.
    None,
    /// Private pages, each in a mapping of its own.
    Split,
}

impl Kind {
    const ALL: [(&'static str, Self); 9] = [
        ("small", Self::Small),
        ("huge", Self::Huge),
        ("hugetlb", Self::Hugetlb),
        ("shared", Self::Shared),
        ("file", Self::File),
        ("dontfork", Self::DontFork),
        ("wipe", Self::WipeOnFork),
        ("none", Self::None),
        ("split", Self::Split),
    ];

    pub fn of(word: &str) -> Self {
        Self::ALL.iter().find(|(name, _)| *name == word).unwrap().1
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).unwrap().0
    }

    /// Tells whether a holder has such memory, so that CRIU is not to read it.
    pub fn is_held(self) -> bool {
        !matches!(self, Self::Hugetlb | Self::Shared | Self::DontFork | Self::WipeOnFork)
    }
}

impl Part {
    /// Makes memory from a word such as `small:16384`, and writes the pattern into each page.
    pub fn make(number: u64, word: &str) -> Self {
        let (kind, pages) = word.split_once(':').unwrap();
        let (kind, pages): (_, u64) = (Kind::of(kind), pages.parse().unwrap());
        let bytes = pages * PAGE;
        // A page that nobody has separates it from other mappings.
        let place = reserve(bytes + 2 * HUGE);
        let address = (place + PAGE).next_multiple_of(HUGE);
        map(kind, address, bytes);
        let part = Self { number, kind, address, pages };
        let advice = match kind {
            Kind::Huge => MmapAdvise::MADV_HUGEPAGE,
            Kind::DontFork => MmapAdvise::MADV_DONTFORK,
            Kind::WipeOnFork => MmapAdvise::MADV_WIPEONFORK,
            _ => MmapAdvise::MADV_NOHUGEPAGE,
        };
        if !matches!(kind, Kind::Hugetlb | Kind::Shared) {
            // SAFETY: the advice changes no byte of the mapping.
            unsafe { madvise(pointer(address).cast(), size(bytes), advice) }.unwrap();
        }
        for page in 0..pages {
            for at in [0, PAGE - 8] {
                write(address + page * PAGE + at, part.word(page, at));
            }
        }
        if kind == Kind::None {
            protect(address, bytes, ProtFlags::PROT_NONE);
        }
        if kind == Kind::Split {
            for page in (1..pages).step_by(2) {
                protect(address + page * PAGE, PAGE, ProtFlags::PROT_READ);
            }
        }
        part
    }

    /// The word at one end of a page.
    pub fn word(&self, page: u64, at: u64) -> u64 {
        (self.number << 56) ^ (page + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at
    }

    /// Looks at a page of this process. Returns what is wrong.
    pub fn wrong(&self, page: u64) -> Option<String> {
        [0, PAGE - 8].into_iter().find_map(|at| {
            let (found, wanted) = (read(self.address + page * PAGE + at), self.word(page, at));
            let kind = self.kind.name();
            (found != wanted)
                .then(|| format!("{kind} page {page}+{at}: {found:#x}, not {wanted:#x}"))
        })
    }

    pub fn end(&self) -> u64 {
        self.address + self.pages * PAGE
    }

    /// A word that a fork writes in a test.
    pub fn written(&self) -> u64 {
        self.address + self.pages / 2 * PAGE + 128
    }

    /// Tells whether CRIU asks about the part's only mapping by itself.
    pub fn is_large(&self) -> bool {
        self.kind != Kind::Split && self.pages * PAGE > HUGE
    }
}

/// Forks this process, which has one thread. Returns the process id of the fork, which sleeps for
/// ever and is not a child of this process.
pub fn fork_apart(then: impl FnOnce()) -> i32 {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    // SAFETY: the process has one thread.
    if let ForkResult::Parent { child } = unsafe { fork() }.unwrap() {
        nix::sys::wait::waitpid(child, None).unwrap();
        drop(there);
        let mut text = String::new();
        here.read_to_string(&mut text).unwrap();
        return text.parse().unwrap();
    }
    let _ = nix::unistd::setsid();
    // SAFETY: the process has one thread.
    if let ForkResult::Parent { child } = unsafe { fork() }.unwrap() {
        there.write_all(child.to_string().as_bytes()).unwrap();
        std::process::exit(0);
    }
    then();
    drop((here, there));
    loop {
        nix::unistd::pause();
    }
}

/// Reads a word of this process.
pub fn read(address: u64) -> u64 {
    // SAFETY: the address is in a part, which is mapped for good.
    unsafe { pointer(address).as_ptr().read_volatile() }
}

/// Writes a word of this process.
pub fn write(address: u64, word: u64) {
    // SAFETY: the address is in a part, which is mapped for good. Each word has one writer.
    unsafe { pointer(address).as_ptr().write_volatile(word) };
}

fn reserve(bytes: u64) -> u64 {
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    let length = NonZeroUsize::new(size(bytes)).unwrap();
    // SAFETY: the kernel chooses a place where nothing is.
    let place = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_NONE, flags) };
    place.unwrap().addr().get() as u64
}

fn map(kind: Kind, address: u64, bytes: u64) {
    let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let (place, length) = (NonZeroUsize::new(size(address)), NonZeroUsize::new(size(bytes)));
    let private = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
    let flags = match kind {
        Kind::Hugetlb => private | MapFlags::MAP_HUGETLB,
        Kind::Shared => MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
        _ => private,
    };
    if kind == Kind::File {
        let file = memfd_create(c"part", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, i64::try_from(bytes).unwrap()).unwrap();
        // SAFETY: the place is part of a reservation of `Part::make`.
        unsafe { mmap(place, length.unwrap(), rights, flags, file.as_fd(), 0) }.unwrap();
        return;
    }
    // SAFETY: the place is part of a reservation of `Part::make`.
    unsafe { mmap_anonymous(place, length.unwrap(), rights, flags) }.unwrap();
}

fn protect(address: u64, bytes: u64, rights: ProtFlags) {
    // SAFETY: nobody reads or writes these pages except by `Part::wrong`, which needs no writing.
    unsafe { mprotect(pointer(address).cast(), size(bytes), rights) }.unwrap();
}

fn pointer(address: u64) -> NonNull<u64> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(size(address))).unwrap()
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// Bytes of a page.
pub const PAGE: u64 = 4096;

const HUGE: u64 = 2 << 20;
