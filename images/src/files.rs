//! Open files and the descriptors that lead to them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::SocketAddr;

use crate::error::{ErrorKind, Result};
pub use crate::file::File;
use crate::kind;
use crate::old;
use crate::proto::{FdinfoEntry, FileEntry, MemfdInodeEntry, RemapFilePathEntry, TtyInfoEntry};
use crate::store::Store;

/// A descriptor of a task.
///
/// ```
/// use criu_images::ImageSet;
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// for fd in set.checkpoint()?.root().files()? {
///     println!("{fd}");
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Fd<'a> {
    /// Number of the descriptor.
    pub number: u32,
    /// `FD_CLOEXEC`: the descriptor is closed at execve(2).
    pub cloexec: bool,
    /// The open file behind the descriptor, which other descriptors may share.
    pub file: OpenFile<'a>,
}

impl fmt::Display for Fd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.number, self.file)
    }
}

/// An open file of the tree, with its own offset: the kernel's file description. Displays in words,
/// as "pipe 1234 (read end)".
#[derive(Clone, Copy)]
pub struct OpenFile<'a> {
    id: u32,
    file: &'a File,
    table: &'a FileTable,
}

/// A file that an epoll instance watches.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EpollTarget<'a> {
    /// Number of the descriptor when the file was added.
    pub number: u32,
    /// `EPOLL` events.
    pub events: u32,
    /// Value that epoll_wait(2) returns with an event.
    pub data: u64,
    /// The file; `None` if the number leads to no file any more, or if another task added the file.
    pub file: Option<OpenFile<'a>>,
}

impl<'a> Fd<'a> {
    /// Files that an epoll instance watches, looked up among the descriptors of the same task.
    /// Empty for any other file.
    pub fn epoll_targets(&self, fds: &[Fd<'a>]) -> Vec<EpollTarget<'a>> {
        let File::Eventpoll(epoll) = self.file.file() else {
            return Vec::new();
        };
        let by_number: HashMap<u32, OpenFile<'a>> =
            fds.iter().map(|fd| (fd.number, fd.file)).collect();
        let targets = epoll.tfd.iter().map(|target| EpollTarget {
            number: target.tfd,
            events: target.events,
            data: target.data,
            file: by_number.get(&target.tfd).copied(),
        });
        targets.collect()
    }
}

impl<'a> OpenFile<'a> {
    /// Id of the file in the set.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The file by its type, with all data in the set.
    pub fn file(&self) -> &'a File {
        self.file
    }

    /// The path by which the file was opened, or the name of a memory file.
    pub fn path(&self) -> Option<&'a [u8]> {
        match self.file {
            File::Regular(reg) => Some(&reg.name),
            File::Fifo(fifo) => self.regular(fifo.regf_id),
            File::Tty(tty) => self.regular(tty.regf_id),
            File::Tun(_) => self.regular(None),
            File::Memfd(_) => Some(&self.memfd()?.name),
            _ => None,
        }
    }

    /// The path of the regular file that belongs to this file. Without an id of its own it has the
    /// id of this file.
    fn regular(&self, id: Option<u32>) -> Option<&'a [u8]> {
        let is_regular = |file: &File| matches!(file, File::Regular(_));
        match self.table.find(id.unwrap_or(self.id), is_regular)?.file {
            File::Regular(reg) => Some(&reg.name),
            _ => None,
        }
    }

    /// Returns `true` if the path no longer existed at the dump.
    pub fn is_deleted(&self) -> bool {
        self.table.remaps.contains_key(&self.id)
    }

    /// The memory behind a memory file.
    pub fn memfd(&self) -> Option<&'a MemfdInodeEntry> {
        match self.file {
            File::Memfd(memfd) => self.table.memfds.get(&memfd.inode_id.into()),
            _ => None,
        }
    }

    /// The terminal behind a terminal file: settings, size, session and foreground group. Each end
    /// of a pseudo terminal has its own.
    pub fn terminal(&self) -> Option<&'a TtyInfoEntry> {
        match self.file {
            File::Tty(tty) => self.table.terminals.get(&tty.tty_info_id),
            _ => None,
        }
    }

    /// Finds the other end of a unix socket or of a TCP connection, if that end belongs to the tree
    /// too.
    pub fn peer(&self) -> Option<OpenFile<'a>> {
        match self.file {
            File::Unix(unix) => {
                let id = *self.table.unix.get(&unix.peer)?;
                self.table.find(id, |file| matches!(file, File::Unix(_)))
            }
            File::Inet(inet) => {
                let ends = (inet.remote()?, inet.local()?, inet.ns_id);
                let id = *self.table.connections.get(&ends)?;
                self.table.find(id, |file| matches!(file, File::Inet(_)))
            }
            _ => None,
        }
    }
}

impl fmt::Debug for OpenFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, file, .. } = self;
        f.debug_tuple("OpenFile").field(id).field(file).finish()
    }
}

