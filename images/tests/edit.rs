//! Edits change what they are asked for, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use common::{image, load, one_task, scratch, vma};
use criu_images::bpf::Program;
use criu_images::edit::{Edit, Value, edit, edit_directory, recover, rewrite};
use criu_images::kind::{self, Kind};
use criu_images::proto::{
    CgControllerEntry, CgMemberEntry, CgSetEntry, CgroupDirEntry, CgroupEntry, CoreEntry,
    CredsEntry, FdTypes, FileEntry, InetSkEntry, MntEntry, PstreeEntry, RegFileEntry, SeccompEntry,
    SeccompFilter, TaskCoreEntry, ThreadCoreEntry, UnixSkEntry,
};
use criu_images::schema::Entry;
use criu_images::source::InMemory;
use criu_images::{Architecture, Image, ImageSet, Result, Seccomp};
use nix::fcntl::{Flock, FlockArg};
use prost::Message;

/// A set of one task with more images.
fn set(images: &[(&'static Kind, u64, Vec<Vec<u8>>)]) -> InMemory {
    let mut files = one_task(vec![vma(0x1000, 1, common::ANON)]);
    for (kind, id, messages) in images {
        files.insert(kind.file_name(*id), image(kind, messages));
    }
    files
}

/// All entries of an image after some edits. An image that no edit changes keeps its entries.
fn after<M: Entry>(files: &InMemory, kind: &'static Kind, id: u64, edits: &[Edit]) -> Vec<M> {
    let set = ImageSet::new(files.clone()).unwrap();
    let edited = edit(&set, edits).unwrap();
    let name = kind.file_name(id);
    let new = edited.into_iter().find(|image| image.name == name);
    let bytes = new.map_or_else(|| set.read(&name).unwrap().unwrap(), |image| image.bytes);
    entries(&name, &bytes, kind)
}

fn entries<M: Entry>(name: &str, bytes: &[u8], kind: &'static Kind) -> Vec<M> {
    let mut image = Image::parse(name, bytes, kind).unwrap();
    let mut all = Vec::new();
    while let Some(entry) = image.next_entry().unwrap() {
        all.push(entry.decode().unwrap());
    }
    all
}

fn refused(files: &InMemory, edits: &[Edit]) -> String {
    edit(&ImageSet::new(files.clone()).unwrap(), edits).unwrap_err().to_string()
}

fn path(from: &str, to: &str) -> Edit {
    Edit::Path { from: from.into(), to: to.into() }
}

fn regular(id: u32, name: &str) -> Vec<u8> {
    let reg = RegFileEntry { id, name: name.into(), ..Default::default() };
    FileEntry { r#type: FdTypes::Reg.into(), id, reg: Some(reg), ..Default::default() }
        .encode_to_vec()
}

#[test]
fn unknown_fields_and_all_other_bytes_stay() {
    // An unknown field before, inside and after what changes, and fields in an unusual order.
    let unknown = [0xfa, 0x01, 2, b'h', b'i'];
    let reg = RegFileEntry { id: 7, name: b"/a/b".into(), ..Default::default() }.encode_to_vec();
    let reg = [&unknown[..], &reg].concat();
    let mut entry = unknown.to_vec();
    entry.extend([0x1a, u8::try_from(reg.len()).unwrap()]);
    entry.extend(&reg);
    entry.extend([0x08, 1, 0x10, 7]);
    entry.extend(unknown);
    let other = regular(8, "/ab");
    let files = set(&[(kind::FILES, 0, vec![entry.clone(), other.clone()])]);

    let set = ImageSet::new(files).unwrap();
    let edited = edit(&set, &[path("/a", "/c")]).unwrap();
    assert_eq!(edited.len(), 1);
    assert_eq!((edited[0].name.as_str(), edited[0].changes), ("files.img", 1));
    let at = entry.windows(4).position(|bytes| bytes == b"/a/b").unwrap();
    entry[at + 1] = b'c';
    assert_eq!(edited[0].bytes, image(kind::FILES, &[entry, other]));
}

#[test]
fn lengths_around_a_longer_value_grow() {
    let long = format!("/{}", "x".repeat(300));
    let files =
        set(&[(kind::FILES, 0, vec![regular(1, "/a"), regular(2, "/a/b"), regular(3, "/")])]);
    let names = |edits: &[Edit]| {
        let all: Vec<FileEntry> = after(&files, kind::FILES, 0, edits);
        let names = all.into_iter().map(|file| String::from_utf8(file.reg.unwrap().name).unwrap());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&[path("/a", &long)]), [&*long, &*format!("{long}/b"), "/"]);
    assert_eq!(names(&[path("/a/", "/")]), ["/", "/b", "/"]);
    assert_eq!(names(&[path("/", "/new")]), ["/new/a", "/new/a/b", "/new/"]);
    // One after another.
    assert_eq!(names(&[path("/a", "/b"), path("/b/b", "/c")]), ["/b", "/c", "/"]);
    assert!(edit(&ImageSet::new(files.clone()).unwrap(), &[path("/q", "/r")]).unwrap().is_empty());
    let relative = refused(&files, &[path("a", "/b")]);
    assert_eq!(relative, "edit: paths that are not absolute are not supported");
}

#[test]
fn paths_of_sockets_and_mounts_move_too() {
    let socket = UnixSkEntry { name: b"/run/a/sock\0".into(), ..Default::default() };
    let abstract_one = UnixSkEntry { name: b"\0/run/a".into(), ..Default::default() };
    let mount =
        MntEntry { mountpoint: b"/run/a".into(), root: b"/run/a".into(), ..Default::default() };
    let sockets = [&socket, &abstract_one].map(|socket| {
        let usk = Some(socket.clone());
        FileEntry { r#type: FdTypes::Unixsk.into(), usk, ..Default::default() }.encode_to_vec()
    });
    let files =
        set(&[(kind::FILES, 0, sockets.to_vec()), (kind::MNTS, 9, vec![mount.encode_to_vec()])]);
    let edits = [path("/run/a", "/srv")];
    let sockets: Vec<FileEntry> = after(&files, kind::FILES, 0, &edits);
    let names: Vec<_> = sockets.into_iter().map(|file| file.usk.unwrap().name).collect();
    assert_eq!(names, [b"/srv/sock\0".to_vec(), b"\0/run/a".to_vec()]);
    let mounts: Vec<MntEntry> = after(&files, kind::MNTS, 9, &edits);
    assert_eq!((&*mounts[0].mountpoint, &*mounts[0].root), (&b"/srv"[..], &b"/run/a"[..]));
}

#[test]
fn connections_inside_the_tree_keep_both_ends() {
    let v4 =
        |text: &str| vec![u32::from_le_bytes(text.parse::<std::net::Ipv4Addr>().unwrap().octets())];
    let (here, there) = (v4("10.0.0.1"), v4("10.0.0.9"));
    let socket = |id, src: (&[u32], u32), dst: (&[u32], u32)| {
        let isk = InetSkEntry {
            id,
            src_addr: src.0.to_vec(),
            src_port: src.1,
            dst_addr: dst.0.to_vec(),
            dst_port: dst.1,
            ..Default::default()
        };
        FileEntry { r#type: FdTypes::Inetsk.into(), id, isk: Some(isk), ..Default::default() }
            .encode_to_vec()
    };
    let mapped = [vec![0, 0, 0xffff_0000], here.clone()].concat();
    let any = v4("0.0.0.0");
    let files = set(&[(
        kind::FILES,
        0,
        vec![
            socket(1, (&any, 80), (&any, 0)),
            // A client and the server's end of it.
            socket(2, (&here, 5000), (&here, 80)),
            socket(3, (&here, 80), (&here, 5000)),
            // A connection to the same port elsewhere.
            socket(4, (&mapped, 5001), (&there, 80)),
        ],
    )]);
    let ends = |edits: &[Edit]| {
        let all: Vec<FileEntry> = after(&files, kind::FILES, 0, edits);
        let ends = all.into_iter().map(|file| file.isk.unwrap());
        ends.map(|s| (s.src_addr, s.src_port, s.dst_addr, s.dst_port)).collect::<Vec<_>>()
    };
    let port = ends(&[Edit::Port { from: 80, to: 8080 }]);
    let ports: Vec<_> = port.iter().map(|end| (end.1, end.3)).collect();
    assert_eq!(ports, [(8080, 0), (5000, 8080), (8080, 5000), (5001, 80)]);

    let (from, to) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let moved = ends(&[Edit::Address { from, to }]);
    let new = v4("10.0.0.2");
    let new_mapped = [vec![0, 0, 0xffff_0000], new.clone()].concat();
    assert_eq!(moved[1], (new.clone(), 5000, new.clone(), 80));
    assert_eq!(moved[2], (new.clone(), 80, new, 5000));
    assert_eq!(moved[3], (new_mapped, 5001, there, 80));
    // Both, the second after what the first has done.
    let both = ends(&[Edit::Address { from, to }, Edit::Port { from: 80, to: 81 }]);
    assert_eq!((both[1].3, both[2].1), (81, 81));
    let mixed = refused(&files, &[Edit::Address { from, to: "::1".parse().unwrap() }]);
    assert_eq!(mixed, "edit: addresses of two families are not supported");
}

#[test]
fn cgroups_move_with_their_directories() {
    let dir = |name: &str, children| CgroupDirEntry {
        dir_name: name.into(),
        children,
        ..Default::default()
    };
    let inner = dir("pod", vec![dir("ctr", vec![]), dir("init", vec![])]);
    let member = |path: &str, prefix| CgMemberEntry {
        name: Vec::new(),
        path: path.into(),
        cgns_prefix: prefix,
    };
    let members = vec![member("/top/pod/ctr/x", Some(12)), member("/topless", None)];
    let entry = CgroupEntry {
        sets: vec![CgSetEntry { id: 2, ctls: members }],
        controllers: vec![CgControllerEntry {
            cnames: vec![Vec::new()],
            dirs: vec![dir("/top", vec![inner]), dir("/other", vec![])],
            ..Default::default()
        }],
    };
    let files = set(&[(kind::CGROUP, 0, vec![entry.encode_to_vec()])]);
    let moved = |from: &str, to: &str| {
        let edits = [Edit::Cgroup { from: from.into(), to: to.into() }];
        let entry: CgroupEntry = after(&files, kind::CGROUP, 0, &edits).remove(0);
        let member = entry.sets[0].ctls[0].clone();
        let mut names = Vec::new();
        let mut waiting = entry.controllers[0].dirs.clone();
        while let Some(mut dir) = waiting.pop() {
            names.push(String::from_utf8(dir.dir_name).unwrap());
            waiting.append(&mut dir.children);
        }
        names.sort();
        (String::from_utf8(member.path).unwrap(), member.cgns_prefix.unwrap(), names.join(" "))
    };
    let text = |path: &str, hidden, names: &str| (path.to_owned(), hidden, names.to_owned());
    let whole = moved("/top", "/a/b");
    assert_eq!(whole, text("/a/b/pod/ctr/x", 12, "/a/b /other ctr init pod"));
    let longer = moved("/top", "/longer");
    assert_eq!(longer, text("/longer/pod/ctr/x", 15, "/longer /other ctr init pod"));
    let inside = moved("/top/pod/ctr", "/top/pod/c2");
    assert_eq!(inside, text("/top/pod/c2/x", 11, "/other /top c2 init pod"));
    let out = refused(&files, &[Edit::Cgroup { from: "/top/pod".into(), to: "/pod".into() }]);
    assert!(out.contains("cgroups that move out of a directory"), "{out}");
}

#[test]
fn labels_sources_and_keys_change_where_they_are_equal() {
    let creds = CredsEntry {
        lsm_profile: Some(b"old".into()),
        lsm_sockcreate: Some(b"other".into()),
        ..Default::default()
    };
    let thread = ThreadCoreEntry { creds: Some(creds), ..Default::default() };
    let core = CoreEntry {
        mtype: 1,
        tc: Some(TaskCoreEntry { task_state: 1, ..Default::default() }),
        thread_core: Some(thread),
        ..Default::default()
    };
    let mount = MntEntry {
        source: b"/dev/sda".into(),
        ext_key: Some(b"data".into()),
        ..Default::default()
    };
    let files = set(&[
        (kind::CORE, 1, vec![core.encode_to_vec()]),
        (kind::MNTS, 9, vec![mount.encode_to_vec()]),
    ]);
    let labels = |from: Option<&str>| {
        let edit = Edit::Label { from: from.map(Into::into), to: b"new".into() };
        let core: CoreEntry = after(&files, kind::CORE, 1, &[edit]).remove(0);
        let creds = core.thread_core.unwrap().creds.unwrap();
        [creds.lsm_profile.unwrap(), creds.lsm_sockcreate.unwrap()]
    };
    assert_eq!(labels(None), [b"new", b"new"]);
    assert_eq!(labels(Some("old")), [&b"new"[..], b"other"]);
    let edits = [
        Edit::MountSource { from: b"/dev/sda".into(), to: b"/dev/sdb".into() },
        Edit::MountSource { from: b"/dev/sd".into(), to: b"/dev/sdc".into() },
        Edit::ExternalKey { from: b"data".into(), to: b"/data".into() },
    ];
    let mount: MntEntry = after(&files, kind::MNTS, 9, &edits).remove(0);
    assert_eq!(mount.source, b"/dev/sdb");
    assert_eq!(mount.ext_key.unwrap(), b"/data");
}

/// A filter that returns a value.
fn filter(value: u32, prev: Option<u32>) -> SeccompFilter {
    let code = [&[0x06, 0, 0, 0][..], &value.to_le_bytes()].concat();
    SeccompFilter { filter: code, prev, flags: Some(0) }
}

/// Three threads: with two filters, with a filter of its own, without filters. The images list the
/// newest first.
fn threads_with_filters() -> InMemory {
    let seccomp = SeccompEntry {
        seccomp_filters: vec![
            filter(0x7fff_0000, None),
            filter(0x7ffc_0000, Some(0)),
            filter(0x0005_0001, None),
        ],
    };
    let thread = |mode: Option<i32>, first| {
        let thread =
            ThreadCoreEntry { seccomp_mode: mode, seccomp_filter: first, ..Default::default() };
        CoreEntry { mtype: 1, thread_core: Some(thread), ..Default::default() }
    };
    let leader = CoreEntry {
        tc: Some(TaskCoreEntry { task_state: 1, ..Default::default() }),
        ..thread(Some(2), Some(1))
    };
    let task = PstreeEntry { pid: 1, threads: vec![1, 2, 3], ..Default::default() };
    set(&[
        (kind::PSTREE, 0, vec![task.encode_to_vec()]),
        (kind::SECCOMP, 0, vec![seccomp.encode_to_vec()]),
        (kind::CORE, 1, vec![leader.encode_to_vec()]),
        (kind::CORE, 2, vec![thread(Some(2), Some(2)).encode_to_vec()]),
        (kind::CORE, 3, vec![thread(None, None).encode_to_vec()]),
    ])
}

/// Effects of each thread's filters after edits.
fn chains(edits: &[Edit]) -> Result<Vec<String>> {
    let mut files = threads_with_filters();
    for image in edit(&ImageSet::new(files.clone())?, edits)? {
        files.insert(image.name, image.bytes);
    }
    let set = ImageSet::new(files)?;
    let mut chains = Vec::new();
    for thread in set.checkpoint()?.root().threads()? {
        chains.push(match thread.seccomp()? {
            Seccomp::Filters(filters) => {
                let programs =
                    filters.iter().map(|filter| Ok(filter.program()?.summary().to_string()));
                programs.collect::<Result<Vec<_>>>()?.join(", ")
            }
            other => other.to_string(),
        });
    }
    Ok(chains)
}

#[test]
fn a_filter_that_goes_leaves_the_others_linked() {
    // In the order of their installation: the oldest first.
    assert_eq!(chains(&[]).unwrap(), ["allows and logs, allows", "fails with EPERM", "off"]);
    assert_eq!(
        chains(&[Edit::DropFilter(0)]).unwrap(),
        ["allows and logs", "fails with EPERM", "off"]
    );
    assert_eq!(chains(&[Edit::DropFilter(1)]).unwrap(), ["allows", "fails with EPERM", "off"]);
    assert_eq!(chains(&[Edit::DropFilter(2)]).unwrap(), ["allows and logs, allows", "off", "off"]);
    let two = [Edit::DropFilter(0), Edit::DropFilter(0)];
    assert_eq!(chains(&two).unwrap(), ["off", "fails with EPERM", "off"]);
    assert_eq!(chains(&[Edit::DropSeccomp]).unwrap(), ["off", "off", "off"]);
    let killing = Program::parse(&[6, 0, 0, 0, 0, 0, 0, 0], Architecture::X86_64).unwrap();
    let replaced = chains(&[Edit::ReplaceFilter(2, killing)]).unwrap();
    assert_eq!(replaced, ["allows and logs, allows", "kills the thread", "off"]);
    let error = chains(&[Edit::DropFilter(3)]).unwrap_err();
    assert_eq!(error.to_string(), "seccomp.img: no seccomp filter 3");
}

#[test]
fn filters_that_form_a_loop_are_an_error() {
    let mut files = threads_with_filters();
    let looping = SeccompEntry {
        seccomp_filters: vec![filter(0, Some(1)), filter(0, Some(0)), filter(0, Some(9))],
    };
    files.insert("seccomp.img", image(kind::SECCOMP, &[looping.encode_to_vec()]));
    let set = ImageSet::new(files).unwrap();
    let threads = set.checkpoint().unwrap().root().threads().unwrap();
    let error = |index: usize| threads[index].seccomp().unwrap_err().to_string();
    assert_eq!(error(0), "seccomp.img: has filters that form a loop");
    assert_eq!(error(1), "seccomp.img: no seccomp filter 9");
}

#[test]
fn an_edit_that_fails_leaves_the_old_images() {
    let directory = scratch("edit-fails");
    let files = set(&[(kind::FILES, 0, vec![regular(1, "/a")])]);
    common::store(&files, &directory);
    let listing = || {
        let mut names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (listing(), fs::read(directory.join("files.img")).unwrap());
    let both = [path("/a", "/b"), Edit::DropFilter(5)];
    assert!(edit_directory(&directory, &both).is_err());
    // Somebody else's file in the way of the new one.
    let beside = directory.join(".files.img.edit");
    fs::create_dir(&beside).unwrap();
    assert!(edit_directory(&directory, &[path("/a", "/b")]).is_err());
    fs::remove_dir(&beside).unwrap();
    assert_eq!((listing(), fs::read(directory.join("files.img")).unwrap()), before);

    let edited = edit_directory(&directory, &[path("/a", "/b")]).unwrap();
    assert_eq!(edited.len(), 1);
    assert_eq!(listing(), before.0);
    let all = load(&directory);
    let names: Vec<FileEntry> = after(&all, kind::FILES, 0, &[]);
    assert_eq!(names[0].reg.as_ref().unwrap().name, b"/b");
}

/// Needs root, who alone can give a file to somebody else.
#[test]
fn an_edited_image_keeps_its_owner_and_its_mode() {
    criu_lab::needs_root();
    let directory = scratch("edit-owner");
    common::store(&set(&[(kind::FILES, 0, vec![regular(1, "/a")])]), &directory);
    let image = directory.join("files.img");
    chown(&image, Some(4711), Some(4712)).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(edit_directory(&directory, &[path("/a", "/b")]).unwrap().len(), 1);
    let found = fs::metadata(&image).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (4711, 4712, 0o640));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn an_edit_that_was_killed_is_completed_or_taken_back() {
    let directory = scratch("edit-killed");
    let files = set(&[(kind::FILES, 0, vec![regular(1, "/a")])]);
    common::store(&files, &directory);
    let (image, beside) = (directory.join("files.img"), directory.join(".files.img.edit"));
    let (inventory, aside) =
        (directory.join("inventory.img"), directory.join(".inventory.img.edit"));
    let old = fs::read(&image).unwrap();
    // Killed while it wrote.
    fs::write(&beside, &old[..7]).unwrap();
    ImageSet::open(&directory).unwrap();
    assert!(recover(&directory).unwrap() && !recover(&directory).unwrap());
    assert_eq!(fs::read(&image).unwrap(), old);
    // Killed when there was no way back.
    edit_directory(&directory, &[path("/a", "/b")]).unwrap();
    let new = fs::read(&image).unwrap();
    for renamed in [false, true] {
        fs::write(&image, if renamed { &new } else { &old }).unwrap();
        if !renamed {
            fs::write(&beside, &new).unwrap();
        }
        fs::rename(&inventory, &aside).unwrap();
        let refused = ImageSet::open(&directory).unwrap_err().to_string();
        assert!(refused.contains("edit::recover"), "{refused}");
        assert!(recover(&directory).unwrap());
        assert_eq!(fs::read(&image).unwrap(), new);
        assert!(inventory.exists() && !beside.exists() && !aside.exists());
    }
    // The next edit does it as well.
    fs::rename(&inventory, &aside).unwrap();
    edit_directory(&directory, &[path("/b", "/c")]).unwrap();
    let names: Vec<FileEntry> = after(&load(&directory), kind::FILES, 0, &[]);
    assert_eq!(names[0].reg.as_ref().unwrap().name, b"/c");
}

#[test]
fn every_real_image_is_its_own_rewriting() {
    let mut rewritten = 0;
    for entry in fs::read_dir("tests/data/pipeline").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if Kind::of_file(name).is_none_or(|(kind, _)| kind.magic == 0) {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        assert_eq!(rewrite(name, &bytes, &mut |_, _| Ok(())).unwrap(), None);
        // A change, and back.
        let set = |value: u64, bytes: &[u8]| {
            let mut change = |patch: &mut criu_images::edit::Patch, _: &[u8]| {
                if patch.message() == "pstree_entry" {
                    patch.set("threads", [Value::Number(value), Value::Number(300)]);
                }
                Ok(())
            };
            rewrite(name, bytes, &mut change).unwrap()
        };
        if let Some(new) = set(1 << 20, &bytes) {
            assert_ne!(new.len(), bytes.len());
            assert_eq!(set(1 << 20, &new), None);
            rewritten += 1;
        }
    }
    assert_eq!(rewritten, 1);
}

#[test]
fn an_edit_waits_for_no_lock_that_a_reader_can_hold() {
    let directory = scratch("edit-reader");
    common::store(&set(&[(kind::FILES, 0, vec![regular(1, "/a")])]), &directory);
    // Whoever can read the directory can take this lock.
    let reader = fs::File::open(&directory).unwrap();
    let held = Flock::lock(reader, FlockArg::LockExclusiveNonblock).unwrap();
    assert_eq!(edit_directory(&directory, &[path("/a", "/b")]).unwrap().len(), 1);
    assert!(!recover(&directory).unwrap());
    drop(held);
    assert!(!directory.join(".edit-lock").exists());
}
