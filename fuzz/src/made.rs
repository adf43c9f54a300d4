//! Seeds made by hand. Each is small and has something that real images of a few kilobytes lack.

use criu_images::kind::{self, Kind};
use criu_images::proto::{
    CoreEntry, FileEntry, FsEntry, InventoryEntry, MemfdFileEntry, MemfdInodeEntry, MmEntry,
    PagemapBlocks, PagemapEntry, PagemapHead, PstreeEntry, RegFileEntry, TaskCoreEntry,
    TaskKobjIdsEntry, ThreadCoreEntry, ThreadInfoX86, UserX86RegsEntry, VmaEntry,
};
use criu_rs::pages::proto::object_id;
use criu_rs::pages::{Command, Header, Layout};
use prost::Message;

use crate::pack::{Record, Seeds};

/// Sets of one task, with all sorts of memory.
pub(crate) fn memories() -> Vec<(&'static str, Vec<Record>)> {
    let stored = |pages: u64| -> Vec<u8> {
        let page = |number: u64| {
            let mut page = vec![b'a' + (number % 26) as u8; 4096];
            page[..6].copy_from_slice(b"needle");
            page[4090..].copy_from_slice(b"eedlen");
            page
        };
        (0..pages).flat_map(page).collect()
    };
    let mut plain = task(vec![vma(BASE, 8, ANON), vma(BASE + 9 * PAGE, 2, ANON)]);
    plain.push(pagemap(
        kind::PAGEMAP,
        1,
        &[run(BASE, 2, 4), run(BASE + 3 * PAGE, 1, 4), run(BASE + 6 * PAGE, 1, 2)],
    ));
    plain.push(raw(kind::PAGES, 1, stored(3)));

    let mut chain = task(vec![vma(BASE, 8, ANON)]);
    chain.push(pagemap(kind::PAGEMAP, 1, &[run(BASE, 1, 4), run(BASE + PAGE, 3, 1)]));
    chain.push(raw(kind::PAGES, 1, stored(1)));
    let inventory = InventoryEntry { img_version: 2, ..Default::default() };
    let mut above = vec![one(kind::INVENTORY, 0, &inventory)];
    above.push(pagemap(kind::PAGEMAP, 1, &[run(BASE, 4, 4)]));
    above.push(raw(kind::PAGES, 1, stored(4)));
    chain.extend(above.into_iter().map(|record| Record { in_parent: true, ..record }));

    let shared = VmaEntry { shmid: 7, flags: 0x21, ..vma(BASE, 4, SHARED) };
    let mut shm = task(vec![shared]);
    shm.push(pagemap(kind::PAGEMAP, 1, &[]));
    shm.push(pagemap(kind::PAGEMAP_SHMEM, 7, &[run(0, 1, 4), run(2 * PAGE, 1, 4)]));
    shm.push(raw(kind::PAGES, 1, stored(2)));
    let memfd = MemfdInodeEntry {
        inode_id: 1,
        name: b"memory".to_vec(),
        shmid: 7,
        size: 4 * PAGE,
        ..Default::default()
    };
    shm.push(one(kind::MEMFD_INODE, 0, &memfd));
    let file = MemfdFileEntry { id: 2, inode_id: 1, ..Default::default() };
    let file = FileEntry { r#type: 19, id: 2, memfd: Some(file), ..Default::default() };
    shm.push(one(kind::FILES, 0, &file));

    // A zero block, a raw one, and an LZ4 one: a literal, then its repetition.
    let lz4 = {
        let mut block = vec![0x1f, b'n', 1, 0];
        let mut left = 4096 - 1 - 4 - 15 - 12;
        while left >= 255 {
            block.push(255);
            left -= 255;
        }
        block.push(left as u8);
        block.extend([0xc0]);
        block.extend([b'n'; 12]);
        block
    };
    let sizes = vec![0, 4096, u32::try_from(lz4.len()).unwrap_or(0)];
    let total = sizes.iter().map(|size| u64::from(*size)).sum();
    let blocks =
        PagemapBlocks { block_sizes: sizes, total_payload_size: total, pages_per_block: 1 };
    let mut packed = task(vec![vma(BASE, 8, ANON)]);
    packed.push(pagemap(
        kind::PAGEMAP,
        1,
        &[PagemapEntry { blocks: Some(blocks), ..run(BASE, 3, 4 | 8) }],
    ));
    packed.push(raw(kind::PAGES, 1, [stored(1), lz4].concat()));

    vec![("plain", plain), ("chain", chain), ("shared", shm), ("packed", packed)]
}

fn task(vmas: Vec<VmaEntry>) -> Vec<Record> {
    let inventory =
        InventoryEntry { img_version: 2, fdinfo_per_id: Some(true), ..Default::default() };
    let tree = PstreeEntry { pid: 1, threads: vec![1], ..Default::default() };
    let registers = UserX86RegsEntry { ip: BASE, sp: BASE + PAGE, ..Default::default() };
    let core = CoreEntry {
        mtype: 1,
        thread_info: Some(ThreadInfoX86 { gpregs: registers, ..Default::default() }),
        tc: Some(TaskCoreEntry { task_state: 1, comm: b"one".to_vec(), ..Default::default() }),
        thread_core: Some(ThreadCoreEntry::default()),
        ..Default::default()
    };
    let program = RegFileEntry { name: b"/bin/it".into(), ..Default::default() };
    let program = FileEntry { r#type: 1, reg: Some(program), ..Default::default() };
    let mm = MmEntry {
        mm_saved_auxv: vec![33, 0, 6, PAGE],
        mm_arg_start: BASE,
        mm_arg_end: BASE + 40,
        mm_env_start: BASE + 40,
        mm_env_end: BASE + 80,
        vmas,
        ..Default::default()
    };
    vec![
        one(kind::INVENTORY, 0, &inventory),
        one(kind::PSTREE, 0, &tree),
        one(kind::CORE, 1, &core),
        one(kind::IDS, 1, &TaskKobjIdsEntry::default()),
        one(kind::FILES, 0, &program),
        one(kind::FS, 1, &FsEntry::default()),
        one(kind::MM, 1, &mm),
    ]
}

fn one(kind: &'static Kind, id: u32, message: &impl Message) -> Record {
    many(kind, id, &[message.encode_to_vec()])
}

fn many(kind: &'static Kind, id: u32, messages: &[Vec<u8>]) -> Record {
    let words = kind.head_magic().into_iter().chain([kind.magic]);
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    for message in messages {
        bytes.extend(u32::try_from(message.len()).unwrap_or(0).to_le_bytes());
        bytes.extend(message);
    }
    raw(kind, id, bytes)
}

fn raw(kind: &'static Kind, id: u32, bytes: Vec<u8>) -> Record {
    Record { in_parent: false, kind: Some(kind), id, bytes }
}

fn pagemap(kind: &'static Kind, id: u32, runs: &[PagemapEntry]) -> Record {
    let head = PagemapHead { pages_id: 1 }.encode_to_vec();
    let runs = runs.iter().map(Message::encode_to_vec);
    many(kind, id, &[head].into_iter().chain(runs).collect::<Vec<_>>())
}

fn run(vaddr: u64, pages: u64, flags: u32) -> PagemapEntry {
    PagemapEntry { vaddr, nr_pages: Some(pages), flags: Some(flags), ..Default::default() }
}

fn vma(start: u64, pages: u64, status: u32) -> VmaEntry {
    let end = start + pages * PAGE;
    VmaEntry { start, end, status, prot: 3, flags: 0x22, fd: -1, ..Default::default() }
}

/// Scripts of edits, as the target reads them: 0 to 9 for the edit, then the old and the new value.
pub(crate) fn scripts() -> Vec<Vec<u8>> {
    let script = |what: u8| [&[what, 0, 0, 0, 0][..], &[1; 24], &[0; 8]].concat();
    (0..10).map(script).collect()
}

/// Filters with one answer, with all jumps, and with a filter's own memory.
pub(crate) fn filters() -> Vec<Vec<u8>> {
    let errno: [[u8; 8]; 4] = [
        [0x20, 0, 0, 0, 0, 0, 0, 0],
        [0x15, 0, 0, 1, 101, 0, 0, 0],
        [6, 0, 0, 0, 1, 0, 5, 0],
        [6, 0, 0, 0, 0, 0, 0xff, 0x7f],
    ];
    let all: [[u8; 8]; 12] = [
        [0x20, 0, 0, 0, 4, 0, 0, 0],
        [0x15, 0, 1, 0, 0x3e, 0, 0, 0xc0],
        [6, 0, 0, 0, 0, 0, 0, 0x80],
        [0x20, 0, 0, 0, 16, 0, 0, 0],
        [2, 0, 0, 0, 3, 0, 0, 0],
        [0x54, 0, 0, 0, 7, 0, 0, 0],
        [7, 0, 0, 0, 0, 0, 0, 0],
        [0x60, 0, 0, 0, 3, 0, 0, 0],
        [0x1d, 0, 1, 0, 0, 0, 0, 0],
        [0x45, 0, 0, 1, 1, 0, 0, 0],
        [0x16, 0, 0, 0, 0, 0, 0, 0],
        [6, 0, 0, 0, 0, 0, 3, 0],
    ];
    // Real programs have filters with this many comparisons.
    let mut list: Vec<[u8; 8]> = vec![[0x20, 0, 0, 0, 16, 0, 0, 0]];
    list.extend((0..64).map(|number| [0x15, 0, 0, 0, number, 0, 0, 0]));
    list.push([6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
    let with = |first: u8, code: &[u8]| [&[first], code].concat();
    vec![
        with(0, errno.as_flattened()),
        with(7, errno.as_flattened()),
        with(0, all.as_flattened()),
        with(0x40, all.as_flattened()),
        with(0x40, list.as_flattened()),
    ]
}

/// Sessions of pages in both layouts, and answers to a client.
pub(crate) fn sessions() -> Seeds {
    let task = object_id(criu_images::memory::PageObject::Task(1));
    let shared = object_id(criu_images::memory::PageObject::Shared(7));
    let mut seeds = Seeds::new();
    for (number, layout) in [(1, Layout::Narrow), (2, Layout::Wide)] {
        let header = |command, flags, pages, address, id| {
            let header = Header { command, flags, pages, address, id };
            header.to_bytes(layout).unwrap_or_default()[..layout.size()].to_vec()
        };
        let page = vec![7; 4096];
        let session = [
            header(Command::Parent, 0, 0, 0, task),
            header(Command::Open2, 0, 0, 0, task),
            header(Command::AddF, 4, 1, BASE, task),
            page.clone(),
            header(Command::AddF, 2, 3, BASE + PAGE, task),
            header(Command::Open, 0, 0, 0, shared),
            header(Command::Add, 4, 1, 0, shared),
            page.clone(),
            header(Command::Get, 0, 1, BASE, 1),
            header(Command::Hole, 1, 1, BASE, task),
            header(Command::Close, 0, 0, 0, 0),
        ];
        let received = [&session[..8], &session[10..]].concat().concat();
        for how in [number, 0, 0xf0 + number, 0xf0] {
            let all = if how < 0xf0 { session.concat() } else { received.clone() };
            seeds.push(("page_server", format!("{number}-{how}"), [vec![how], all].concat()));
        }
        let answer = [header(Command::AddF, 4, 1, BASE, 1), page, vec![0; 4]].concat();
        // A question for pages, then as many as the other bytes say.
        let asked = [vec![number - 1, 1, 0, 1, 0, 0, 0, 0, 4, 0, 0, 1, 0], answer].concat();
        seeds.push(("page_client", number.to_string(), asked));
    }
    for kind in 0..14u8 {
        let talk = [&[kind, 2, 0, 0, 0, 3, 0, 0, 0][..], &[1; 40]].concat();
        seeds.push(("rpc", kind.to_string(), talk));
    }
    for (number, messages) in crate::rpc::handovers().into_iter().enumerate() {
        seeds.push(("rpc", format!("handover-{number}"), messages));
    }
    seeds
}

/// Texts for each parser.
pub(crate) fn texts() -> Seeds {
    let texts: [(u8, &[u8]); 37] = [
        (12, b"tcp-close\nghost-limit 4M # x\nlsm-profile \"apparmor:a\\\"b\"\nnetwork-lock=skip\n"),
        (12, b"page-server\naddress ::1\nport 7\njoin-ns net:/x,y\ncpu-cap=^fpu,ins\nveth-pair a=b\n"),
        (0, b"(00.001) line\n(00.1) Error (criu/x.c:7): it broke\n(00.2) Error (criu/y.c:8): so\n"),
        (1, b"mnt[/a]:key"),
        (1, b"mnt[]:m"),
        (1, b"file[1f:2a]"),
        (1, b"tty[8800:17]"),
        (1, b"unix[4711]"),
        (1, b"dev[8/1]:key"),
        (1, b"dev[key]:/dev/sda1"),
        (1, b"net[4026531840]:key"),
        (1, b"pid[4026531836]:key"),
        (1, b"veth[eth0]:veth1@br0"),
        (1, b"macvlan[eth0]:eth1"),
        (1, b"netdev[eth0]:eth1"),
        (1, b"what[ever]"),
        (2, b"4.1.1"),
        (2, b"v3.19"),
        (3, b"user:4711,0,0"),
        (3, b"net:/run/netns/a"),
        (4, b"fd[7]:pipe:[4711]"),
        (4, b"4711"),
        (5, b"selinux:system_u:system_r:container_t:s0:c1,c2"),
        (5, b"apparmor:docker-default"),
        (5, b"system_u:object_r:container_file_t:s0:c82,c137"),
        (6, b"36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=x"),
        (7, b"4:cpu,cpuacct:/a/b"),
        (7, b"0::/a/b"),
        (8, b"docker-default (enforce)\n"),
        (9, b"[\"pipe:[1]\", \"/dev/null\", \"pipe:[1]\"]"),
        (10, b"post-restore"),
        (10, b"tcp-stream-11944d.img"),
        (11, b"6e ?? 65 64"),
        (13, b"criu-rs copy 1\nsignal SIGUSR2\nfile /run/a/copy\n"),
        (13, b"criu-rs copy 1\nfile /run/../b\n"),
        (14, b"[{\"base_host_virt_addr\":4096,\"size\":8192,\"offset\":0,\"page_size\":4096}]"),
        (14, b"[{\"base_host_virt_addr\":1,\"size\":18446744073709551615,\"offset\":0}]"),
    ];
    let seed = |(number, (which, text)): (usize, (u8, &[u8]))| {
        ("text", number.to_string(), [&[which], text].concat())
    };
    texts.into_iter().enumerate().map(seed).collect()
}

const PAGE: u64 = 4096;
const BASE: u64 = 0x40_0000;
/// Status of a private anonymous mapping, and of a shared one.
const ANON: u32 = 1 | 1 << 9;
const SHARED: u32 = 1 | 1 << 8;
