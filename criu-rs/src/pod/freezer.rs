//! The state of the freezer in images of containers that a pod has frozen.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use criu_images::edit::{Patch, Value, rewrite};
use criu_images::proto::CgroupPropEntry;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use prost::Message;

use crate::error::{Error, Result};
use crate::operation::Dump;
use crate::value::{read_file, replace_file};

/// Makes fresh images forget that the pod had frozen the container's cgroup before CRIU came. A
/// restore would freeze the container when it is complete, and a runtime that restores expects one
/// that runs.
pub(super) fn forget(dump: &Dump<'_>) -> Result<()> {
    let images = &dump.common.opts.images;
    let directory: OwnedFd = match images.open()? {
        Some(directory) => directory,
        // CRIU opens the directory by the same path.
        None => File::open(images.path())
            .map_err(|source| Error::system(format!("open {}", images.path().display()), source))?
            .into(),
    };
    let name = "cgroup.img";
    let Some(bytes) = read_file(&directory, name) else {
        // CRIU writes none for a container whose cgroups it does not save.
        return match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(io::Error::other("it is unreadable, or too large")),
        }
        .map_err(|source| {
            Error::system(format!("read {}", images.path().join(name).display()), source)
        });
    };
    let mut change = |patch: &mut Patch, bytes: &[u8]| {
        if patch.message() == "cgroup_prop_entry" {
            let property = CgroupPropEntry::decode(bytes).unwrap_or_default();
            let state = STATES.iter().find(|(name, frozen, _)| {
                property.name == name.as_bytes() && property.value.trim_ascii() == frozen.as_bytes()
            });
            if let Some((_, _, thawed)) = state {
                patch.set("value", [Value::Bytes(thawed.as_bytes().to_vec())]);
            }
        }
        Ok(())
    };
    match rewrite(name, &bytes, &mut change)? {
        Some(new) => replace_file(directory.as_fd(), name, &new).map_err(|source| {
            Error::system(format!("write {}", images.path().join(name).display()), source)
        }),
        None => Ok(()),
    }
}

/// Files of the freezer in both versions of cgroups, and what they hold: frozen, thawed.
const STATES: &[(&str, &str, &str)] =
    &[("freezer.state", "FROZEN", "THAWED"), ("cgroup.freeze", "1", "0")];
