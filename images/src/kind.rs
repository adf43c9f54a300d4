//! The catalogue of images: all kinds of files in a set.

use crate::proto::{GhostChunkEntry, PagemapHead};
use crate::schema::{Entry, Message};

/// A kind of image file.
///
/// ```
/// use criu_images::kind::{self, Kind};
///
/// assert_eq!(kind::CORE.file_name(12), "core-12.img");
/// let (kind, id) = Kind::of_file("tcp-stream-11944d.img").unwrap();
/// assert_eq!((kind.name, id), ("TCP_STREAM", Some(0x11944d)));
/// ```
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kind {
    /// CRIU's and crit's name of the magic. A raw image has the name, but no magic.
    pub name: &'static str,
    /// The type magic; 0 for a raw image, which has no header.
    pub magic: u32,
    /// Name of the file, with `{}` for a decimal id and `{x}` for a hexadecimal id.
    pub file: &'static str,
    /// Name of the entries' message; empty for a raw image.
    pub message: &'static str,
    /// Number of entries.
    pub entries: Entries,
    /// Bytes that follow each entry.
    pub extra: Extra,
}

/// Numbers of entries that an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entries {
    /// No entries and no header: the bytes have another format.
    Raw,
    /// Exactly one entry.
    One,
    /// Any number of entries, up to the end of the file.
    Many,
    /// A `pagemap_head`, then any number of entries.
    Pagemap,
    /// The message; then `ghost_chunk_entry`s if its `chunks` is true, else the content of the
    /// file.
    Ghost,
}

/// Bytes that follow each entry. The entry holds their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extra {
    /// No bytes.
    None,
    /// `bytes` bytes that were in the pipe.
    Pipe,
    /// `length` bytes of the packet.
    Packet,
    /// `inq_len` received bytes, then `outq_len` sent bytes.
    Tcp,
    /// The content of a file, or `len` bytes of it.
    Ghost,
    /// `size` bytes padded to 4, unless `in_pagemaps` says that they are elsewhere.
    Shm,
    /// `qnum` times: a size, an `ipc_msg` of that size, then its `msize` bytes padded to 8.
    Msg,
    /// `nsems` 16-bit values, padded to 8 bytes.
    Sem,
    /// `keys_bytes`, then `values_bytes`.
    BpfMap,
}

impl Kind {
    /// Finds the kind of a file by its name, and the id in the name. `None` if no image has such a
    /// name.
    #[must_use]
    pub fn of_file(name: &str) -> Option<(&'static Kind, Option<u64>)> {
        let first = name.bytes().next();
        let mut near = ALL.iter().filter(|kind| kind.file.bytes().next() == first);
        near.find_map(|&kind| match kind.template() {
            None => (kind.file == name).then_some((kind, None)),
            Some((prefix, radix, suffix)) => {
                let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
                let id = u64::from_str_radix(digits, radix).ok()?;
                // An id has one spelling: no sign, no leading zeros, lower case.
                (kind.file_name(id) == name).then_some((kind, Some(id)))
            }
        })
    }

    /// Name of the file with this id. Kinds without an id ignore it.
    #[must_use]
    pub fn file_name(&self, id: u64) -> String {
        match self.template() {
            None => self.file.to_owned(),
            Some((prefix, 16, suffix)) => format!("{prefix}{id:x}{suffix}"),
            Some((prefix, _, suffix)) => format!("{prefix}{id}{suffix}"),
        }
    }

    /// Message of an entry; `None` for a raw image. In some kinds the first entry has its own
    /// message.
    pub(crate) fn entry_message(&self, first: bool) -> Option<&'static Message> {
        match (self.entries, first) {
            (Entries::Pagemap, true) => Some(PagemapHead::schema()),
            (Entries::Ghost, false) => Some(GhostChunkEntry::schema()),
            _ => Message::by_name(self.message),
        }
    }

    /// Head magic, the word before the type magic. Images of version 1.0 lack it.
    pub fn head_magic(&self) -> Option<u32> {
        match self.entries {
            Entries::Raw => None,
            _ if self == INVENTORY => None,
            // CRIU's own records, in the work directory.
            _ if !self.file.ends_with(".img") => Some(IMG_SERVICE),
            _ => Some(IMG_COMMON),
        }
    }

    fn template(&self) -> Option<(&'static str, u32, &'static str)> {
        let (prefix, rest) = self.file.split_once('{')?;
        let (radix, suffix) = rest.split_once('}')?;
        Some((prefix, if radix == "x" { 16 } else { 10 }, suffix))
    }
}

