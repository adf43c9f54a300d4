//! Options of `criu restore` that the images ask for.

use std::collections::{BTreeMap, HashSet};

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::file::File;
use crate::namespaces::NamespaceKind;
use crate::proto::{NdType, TtyType};
use crate::text::{Text, count};

/// An option of `criu restore` that the images ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestoreOption {
    /// `--tcp-established`: so many TCP connections are saved.
    TcpEstablished(usize),
    /// `--tcp-close`: so many TCP connections were saved as closed.
    TcpClose(usize),
    /// `--ext-unix-sk`: so many unix sockets have a peer outside the images.
    ExtUnixSk(usize),
    /// `--file-locks`: so many locks are saved.
    FileLocks(usize),
    /// `--shell-job`, because of a session that is outside the images.
    ForeignSession(u32),
    /// `--shell-job`, because of a pseudoterminal of this number, whose master is outside the
    /// images. `--orphan-pts-master` of CRIU's RPC does as well.
    ForeignTerminal(u32),
    /// `--inherit-fd`: a descriptor that takes the place of a resource.
    InheritFd {
        /// CRIU's name of the resource, such as `pipe:[4711]`.
        key: String,
        /// The kind of file that has to be given.
        file: GivenFile,
    },
    /// `--external mnt[KEY]:PATH`: a mount from outside.
    Mount {
        /// Key of the mount.
        key: String,
        /// Mount point in the tree.
        target: String,
    },
    /// `--external veth[NAME]:OUTER`: a pair of devices, of which only one end is saved.
    Veth(String),
    /// `--external macvlan[NAME]:OUTER`: a device on top of a device outside.
    Macvlan(String),
    /// `--root`: a mount namespace of the tree's own.
    Root,
    /// `--allow-uprobes`: the tasks had uprobes.
    AllowUprobes,
    /// `--libdir`: a plugin that took part in the dump.
    Plugin(String),
    /// `--lazy-pages`: so many pages were kept back by the dump.
    LazyPages(u64),
}

/// Kinds of files that a caller gives to a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GivenFile {
    /// A regular file, a directory or a device.
    File,
    /// A terminal.
    Terminal,
    /// A namespace of this kind.
    Namespace(NamespaceKind),
    /// The end of a pipe that is written to. Nobody in the images reads what is written.
    WriteEnd,
    /// The end of a pipe that is read. Nobody in the images writes to it.
    ReadEnd,
    /// A unix socket.
    Socket,
}

impl RestoreOption {
    /// Returns the option as in criu(8). Parts that the caller chooses are in capitals.
    #[must_use]
    pub fn option(&self) -> String {
        match self {
            Self::TcpEstablished(_) => "--tcp-established".to_owned(),
            Self::TcpClose(_) => "--tcp-close".to_owned(),
            Self::ExtUnixSk(_) => "--ext-unix-sk".to_owned(),
            Self::FileLocks(_) => "--file-locks".to_owned(),
            Self::ForeignSession(_) | Self::ForeignTerminal(_) => "--shell-job".to_owned(),
            Self::InheritFd { key, .. } => format!("--inherit-fd 'fd[FD]:{key}'"),
            Self::Mount { key, .. } => format!("--external 'mnt[{key}]:PATH'"),
            Self::Veth(name) => format!("--external 'veth[{name}]:OUTER'"),
            Self::Macvlan(name) => format!("--external 'macvlan[{name}]:OUTER'"),
            Self::Root => "--root DIR".to_owned(),
            Self::AllowUprobes => "--allow-uprobes".to_owned(),
            Self::Plugin(_) => "-L DIR".to_owned(),
            Self::LazyPages(_) => "--lazy-pages".to_owned(),
        }
    }

