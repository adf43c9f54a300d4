//! Sources of bind mounts that were replaced outside of the container.

use std::fs;
use std::os::fd::BorrowedFd;

use criu_images::edit::{Patch, rewrite};
use criu_images::proto::MntEntry;
use criu_images::{ImageSet, kind};
use prost::Message;

use super::error::{Error, Result};
use crate::sys::proc_link;
use crate::value::replace_file;

/// Makes the external mounts in fresh images forget that their source was removed, as
/// `/etc/resolv.conf` is when a new file takes its name. CRIU would make the source anew, and fail
/// because there is one. A restore shows the source that exists then.
pub(crate) fn forget(images: BorrowedFd<'_>) -> Result<()> {
    let path = proc_link(images);
    let failed = |source| Error::path("look into", &path, source);
    let Ok(set) = ImageSet::open(&path) else { return Ok(()) };
    for entry in fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if kind::Kind::of_file(name).is_none_or(|(found, _)| found.name != kind::MNTS.name) {
            continue;
        }
        let mut change = |patch: &mut Patch, bytes: &[u8]| {
            let mount = MntEntry::decode(bytes).unwrap_or_default();
            if mount.deleted.is_some() && mount.ext_key.is_some() {
                patch.set("deleted", []);
            }
            Ok(())
        };
        let bytes = set.read(name)?.unwrap_or_default();
        if let Some(new) = rewrite(name, &bytes, &mut change)? {
            let written = replace_file(images, name, &new);
            written.map_err(|source| Error::path("write", name, source))?;
        }
    }
    Ok(())
}
