//! Deleted files: whiteouts in `rootfs-diff.tar` for containerd, `deleted.files` for the others.

use std::collections::BTreeSet;

use criu_images::source::Blob;

use super::note::{Effect, Note};
use crate::bounds;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::metadata::names::{DELETED_FILES, ROOTFS_DIFF};
use crate::metadata::rootfs::whiteout;
use crate::metadata::{DiffKind, Engine, Metadata};
use crate::packing::{Layer, Spool, layer};
use crate::path;
use crate::tar::{Members, Seeking};
use crate::write::{Draft, Folder, Pieces, empty_file};

pub(super) fn adapt(
    draft: &mut Draft,
    name: &str,
    to: Engine,
    notes: &mut Vec<Note>,
) -> Result<()> {
    let fail = |fault: Fault| Error::new(name, fault.of(ROOTFS_DIFF));
    let deleted = Metadata::of(name, &Folder::of(draft, "")).deleted_files()?.unwrap_or_default();
    let diff = draft.bytes(ROOTFS_DIFF)?;
    if to == Engine::Containerd {
        if draft.has(DELETED_FILES) {
            to_whiteouts(draft, diff, &deleted, notes).map_err(fail)?;
        }
        return Ok(());
    }
    let Some(diff) = diff else { return Ok(()) };
    let bytes = unpacked(&diff).map_err(fail)?;
    let split = Split::of(&bytes).map_err(fail)?;
    if split.deleted.is_empty() && split.emptied.is_empty() {
        return Ok(());
    }
    draft.replace(ROOTFS_DIFF, Pieces::join(split.kept.into_iter().chain([end()])));
    for folder in split.emptied {
        let reason = format!(
            "/{folder} was emptied before new files came, which {to} has no form for: files of \
             the image appear there again"
        );
        notes.push(Note::new(Effect::Lost, ROOTFS_DIFF, reason));
    }
    if !split.deleted.is_empty() {
        let count = split.deleted.len();
        let all: BTreeSet<String> = deleted.into_iter().chain(split.deleted).collect();
        // A list of texts has always a text.
        let text = serde_json::to_vec_pretty(&all).unwrap_or_default();
        draft.replace(DELETED_FILES, Blob::from(text));
        let reason = match count {
            1 => "1 whiteout of rootfs-diff.tar became an entry of this list".to_owned(),
            _ => format!("{count} whiteouts of rootfs-diff.tar became entries of this list"),
        };
        notes.push(Note::new(Effect::Made, DELETED_FILES, reason));
    }
    Ok(())
}

/// Adds a whiteout for each deleted file behind the other entries.
fn to_whiteouts(
    draft: &mut Draft,
    diff: Option<Blob>,
    deleted: &[String],
    notes: &mut Vec<Note>,
) -> Result<(), Fault> {
    draft.remove(DELETED_FILES);
    let mut blocks = Vec::new();
    let mut count = 0;
    for file in deleted {
        match path::normal(file.as_bytes()).filter(|path| !path.is_empty()) {
            Some(path) => {
                let (folder, name) = path::split(&path);
                let mut whiteout = folder.to_owned();
                path::push(&mut whiteout, &format!(".wh.{name}"));
                blocks.extend(empty_file(whiteout.as_bytes()));
                count += 1;
            }
            None => {
                let reason = format!("{file} leads out of the container");
                notes.push(Note::new(Effect::Lost, DELETED_FILES, reason));
            }
        }
    }
    if count == 0 {
        return Ok(());
    }
    let mut pieces = Vec::new();
    if let Some(diff) = diff {
        let bytes = unpacked(&diff)?;
        pieces.extend(Split::of(&bytes)?.whole);
    }
    pieces.extend([Blob::from(blocks), end()]);
    draft.replace(ROOTFS_DIFF, Pieces::join(pieces));
    let reason = match count {
        1 => "1 entry became a whiteout in rootfs-diff.tar".to_owned(),
        _ => format!("{count} entries became whiteouts in rootfs-diff.tar"),
    };
    notes.push(Note::new(Effect::Changed, DELETED_FILES, reason));
    Ok(())
}

/// The entries of a layer. Headers are kept as they are: with extended attributes, times and
/// devices. The last block of a layer may be cut, and is filled up here.
struct Split {
    /// All entries.
    whole: Vec<Blob>,
    /// Runs of entries other than whiteouts.
    kept: Vec<Blob>,
    /// Deleted files, as `deleted.files` names them.
    deleted: Vec<String>,
    /// Directories whose old content is gone.
    emptied: Vec<String>,
}

impl Split {
    fn of(bytes: &Blob) -> Result<Self, Fault> {
        let (mut kept, mut deleted, mut emptied) = (Vec::new(), Vec::new(), Vec::new());
        let mut members = Members::new(Seeking::new(bytes));
        let (mut run, mut at) = (0, 0);
        while let Some(found) = members.next()? {
            let size = found.size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
            // The last block of an archive may be cut.
            let end = found.start.saturating_add(size).min(bytes.len());
            if let Some((path, kind)) = whiteout(&found.name) {
                kept.extend(bytes.slice(run, at - run));
                run = end;
                let path = String::from_utf8(path).map_err(|_| {
                    Fault::from(ErrorKind::Refused("a deleted file has a name that is not UTF-8"))
                })?;
                // Engines remove what `deleted.files` names, and may follow `..`.
                if path::normal(path.as_bytes()).is_none() {
                    let kind = ErrorKind::Refused("a deleted file leads out of the container");
                    return Err(kind.into());
                }
                match kind {
                    DiffKind::Emptied => emptied.push(path),
                    _ => deleted.push(format!("/{path}")),
                }
            }
            at = end;
        }
        let lacks = usize::try_from(at.next_multiple_of(BLOCK) - at).unwrap_or(0);
        let filled = |from: u64| {
            let fill = (from < at).then(|| Blob::from(vec![0; lacks]));
            bytes.slice(from, at - from).into_iter().chain(fill)
        };
        kept.extend(filled(run));
        Ok(Self { whole: filled(0).collect(), kept, deleted, emptied })
    }
}

/// Unpacks a layer, into a temporary file if it is packed.
fn unpacked(diff: &Blob) -> Result<Blob, Fault> {
    match layer(diff)? {
        Layer::Anywhere { bytes, .. } => Ok(bytes),
        Layer::Forward { opener, .. } => {
            let limit = bounds::unpacked(diff.len());
            let spool = Spool::new(opener.open()?)?;
            let size = spool.reach(limit.saturating_add(1))?;
            if size > limit {
                return Err(ErrorKind::TooLarge { size, limit }.into());
            }
            Ok(spool.blob(size))
        }
    }
}

/// Unit of a tar archive.
const BLOCK: u64 = 512;

/// The end of an archive.
fn end() -> Blob {
    Blob::from(vec![0; 1024])
}
