//! Requirements of files: paths, unlinked files, FIFOs, watches.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::Requirement;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::file::File;
use crate::files::OpenFile;
use crate::frame::Image;
use crate::kind;
use crate::memory::VmaStatus;
use crate::namespaces::NamespaceKind;
use crate::proto::{GhostFileEntry, RegFileEntry, RemapFilePathEntry, RemapType};
use crate::task::Task;

/// A file that a restore opens by its path.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SavedPath {
    /// All facts that the images have of the file: path, size, mode, build id, mount.
    pub entry: RegFileEntry,
    /// A task that uses the file. `None` if no living task does.
    pub holder: Option<Holder>,
    /// The tree has a mount namespace of its own, in which the path is looked up.
    pub own_namespace: bool,
    /// Another open file leads to this one: a terminal, which is looked up by its number.
    pub is_terminal: bool,
}

/// The place of a file in a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Holder {
    /// Id of the task.
    pub pid: u32,
    /// The use that the task makes of the file.
    pub place: PlaceInTask,
}

/// The highest descriptor of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Descriptor {
    /// Id of the task.
    pub pid: u32,
    /// Number of the descriptor.
    pub number: u32,
}

/// Uses that a task makes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PlaceInTask {
    /// The descriptor of this number.
    Descriptor(u32),
    /// The program that the task runs.
    Program,
    /// The working directory.
    WorkingDirectory,
    /// The root directory.
    RootDirectory,
    /// A mapping.
    Mapping,
}

/// An unlinked file. CRIU makes a file beside its old name, and removes that file at the end.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ghost {
    /// The name at the dump.
    pub path: Vec<u8>,
    /// The name for a while: `NAME.cr.ID.ghost`.
    pub name: Vec<u8>,
    /// Bytes of content in the image.
    pub bytes: u64,
    /// The file is a directory.
    pub is_directory: bool,
    /// The tree has a mount namespace of its own, in which the name is looked up.
    pub own_namespace: bool,
}

/// An end of a FIFO whose other end is not in the images.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FifoEnd {
    /// Path of the FIFO.
    pub path: Vec<u8>,
    /// The images have the end that is read; otherwise the end that is written to.
    pub reads: bool,
    /// The tree has a mount namespace of its own, in which the path is looked up.
    pub own_namespace: bool,
}

/// A file that inotify or fanotify watches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watch {
    /// Path of the file. `None` if the images have only a handle.
    pub path: Option<Vec<u8>>,
    /// The tree has a mount namespace of its own, in which the path is looked up.
    pub own_namespace: bool,
}

pub(super) fn walk(checkpoint: Checkpoint<'_>, all: &mut Vec<Requirement>) -> Result<()> {
    let own = checkpoint.root().namespaces()?;
    let own_namespace = own.iter().any(|of| of.kind == NamespaceKind::Mnt && !of.host);
    let holders = holders(checkpoint, all)?;
    let remaps = remaps(checkpoint)?;
    let mut terminals = HashSet::new();
    let mut fifos: BTreeMap<u32, (Vec<u8>, bool, bool)> = BTreeMap::new();
    let files = checkpoint.files()?;
    for file in &files {
        match file.file() {
            File::Tty(tty) => terminals.extend(tty.regf_id),
            File::Fifo(fifo) => note_fifo(checkpoint, fifo.pipe_id, fifo.regf_id, &mut fifos)?,
            File::Inotify(inotify) => {
                for watch in &inotify.wd {
                    let path = watch.f_handle.path.clone().map(absolute);
                    all.push(Requirement::Watch(Watch { path, own_namespace }));
                }
            }
            File::Fanotify(fanotify) => {
                for mark in fanotify.mark.iter().filter_map(|mark| mark.ie.as_ref()) {
                    let path = mark.f_handle.path.clone().map(absolute);
                    all.push(Requirement::Watch(Watch { path, own_namespace }));
                }
            }
            _ => {}
        }
    }
    for file in &files {
        let File::Regular(reg) = file.file() else { continue };
        match remaps.get(&file.id()) {
            Some(remap) if remap_type(remap) == RemapType::Ghost => {
                all.extend(ghost(checkpoint, reg, remap, own_namespace)?);
                continue;
            }
            // The name of a link is a file of its own; a process that has ended is made again.
            Some(_) => continue,
            None => {}
        }
        if reg.ext() {
            continue;
        }
        let holder = holders.get(&file.id()).copied();
        let is_terminal = terminals.contains(&file.id());
        let entry = reg.clone();
        all.push(Requirement::Path(SavedPath { entry, holder, own_namespace, is_terminal }));
    }
    let halves = fifos.into_values().filter(|(_, reads, writes)| reads != writes);
    all.extend(
        halves.map(|(path, reads, _)| Requirement::Fifo(FifoEnd { path, reads, own_namespace })),
    );
    Ok(())
}