    /// Returns the reason for the option.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::TcpEstablished(number) | Self::TcpClose(number) => {
                count(*number, "TCP connection")
            }
            Self::ExtUnixSk(number) => {
                format!("{} with the other end outside the tree", count(*number, "unix socket"))
            }
            Self::FileLocks(number) => count(*number, "lock"),
            Self::ForeignSession(session) => format!("session {session} is outside the tree"),
            Self::ForeignTerminal(index) => {
                format!("the master of the terminal pts/{index} is outside the tree")
            }
            Self::InheritFd { file, .. } => match file {
                GivenFile::File => "an open file from outside the tree".to_owned(),
                GivenFile::Terminal => "a terminal from outside the tree".to_owned(),
                GivenFile::Namespace(kind) => format!("a {kind} namespace from outside the tree"),
                GivenFile::WriteEnd => "a pipe that nobody in the tree reads".to_owned(),
                GivenFile::ReadEnd => "a pipe that nobody in the tree writes to".to_owned(),
                GivenFile::Socket => "a socket with the other end outside the tree".to_owned(),
            },
            Self::Mount { target, .. } => format!("the mount at {target}"),
            Self::Veth(name) => format!("the other end of the device {name}"),
            Self::Macvlan(name) => format!("the device below {name}"),
            Self::Root => "a mount namespace of its own".to_owned(),
            Self::AllowUprobes => "tasks had uprobes".to_owned(),
            Self::Plugin(name) => format!("plugin {name}"),
            Self::LazyPages(1) => "1 page was kept back by the dump".to_owned(),
            Self::LazyPages(pages) => format!("{pages} pages were kept back by the dump"),
        }
    }
}

/// Lists the options. `lazy` is the number of pages that were kept back, if the caller has counted
/// them already.
pub(crate) fn options(checkpoint: Checkpoint<'_>, lazy: Option<u64>) -> Result<Vec<RestoreOption>> {
    let mut found = Vec::new();
    of_files(checkpoint, &mut found)?;
    let root = checkpoint.root();
    let is_foreign = root.sid() != root.pid() && checkpoint.task(root.sid()).is_none();
    if is_foreign {
        found.push(RestoreOption::ForeignSession(root.sid()));
    }
    of_namespaces(checkpoint, &mut found)?;
    let inventory = checkpoint.inventory();
    if inventory.allow_uprobes() {
        found.push(RestoreOption::AllowUprobes);
    }
    for plugin in inventory.plugins_entry.iter().flat_map(|entry| &entry.plugins) {
        found.push(RestoreOption::Plugin(Text(plugin).to_string()));
    }
    let lazy = match lazy {
        Some(pages) => pages,
        None => kept_back(checkpoint)?,
    };
    if lazy > 0 {
        found.push(RestoreOption::LazyPages(lazy));
    }
    let mut seen = HashSet::new();
    found.retain(|option| seen.insert(option.clone()));
    Ok(found)
}

fn kept_back(checkpoint: Checkpoint<'_>) -> Result<u64> {
    let mut pages = 0u64;
    for task in checkpoint.tasks() {
        if let Some(memory) = task.memory_here()? {
            pages = pages.saturating_add(memory.totals().lazy);
        }
    }
    Ok(pages)
}

