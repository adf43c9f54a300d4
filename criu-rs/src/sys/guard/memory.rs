//! The memory of this process that a fork without a program does not need.

use std::fs;
use std::io;
use std::ops::Range;

use procfs::FromRead;
use procfs::process::MMapPath;
use procfs::process::{MMPermissions, MemoryMap, MemoryMaps};

/// Returns the memory that the fork of this thread does not need: all but programs and libraries
/// with their variables, the stack of this thread, and what the kernel has put there.
pub(super) fn useless() -> io::Result<Vec<Range<u64>>> {
    let maps = fs::File::open("/proc/thread-self/maps")?;
    let maps = MemoryMaps::from_read(maps).map_err(io::Error::other)?.0;
    let is_code = |map: &MemoryMap| map.perms.contains(MMPermissions::EXECUTE);
    let code: Vec<_> = maps.iter().filter(|map| is_code(map)).map(|map| &map.pathname).collect();
    let here = std::ptr::from_ref(&maps).addr() as u64;
    // The C library keeps this thread's variables at the upper end of its stack. Memory of others
    // that begins there may be part of the same map.
    // SAFETY: the call takes nothing and returns a number.
    let own_end = unsafe { libc::pthread_self() };
    let own_end = own_end.max(here).saturating_add(VARIABLES) & !(VARIABLES - 1);
    let range = |map: &MemoryMap| map.address.0..map.address.1;
    // The variables of a library without a first value come right behind its file.
    let mut end_of_data = 0;
    let mut is_data = |map: &MemoryMap| {
        let is_file = matches!(map.pathname, MMapPath::Path(_)) && code.contains(&&map.pathname);
        let is_data = is_file || map.address.0 == end_of_data;
        if is_file {
            end_of_data = map.address.1;
        }
        is_data
    };
    let useless = maps.iter().filter_map(|map| match &map.pathname {
        _ if range(map).contains(&here) => Some(own_end.max(map.address.0)..map.address.1),
        _ if is_data(map) => None,
        MMapPath::Path(_) => Some(range(map)),
        MMapPath::Anonymous
        | MMapPath::Heap
        | MMapPath::Stack
        | MMapPath::TStack(_)
        | MMapPath::Vsys(_)
            if !is_code(map) =>
        {
            Some(range(map))
        }
        // Memory that the kernel names, such as the vdso.
        _ => None,
    });
    Ok(useless.filter(|range| range.start < range.end).collect())
}

/// Returns the size of a page.
pub(super) fn page_size() -> u64 {
    procfs::page_size()
}

/// Room for the variables of a thread, above the address of its description.
const VARIABLES: u64 = 256 << 10;
