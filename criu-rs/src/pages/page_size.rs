//! The page size of the machine.

use criu_images::memory::PageSize;

/// Returns the page size of this machine. Both ends have to have the same; the protocol does not
/// say it.
pub fn page_size() -> PageSize {
    let found = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let bytes = found.ok().flatten().and_then(|bytes| u64::try_from(bytes).ok());
    bytes.and_then(PageSize::new).unwrap_or(PageSize::K4)
}
