//! Open files in words.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::files::{File, OpenFile};
use crate::proto::{InetSkEntry, RegFileEntry, TimerfdEntry, UnixSkEntry};
use crate::text::Text;

/// Writes what an open file is, as a person would say it.
pub(crate) fn describe(file: &OpenFile<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let path = Text(file.path().unwrap_or(b"?"));
    match file.file() {
        File::Regular(reg) => regular(reg, f),
        File::Pipe(pipe) => write!(f, "pipe {} ({})", pipe.pipe_id, end(pipe.flags)),
        File::Fifo(_) => write!(f, "fifo {path}"),
        File::Inet(socket) => inet(socket, f),
        File::Unix(socket) => unix(socket, f),
        File::Packet(socket) => {
            // In network order, as packet(7) has it.
            let [high, low, ..] = socket.protocol.to_le_bytes();
            let protocol = u16::from_be_bytes([high, low]);
            write!(f, "packet socket, protocol {protocol:#06x}")
        }
        File::Netlink(socket) => write!(f, "netlink socket, protocol {}", socket.protocol),
        File::Eventfd(event) => write!(f, "eventfd, counter {}", event.counter),
        File::Eventpoll(epoll) => write!(f, "epoll of {}", count(epoll.tfd.len(), "descriptor")),
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
    match file.is_deleted() {
        true => f.write_str(" (deleted)"),
        false => Ok(()),
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
    match socket.proto {
        IPPROTO_TCP => f.write_str("TCP socket")?,
        IPPROTO_UDP => f.write_str("UDP socket")?,
        IPPROTO_UDPLITE => f.write_str("UDP-Lite socket")?,
        other => write!(f, "IP socket of protocol {other}")?,
    }
    if let Some(local) = address(&socket.src_addr, socket.src_port) {
        write!(f, " {local}")?;
    }
    match socket.state {
        LISTEN => f.write_str(", listening"),
        _ if socket.dst_port == 0 => Ok(()),
        state => {
            if let Some(remote) = address(&socket.dst_addr, socket.dst_port) {
                write!(f, " to {remote}")?;
            }
            match TCP_STATES.get(state as usize) {
                Some(name) if socket.proto == IPPROTO_TCP => write!(f, ", {name}"),
                _ => Ok(()),
            }
        }
    }
}

fn unix(socket: &UnixSkEntry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let kind = match socket.r#type {
        SOCK_STREAM => "stream",
        SOCK_DGRAM => "datagram",
        SOCK_SEQPACKET => "packet",
        _ => "other",
    };
    write!(f, "unix {kind} socket {}", socket.ino)?;
    match socket.name.strip_suffix(b"\0").unwrap_or(&socket.name) {
        [] => {}
        [0, name @ ..] => write!(f, " @{}", Text(name))?,
        name => write!(f, " {}", Text(name))?,
    }
    match (socket.state, socket.peer) {
        (LISTEN, _) => f.write_str(", listening"),
        (_, 0) => Ok(()),
        (_, peer) => write!(f, ", peer {peer}"),
    }
}

fn timerfd(timer: &TimerfdEntry, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let TimerfdEntry { vsec, vnsec, .. } = timer;
    match (vsec, vnsec) {
        (0, 0) => f.write_str("timerfd, not set"),
        _ => write!(f, "timerfd, due in {vsec}.{vnsec:09} s"),
    }
}

/// An address of CRIU's, whose words lie in memory in network order.
fn address(words: &[u32], port: u32) -> Option<SocketAddr> {
    let port = u16::try_from(port).ok()?;
    let ip = match *words {
        [word] => IpAddr::V4(Ipv4Addr::from(word.to_le_bytes())),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (to, word) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
                to.copy_from_slice(&word.to_le_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn end(flags: u32) -> &'static str {
    match flags & O_ACCMODE {
        O_RDONLY => "read end",
        O_WRONLY => "write end",
        _ => "both ends",
    }
}

fn count(number: usize, noun: &str) -> String {
    let plural = match (number, noun) {
        (1, _) => "",
        (_, "watch") => "es",
        _ => "s",
    };
    format!("{number} {noun}{plural}")
}

/// By number, from 1.
const TCP_STATES: [&str; 12] = [
    "closed",
    "established",
    "SYN sent",
    "SYN received",
    "closing (FIN-WAIT-1)",
    "closing (FIN-WAIT-2)",
    "closed (TIME-WAIT)",
    "closed",
    "closed by peer",
    "closing (LAST-ACK)",
    "listening",
    "closing",
];
const LISTEN: u32 = 10;

const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_UDPLITE: u32 = 136;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_SEQPACKET: u32 = 5;
const O_ACCMODE: u32 = 3;
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
