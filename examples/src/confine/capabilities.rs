//! Capabilities: the rights of root beyond those of an owner of files.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::libc;

use super::landlock::Access;
use super::places::Place;
use super::raw;

/// Drops all capabilities that the places do not need, from every set. Returns the names of those
/// that are left.
///
/// Root without capabilities still reads and writes the files that it owns. `CAP_DAC_OVERRIDE`
/// stays if a place belongs to somebody else and is written, `CAP_DAC_READ_SEARCH` if such a place
/// is read.
pub(super) fn drop_all_but_needed(places: &[Place]) -> Result<Vec<String>, CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    caps::clear(None, CapSet::Effective)?;
    let needed: CapsHashSet = places.iter().filter_map(needed).collect();
    let kept: CapsHashSet = needed.intersection(&held).copied().collect();
    if held.contains(&Capability::CAP_SETPCAP) {
        caps::raise(None, CapSet::Effective, Capability::CAP_SETPCAP)?;
        let bounding = caps::read(None, CapSet::Bounding)?;
        for &capability in bounding.difference(&kept) {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    let mut names: Vec<String> = kept.iter().map(ToString::to_string).collect();
    names.sort();
    Ok(names)
}

/// Returns the capability without which a place is out of reach. No capability is effective now.
fn needed(place: &Place) -> Option<Capability> {
    let writes = match place.access {
        Access::Read | Access::Change => false,
        Access::Store => true,
    };
    let directory = libc::R_OK | libc::X_OK | if writes { libc::W_OK } else { 0 };
    let (file, capability) = match place.access {
        Access::Read => (libc::R_OK, Capability::CAP_DAC_READ_SEARCH),
        Access::Change => (libc::R_OK | libc::W_OK, Capability::CAP_DAC_OVERRIDE),
        Access::Store => (libc::F_OK, Capability::CAP_DAC_OVERRIDE),
    };
    let is_open = raw::may(&place.path, directory) && files(&place.path, file);
    // A place that has gone meanwhile needs no rights.
    let is_gone = fs::metadata(&place.path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    (!is_open && !is_gone).then_some(capability)
}

/// Tells if all files with pages in a directory are open for access.
fn files(directory: &Path, mode: libc::c_int) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let mut paths = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("pagemap-") || name.starts_with("pages-")
    });
    paths.all(|entry| raw::may(&entry.path(), mode))
}
