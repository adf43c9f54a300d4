//! Checks of the names of unix sockets.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use criu_images::requirements::{Requirement, UnixName};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::proc;

pub(super) fn look(saved: &Saved<'_>) -> Vec<Finding> {
    let abstracts = proc::text("/proc/self/net/unix").unwrap_or_default();
    let mut found = Vec::new();
    for requirement in &saved.requirements {
        let Requirement::UnixName(name) = requirement else { continue };
        if name.own_namespace || !saved.is_ours() {
            continue;
        }
        found.extend(match (name.is_abstract, name.is_outside) {
            (false, false) => bound(name),
            (true, false) => taken(name, &abstracts),
            // The peer is looked for only with the option, which is asked for elsewhere.
            (false, true) if saved.look.opts.ext_unix_sk() => peer(name),
            _ => None,
        });
    }
    found
}

fn path(name: &UnixName) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(&name.name));
    match &name.directory {
        Some(directory) => Path::new(OsStr::from_bytes(directory)).join(path),
        None => Path::new("/").join(path),
    }
}

/// Checks that a socket can be bound to its path. CRIU removes a socket that is there.
fn bound(name: &UnixName) -> Option<Finding> {
    let path = path(name);
    if let Ok(meta) = path.metadata() {
        let is_socket = meta.file_type().is_socket();
        return (!is_socket).then(|| {
            let finding = Finding::blocks(Cause::AddressInUse).path(path);
            let finding = finding.detail("the path of a unix socket belongs to another file");
            finding.hint("move the other file away")
        });
    }
    let parent = path.parent()?;
    (!parent.is_dir()).then(|| {
        let finding = Finding::blocks(Cause::FileMissing).path(parent);
        finding.detail("the directory of a unix socket")
    })
}

/// Checks that an abstract name is free.
fn taken(name: &UnixName, abstracts: &str) -> Option<Finding> {
    let shown = format!("@{}", String::from_utf8_lossy(&name.name).replace('\0', "@"));
    let is_taken = abstracts.lines().any(|line| line.split_whitespace().nth(7) == Some(&shown));
    is_taken.then(|| {
        let finding = Finding::blocks(Cause::AddressInUse);
        finding.detail(format!("unix {}", shown.escape_debug()))
    })
}

/// Checks that somebody has the path of a peer outside the tree.
fn peer(name: &UnixName) -> Option<Finding> {
    let path = path(name);
    let missing = path.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    missing.then(|| {
        let what = "a unix socket that the tree was connected to is missing";
        let hint = "start the program that makes the socket first";
        Finding::new(Severity::Blocks, what).path(path).hint(hint)
    })
}