/// Head magic of images.
pub const IMG_COMMON: u32 = 0x5456_4319;
/// Head magic of CRIU's own records.
pub const IMG_SERVICE: u32 = 0x5510_5940;

macro_rules! kinds {
    ($(
        $name:ident $(= $crit:literal)? $magic:literal $file:literal $message:literal
        $entries:ident $extra:ident;
    )*) => {
        $(
            #[doc = concat!("`", $file, "`: ", kinds!(@doc $entries $message))]
            pub const $name: &Kind = &Kind {
                name: kinds!(@name $name $($crit)?),
                magic: $magic,
                file: $file,
                message: $message,
                entries: Entries::$entries,
                extra: Extra::$extra,
            };
        )*

        /// All kinds.
        pub const ALL: &[&Kind] = &[$($name),*];
    };
    (@doc Raw $message:literal) => { "no header." };
    (@doc $entries:ident $message:literal) => { concat!("`", $message, "`.") };
    (@name $name:ident) => { stringify!($name) };
    (@name $name:ident $crit:literal) => { $crit };
}

// Name, with crit's if it is another; type magic; file; message; entries; extra bytes.
kinds! {
    // The set and its tasks.
    INVENTORY      0x58313116 "inventory.img"        "inventory_entry"       One     None;
    PSTREE         0x50273030 "pstree.img"           "pstree_entry"          Many    None;
    IDS            0x54432030 "ids-{}.img"           "task_kobj_ids_entry"   One     None;
    CORE           0x55053847 "core-{}.img"          "core_entry"            One     None;
    MM             0x57492820 "mm-{}.img"            "mm_entry"              One     None;
    FS             0x51403912 "fs-{}.img"            "fs_entry"              One     None;
    FDINFO         0x56213732 "fdinfo-{}.img"        "fdinfo_entry"          Many    None;
    SECCOMP        0x64413049 "seccomp.img"          "seccomp_entry"         One     None;
    APPARMOR       0x59423047 "apparmor.img"         "apparmor_entry"        One     None;
    CGROUP         0x59383330 "cgroup.img"           "cgroup_entry"          One     None;
    CPUINFO        0x61404013 "cpuinfo.img"          "cpuinfo_entry"         One     None;

    // Memory.
    PAGEMAP        0x56084025 "pagemap-{}.img"       "pagemap_entry"         Pagemap None;
    PAGEMAP_SHMEM = "PAGEMAP"
                   0x56084025 "pagemap-shmem-{}.img" "pagemap_entry"         Pagemap None;
    PAGES          0          "pages-{}.img"         ""                      Raw     None;
    PAGES_SHMEM    0          "pages-shmem-{}.img"   ""                      Raw     None;
    MEMFD_INODE    0x48453499 "memfd.img"            "memfd_inode_entry"     Many    None;

    // Files, and what was in them.
    FILES          0x56303138 "files.img"            "file_entry"            Many    None;
    PIPES_DATA     0x56453709 "pipes-data.img"       "pipe_data_entry"       Many    Pipe;
    FIFO_DATA      0x59333054 "fifo-data.img"        "pipe_data_entry"       Many    Pipe;
    SK_QUEUES      0x56264026 "sk-queues.img"        "sk_packet_entry"       Many    Packet;
    TCP_STREAM     0x51465506 "tcp-stream-{x}.img"   "tcp_stream_entry"      One     Tcp;
    GHOST_FILE     0x52583605 "ghost-file-{x}.img"   "ghost_file_entry"      Ghost   Ghost;
    REMAP_FPATH    0x59133954 "remap-fpath.img"      "remap_file_path_entry" Many    None;
    TTY_INFO       0x59453036 "tty-info.img"         "tty_info_entry"        Many    None;
    TTY_DATA       0x59413026 "tty-data.img"         "tty_data_entry"        Many    None;
    FILE_LOCKS     0x54323616 "filelocks.img"        "file_lock_entry"       Many    None;
    BPFMAP_DATA    0x64324033 "bpfmap-data.img"      "bpfmap_data_entry"     Many    BpfMap;

    // Mounts and other namespaces, by namespace id.
    MNTS           0x55563928 "mountpoints-{}.img"   "mnt_entry"             Many    None;
    TMPFS_DEV      0          "tmpfs-dev-{}.tar.gz.img" ""                   Raw     None;
    TMPFS          0          "tmpfs-{}.tar.gz.img"  ""                      Raw     None;
    AUTOFS         0x49353943 "autofs-{}.img"        "autofs_entry"          One     None;
    BINFMT_MISC    0x67343323 "binfmt-misc.img"      "binfmt_misc_entry"     Many    None;
    BINFMT_MISC_OLD = "BINFMT_MISC"
                   0x67343323 "binfmt-misc-{}.img"   "binfmt_misc_entry"     Many    None;
    NETNS          0x55933752 "netns-{}.img"         "netns_entry"           One     None;
    NETDEV         0x57373951 "netdev-{}.img"        "net_device_entry"      Many    None;
    IFADDR         0          "ifaddr-{}.img"        ""                      Raw     None;
    ROUTE          0          "route-{}.img"         ""                      Raw     None;
    ROUTE6         0          "route6-{}.img"        ""                      Raw     None;
    RULE           0          "rule-{}.img"          ""                      Raw     None;
    IPTABLES       0          "iptables-{}.img"      ""                      Raw     None;
    IP6TABLES      0          "ip6tables-{}.img"     ""                      Raw     None;
    NFTABLES       0          "nftables-{}.img"      ""                      Raw     None;
    NETNF_CT       0          "netns-ct-{}.img"      ""                      Raw     None;
    NETNF_EXP      0          "netns-exp-{}.img"     ""                      Raw     None;
    UTSNS          0x54473203 "utsns-{}.img"         "utsns_entry"           One     None;
    USERNS         0x55474906 "userns-{}.img"        "userns_entry"          One     None;
    TIMENS         0x43114433 "timens-{}.img"        "timens_entry"          One     None;
    PIDNS          0x61157326 "pidns-{}.img"         "pidns_entry"           One     None;
    IPC_VAR        0x53115007 "ipcns-var-{}.img"     "ipc_var_entry"         One     None;
    IPCNS_SHM      0x46283044 "ipcns-shm-{}.img"     "ipc_shm_entry"         Many    Shm;
    IPCNS_MSG      0x55453737 "ipcns-msg-{}.img"     "ipc_msg_entry"         Many    Msg;
    IPCNS_SEM      0x59573019 "ipcns-sem-{}.img"     "ipc_sem_entry"         Many    Sem;

    // CRIU's own records.
    STATS_DUMP = "STATS"
                   0x57093306 "stats-dump"           "stats_entry"           One     None;
    STATS_RESTORE = "STATS"
                   0x57093306 "stats-restore"        "stats_entry"           One     None;
    IRMAP_CACHE    0x57004059 "irmap-cache"          "irmap_cache_entry"     Many    None;

    // State that older sets keep apart from core and mm.
    CREDS          0x54023547 "creds-{}.img"         "creds_entry"           One     None;
    SIGACT         0x55344201 "sigacts-{}.img"       "sa_entry"              Many    None;
    ITIMERS        0x57464056 "itimers-{}.img"       "itimer_entry"          Many    None;
    POSIX_TIMERS   0x52603957 "posix-timers-{}.img"  "posix_timer_entry"     Many    None;
    RLIMIT         0x57113925 "rlimit-{}.img"        "rlimit_entry"          Many    None;
    SIGNAL         0x59255647 "signal-s-{}.img"      "siginfo_entry"         Many    None;
    PSIGNAL = "SIGNAL"
                   0x59255647 "signal-p-{}.img"      "siginfo_entry"         Many    None;
    VMAS           0x54123737 "vmas-{}.img"          "vma_entry"             Many    None;

    // Files that older sets keep apart from files.img.
    REG_FILES      0x50363636 "reg-files.img"        "reg_file_entry"        Many    None;
    EXT_FILES      0x59255641 "ext-files.img"        "ext_file_entry"        Many    None;
    NS_FILES       0x61394011 "ns-files.img"         "ns_file_entry"         Many    None;
    EVENTFD_FILE   0x44523722 "eventfd.img"          "eventfd_file_entry"    Many    None;
    EVENTPOLL_FILE 0x45023858 "eventpoll.img"        "eventpoll_file_entry"  Many    None;
    EVENTPOLL_TFD  0x44433746 "eventpoll-tfd.img"    "eventpoll_tfd_entry"   Many    None;
    SIGNALFD       0x57323820 "signalfd.img"         "signalfd_entry"        Many    None;
    INOTIFY_FILE   0x48424431 "inotify.img"          "inotify_file_entry"    Many    None;
    INOTIFY_WD     0x54562009 "inotify-wd.img"       "inotify_wd_entry"      Many    None;
    FANOTIFY_FILE  0x55096122 "fanotify.img"         "fanotify_file_entry"   Many    None;
    FANOTIFY_MARK  0x56506035 "fanotify-mark.img"    "fanotify_mark_entry"   Many    None;
    PIPES          0x56513555 "pipes.img"            "pipe_entry"            Many    None;
    FIFO           0x58364939 "fifo.img"             "fifo_entry"            Many    None;
    UNIXSK         0x54373943 "unixsk.img"           "unix_sk_entry"         Many    None;
    INETSK         0x56443851 "inetsk.img"           "inet_sk_entry"         Many    None;
    PACKETSK       0x60454618 "packetsk.img"         "packet_sock_entry"     Many    None;
    NETLINK_SK     0x58005614 "netlinksk.img"        "netlink_sk_entry"      Many    None;
    TTY_FILES      0x59433025 "tty.img"              "tty_file_entry"        Many    None;
    TUNFILE        0x57143751 "tunfile.img"          "tunfile_entry"         Many    None;
    TIMERFD        0x50493712 "timerfd.img"          "timerfd_entry"         Many    None;
    PIDFD          0x54435556 "pidfd.img"            "pidfd_entry"           Many    None;
    BPFMAP_FILE    0x57506142 "bpfmap-file.img"      "bpfmap_file_entry"     Many    None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_name_leads_back_to_its_row() {
        for &kind in ALL {
            let (found, id) = Kind::of_file(&kind.file_name(0x2a)).unwrap();
            assert_eq!(found, kind);
            assert_eq!(id, kind.file.contains('{').then_some(0x2a));
        }
    }

    #[test]
    fn every_message_is_described() {
        for kind in ALL.iter().filter(|kind| kind.entries != Entries::Raw) {
            let message = crate::schema::Message::by_name(kind.message);
            assert_eq!(message.map(|message| message.name), Some(kind.message));
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        for name in ["core-.img", "core-+1.img", "core-01.img", "core-1.img.gz", "core-a.img"] {
            assert_eq!(Kind::of_file(name), None, "{name}");
        }
        assert_eq!(Kind::of_file("ghost-file-A.img"), None);
        assert_eq!(Kind::of_file("pagemap-18446744073709551616.img"), None);
    }

    #[test]
    fn one_magic_is_one_message() {
        for a in ALL {
            assert_eq!(a.magic == 0, a.entries == Entries::Raw);
            for b in ALL.iter().filter(|b| b.magic == a.magic && b.magic != 0) {
                assert_eq!((a.name, a.message), (b.name, b.message));
            }
        }
    }
}
