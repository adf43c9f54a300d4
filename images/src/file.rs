//! Open files by type.

use crate::error::ErrorKind;
use crate::proto::{
    BpfmapFileEntry, EventfdFileEntry, EventpollFileEntry, ExtFileEntry, FanotifyFileEntry,
    FdTypes, FifoEntry, FileEntry, InetSkEntry, InotifyFileEntry, MemfdFileEntry, NetlinkSkEntry,
    NsFileEntry, PacketSockEntry, PidfdEntry, PipeEntry, RegFileEntry, SignalfdEntry, TimerfdEntry,
    TtyFileEntry, TunfileEntry, UnixSkEntry,
};

/// An open file by its type, with all data in the set.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum File {
    /// `REG`: a regular file, directory or device.
    Regular(RegFileEntry),
    /// `PIPE`: one end of a pipe.
    Pipe(PipeEntry),
    /// `FIFO`: one end of a named pipe.
    Fifo(FifoEntry),
    /// `INETSK`: a TCP, UDP or raw socket.
    Inet(Box<InetSkEntry>),
    /// `UNIXSK`: a unix socket.
    Unix(Box<UnixSkEntry>),
    /// `PACKETSK`: a packet socket.
    Packet(Box<PacketSockEntry>),
    /// `NETLINKSK`: a netlink socket.
    Netlink(Box<NetlinkSkEntry>),
    /// `EVENTFD`: an event counter.
    Eventfd(EventfdFileEntry),
    /// `EVENTPOLL`: an epoll instance.
    Eventpoll(EventpollFileEntry),
    /// `INOTIFY`: an inotify instance.
    Inotify(InotifyFileEntry),
    /// `FANOTIFY`: a fanotify group.
    Fanotify(FanotifyFileEntry),
    /// `SIGNALFD`: a signal descriptor.
    Signalfd(SignalfdEntry),
    /// `TIMERFD`: a timer.
    Timerfd(TimerfdEntry),
    /// `TTY`: a terminal.
    Tty(TtyFileEntry),
    /// `TUNF`: a tun or tap device.
    Tun(TunfileEntry),
    /// `NS`: a namespace.
    Namespace(NsFileEntry),
    /// `EXT`: a file that a plugin saved.
    External(ExtFileEntry),
    /// `MEMFD`: a memory file.
    Memfd(MemfdFileEntry),
    /// `BPFMAP`: a BPF map.
    BpfMap(Box<BpfmapFileEntry>),
    /// `PIDFD`: a process handle.
    Pidfd(PidfdEntry),
    /// A type that this version does not know, by its number.
    Unknown(i32),
}

impl File {
    /// Number of the type: an [`FdTypes`], or a number that this version does not know.
    pub(crate) fn kind(&self) -> i32 {
        let known = match self {
            Self::Regular(_) => FdTypes::Reg,
            Self::Pipe(_) => FdTypes::Pipe,
            Self::Fifo(_) => FdTypes::Fifo,
            Self::Inet(_) => FdTypes::Inetsk,
            Self::Unix(_) => FdTypes::Unixsk,
            Self::Packet(_) => FdTypes::Packetsk,
            Self::Netlink(_) => FdTypes::Netlinksk,
            Self::Eventfd(_) => FdTypes::Eventfd,
            Self::Eventpoll(_) => FdTypes::Eventpoll,
            Self::Inotify(_) => FdTypes::Inotify,
            Self::Fanotify(_) => FdTypes::Fanotify,
            Self::Signalfd(_) => FdTypes::Signalfd,
            Self::Timerfd(_) => FdTypes::Timerfd,
            Self::Tty(_) => FdTypes::Tty,
            Self::Tun(_) => FdTypes::Tunf,
            Self::Namespace(_) => FdTypes::Ns,
            Self::External(_) => FdTypes::Ext,
            Self::Memfd(_) => FdTypes::Memfd,
            Self::BpfMap(_) => FdTypes::Bpfmap,
            Self::Pidfd(_) => FdTypes::Pidfd,
            Self::Unknown(number) => return *number,
        };
        known as i32
    }
}

impl TryFrom<FileEntry> for File {
    type Error = ErrorKind;

    /// Takes the field that the type of the entry names.
    fn try_from(entry: FileEntry) -> Result<Self, ErrorKind> {
        let file = match FdTypes::try_from(entry.r#type) {
            Ok(FdTypes::Reg) => entry.reg.map(Self::Regular),
            Ok(FdTypes::Pipe) => entry.pipe.map(Self::Pipe),
            Ok(FdTypes::Fifo) => entry.fifo.map(Self::Fifo),
            Ok(FdTypes::Inetsk) => entry.isk.map(|isk| Self::Inet(isk.into())),
            Ok(FdTypes::Unixsk) => entry.usk.map(|usk| Self::Unix(usk.into())),
            Ok(FdTypes::Packetsk) => entry.psk.map(|psk| Self::Packet(psk.into())),
            Ok(FdTypes::Netlinksk) => entry.nlsk.map(|nlsk| Self::Netlink(nlsk.into())),
            Ok(FdTypes::Eventfd) => entry.efd.map(Self::Eventfd),
            Ok(FdTypes::Eventpoll) => entry.epfd.map(Self::Eventpoll),
            Ok(FdTypes::Inotify) => entry.ify.map(Self::Inotify),
            Ok(FdTypes::Fanotify) => entry.ffy.map(Self::Fanotify),
            Ok(FdTypes::Signalfd) => entry.sgfd.map(Self::Signalfd),
            Ok(FdTypes::Timerfd) => entry.tfd.map(Self::Timerfd),
            Ok(FdTypes::Tty) => entry.tty.map(Self::Tty),
            Ok(FdTypes::Tunf) => entry.tunf.map(Self::Tun),
            Ok(FdTypes::Ns) => entry.nsf.map(Self::Namespace),
            Ok(FdTypes::Ext) => entry.ext.map(Self::External),
            Ok(FdTypes::Memfd) => entry.memfd.map(Self::Memfd),
            Ok(FdTypes::Bpfmap) => entry.bpf.map(|bpf| Self::BpfMap(bpf.into())),
            Ok(FdTypes::Pidfd) => entry.pidfd.map(Self::Pidfd),
            _ => Some(Self::Unknown(entry.r#type)),
        };
        file.ok_or(ErrorKind::Malformed("the field that the type names is absent"))
    }
}
