//! Checks that every image can be read to its end, and that ids which files use lead somewhere.

use std::collections::HashSet;

use super::findings::{Findings, Severity};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::file::File;
use crate::files::OpenFile;
use crate::frame::Image;
use crate::kind::{self, Entries, Kind};
use crate::proto::{PipeDataEntry, RemapFilePathEntry, RemapType, SkPacketEntry};
use crate::schema::Message;
use crate::set::ImageSet;
use crate::store::Store;

/// Reads every image except raw ones and pagemaps, with the payload of each entry.
pub(super) fn check_images(set: &ImageSet, findings: &mut Findings) {
    let Some(mut names) = findings.take(set.names()) else {
        return;
    };
    names.sort_unstable();
    for name in &names {
        let Some((kind, _)) = Kind::of_file(name) else {
            continue;
        };
        // Raw images have no entries; `pages` looks at pagemaps.
        if !matches!(kind.entries, Entries::Raw | Entries::Pagemap) {
            findings.take(read(set, name, kind));
        }
    }
}

fn read(set: &ImageSet, name: &str, kind: &'static Kind) -> Result<()> {
    let (Some(bytes), Some(message)) = (set.store().read(name)?, Message::by_name(kind.message))
    else {
        return Ok(());
    };
    let mut image = Image::parse(name, &bytes, kind)?;
    let mut count = 0u64;
    while let Some(entry) = image.next_entry()? {
        let message = kind.entry_message(count == 0).unwrap_or(message);
        message.check(entry.bytes()).map_err(|fault| entry.fault(fault))?;
        image.payload(&entry)?;
        count += 1;
    }
    match (kind.entries, count) {
        (Entries::One, 1) | (Entries::Many, _) | (Entries::Ghost, 1..) => Ok(()),
        (_, found) => Err(Error::new(name, ErrorKind::Entries { found, want: 1 })),
    }
}

/// Checks what files need of each other and of the images beside them.
pub(super) fn check_files(checkpoint: Checkpoint<'_>, findings: &mut Findings) {
    let store = checkpoint.store();
    let Some(files) = findings.take(checkpoint.files()) else {
        return;
    };
    let mut known = Known::default();
    for file in &files {
        known.add(file);
    }
    for file in &files {
        check_file(checkpoint, file, &known, findings);
    }
    let dangling = |what, id: u32| ErrorKind::Dangling { what, id: id.into() };
    findings.take(store.for_each(kind::SK_QUEUES, 0, |packet: SkPacketEntry| {
        let sent = packet.scm.iter().flat_map(|message| &message.rights);
        let lacking = sent.copied().find(|id| !known.files.contains(id));
        match lacking {
            Some(id) => Err(dangling("file", id)),
            None if known.files.contains(&packet.id_for) => Ok(()),
            None => Err(dangling("socket", packet.id_for)),
        }
    }));
    for (image, ids, what) in
        [(kind::PIPES_DATA, &known.pipes, "pipe"), (kind::FIFO_DATA, &known.fifos, "fifo")]
    {
        findings.take(store.for_each(image, 0, |data: PipeDataEntry| {
            if ids.contains(&data.pipe_id) { Ok(()) } else { Err(dangling(what, data.pipe_id)) }
        }));
    }
    let mut ghosts = Vec::new();
    findings.take(store.for_each(kind::REMAP_FPATH, 0, |remap: RemapFilePathEntry| {
        // New sets have the type in a field of its own. Old sets mark a ghost by the highest bit of
        // the id.
        if remap.remap_type.is_some() && remap.remap_type() == RemapType::Ghost {
            ghosts.push(remap.remap_id);
        }
        if known.files.contains(&remap.orig_id) {
            Ok(())
        } else {
            Err(dangling("file", remap.orig_id))
        }
    }));
    for id in ghosts {
        need(store, kind::GHOST_FILE, id.into(), findings);
    }
    for lock in findings.take(checkpoint.locks()).unwrap_or_default() {
        let pid = u32::try_from(lock.pid).ok();
        if pid.and_then(|pid| checkpoint.task(pid)).is_none() {
            let kind = dangling("task", pid.unwrap_or(0));
            findings.error(Error::new(kind::FILE_LOCKS.file, kind));
        }
    }
}

/// Ids that other images may refer to.
#[derive(Default)]
struct Known {
    files: HashSet<u32>,
    pipes: HashSet<u32>,
    fifos: HashSet<u32>,
}

impl Known {
    fn add(&mut self, file: &OpenFile<'_>) {
        self.files.insert(file.id());
        match file.file() {
            File::Pipe(pipe) => self.pipes.insert(pipe.pipe_id),
            File::Fifo(fifo) => self.fifos.insert(fifo.pipe_id),
            _ => false,
        };
    }
}

fn check_file(
    checkpoint: Checkpoint<'_>,
    file: &OpenFile<'_>,
    known: &Known,
    findings: &mut Findings,
) {
    let mut dangling = |severity, what, id: u64| {
        findings.add(severity, Error::new(kind::FILES.file, ErrorKind::Dangling { what, id }));
    };
    let mut beside = |id: Option<u32>| {
        if let Some(id) = id.filter(|id| !known.files.contains(id)) {
            dangling(Severity::Error, "regular file", id.into());
        }
    };
    match file.file() {
        File::Fifo(fifo) => beside(fifo.regf_id),
        File::Tty(tty) => {
            beside(tty.regf_id);
            if file.terminal().is_none() {
                dangling(Severity::Error, "terminal", tty.tty_info_id.into());
            }
        }
        File::Memfd(memfd) if file.memfd().is_none() => {
            dangling(Severity::Error, "memory file", memfd.inode_id.into());
        }
        // The other end may be outside the tree, or gone.
        File::Unix(unix) if unix.peer != 0 && unix.uflags == 0 && file.peer().is_none() => {
            dangling(Severity::Warning, "unix socket", unix.peer.into());
        }
        File::Inet(socket) => {
            let is_connection = socket.protocol() == Some("tcp") && socket.remote().is_some();
            if is_connection && !checkpoint.inventory().tcp_close() {
                need(checkpoint.store(), kind::TCP_STREAM, socket.ino.into(), findings);
            }
        }
        _ => {}
    }
}

fn need(store: &Store, kind: &'static Kind, id: u64, findings: &mut Findings) {
    let name = kind.file_name(id);
    if let Some(None) = findings.take(store.level().size(&name)) {
        findings.error(Error::new(name, ErrorKind::Missing));
    }
}