/// Finds the first use of each file, and the highest descriptor of each task.
fn holders(checkpoint: Checkpoint<'_>, all: &mut Vec<Requirement>) -> Result<HashMap<u32, Holder>> {
    let mut found = HashMap::new();
    // The highest descriptor of each table.
    let mut tables: HashMap<Option<u32>, Option<u32>> = HashMap::new();
    for task in checkpoint.tasks().filter(Task::is_alive) {
        let pid = task.pid();
        let mut add = |id, place| {
            found.entry(id).or_insert(Holder { pid, place });
        };
        let highest = match tables.entry(task.table_id()?) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let fds = task.files()?;
                for fd in &fds {
                    add(fd.file.id(), PlaceInTask::Descriptor(fd.number));
                }
                *new.insert(fds.iter().map(|fd| fd.number).max())
            }
        };
        all.extend(highest.map(|number| Requirement::Descriptor(Descriptor { pid, number })));
        let id = |file: Option<OpenFile<'_>>| file.map(|file| file.id());
        if let Some(mm) = task.mm()? {
            add(mm.exe_file_id, PlaceInTask::Program);
            let file = VmaStatus::FILE_PRIVATE | VmaStatus::FILE_SHARED;
            for vma in mm.vmas {
                if VmaStatus::from_bits_retain(vma.status).intersects(file) {
                    if let Ok(id) = u32::try_from(vma.shmid) {
                        add(id, PlaceInTask::Mapping);
                    }
                }
            }
        }
        if let Some(id) = id(task.cwd()?) {
            add(id, PlaceInTask::WorkingDirectory);
        }
        if let Some(id) = id(task.root_dir()?) {
            add(id, PlaceInTask::RootDirectory);
        }
    }
    Ok(found)
}

fn remaps(checkpoint: Checkpoint<'_>) -> Result<HashMap<u32, RemapFilePathEntry>> {
    let mut found = HashMap::new();
    checkpoint.store().for_each(kind::REMAP_FPATH, 0, |remap: RemapFilePathEntry| {
        found.insert(remap.orig_id, remap);
        Ok(())
    })?;
    Ok(found)
}

fn remap_type(remap: &RemapFilePathEntry) -> RemapType {
    match remap.remap_type {
        Some(_) => remap.remap_type(),
        None if remap.remap_id & OLD_GHOST != 0 => RemapType::Ghost,
        None => RemapType::Linked,
    }
}

fn ghost(
    checkpoint: Checkpoint<'_>,
    reg: &RegFileEntry,
    remap: &RemapFilePathEntry,
    own_namespace: bool,
) -> Result<Option<Requirement>> {
    let id = remap.remap_id & !OLD_GHOST;
    let name = kind::GHOST_FILE.file_name(id.into());
    let Some(blob) = checkpoint.store().level().open(&name)? else { return Ok(None) };
    // The content may be large. The entry with the facts lies before it.
    let mut bytes = vec![0; usize::try_from(blob.len().min(GHOST_HEAD)).unwrap_or(0)];
    blob.read_at(0, &mut bytes).map_err(|fault| Error::new(name.clone(), fault))?;
    let mut image = Image::parse(&name, &bytes, kind::GHOST_FILE)?;
    let Some(entry) = image.next_entry()? else { return Ok(None) };
    let entry: GhostFileEntry = entry.decode()?;
    let is_directory = entry.mode & S_IFMT == S_IFDIR;
    let path = absolute(reg.name.clone());
    let mut name = path.clone();
    if !is_directory {
        name.extend(format!(".cr.{id:x}.ghost").bytes());
    }
    let ghost = Ghost { path, name, bytes: blob.len(), is_directory, own_namespace };
    Ok(Some(Requirement::Ghost(ghost)))
}

/// Notes that the images have an end of a FIFO.
fn note_fifo(
    checkpoint: Checkpoint<'_>,
    pipe: u32,
    name: Option<u32>,
    fifos: &mut BTreeMap<u32, (Vec<u8>, bool, bool)>,
) -> Result<()> {
    let Some(id) = name else { return Ok(()) };
    let Some(file) = checkpoint.file(id)? else { return Ok(()) };
    let File::Regular(reg) = file.file() else { return Ok(()) };
    // The kernel opens no longer path. Many FIFOs may name one file.
    if reg.name.len() > PATH_MAX {
        return Ok(());
    }
    let fifo = fifos.entry(pipe).or_insert_with(|| (absolute(reg.name.clone()), false, false));
    fifo.1 |= reg.flags & O_ACCMODE != O_WRONLY;
    fifo.2 |= reg.flags & O_ACCMODE != O_RDONLY;
    Ok(())
}

/// Makes a path begin with a slash, which some versions of CRIU leave out.
fn absolute(mut path: Vec<u8>) -> Vec<u8> {
    if !path.starts_with(b"/") {
        path.insert(0, b'/');
    }
    path
}

/// The bit that marks a ghost in images without a type.
const OLD_GHOST: u32 = 1 << 31;

/// Length from which on the kernel opens no path.
const PATH_MAX: usize = 4096;

/// Bytes that are read of the image of an unlinked file.
const GHOST_HEAD: u64 = 64 << 10;

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const O_ACCMODE: u32 = 3;
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
