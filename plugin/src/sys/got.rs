//! The slots through which a program calls a function of a library.
//!
//! A program that is linked dynamically calls `ioctl` through a word of its own memory, which the
//! dynamic linker fills with the address of the function. The program's relocations say where the
//! word is. Other programs are refused.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::call::{Access, Fd};
use super::lines::Lines;
use super::path::Path;
use super::proc::{Mapping, PAGE};

/// The slots of one function, which lead to another while the value lives.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: [Option<Slot>; MOST],
}

/// A slot that has been changed.
#[derive(Clone, Copy, Debug)]
struct Slot {
    at: usize,
    was: usize,
}

impl Slots {
    /// Leads the calls of a function by the main program to `new`, which has its signature. `known`
    /// is the function itself, as the dynamic linker finds it here.
    ///
    /// # Errors
    /// `ENOEXEC` if the program has no slot of the function, or is built in a way that this code
    /// does not know. The errors of `mprotect(2)`. Nothing is changed then.
    pub(crate) fn redirect(name: &CStr, known: usize, new: usize) -> io::Result<Self> {
        let program = Program::main().ok_or_else(unknown)?;
        let mut found = [None; MOST];
        program.slots(name, &mut found).ok_or_else(unknown)?;
        let mut slots = Self { slots: [None; MOST] };
        for (at, place) in found.into_iter().flatten().zip(&mut slots.slots) {
            let was = word(at).load(Ordering::Acquire);
            // Either it is bound, or it leads to code of the program that binds it.
            if was != known && !program.is_code(was) {
                return Err(unknown());
            }
            *place = Some(Slot { at, was });
        }
        for slot in slots.slots.iter().flatten() {
            // What is done by then is undone when `slots` is dropped.
            write(slot.at, new)?;
        }
        if slots.slots.iter().all(Option::is_none) { Err(unknown()) } else { Ok(slots) }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for slot in self.slots.iter().flatten() {
            // The replacement passes on what it does not know, so it may stay.
            let _ = write(slot.at, slot.was);
        }
    }
}

/// Tells whether the main program's code has a number in it, such as that of a request.
pub(crate) fn mentions(number: u32) -> bool {
    let Some(program) = Program::main() else { return false };
    let bytes = number.to_le_bytes();
    program.code().any(|code| code.windows(bytes.len()).any(|window| window == bytes))
}

/// A program in this process's memory.
#[derive(Debug)]
struct Program {
    base: usize,
    headers: &'static [libc::Elf64_Phdr],
}

impl Program {
    /// The program that this process runs. The dynamic linker lists it first.
    fn main() -> Option<Self> {
        let mut program: Option<Self> = None;
        let data: *mut c_void = (&raw mut program).cast();
        // SAFETY: `first` takes what `data` points to.
        unsafe { libc::dl_iterate_phdr(Some(first), data) };
        program
    }

    /// Finds the slots of a function. Returns `None` if the program is none that is known.
    fn slots(&self, name: &CStr, into: &mut [Option<usize>; MOST]) -> Option<()> {
        let dynamic = Dynamic::of(self)?;
        let mut free = into.iter_mut();
        for table in [&dynamic.calls, &dynamic.data] {
            for at in table.clone().step_by(size_of::<libc::Elf64_Rela>()) {
                let rela: libc::Elf64_Rela = self.read(at)?;
                let (symbol, kind) = (rela.r_info >> 32, rela.r_info & 0xffff_ffff);
                if !SLOTS.contains(&kind) || !dynamic.names(self, symbol, name)? {
                    continue;
                }
                let at = self.base.checked_add(usize::try_from(rela.r_offset).ok()?)?;
                let is_slot = self.holds(at, size_of::<usize>(), libc::PF_W) && at % 8 == 0;
                *free.next().filter(|_| is_slot)? = Some(at);
            }
        }
        Some(())
    }

