//! Open files described in words.

use std::fmt;

use crate::file::File;
use crate::files::OpenFile;
use crate::proto::{InetSkEntry, RegFileEntry, TimerfdEntry, UnixSkEntry};
use crate::text::{Text, count};

impl fmt::Display for OpenFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Text(self.path().unwrap_or(b"?"));
        match self.file() {
            File::Regular(reg) => regular(reg, f),
            File::Pipe(pipe) => write!(f, "pipe {} ({})", pipe.pipe_id, end(pipe.flags)),
            File::Fifo(_) => write!(f, "fifo {path}"),
            File::Inet(socket) => inet(socket, f),
            File::Unix(socket) => unix(socket, f),
            File::Packet(socket) => {
                // In network order, as in packet(7).
                let [high, low, ..] = socket.protocol.to_le_bytes();
                let protocol = u16::from_be_bytes([high, low]);
                write!(f, "packet socket, protocol {protocol:#06x}")
            }
            File::Netlink(socket) => write!(f, "netlink socket, protocol {}", socket.protocol),
            File::Eventfd(event) => write!(f, "eventfd, counter {}", event.counter),
            File::Eventpoll(epoll) => {
                write!(f, "epoll of {}", count(epoll.tfd.len(), "descriptor"))
            }
            File::Inotify(inotify) => write!(f, "inotify of {}", count(inotify.wd.len(), "watch")),
            File::Fanotify(group) => write!(f, "fanotify of {}", count(group.mark.len(), "mark")),
            File::Signalfd(signals) => write!(f, "signalfd of {:#x}", signals.sigmask),
            File::Timerfd(timer) => timerfd(timer, f),
            File::Tty(_) => write!(f, "terminal {path}"),
            File::Tun(tun) => match &tun.netdev {
                Some(device) => write!(f, "tun device {}", Text(device)),
                None => f.write_str("tun device, not attached"),
            },
            File::Namespace(ns) => write!(f, "namespace {}", ns.ns_id),
            File::External(_) => f.write_str("file of a plugin"),
            File::Memfd(memfd) => write!(f, "memfd {path} at offset {}", memfd.pos),
            File::BpfMap(map) => write!(f, "BPF map {}", Text(&map.map_name)),
            File::Pidfd(pidfd) => match pidfd.nspid {
                ..=0 => f.write_str("pidfd of a process that is gone"),
                pid => write!(f, "pidfd of process {pid}"),
            },
            File::Unknown(kind) => write!(f, "file of unknown type {kind}"),
        }?;
        if self.is_deleted() { f.write_str(" (deleted)") } else { Ok(()) }
    }
}

impl File {
    /// A word for the type, as `pipe`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Regular(reg) => match reg.mode.map(|mode| mode & S_IFMT) {
                Some(S_IFDIR) => "directory",
                Some(S_IFCHR | S_IFBLK) => "device",
                _ => "file",
            },
            Self::Pipe(_) => "pipe",
            Self::Fifo(_) => "fifo",
            Self::Inet(_) => "inet",
            Self::Unix(_) => "unix",
            Self::Packet(_) => "packet",
            Self::Netlink(_) => "netlink",
            Self::Eventfd(_) => "eventfd",
            Self::Eventpoll(_) => "epoll",
            Self::Inotify(_) => "inotify",
            Self::Fanotify(_) => "fanotify",
            Self::Signalfd(_) => "signalfd",
            Self::Timerfd(_) => "timerfd",
            Self::Tty(_) => "terminal",
            Self::Tun(_) => "tun",
            Self::Namespace(_) => "namespace",
            Self::External(_) => "plugin",
            Self::Memfd(_) => "memfd",
            Self::BpfMap(_) => "bpf-map",
            Self::Pidfd(_) => "pidfd",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The `O_` flags; `None` for types whose entry does not hold flags.
    pub fn flags(&self) -> Option<u32> {
        Some(match self {
            Self::Regular(file) => file.flags,
            Self::Pipe(file) => file.flags,
            Self::Inet(file) => file.flags,
            Self::Unix(file) => file.flags,
            Self::Packet(file) => file.flags,
            Self::Netlink(file) => file.flags,
            Self::Eventfd(file) => file.flags,
            Self::Eventpoll(file) => file.flags,
            Self::Inotify(file) => file.flags,
            Self::Fanotify(file) => file.flags,
            Self::Signalfd(file) => file.flags,
            Self::Timerfd(file) => file.flags,
            Self::Tty(file) => file.flags,
            Self::Namespace(file) => file.flags,
            Self::Memfd(file) => file.flags,
            Self::BpfMap(file) => file.flags,
            Self::Pidfd(file) => file.flags,
            // The file beside it holds the flags, or they are not saved.
            Self::Fifo(_) | Self::Tun(_) | Self::External(_) | Self::Unknown(_) => return None,
        })
    }

    /// Returns `true` for a socket.
    pub fn is_socket(&self) -> bool {
        matches!(self, Self::Inet(_) | Self::Unix(_) | Self::Packet(_) | Self::Netlink(_))
    }

    /// Access mode as lsof(8) shows it behind the number of a descriptor.
    pub(crate) fn mode(&self) -> &'static str {
        match self.flags() {
            Some(flags) if flags & O_PATH != 0 => "",
            Some(flags) => match flags & O_ACCMODE {
                O_RDONLY => "r",
                O_WRONLY => "w",
                _ => "u",
            },
            None => "",
        }
    }
}

fn regular(reg: &RegFileEntry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let path = Text(&reg.name);
    match reg.mode.map(|mode| mode & S_IFMT) {
        Some(S_IFDIR) => write!(f, "directory {path}"),
        Some(S_IFCHR | S_IFBLK) => write!(f, "device {path}"),
        _ => write!(f, "{path} at offset {}", reg.pos),
    }
}

fn inet(socket: &InetSkEntry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match socket.protocol() {
        Some(name) => write!(f, "{} socket", name.to_uppercase())?,
        None => write!(f, "IP socket of protocol {}", socket.proto)?,
    }
    if let Some(local) = socket.local() {
        write!(f, " {local}")?;
    }
    if let Some(remote) = socket.remote() {
        write!(f, " to {remote}")?;
    }
    match socket.state_name() {
        "UNCONN" => Ok(()),
        "ESTAB" if socket.protocol() != Some("tcp") => Ok(()),
        state => write!(f, ", {state}"),
    }
}

fn unix(socket: &UnixSkEntry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "unix {} socket {}", socket.type_name(), socket.ino)?;
    if let Some(address) = socket.address() {
        write!(f, " {address}")?;
    }
    match socket.peer {
        _ if socket.is_listening() => write!(f, ", {}", socket.state_name()),
        0 => Ok(()),
        peer => write!(f, ", peer {peer}"),
    }
}

fn timerfd(timer: &TimerfdEntry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let TimerfdEntry { vsec, vnsec, .. } = timer;
    match (vsec, vnsec) {
        (0, 0) => f.write_str("timerfd, not set"),
        _ => write!(f, "timerfd, due in {vsec}.{vnsec:09} s"),
    }
}

fn end(flags: u32) -> &'static str {
    match flags & O_ACCMODE {
        O_RDONLY => "read end",
        O_WRONLY => "write end",
        _ => "both ends",
    }
}

const O_ACCMODE: u32 = 3;
const O_PATH: u32 = 0o10_000_000;
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