/// Open files of a set, with the objects that their ids name.
#[derive(Debug)]
pub(crate) struct FileTable {
    files: HashMap<u32, File>,
    /// Files whose id an earlier file of another type has. CRIU saves a tun device as a regular
    /// file and as a tun device, both with one id. Old CRIUs number each type on its own.
    others: HashMap<u32, Vec<File>>,
    memfds: HashMap<u64, MemfdInodeEntry>,
    /// Inodes of memory files by the id of their shared memory.
    shared: HashMap<u64, u64>,
    terminals: HashMap<u32, TtyInfoEntry>,
    remaps: HashMap<u32, RemapFilePathEntry>,
    /// File ids of unix sockets by inode.
    unix: HashMap<u32, u32>,
    /// File ids of TCP connections by own address, address of the other end, and network namespace.
    connections: HashMap<(SocketAddr, SocketAddr, Option<u32>), u32>,
}

impl FileTable {
    pub(crate) fn read(store: &Store) -> Result<Self> {
        let mut table = Self {
            files: HashMap::new(),
            others: HashMap::new(),
            memfds: HashMap::new(),
            shared: HashMap::new(),
            terminals: HashMap::new(),
            remaps: HashMap::new(),
            unix: HashMap::new(),
            connections: HashMap::new(),
        };
        store.for_each(kind::FILES, 0, |entry: FileEntry| {
            table.insert(entry.id, File::try_from(entry)?)
        })?;
        if table.files.is_empty() {
            old::files(store, |id, file| table.insert(id, file))?;
        }
        store.for_each(kind::MEMFD_INODE, 0, |entry: MemfdInodeEntry| {
            table.shared.entry(entry.shmid.into()).or_insert(entry.inode_id);
            table.memfds.insert(entry.inode_id, entry);
            Ok(())
        })?;
        store.for_each(kind::TTY_INFO, 0, |entry: TtyInfoEntry| {
            table.terminals.insert(entry.id, entry);
            Ok(())
        })?;
        store.for_each(kind::REMAP_FPATH, 0, |entry: RemapFilePathEntry| {
            table.remaps.insert(entry.orig_id, entry);
            Ok(())
        })?;
        Ok(table)
    }

    fn insert(&mut self, id: u32, file: File) -> Result<(), ErrorKind> {
        if let File::Unix(unix) = &file {
            self.unix.insert(unix.ino, id);
        }
        if let File::Inet(inet) = &file {
            let ends = inet.local().zip(inet.remote());
            if let Some((local, remote)) = ends.filter(|_| inet.protocol() == Some("tcp")) {
                self.connections.insert((local, remote, inet.ns_id), id);
            }
        }
        match self.files.entry(id) {
            Entry::Vacant(free) => {
                free.insert(file);
            }
            Entry::Occupied(taken) => {
                let others = self.others.entry(id).or_default();
                if others.iter().chain([taken.get()]).any(|other| other.kind() == file.kind()) {
                    return Err(ErrorKind::Malformed("a file id occurs twice"));
                }
                others.push(file);
            }
        }
        Ok(())
    }

    /// Finds a file by its id: of several, the first in the set. CRIU writes regular files first,
    /// the only type whose files are found without their type.
    pub(crate) fn get(&self, id: u32) -> Option<OpenFile<'_>> {
        self.find(id, |_| true)
    }

    fn find(&self, id: u32, fits: impl Fn(&File) -> bool) -> Option<OpenFile<'_>> {
        let first = self.files.get(&id)?;
        let others = self.others.get(&id).into_iter().flatten();
        let file = [first].into_iter().chain(others).find(|file| fits(file))?;
        Some(OpenFile { id, file, table: self })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = OpenFile<'_>> {
        let others = self.others.iter().flat_map(|(id, files)| files.iter().map(move |f| (id, f)));
        let all = self.files.iter().chain(others);
        all.map(|(&id, file)| OpenFile { id, file, table: self })
    }

    /// Id of the shared memory behind a memory file.
    pub(crate) fn shared_memory(&self, id: u32) -> Option<u32> {
        Some(self.get(id)?.memfd()?.shmid)
    }

    /// Name of the memory file that some shared memory belongs to.
    pub(crate) fn shared_memory_name(&self, shmid: u64) -> Option<&[u8]> {
        let inode = self.shared.get(&shmid)?;
        Some(&self.memfds.get(inode)?.name)
    }

    /// Finds the file that a descriptor leads to.
    pub(crate) fn fd(&self, entry: &FdinfoEntry) -> Result<Fd<'_>, ErrorKind> {
        let typed = self.find(entry.id, |file| file.kind() == entry.r#type);
        let file = typed.or_else(|| self.get(entry.id));
        let file = file.ok_or(ErrorKind::Dangling { what: "file", id: entry.id.into() })?;
        Ok(Fd { number: entry.fd, cloexec: entry.flags & FD_CLOEXEC != 0, file })
    }
}

const FD_CLOEXEC: u32 = 1;