fn of_files(checkpoint: Checkpoint<'_>, found: &mut Vec<RestoreOption>) -> Result<()> {
    let inherit = |key: String, file| RestoreOption::InheritFd { key, file };
    let (mut connections, mut outside) = (0, 0);
    let mut slaves = BTreeMap::new();
    let mut masters = HashSet::new();
    let mut given = Vec::new();
    for file in checkpoint.files()? {
        match file.file() {
            File::Inet(socket) => {
                let is_connection = socket.protocol() == Some("tcp") && socket.remote().is_some();
                connections += usize::from(is_connection);
            }
            File::Unix(socket) if socket.uflags & USK_EXTERN != 0 => outside += 1,
            File::Unix(socket) if socket.uflags & USK_CALLBACK != 0 => {
                given.push(inherit(format!("socket:[{}]", socket.ino), GivenFile::Socket));
            }
            File::Regular(reg) if reg.ext() => {
                given.push(inherit(Text(&reg.name).to_string(), GivenFile::File));
            }
            File::Tty(_) => {
                let Some(info) = file.terminal() else { continue };
                let index = info.pty.as_ref().map(|pty| pty.index);
                match (info.r#type(), index) {
                    (TtyType::ExtTty, _) => {
                        let key = format!("tty[{:x}:{:x}]", info.rdev, info.dev());
                        given.push(inherit(key, GivenFile::Terminal));
                    }
                    (TtyType::Pty, Some(index)) if is_master(info.rdev) => {
                        masters.insert(index);
                    }
                    // A terminal without settings has hung up, and gets a new master.
                    (TtyType::Pty, Some(index)) if info.termios.is_some() => {
                        slaves.insert(index, info.sid);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    match (connections, checkpoint.inventory().tcp_close()) {
        (0, _) => {}
        (_, true) => found.push(RestoreOption::TcpClose(connections)),
        (_, false) => found.push(RestoreOption::TcpEstablished(connections)),
    }
    if outside > 0 {
        found.push(RestoreOption::ExtUnixSk(outside));
    }
    let locks = checkpoint.locks()?.len();
    if locks > 0 {
        found.push(RestoreOption::FileLocks(locks));
    }
    let orphan = slaves.keys().find(|index| !masters.contains(*index));
    found.extend(orphan.map(|index| RestoreOption::ForeignTerminal(*index)));
    found.extend(given);
    found.extend(half_pipes(checkpoint)?);
    Ok(())
}

/// Lists the pipes of which the images have one end.
pub(super) fn half_pipes(checkpoint: Checkpoint<'_>) -> Result<Vec<RestoreOption>> {
    let mut pipes: BTreeMap<u32, (bool, bool)> = BTreeMap::new();
    for file in checkpoint.files()? {
        if let File::Pipe(pipe) = file.file() {
            let ends = pipes.entry(pipe.pipe_id).or_default();
            ends.0 |= pipe.flags & O_ACCMODE != O_WRONLY;
            ends.1 |= pipe.flags & O_ACCMODE != O_RDONLY;
        }
    }
    let half = |(id, ends)| {
        let file = match ends {
            (true, false) => GivenFile::ReadEnd,
            (false, true) => GivenFile::WriteEnd,
            _ => return None,
        };
        Some(RestoreOption::InheritFd { key: format!("pipe:[{id}]"), file })
    };
    Ok(pipes.into_iter().filter_map(half).collect())
}

/// Returns true if a terminal's device is a master: `/dev/ptmx`, or one of the old masters.
pub(super) fn is_master(rdev: u32) -> bool {
    let (major, minor) = (rdev >> 8 & 0xfff, rdev & 0xff);
    (major, minor) == (5, 2) || (128..=135).contains(&major)
}

fn of_namespaces(checkpoint: Checkpoint<'_>, found: &mut Vec<RestoreOption>) -> Result<()> {
    let all = checkpoint.namespaces()?;
    let nets = all.iter().map(|saved| saved.namespace());
    let nets: Vec<u32> =
        nets.filter(|of| of.kind == NamespaceKind::Net && !of.host).map(|of| of.id).collect();
    for saved in &all {
        if let Some(key) = saved.external()? {
            let file = GivenFile::Namespace(saved.namespace().kind);
            found.push(RestoreOption::InheritFd { key, file });
        }
        if let Some(mounts) = saved.mounts()? {
            found.push(RestoreOption::Root);
            for mount in mounts.iter() {
                if let Some(key) = mount.external() {
                    let (key, target) = (key.to_string(), mount.target().to_string());
                    found.push(RestoreOption::Mount { key, target });
                }
            }
        }
        let Some(network) = saved.network()? else { continue };
        for device in &network.devices {
            let name = || Text(&device.name).to_string();
            match NdType::try_from(device.r#type) {
                Ok(NdType::Veth) if !device.peer_nsid.is_some_and(|id| nets.contains(&id)) => {
                    found.push(RestoreOption::Veth(name()));
                }
                Ok(NdType::Macvlan) => found.push(RestoreOption::Macvlan(name())),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Flags of unix sockets: the other end is outside the tree; the socket has to be given.
const USK_EXTERN: u32 = 1;
const USK_CALLBACK: u32 = 4;

const O_ACCMODE: u32 = 3;
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
