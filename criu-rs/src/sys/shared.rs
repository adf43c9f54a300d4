//! Memory that several processes map: words in a file without a name.

#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

/// Words in a memfd that other processes may map and write, too. They are zero at first.
///
/// The size of the file is sealed, so no other process can take the memory away.
#[derive(Debug)]
pub(crate) struct SharedWords {
    file: OwnedFd,
    at: NonNull<AtomicU64>,
    bytes: NonZeroUsize,
}

// SAFETY: the words are atomic, and the mapping belongs to this value alone.
unsafe impl Send for SharedWords {}
// SAFETY: the words are atomic, and a shared borrow gives nothing else.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Makes words in so many bytes, at least one word.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.max(size_of::<AtomicU64>());
        let bytes = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let file = memfd_create(c"criu-rs", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&file, libc::off_t::try_from(bytes.get()).map_err(io::Error::other)?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces no other.
        let at = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self { file, at: at.cast(), bytes })
    }

    /// Returns the words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        let words = self.bytes.get() / size_of::<AtomicU64>();
        // SAFETY: the mapping has so many words, starts at a page, and lives as long as `self`. The
        // file cannot shrink. Other processes write the words, and all access here is atomic.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), words) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value, and no borrow of the words outlives it.
        let _ = unsafe { munmap(self.at.cast(), self.bytes.get()) };
    }
}

impl AsFd for SharedWords {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::sys::proc_link;

    #[test]
    fn words_are_what_others_write_and_the_file_keeps_its_size() {
        let words = SharedWords::new(64).unwrap();
        assert_eq!(words.words().len(), 8);
        let other = proc_link(words.as_fd());
        let other = OpenOptions::new().read(true).write(true).open(other).unwrap();
        other.write_all_at(&7u64.to_ne_bytes(), 24).unwrap();
        assert_eq!(words.words()[3].load(Ordering::Acquire), 7);
        words.words()[7].store(9, Ordering::Release);
        let mut bytes = [0; 8];
        other.read_exact_at(&mut bytes, 56).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 9);
        assert!(other.set_len(8).is_err() && other.set_len(4096).is_err());
    }
}
