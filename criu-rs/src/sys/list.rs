//! A list without the heap, for a process that must not allocate.

#![allow(unsafe_code)]

use std::ptr;

use super::raw;

/// A list in memory that the kernel has given for it alone.
pub(in crate::sys) struct List<T: Copy> {
    start: *mut T,
    length: usize,
    room: usize,
}

impl<T: Copy> List<T> {
    /// Makes an empty list.
    pub(in crate::sys) const fn new() -> Self {
        Self { start: ptr::null_mut(), length: 0, room: 0 }
    }

    /// Returns the items.
    pub(in crate::sys) fn items(&self) -> &[T] {
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: so many items were written there, and nobody else has the memory.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    /// Tells whether memory of the list is in a range of addresses.
    pub(in crate::sys) fn is_in(&self, start: u64, end: u64) -> bool {
        let own = self.start.addr() as u64;
        let bytes = self.room * size_of::<T>();
        own < end && start < own.saturating_add(bytes as u64)
    }

    /// Returns an item.
    pub(in crate::sys) fn get(&self, at: usize) -> Option<T> {
        self.items().get(at).copied()
    }

    /// Adds an item. Returns false if the kernel has no memory.
    pub(in crate::sys) fn push(&mut self, item: T) -> bool {
        if self.length == self.room && !self.grow() {
            return false;
        }
        // SAFETY: the place is inside the memory of the list, and aligned like its start.
        unsafe { self.start.wrapping_add(self.length).write(item) };
        self.length += 1;
        true
    }

    /// Replaces an item.
    pub(in crate::sys) fn set(&mut self, at: usize, item: T) {
        if at < self.length {
            // SAFETY: the place holds an item of the list.
            unsafe { self.start.wrapping_add(at).write(item) };
        }
    }

    /// Removes an item. The last takes its place.
    pub(in crate::sys) fn remove(&mut self, at: usize) {
        if let Some(last) = self.length.checked_sub(1).and_then(|last| self.get(last)) {
            self.set(at, last);
            self.length -= 1;
        }
    }

    /// Gives the memory of the list back.
    pub(in crate::sys) fn free(self) {
        if !self.start.is_null() {
            let size = self.room * size_of::<T>();
            let args = [self.start.addr() as u64, size as u64, 0, 0, 0, 0];
            // SAFETY: the memory is this list's own, and is not used any more.
            let _ = unsafe { raw::call(libc::SYS_munmap, args) };
        }
    }

    fn grow(&mut self) -> bool {
        let size = self.room * size_of::<T>();
        let wanted = (size * 2).max(1 << 16);
        let made = if self.start.is_null() {
            let prot = raw::number(libc::PROT_READ | libc::PROT_WRITE);
            let flags = raw::number(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let args = [0, wanted as u64, prot, flags, raw::number(-1), 0];
            // SAFETY: the kernel chooses a free address, so no memory is replaced.
            unsafe { raw::call(libc::SYS_mmap, args) }
        } else {
            let may_move = raw::number(libc::MREMAP_MAYMOVE);
            let args = [self.start.addr() as u64, size as u64, wanted as u64, may_move, 0, 0];
            // SAFETY: the memory is this list's own. It is used at its new place alone.
            unsafe { raw::call(libc::SYS_mremap, args) }
        };
        let Ok(made) = usize::try_from(made) else { return false };
        let made = ptr::with_exposed_provenance_mut::<T>(made);
        self.start = made;
        self.room = wanted / size_of::<T>();
        true
    }
}
