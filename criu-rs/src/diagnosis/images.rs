//! Names that CRIU leaves out of its messages, looked up in the images of a restore.

use std::os::fd::{AsFd, OwnedFd};

use caps::CapSet;
use criu_images::files::File;
use criu_images::{Capabilities, ImageSet};

use super::cause::Cause;
use super::failure::Failure;
use crate::sys::proc_link;

/// Names the address or the capabilities that a failed restore is about. Images that cannot be read
/// name nothing.
pub(crate) fn name_from_images(failure: &mut Failure, images: &OwnedFd) {
    let set = || ImageSet::open(proc_link(images.as_fd())).ok();
    let named = match failure.cause {
        Some(Cause::AddressInUse | Cause::AddressNotHere) => {
            let id = failure.seen.as_deref().and_then(|seen| seen.strip_prefix("socket "));
            id.and_then(|id| id.parse().ok()).and_then(|id| address(&set()?, id))
        }
        Some(Cause::CapabilityNotHeld) => set().and_then(|set| capabilities(&set)),
        _ => None,
    };
    if named.is_some() {
        failure.seen = named;
    }
}

/// The address that a saved socket is bound to.
fn address(set: &ImageSet, id: u32) -> Option<String> {
    match set.checkpoint().ok()?.file(id).ok()??.file() {
        File::Inet(socket) => Some(socket.local()?.to_string()),
        _ => None,
    }
}

/// The capabilities of saved tasks that criu does not get from this process.
fn capabilities(set: &ImageSet) -> Option<String> {
    // A program that root executes gets what is in the bounding set.
    let is_root = nix::unistd::geteuid().is_root();
    let own = if is_root { CapSet::Bounding } else { CapSet::Permitted };
    let held = caps::read(None, own).ok()?;
    let held = held.iter().fold(0, |held, capability| held | capability.bitmask());
    let checkpoint = set.checkpoint().ok()?;
    let saved = checkpoint.tasks().filter_map(|task| Some(task.creds()?.permitted()));
    let missing = saved.fold(0, |all, saved| all | saved.0) & !held;
    (missing != 0).then(|| Capabilities(missing).to_string())
}
