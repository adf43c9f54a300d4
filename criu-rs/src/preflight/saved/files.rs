//! Checks of files and ports in images against those of this host.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File as HostFile;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use criu_images::Checkpoint;
use criu_images::files::File;
use criu_images::proto::RegFileEntry;

use crate::diagnosis::Cause;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::look::Look;
use crate::preflight::need::Need;
use crate::preflight::proc;

/// Checks the files of a tree that has no mount namespace of its own.
pub(super) fn look(
    checkpoint: Checkpoint<'_>,
    look: &Look<'_>,
) -> criu_images::Result<Vec<Finding>> {
    let mut found = Vec::new();
    for file in checkpoint.files()? {
        let File::Regular(reg) = file.file() else { continue };
        let path = Path::new(OsStr::from_bytes(&reg.name));
        let of_kernel = ["/proc", "/sys", "/dev"].iter().any(|top| path.starts_with(top));
        if reg.ext() || file.is_deleted() || of_kernel || !path.is_absolute() {
            continue;
        }
        found.extend(compare(reg, path, look).map(|finding| finding.path(path)));
    }
    Ok(found)
}

/// Compares a saved file with the file on this host.
fn compare(reg: &RegFileEntry, path: &Path, look: &Look<'_>) -> Option<Finding> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(Finding::blocks(Cause::FileMissing));
        }
        Err(error) => {
            let what = "a file that a process has open cannot be checked";
            return Some(Finding::new(Severity::Loses, what).detail(error.to_string()));
        }
    };
    let changed = |detail: String| Finding::blocks(Cause::FileChanged).detail(detail);
    if let Some(size) = reg.size.filter(|&size| size != meta.size()) {
        return Some(changed(format!("it has {} bytes, and had {size} at the dump", meta.size())));
    }
    if let Some(mode) = reg.mode.filter(|&mode| mode != meta.mode()) {
        let detail = format!("it has mode {:o}, and had {mode:o} at the dump", meta.mode());
        if mode & !0o777 != meta.mode() & !0o777 {
            return Some(changed(detail));
        }
        let is_set = look.opts.skip_file_rwx_check();
        let needs = vec![Need::SkipFileRwxCheck];
        return Some(Finding::needs(Cause::FileChanged, needs, is_set).detail(detail));
    }
    if reg.build_id.is_empty() || !meta.is_file() {
        return None;
    }
    let saved: Vec<u8> = reg.build_id.iter().flat_map(|word| word.to_le_bytes()).collect();
    let id = build_id(path)?;
    // The image pads the id to whole words.
    let same = saved.get(..id.len()) == Some(&id[..]) && saved.len() - id.len() < 4;
    (!same).then(|| changed("it is another build of the same size".to_owned()))
}

/// The build id of a 64-bit ELF program.
fn build_id(path: &Path) -> Option<Vec<u8>> {
    let mut how = HostFile::options();
    how.read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC);
    let file = how.open(path).ok()?;
    let read = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    };
    let head = read(0, 64)?;
    head.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let short =
        |bytes: &[u8], at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let word =
        |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long =
        |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (table, each, count) = (long(&head, 32)?, short(&head, 54)?, short(&head, 56)?);
    for n in 0..u64::from(count.min(MAX_SEGMENTS)) {
        let at = table.checked_add(n.checked_mul(each.into())?)?;
        let segment = read(at, 56)?;
        if word(&segment, 0)? != PT_NOTE {
            continue;
        }
        let size = usize::try_from(long(&segment, 32)?).ok()?.min(MAX_NOTES);
        let notes = read(long(&segment, 8)?, size)?;
        let mut rest = &notes[..];
        while let (Some(name), Some(length), Some(kind)) =
            (word(rest, 0), word(rest, 4), word(rest, 8))
        {
            let padded = |n: u32| usize::try_from(n).ok()?.checked_next_multiple_of(4);
            let start = 12usize.checked_add(padded(name)?)?;
            let value = rest.get(start..start.checked_add(usize::try_from(length).ok()?)?)?;
            if kind == NT_GNU_BUILD_ID && rest.get(12..16) == Some(b"GNU\0") {
                return Some(value.to_vec());
            }
            rest = rest.get(start.checked_add(padded(length)?)?..)?;
        }
    }
    None
}

/// Checks that the ports of saved sockets are free on this host.
pub(super) fn ports(checkpoint: Checkpoint<'_>) -> criu_images::Result<Vec<Finding>> {
    let mut used: BTreeSet<(bool, u16)> = BTreeSet::new();
    for (name, is_tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
        let text = proc::text(PathBuf::from("/proc/self/net").join(name)).unwrap_or_default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state)) = (words.get(1), words.get(3)) else { continue };
            let port =
                local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            // A TCP socket blocks its port only while it listens.
            if *state == "0A" || !is_tcp {
                used.extend(port.map(|port| (is_tcp, port)));
            }
        }
    }
    let mut found = Vec::new();
    for file in checkpoint.files()? {
        let File::Inet(socket) = file.file() else { continue };
        let local: Option<SocketAddr> = socket.local();
        let is_tcp = socket.protocol() == Some("tcp");
        let Some(local) = local.filter(|_| socket.state == LISTEN || !is_tcp) else { continue };
        if local.port() != 0 && used.contains(&(is_tcp, local.port())) {
            let finding = Finding::blocks(Cause::AddressInUse);
            found.push(finding.detail(format!("{} {local}", if is_tcp { "tcp" } else { "udp" })));
        }
    }
    Ok(found)
}

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// `TCP_LISTEN`.
const LISTEN: u32 = 10;

/// Most program headers that are read, and most bytes of notes in a segment.
const MAX_SEGMENTS: u16 = 1000;
const MAX_NOTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_a_build_id_and_text_has_none() {
        let own = build_id(Path::new("/proc/self/exe"));
        assert!(own.is_none_or(|id| id.len() == 20 || id.len() == 16));
        assert!(build_id(Path::new("/etc/passwd")).is_none());
        assert!(build_id(Path::new("/bin/sh")).is_some());
    }
}
