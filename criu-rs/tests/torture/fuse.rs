//! A file system in memory that fails when it is told to.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// No failure.
    None,
    /// `EIO` once so many bytes have been written.
    Io(u64),
    /// `ENOSPC`, the same way.
    NoSpace(u64),
    /// Takes and gives a part of what it is asked for, of a size like this.
    Short(u64),
}

/// A mounted one. It is unmounted when dropped.
pub struct Mounted {
    state: Arc<Mutex<State>>,
    _session: BackgroundSession,
}

impl Mounted {
    pub fn at(path: &Path) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let fs = Memory { state: Arc::clone(&state) };
        let session = fuser::spawn_mount(fs, path, &Config::default()).expect("/dev/fuse");
        Self { state, _session: session }
    }

    /// Fails from now on.
    pub fn fail(&self, failure: Failure) {
        let mut state = self.state.lock().unwrap();
        (state.failure, state.written) = (failure, 0);
    }

    /// Copies what is in it.
    pub fn copy(&self, to: &Path) {
        let state = self.state.lock().unwrap();
        for (name, number) in &state.names {
            match &state.nodes[number].link {
                Some(target) => std::os::unix::fs::symlink(target, to.join(name)).unwrap(),
                None => std::fs::write(to.join(name), &state.nodes[number].bytes).unwrap(),
            }
        }
    }
}

#[derive(Debug)]
struct State {
    names: BTreeMap<OsString, u64>,
    nodes: BTreeMap<u64, Node>,
    next: u64,
    written: u64,
    failure: Failure,
    failed: usize,
}

impl Default for State {
    fn default() -> Self {
        let (names, nodes) = Default::default();
        Self { names, nodes, next: 2, written: 0, failure: Failure::None, failed: 0 }
    }
}

#[derive(Debug, Default)]
struct Node {
    bytes: Vec<u8>,
    mode: u16,
    link: Option<OsString>,
}

struct Memory {
    state: Arc<Mutex<State>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn flags(&self) -> FopenFlags {
        // The page cache would make parts whole again.
        match self.lock().failure {
            Failure::Short(_) => FopenFlags::FOPEN_DIRECT_IO,
            _ => FopenFlags::empty(),
        }
    }
}

impl State {
    fn attr(&self, number: u64) -> FileAttr {
        let node = self.nodes.get(&number);
        let size = node.map_or(0, |node| node.bytes.len() as u64);
        let kind = match node {
            None => FileType::Directory,
            Some(node) if node.link.is_some() => FileType::Symlink,
            Some(_) => FileType::RegularFile,
        };
        let now = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind,
            perm: node.map_or(0o755, |node| node.mode & 0o7777),
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn add(&mut self, name: &OsStr, node: Node) -> u64 {
        let number = self.next;
        self.next += 1;
        self.names.insert(name.into(), number);
        self.nodes.insert(number, node);
        number
    }

    /// How much of a write is taken.
    fn take(&mut self, length: usize) -> Result<usize, Errno> {
        let limit = |limit: u64, written: u64| written.saturating_add(length as u64) > limit;
        let error = match self.failure {
            Failure::Io(after) if limit(after, self.written) => Some(Errno::EIO),
            Failure::NoSpace(after) if limit(after, self.written) => Some(Errno::ENOSPC),
            _ => None,
        };
        if let Some(error) = error {
            self.failed += 1;
            return Err(error);
        }
        let taken = self.part(length);
        self.written += taken as u64;
        Ok(taken)
    }

    fn part(&mut self, length: usize) -> usize {
        match self.failure {
            Failure::Short(size) if length > 1 => {
                self.failed += 1;
                // Another part each time, and never nothing.
                let size = usize::try_from(size + self.failed as u64 % 7 + 1).unwrap();
                length.min(size)
            }
            _ => length,
        }
    }
}

const TTL: Duration = Duration::ZERO;
const FIRST: Generation = Generation(0);

impl Filesystem for Memory {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.lock();
        match state.names.get(name) {
            Some(number) => reply.entry(&TTL, &state.attr(*number), FIRST),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.lock().attr(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.lock();
        if let Some(node) = state.nodes.get_mut(&ino.0) {
            if let Some(mode) = mode {
                node.mode = u16::try_from(mode & 0o7777).unwrap();
            }
            if let Some(size) = size {
                node.bytes.resize(usize::try_from(size).unwrap(), 0);
            }
        }
        reply.attr(&TTL, &state.attr(ino.0));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.lock().nodes.get(&ino.0).and_then(|node| node.link.clone()) {
            Some(target) => reply.data(target.as_encoded_bytes()),
            None => reply.error(Errno::EINVAL),
        }
    }

    fn symlink(&self, _: &Request, _: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let mut state = self.lock();
        let node = Node { link: Some(target.into()), mode: 0o777, ..Node::default() };
        let number = state.add(name, node);
        reply.entry(&TTL, &state.attr(number), FIRST);
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        // The node stays for whoever has it open.
        match self.lock().names.remove(name) {
            Some(_) => reply.ok(),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        new: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.lock();
        match state.names.remove(name) {
            Some(number) => {
                state.names.insert(new.into(), number);
                reply.ok();
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.0 & nix::libc::O_TRUNC != 0 {
            if let Some(node) = self.lock().nodes.get_mut(&ino.0) {
                node.bytes.clear();
            }
        }
        reply.opened(FileHandle(0), self.flags());
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let flags = self.flags();
        let mut state = self.lock();
        let mode = u16::try_from(mode & 0o7777).unwrap();
        let number = state.add(name, Node { mode, ..Node::default() });
        reply.created(&TTL, &state.attr(number), FIRST, FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.lock();
        let size = state.part(size as usize);
        let bytes = state.nodes.get(&ino.0).map_or(&[][..], |node| &node.bytes);
        let rest = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        reply.data(&rest[..rest.len().min(size)]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.lock();
        let taken = match state.take(data.len()) {
            Ok(taken) => taken,
            Err(error) => return reply.error(error),
        };
        if let Some(node) = state.nodes.get_mut(&ino.0) {
            let start = usize::try_from(offset).unwrap();
            let end = start + taken;
            if node.bytes.len() < end {
                node.bytes.resize(end, 0);
            }
            node.bytes[start..end].copy_from_slice(&data[..taken]);
        }
        reply.written(u32::try_from(taken).unwrap());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.lock();
        for (index, (name, number)) in state.names.iter().enumerate().skip(offset as usize) {
            let kind = state.attr(*number).kind;
            if reply.add(INodeNo(*number), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 1000, 1000, 4096, 255, 4096);
    }
}