    /// The segments of the program with its code, as far as they can be read.
    fn code(&self) -> impl Iterator<Item = &'static [u8]> {
        let rights = libc::PF_R | libc::PF_X;
        let is_code = move |header: &&libc::Elf64_Phdr| {
            header.p_type == libc::PT_LOAD && header.p_flags & rights == rights
        };
        self.headers.iter().filter(is_code).filter_map(|header| {
            let start = self.base.checked_add(usize::try_from(header.p_vaddr).ok()?)?;
            let length = usize::try_from(header.p_filesz).ok()?;
            // SAFETY: the dynamic linker has mapped so many bytes there, and they do not change.
            Some(unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance(start), length) })
        })
    }

    /// Tells whether an address is code of the program.
    fn is_code(&self, at: usize) -> bool {
        self.holds(at, 1, libc::PF_X)
    }

    /// Tells whether bytes are in a segment that the program has been given with such rights.
    fn holds(&self, at: usize, length: usize, rights: u32) -> bool {
        let holds = |segment: &libc::Elf64_Phdr| -> Option<bool> {
            let start = self.base.checked_add(usize::try_from(segment.p_vaddr).ok()?)?;
            let end = start.checked_add(usize::try_from(segment.p_memsz).ok()?)?;
            Some(start <= at && at.checked_add(length)? <= end)
        };
        let mut segments = self.headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        segments.any(|header| header.p_flags & rights == rights && holds(header) == Some(true))
    }

    /// Reads a value of the program's memory.
    fn read<T: Plain>(&self, at: usize) -> Option<T> {
        let is_there = self.holds(at, size_of::<T>(), libc::PF_R);
        // SAFETY: the bytes are in a segment that the program can read, and any bytes are a `T`.
        is_there.then(|| unsafe { ptr::with_exposed_provenance::<T>(at).read_unaligned() })
    }

    /// Tells whether a name of the program's is this one.
    fn is_name(&self, at: usize, name: &CStr) -> Option<bool> {
        for (n, byte) in name.to_bytes_with_nul().iter().enumerate() {
            if self.read::<u8>(at.checked_add(n)?)? != *byte {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// The tables that a program's dynamic section names.
#[derive(Debug, Default)]
struct Dynamic {
    /// Relocations of calls.
    calls: Range<usize>,
    /// Relocations of data.
    data: Range<usize>,
    symbols: usize,
    names: usize,
}

impl Dynamic {
    fn of(program: &Program) -> Option<Self> {
        let header = program.headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC)?;
        let mut at = program.base.checked_add(usize::try_from(header.p_vaddr).ok()?)?;
        let mut found = Self::default();
        let (mut calls, mut data) = (0, 0);
        for _ in 0..MOST_TAGS {
            let [tag, value] = program.read::<[u64; 2]>(at)?;
            at = at.checked_add(size_of::<[u64; 2]>())?;
            let number = usize::try_from(value).ok()?;
            match tag {
                DT_NULL => {
                    found.calls.end = found.calls.start.checked_add(calls)?;
                    found.data.end = found.data.start.checked_add(data)?;
                    return (found.symbols != 0 && found.names != 0).then_some(found);
                }
                DT_PLTRELSZ => calls = number,
                DT_RELASZ => data = number,
                DT_JMPREL => found.calls.start = program.address(number)?,
                DT_RELA => found.data.start = program.address(number)?,
                DT_SYMTAB => found.symbols = program.address(number)?,
                DT_STRTAB => found.names = program.address(number)?,
                DT_PLTREL if value != DT_RELA => return None,
                DT_RELAENT if number != size_of::<libc::Elf64_Rela>() => return None,
                DT_SYMENT if number != size_of::<libc::Elf64_Sym>() => return None,
                _ => {}
            }
        }
        None
    }

    /// Tells whether a symbol is one of another library and has this name.
    fn names(&self, program: &Program, symbol: u64, name: &CStr) -> Option<bool> {
        let offset = usize::try_from(symbol).ok()?.checked_mul(size_of::<libc::Elf64_Sym>())?;
        let symbol: libc::Elf64_Sym = program.read(self.symbols.checked_add(offset)?)?;
        let at = self.names.checked_add(usize::try_from(symbol.st_name).ok()?)?;
        Some(symbol.st_shndx == SHN_UNDEF && program.is_name(at, name)?)
    }
}

impl Program {
    /// Returns the address that a value of the dynamic section means. Some dynamic linkers have
    /// added the base, others have not.
    fn address(&self, value: usize) -> Option<usize> {
        let moved = self.base.checked_add(value)?;
        [value, moved].into_iter().find(|at| self.holds(*at, 1, libc::PF_R))
    }
}

/// Types of which any bytes are a value.
trait Plain: Copy {}

impl Plain for u8 {}
impl Plain for [u64; 2] {}
impl Plain for libc::Elf64_Rela {}
impl Plain for libc::Elf64_Sym {}

/// Notes the first program that the dynamic linker lists.
extern "C" fn first(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: the dynamic linker passes a valid `info`.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: the program has so many headers, which stay as long as the process.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let base = usize::try_from(info.dlpi_addr).ok();
    let program: *mut Option<Program> = data.cast();
    // SAFETY: `Program::main` passes such a place, and waits.
    unsafe { *program = base.map(|base| Program { base, headers }) };
    1
}

/// The word at an address that [`Program::slots`] has found.
fn word(at: usize) -> &'static AtomicUsize {
    // SAFETY: the word is aligned, and in a segment of the program, which stays.
    unsafe { &*ptr::with_exposed_provenance::<AtomicUsize>(at) }
}

/// Writes a slot, also if its page is read-only by now.
fn write(at: usize, value: usize) -> io::Result<()> {
    let page = at & !(PAGE_SIZE - 1);
    if is_writable(at)? {
        word(at).store(value, Ordering::Release);
        return Ok(());
    }
    protect(page, libc::PROT_READ | libc::PROT_WRITE)?;
    word(at).store(value, Ordering::Release);
    protect(page, libc::PROT_READ)
}

fn protect(page: usize, rights: c_int) -> io::Result<()> {
    // SAFETY: the page is data of the program, and all that it had before it still has.
    let result =
        unsafe { libc::mprotect(ptr::with_exposed_provenance_mut(page), PAGE_SIZE, rights) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Looks up in `/proc/self/maps` whether the page of an address can be written.
fn is_writable(at: usize) -> io::Result<bool> {
    let path = Path::of(format_args!("/proc/self/maps"))?;
    let mut lines = Lines::of(Fd::open_path(&path, Access::Read)?);
    while let Some(line) = lines.next()? {
        let mapping = Mapping::parse(line).ok_or(io::ErrorKind::InvalidData)?;
        if mapping.range.contains(&(at as u64)) {
            return Ok(mapping.permissions[1] == b'w');
        }
    }
    Err(unknown())
}

fn unknown() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOEXEC)
}

/// Bytes of a page, as an address.
const PAGE_SIZE: usize = 4096;
const _: () = assert!(PAGE_SIZE as u64 == PAGE);

/// Most slots of a function: one for calls, one for the function's address.
const MOST: usize = 4;

/// Most entries of a dynamic section. Programs have some thirty.
const MOST_TAGS: usize = 1024;

/// `R_X86_64_GLOB_DAT` and `R_X86_64_JUMP_SLOT`.
const SLOTS: [u64; 2] = [6, 7];

const SHN_UNDEF: u16 = 0;

// Tags of a dynamic section.
const DT_NULL: u64 = 0;
const DT_PLTRELSZ: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_RELAENT: u64 = 9;
const DT_SYMENT: u64 = 11;
const DT_PLTREL: u64 = 20;
const DT_JMPREL: u64 = 23;

#[cfg(test)]
mod tests {
    use super::*;

    /// The function that the slot leads to in the test.
    extern "C" fn other() -> libc::pid_t {
        -7
    }

    #[test]
    fn calls_of_this_program_are_redirected_and_put_back() {
        // SAFETY: the call takes nothing.
        let ask = || unsafe { libc::getpgrp() };
        let was = ask();
        let known = libc::getpgrp as *const () as usize;
        let slots = Slots::redirect(c"getpgrp", known, other as *const () as usize).unwrap();
        assert_eq!(ask(), -7);
        // The linker makes the slots of Rust's programs read-only at their start.
        let slot = slots.slots[0].unwrap();
        assert!(!is_writable(slot.at).unwrap());
        drop(slots);
        assert!(!is_writable(slot.at).unwrap());
        assert_eq!(ask(), was);
    }

    #[test]
    fn a_function_that_the_program_does_not_call_is_refused() {
        let error = Slots::redirect(c"no_such_function", 1, 2).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
    }

    #[test]
    fn a_program_without_a_dynamic_section_is_refused() {
        let main = Program::main().unwrap();
        let mut found = [None; MOST];
        assert!(main.slots(c"getpgrp", &mut found).is_some() && found[0].is_some());
        // As the headers of a static program.
        let part = |kind| main.headers.iter().position(|header| header.p_type == kind).unwrap();
        let before = &main.headers[..part(libc::PT_DYNAMIC)];
        let program = Program { base: main.base, headers: before };
        assert_eq!(program.slots(c"getpgrp", &mut found), None);
    }

    #[test]
    fn a_slot_that_leads_elsewhere_is_refused() {
        // SAFETY: the call takes nothing.
        let was = unsafe { libc::getsid(0) };
        let error = Slots::redirect(c"getsid", 1, other as *const () as usize).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
        // SAFETY: the call takes nothing.
        assert_eq!(unsafe { libc::getsid(0) }, was);
    }
}
