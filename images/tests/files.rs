//! All kinds of open files, described in words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{image, one_task};
use criu_images::proto::{
    BpfmapFileEntry, EventfdFileEntry, EventpollFileEntry, EventpollTfdEntry, ExtFileEntry,
    FanotifyFileEntry, FdTypes, FdinfoEntry, FifoEntry, FileEntry, InetSkEntry, InotifyFileEntry,
    InotifyWdEntry, MemfdFileEntry, NetlinkSkEntry, NsFileEntry, PacketSockEntry, PidfdEntry,
    PipeEntry, RegFileEntry, RemapFilePathEntry, SignalfdEntry, TimerfdEntry, TtyFileEntry,
    TunfileEntry, UnixSkEntry,
};
use criu_images::source::{InMemory, Source};
use criu_images::{ImageSet, check, kind};
use prost::Message;

fn entry(id: u32, kind: FdTypes) -> FileEntry {
    FileEntry { r#type: kind.into(), id, ..Default::default() }
}

fn regular(id: u32, path: &str, mode: u32, pos: u64) -> FileEntry {
    FileEntry {
        reg: Some(RegFileEntry {
            id,
            name: path.into(),
            mode: Some(mode),
            pos,
            ..Default::default()
        }),
        ..entry(id, FdTypes::Reg)
    }
}

fn inet(id: u32, socket: InetSkEntry) -> FileEntry {
    FileEntry { isk: Some(socket), ..entry(id, FdTypes::Inetsk) }
}

fn unix(id: u32, socket: UnixSkEntry) -> FileEntry {
    FileEntry { usk: Some(socket), ..entry(id, FdTypes::Unixsk) }
}

/// A set whose only task has these files open, one descriptor each.
fn open(files: &[FileEntry]) -> InMemory {
    let mut set = one_task(Vec::new());
    let fds: Vec<_> = files
        .iter()
        .map(|file| FdinfoEntry {
            id: file.id,
            r#type: file.r#type,
            fd: file.id + 100,
            flags: file.id % 2,
            ..Default::default()
        })
        .map(|fd| fd.encode_to_vec())
        .collect();
    let files: Vec<_> = files.iter().map(Message::encode_to_vec).collect();
    set.insert("fdinfo-0.img", image(kind::FDINFO, &fds));
    set.insert("files.img", image(kind::FILES, &files));
    set
}

fn said(set: InMemory) -> Vec<String> {
    let set = ImageSet::new(set).unwrap();
    let task = set.checkpoint().unwrap().root();
    let files = task.files().unwrap();
    files.iter().map(|fd| fd.to_string()).collect()
}

#[test]
fn every_kind_of_file_is_said_in_words() {
    let loopback = 0x0100_007f;
    let files = [
        regular(1, "/etc/hosts", 0o100_644, 12),
        regular(2, "/tmp", 0o040_755, 0),
        regular(3, "/dev/null", 0o020_666, 0),
        FileEntry {
            pipe: Some(PipeEntry { pipe_id: 77, flags: 0o4000, ..Default::default() }),
            ..entry(4, FdTypes::Pipe)
        },
        FileEntry {
            fifo: Some(FifoEntry { regf_id: Some(1), ..Default::default() }),
            ..entry(5, FdTypes::Fifo)
        },
        inet(
            6,
            InetSkEntry {
                family: 2,
                proto: 6,
                state: 10,
                src_port: 80,
                src_addr: vec![0],
                dst_addr: vec![0],
                ..Default::default()
            },
        ),
        inet(
            7,
            InetSkEntry {
                family: 10,
                proto: 6,
                state: 1,
                src_port: 80,
                src_addr: vec![0, 0, 0, 0x0100_0000],
                dst_port: 1234,
                dst_addr: vec![0, 0, 0xffff_0000, loopback],
                ..Default::default()
            },
        ),
        inet(
            8,
            InetSkEntry {
                family: 2,
                proto: 17,
                state: 7,
                src_port: 53,
                src_addr: vec![loopback],
                ..Default::default()
            },
        ),
        unix(9, UnixSkEntry { ino: 500, r#type: 1, state: 1, peer: 501, ..Default::default() }),
        unix(
            10,
            UnixSkEntry {
                ino: 501,
                r#type: 2,
                state: 10,
                name: b"\0bus\0".to_vec(),
                ..Default::default()
            },
        ),
        FileEntry {
            psk: Some(PacketSockEntry { protocol: 0x300, ..Default::default() }),
            ..entry(11, FdTypes::Packetsk)
        },
        FileEntry { nlsk: Some(NetlinkSkEntry::default()), ..entry(12, FdTypes::Netlinksk) },
        FileEntry {
            efd: Some(EventfdFileEntry { counter: 3, ..Default::default() }),
            ..entry(13, FdTypes::Eventfd)
        },
        FileEntry {
            epfd: Some(EventpollFileEntry {
                tfd: vec![EventpollTfdEntry::default(); 2],
                ..Default::default()
            }),
            ..entry(14, FdTypes::Eventpoll)
        },
        FileEntry {
            ify: Some(InotifyFileEntry {
                wd: vec![InotifyWdEntry::default()],
                ..Default::default()
            }),
            ..entry(15, FdTypes::Inotify)
        },
        FileEntry { ffy: Some(FanotifyFileEntry::default()), ..entry(16, FdTypes::Fanotify) },
        FileEntry {
            sgfd: Some(SignalfdEntry { sigmask: 0x4002, ..Default::default() }),
            ..entry(17, FdTypes::Signalfd)
        },
        FileEntry {
            tfd: Some(TimerfdEntry { vsec: 1, vnsec: 5_000_000, ..Default::default() }),
            ..entry(18, FdTypes::Timerfd)
        },
        FileEntry {
            tty: Some(TtyFileEntry { regf_id: Some(3), ..Default::default() }),
            ..entry(19, FdTypes::Tty)
        },
        FileEntry {
            tunf: Some(TunfileEntry { netdev: Some(b"tap0".to_vec()), ..Default::default() }),
            ..entry(20, FdTypes::Tunf)
        },
        FileEntry {
            nsf: Some(NsFileEntry { ns_id: 9, ..Default::default() }),
            ..entry(21, FdTypes::Ns)
        },
        FileEntry { ext: Some(ExtFileEntry::default()), ..entry(22, FdTypes::Ext) },
        FileEntry { memfd: Some(MemfdFileEntry::default()), ..entry(23, FdTypes::Memfd) },
        FileEntry {
            bpf: Some(BpfmapFileEntry { map_name: b"hits".to_vec(), ..Default::default() }),
            ..entry(24, FdTypes::Bpfmap)
        },
        FileEntry {
            pidfd: Some(PidfdEntry { nspid: -1, ..Default::default() }),
            ..entry(25, FdTypes::Pidfd)
        },
        FileEntry { r#type: 4711, ..entry(26, FdTypes::Und) },
    ];
    let mut set = open(&files);
    let remap = RemapFilePathEntry { orig_id: 1, ..Default::default() };
    set.insert("remap-fpath.img", image(kind::REMAP_FPATH, &[remap.encode_to_vec()]));
    let want = [
        "101: /etc/hosts at offset 12 (deleted)",
        "102: directory /tmp",
        "103: device /dev/null",
        "104: pipe 77 (read end)",
        "105: fifo /etc/hosts",
        "106: TCP socket 0.0.0.0:80, LISTEN",
        "107: TCP socket [::1]:80 to [::ffff:127.0.0.1]:1234, ESTAB",
        "108: UDP socket 127.0.0.1:53",
        "109: unix stream socket 500, peer 501",
        "110: unix datagram socket 501 @bus, LISTEN",
        "111: packet socket, protocol 0x0003",
        "112: netlink socket, protocol 0",
        "113: eventfd, counter 3",
        "114: epoll of 2 descriptors",
        "115: inotify of 1 watch",
        "116: fanotify of 0 marks",
        "117: signalfd of 0x4002",
        "118: timerfd, due in 1.005000000 s",
        "119: terminal /dev/null",
        "120: tun device tap0",
        "121: namespace 9",
        "122: file of a plugin",
        "123: memfd ? at offset 0",
        "124: BPF map hits",
        "125: pidfd of a process that is gone",
        "126: file of unknown type 4711",
    ];
    let old = common::old::old_layout(&set);
    assert_eq!(said(set), want);
    // Neither memory files nor unknown types are in an old set.
    let mut old_want: Vec<_> = want.into();
    old_want.retain(|line| !line.contains("memfd") && !line.contains("unknown"));
    let mut old_files = files.to_vec();
    old_files.retain(|file| file.memfd.is_none() && file.id != 26);
    let fdinfo = open(&old_files).open("fdinfo-0.img").unwrap().unwrap();
    let mut old = old;
    old.insert("fdinfo-1.img", fdinfo.bytes().unwrap());
    assert_eq!(said(old), old_want);
}

#[test]
fn descriptors_share_files_and_close_on_exec() {
    let set = ImageSet::new(open(&[regular(1, "/a", 0, 0), regular(2, "/b", 0, 0)])).unwrap();
    let task = set.checkpoint().unwrap().root();
    let files = task.files().unwrap();
    let found: Vec<_> = files.iter().map(|fd| (fd.file.id(), fd.cloexec)).collect();
    assert_eq!(found, [(1, true), (2, false)]);
}

#[test]
fn an_entry_without_the_member_its_type_names_is_an_error() {
    let set = ImageSet::new(open(&[entry(1, FdTypes::Pipe)])).unwrap();
    let task = set.checkpoint().unwrap().root();
    assert_eq!(
        task.files().unwrap_err().to_string(),
        "files.img: byte 12: the field that the type names is absent"
    );
}

#[test]
fn a_file_id_that_occurs_twice_is_an_error() {
    let set = ImageSet::new(open(&[regular(1, "/a", 0, 0), regular(1, "/b", 0, 0)])).unwrap();
    let task = set.checkpoint().unwrap().root();
    let error = task.files().unwrap_err();
    assert!(error.to_string().ends_with("a file id occurs twice"), "{error}");
}

#[test]
fn a_tun_device_shares_its_id_with_a_regular_file() {
    // CRIU saves the device file of a tun device under the id of the tun device.
    let tun = TunfileEntry { id: 7, netdev: Some("tun0".into()), ..Default::default() };
    let tun = FileEntry { tunf: Some(tun), ..entry(7, FdTypes::Tunf) };
    let mut set = open(&[regular(7, "/dev/net/tun", 0o020_666, 0), tun.clone()]);
    let fd = FdinfoEntry { id: 7, r#type: tun.r#type, fd: 5, ..Default::default() };
    set.insert("fdinfo-0.img", image(kind::FDINFO, &[fd.encode_to_vec()]));
    let set = ImageSet::new(set).unwrap();
    let checkpoint = set.checkpoint().unwrap();
    let fds = checkpoint.root().files().unwrap();
    assert!(fds[0].to_string().contains("tun0"), "{}", fds[0]);
    assert_eq!(fds[0].file.path(), Some(&b"/dev/net/tun"[..]));
    assert_eq!(checkpoint.files().unwrap().len(), 2);
    let findings = check(&set);
    assert!(!findings.iter().any(|one| one.error.image() == "files.img"), "{findings:?}");
}

#[test]
fn files_of_two_types_may_have_one_id() {
    // Old CRIUs number each type on its own. A fifo has the id of its regular file.
    let fifo = FifoEntry { id: 1, pipe_id: 3, ..Default::default() };
    let fifo = FileEntry { fifo: Some(fifo), ..entry(1, FdTypes::Fifo) };
    let socket = |ino, peer| UnixSkEntry { id: 1, ino, peer, ..Default::default() };
    let mut files = vec![regular(1, "/srv/queue", 0o010_644, 0), fifo, unix(1, socket(10, 11))];
    files.push(unix(2, UnixSkEntry { id: 2, ..socket(11, 10) }));
    let set = ImageSet::new(open(&files)).unwrap();
    let task = set.checkpoint().unwrap().root();
    let fds = task.files().unwrap();
    let words: Vec<_> = fds.iter().map(|fd| fd.file.file().word()).collect();
    assert_eq!(words, ["file", "fifo", "unix", "unix"]);
    assert_eq!(fds[1].file.path(), Some(&b"/srv/queue"[..]));
    assert_eq!(fds[3].file.peer().unwrap().file(), fds[2].file.file());
}
