//! Sources of bind mounts that were replaced outside of the container.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use criu_images::edit::{Patch, rewrite};
use criu_images::proto::MntEntry;
use criu_images::{ImageSet, kind};
use prost::Message;

use super::error::{Error, Result};

/// Makes the external mounts in fresh images forget that their source was removed, as
/// `/etc/resolv.conf` is when a new file takes its name. CRIU would make the source anew, and fail
/// because there is one. A restore shows the source that exists then.
pub(crate) fn forget(images: &Path) -> Result<()> {
    let failed = |source| Error::path("look into", images, source);
    let Ok(set) = ImageSet::open(images) else { return Ok(()) };
    for entry in fs::read_dir(images).map_err(failed)? {
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
            let path = images.join(name);
            replace(&path, &new).map_err(|source| Error::path("write", path, source))?;
        }
    }
    Ok(())
}

/// Writes a file, whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    let write = || {
        let _ = fs::remove_file(&new);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file: File = options.open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}
