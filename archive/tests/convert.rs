//! Archives of engines: their metadata, and conversions between them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "common/engines.rs"]
mod engines;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use criu_archive::convert::{Conversion, Effect, Note, Parts};
use criu_archive::metadata::{DiffKind, Engine, Metadata, Time};
use criu_archive::write::Options;
use criu_archive::{Archive, UNWATCHED};
use criu_images::source::{Blob, Directory};
use criu_lab::scratch;
use engines::{PAGES, archive_of, run};
use serde_json::Value;

const ENGINES: [Engine; 3] = [Engine::Podman, Engine::CriO, Engine::Containerd];

fn convert(from: &Path, to: Engine, out: &Path) -> Conversion {
    let conversion = Conversion::of(&Archive::open(from).unwrap(), to).unwrap();
    conversion.draft().save(out, &Options::default(), UNWATCHED).unwrap();
    conversion
}

fn bytes(archive: &Archive, path: &str) -> Vec<u8> {
    let blob = archive.bytes(path).unwrap();
    let mut bytes = vec![0; usize::try_from(blob.len()).unwrap()];
    blob.read_at(0, &mut bytes).unwrap();
    bytes
}

fn json(archive: &Archive, path: &str) -> Value {
    serde_json::from_slice(&bytes(archive, path)).unwrap()
}

fn notes(conversion: &Conversion) -> Vec<(Effect, &str)> {
    conversion.notes().iter().map(|note| (note.effect(), note.member())).collect()
}

#[test]
fn the_metadata_of_each_engine_is_read() {
    for engine in ENGINES {
        let (tar, files) = archive_of(engine, &format!("metadata-{engine}"));
        let archive = Archive::open(tar).unwrap();
        let unpacked = Directory::open(files).unwrap();
        let top = archive.folder("");
        for metadata in [Metadata::of("a", &top), Metadata::of("a", &unpacked)] {
            assert_eq!(metadata.engine().unwrap(), engine);
            let config = metadata.config().unwrap().unwrap();
            assert_eq!(
                (&*config.id, &*config.rootfs_image_name),
                ("aa11", "docker.io/library/web:1")
            );
            let spec = metadata.spec().unwrap().unwrap();
            assert_eq!(spec.process.unwrap().args, ["/web"]);
            let identity = metadata.identity().unwrap();
            assert_eq!(
                (&*identity.container, &*identity.image),
                ("web", "docker.io/library/web:1")
            );
            let pod = if engine == Engine::Podman { "" } else { "pod" };
            assert_eq!(identity.pod, pod);
            let diff = metadata.rootfs_diff().unwrap().unwrap();
            let gone = diff.iter().filter(|entry| entry.kind == DiffKind::Deleted).count();
            assert_eq!(gone, if engine == Engine::Containerd { 2 } else { 0 });
            let motd = diff.iter().find(|entry| *entry.path == *b"etc/motd").unwrap();
            assert_eq!((motd.kind, motd.size), (DiffKind::File, 8));
            let deleted = metadata.deleted_files().unwrap();
            assert_eq!(deleted.is_none(), engine == Engine::Containerd);
        }
    }
    let (tar, _) = archive_of(Engine::Podman, "metadata-podman-more");
    let archive = Archive::open(tar).unwrap();
    let top = archive.folder("");
    let metadata = Metadata::of("a", &top);
    let config = metadata.config().unwrap().unwrap();
    assert_eq!(config.created, Time::new(1_777_631_400, 500_000_000));
    // Fields without a name here are kept, and written again.
    assert_eq!(serde_json::to_value(&config).unwrap(), json(&archive, "config.dump"));
    let spec = metadata.spec().unwrap().unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), json(&archive, "spec.dump"));
    let networks = metadata.networks().unwrap().unwrap();
    assert_eq!(networks["podman"].interfaces["eth0"].subnets[0].ipnet, "10.88.0.5/16");
    assert_eq!(serde_json::to_value(&networks).unwrap(), json(&archive, "network.status"));
    let images = archive.folder("checkpoint");
    let descriptors = Metadata::of("a", &images).descriptors().unwrap().unwrap();
    assert_eq!(descriptors, ["/dev/null", "pipe:[7]", "pipe:[8]"]);
}

#[test]
fn conversions_say_what_is_lost_and_lose_nothing_on_the_way_back() {
    for from in ENGINES {
        let (old, _) = archive_of(from, &format!("convert-{from}"));
        let before = Archive::open(&old).unwrap();
        for to in ENGINES.into_iter().filter(|to| *to != from) {
            let (there, back) = (old.with_extension(to.word()), old.with_extension("back"));
            let conversion = convert(&old, to, &there);
            let after = Archive::open(&there).unwrap();
            let top = after.folder("");
            let metadata = Metadata::of("after", &top);
            assert_eq!((conversion.from(), metadata.engine().unwrap()), (from, to));
            assert!(metadata.identity().unwrap().container.contains("web"));
            for member in ["checkpoint/pages-1.img", "site.note", "stats-dump"] {
                assert_eq!(bytes(&after, member), bytes(&before, member), "{from} to {to}");
            }
            let log = ["ctr.log", "io.kubernetes.cri-o.LogPath", "container.log"];
            let log = log[ENGINES.iter().position(|engine| *engine == to).unwrap()];
            assert!(bytes(&after, log).ends_with(b"stdout F hello\n"));
            if to == Engine::Containerd {
                assert!(after.member("status.dump").is_some() && after.member("status").is_some());
            }
            // All fields and annotations that were there are there.
            let (config, spec) = (json(&after, "config.dump"), json(&after, "spec.dump"));
            for (key, value) in json(&before, "config.dump").as_object().unwrap() {
                assert!(config[key] == *value || key == "runtime", "{from} to {to}: {key}");
            }
            assert_eq!(spec["siteField"], json(&before, "spec.dump")["siteField"]);
            convert(&there, from, &back);
            let back = Archive::open(&back).unwrap();
            for member in before.members() {
                assert!(back.member(member.path()).is_some(), "{from} to {to}: {}", member.path());
            }
            assert_eq!(Metadata::of("back", &back.folder("")).engine().unwrap(), from);
        }
    }
    let (podman, _) = archive_of(Engine::Podman, "convert-notes");
    let conversion = convert(&podman, Engine::Containerd, &podman.with_extension("containerd"));
    assert!(conversion.loses());
    let want = [
        (Effect::Ignored, "network.status"),
        (Effect::Ignored, "volumes/data.tar"),
        (Effect::Made, "status"),
        (Effect::Made, "status.dump"),
        (Effect::Changed, "config.dump"),
        (Effect::Changed, "deleted.files"),
        (Effect::Changed, "spec.dump"),
        (Effect::Renamed, "ctr.log"),
    ];
    assert_eq!(notes(&conversion), want);
    let said = conversion.notes()[1].to_string();
    let want = "ignored: volumes/data.tar: containerd does not read it: the content of volumes is \
                not restored";
    assert_eq!(said, want);
    let (containerd, _) = archive_of(Engine::Containerd, "convert-notes-back");
    let mut conversion = convert(&containerd, Engine::Podman, &containerd.with_extension("podman"));
    assert_eq!(notes(&conversion)[0], (Effect::Missing, "config.dump"));
    let archive = Archive::open(containerd.with_extension("podman")).unwrap();
    let config = json(&archive, "config.dump");
    assert_eq!((&config["runtime"], config.get("rootfsImageID")), (&"runc".into(), None));
    conversion.set_image_id("bb22").unwrap();
    assert!(notes(&conversion)[0].0 != Effect::Missing);
    let blob = conversion.draft().bytes("config.dump").unwrap().unwrap();
    let mut text = vec![0; usize::try_from(blob.len()).unwrap()];
    blob.read_at(0, &mut text).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("\"rootfsImageID\": \"bb22\""));
    let conversion = convert(&containerd, Engine::CriO, &containerd.with_extension("cri-o"));
    assert!(!conversion.loses());
}

#[test]
fn deleted_files_become_whiteouts_and_whiteouts_deleted_files() {
    let listed = |diff: &[u8], name: &str| -> BTreeMap<String, String> {
        let path = scratch(name).join("diff.tar");
        fs::write(&path, diff).unwrap();
        let list = run(Command::new("tar").args(["--full-time", "-tvf"]).arg(path));
        let rows = String::from_utf8(list).unwrap();
        let split = |row: &str| row.rsplit_once(' ').map(|(row, name)| (name.into(), row.into()));
        rows.lines().filter_map(split).collect()
    };
    let (podman, files) = archive_of(Engine::Podman, "whiteouts");
    let out = podman.with_extension("containerd");
    convert(&podman, Engine::Containerd, &out);
    let archive = Archive::open(&out).unwrap();
    let before = listed(&fs::read(files.join("rootfs-diff.tar")).unwrap(), "whiteouts-before");
    let mut after = listed(&bytes(&archive, "rootfs-diff.tar"), "whiteouts-after");
    assert!(after.remove("etc/.wh.passwd.old").is_some() && after.remove("srv/.wh.old").is_some());
    assert_eq!(after, before);
    assert!(archive.member("deleted.files").is_none());

    let (containerd, files) = archive_of(Engine::Containerd, "deleted");
    let out = containerd.with_extension("podman");
    convert(&containerd, Engine::Podman, &out);
    let archive = Archive::open(&out).unwrap();
    assert_eq!(json(&archive, "deleted.files"), serde_json::json!(["/etc/passwd.old", "/srv"]));
    let mut before = listed(&fs::read(files.join("rootfs-diff.tar")).unwrap(), "deleted-before");
    assert!(before.remove("etc/.wh.passwd.old").is_some() && before.remove(".wh.srv").is_some());
    assert_eq!(listed(&bytes(&archive, "rootfs-diff.tar"), "deleted-after"), before);
}

#[test]
fn paths_that_lead_out_are_not_made_whiteouts() {
    let (_, files) = archive_of(Engine::Podman, "leads-out");
    fs::write(files.join("deleted.files"), r#"["/../../etc/shadow","/etc/old"]"#).unwrap();
    let tar = files.with_extension("tar");
    run(Command::new("tar").arg("-C").arg(&files).arg("-cf").arg(&tar).arg("."));
    let conversion = convert(&tar, Engine::Containerd, &tar.with_extension("containerd"));
    let lost = &conversion.notes()[0];
    assert_eq!((lost.effect(), lost.member()), (Effect::Lost, "deleted.files"));
    assert_eq!(lost.reason(), "/../../etc/shadow leads out of the container");
}

#[test]
fn a_layer_whose_last_block_is_cut_gets_its_end_before_others_follow() {
    for (from, to) in [(Engine::Podman, Engine::Containerd), (Engine::Containerd, Engine::Podman)] {
        let (_, files) = archive_of(from, &format!("cut-{from}"));
        let diff = files.join("rootfs-diff.tar");
        let layer = files.with_file_name("cut");
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(".wh.gone"), "").unwrap();
        fs::write(layer.join("last"), "seven b").unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&layer).arg("-cf").arg(&diff);
        let members = if from == Engine::Podman { &["last"][..] } else { &[".wh.gone", "last"] };
        run(tar.args(members));
        let whole = fs::read(&diff).unwrap();
        fs::write(&diff, &whole[..members.len() * 512 + 7]).unwrap();
        let tar = files.with_extension("tar");
        run(Command::new("tar").arg("-C").arg(&files).arg("-cf").arg(&tar).arg("."));
        let out = tar.with_extension("out");
        convert(&tar, to, &out);
        let after = bytes(&Archive::open(&out).unwrap(), "rootfs-diff.tar");
        assert_eq!(after.len() % 512, 0, "{from}");
        fs::write(&diff, after).unwrap();
        let list = String::from_utf8(run(Command::new("tar").arg("-tf").arg(&diff))).unwrap();
        let want: &[&str] = match to {
            Engine::Podman => &["last"],
            _ => &["last", "etc/.wh.passwd.old", "srv/.wh.old"],
        };
        assert_eq!(list.lines().collect::<Vec<_>>(), want, "{from}");
    }
}

#[test]
fn a_hard_link_to_a_lost_member_is_lost_too() {
    let (_, files) = archive_of(Engine::Podman, "lost-links");
    fs::hard_link(files.join("config.dump"), files.join("config.link")).unwrap();
    nix::unistd::mkfifo(&files.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::hard_link(files.join("fifo"), files.join("fifo.link")).unwrap();
    std::os::unix::fs::symlink("/etc", files.join("out")).unwrap();
    fs::hard_link(files.join("out"), files.join("out.link")).unwrap();
    // A link that stays inside in one folder, and leads out of another one.
    std::os::unix::fs::symlink("../spec.dump", files.join("checkpoint/inside")).unwrap();
    fs::hard_link(files.join("checkpoint/inside"), files.join("inside.link")).unwrap();
    fs::File::create(files.join("sparse")).unwrap().set_len(1 << 20).unwrap();
    fs::hard_link(files.join("sparse"), files.join("sparse.link")).unwrap();
    let tar = files.with_extension("tar");
    let mut command = Command::new("tar");
    command.arg("--sort=name").arg("-S").arg("-C").arg(&files).arg("-cf").arg(&tar).arg(".");
    run(&mut command);
    for to in [Engine::Unknown, Engine::Containerd] {
        let out = tar.with_extension("out");
        let conversion = convert(&tar, to, &out);
        let lost = conversion.notes().iter().filter(|note| note.effect() == Effect::Lost);
        let lost: Vec<&str> = lost.map(Note::member).collect();
        let wanted =
            ["fifo", "fifo.link", "inside.link", "out", "out.link", "sparse", "sparse.link"];
        assert!(wanted.iter().all(|member| lost.contains(member)), "{to}: {lost:?}");
        // The archive opens, and the link to what is there is one still, with what it had.
        let (before, after) = (Archive::open(&tar).unwrap(), Archive::open(&out).unwrap());
        assert_eq!(bytes(&after, "config.link"), bytes(&before, "config.dump"), "{to}");
        assert!(after.member("checkpoint/inside").is_some(), "{to}");
    }
    // A link into the images that others replace is a file of its own.
    fs::hard_link(files.join("checkpoint/inventory.img"), files.join("site.link")).unwrap();
    for gone in ["fifo", "fifo.link", "out", "out.link", "inside.link", "sparse", "sparse.link"] {
        fs::remove_file(files.join(gone)).unwrap();
    }
    run(&mut command);
    let new = images("lost-links-images");
    fs::write(new.join("inventory.img"), "of the new images").unwrap();
    let source = Arc::new(Directory::open(new).unwrap());
    let parts = Parts::new("img", source).metadata_of(Archive::open(&tar).unwrap());
    let conversion = parts.conversion(Engine::Podman).unwrap();
    let out = tar.with_extension("created");
    conversion.draft().save(&out, &Options::default(), UNWATCHED).unwrap();
    let archive = Archive::open(&out).unwrap();
    assert_eq!(bytes(&archive, "site.link"), b"inventory");
    assert_eq!(bytes(&archive, "checkpoint/inventory.img"), b"of the new images");
}

#[test]
fn metadata_that_are_made_up_have_the_time_that_is_given() {
    let (_, files) = archive_of(Engine::CriO, "given-time");
    fs::remove_file(files.join("config.dump")).unwrap();
    let tar = files.with_extension("tar");
    let written = |date: &str| {
        let mut command = Command::new("tar");
        command.arg(format!("--mtime={date}")).arg("-C").arg(&files);
        run(command.arg("--sort=name").arg("-cf").arg(&tar).arg("."));
        let archive = Archive::open(&tar).unwrap();
        let conversion = Conversion::with_time(&archive, Engine::Podman, 315_532_800).unwrap();
        let mut options = Options::default();
        options.is_reproducible = true;
        let mut bytes = Vec::new();
        conversion.draft().write("out", &mut bytes, &options, UNWATCHED).unwrap();
        bytes
    };
    let first = written("2020-01-01");
    let archive = Archive::new("out", Blob::from(first.clone())).unwrap();
    assert_eq!(json(&archive, "config.dump")["createdTime"], "1980-01-01T00:00:00Z");
    assert!(first == written("2021-01-01"));
}

#[test]
fn a_faulty_member_is_named() {
    let (_, files) = archive_of(Engine::CriO, "faulty");
    let tar = files.with_extension("tar");
    for (member, text, want) in [
        ("config.dump", "{\"id\": 7}", "invalid type: integer `7`, expected a string"),
        ("spec.dump", "{", "EOF while parsing"),
        ("config.dump", "{\"createdTime\": \"today\"}", "is no time of RFC 3339"),
    ] {
        let old = fs::read(files.join(member)).unwrap();
        fs::write(files.join(member), text).unwrap();
        run(Command::new("tar").arg("-C").arg(&files).arg("-cf").arg(&tar).arg("."));
        let refused = Conversion::of(&Archive::open(&tar).unwrap(), Engine::Podman).unwrap_err();
        let said = refused.to_string();
        assert!(said.contains(&format!("files.tar: {member}: ")), "{said}");
        assert!(said.contains(want), "{said}");
        fs::write(files.join(member), old).unwrap();
    }
}

fn images(name: &str) -> PathBuf {
    let directory = scratch(name);
    fs::write(directory.join("inventory.img"), "inventory").unwrap();
    fs::write(directory.join("pages-1.img"), vec![7; PAGES]).unwrap();
    fs::write(directory.join("stats-dump"), "stats").unwrap();
    fs::write(directory.join("dump.log"), "log").unwrap();
    directory
}

#[test]
fn an_archive_is_made_of_images_and_a_bundle() {
    let spec = r#"{"ociVersion":"1.2.1","process":{"args":["/web"],"cwd":"/"},"siteField":7}"#;
    for engine in ENGINES {
        let directory = images(&format!("create-{engine}"));
        fs::create_dir(directory.join("folder")).unwrap();
        let parent = images(&format!("create-parent-{engine}"));
        std::os::unix::fs::symlink(&parent, directory.join("parent")).unwrap();
        let source = Arc::new(Directory::open(&directory).unwrap());
        let parts = Parts::new("img", source).name("web").image("docker.io/library/web:1");
        let parts = parts.spec("config.json", Blob::from(spec.as_bytes().to_vec()));
        let conversion = parts.time(1_777_631_400).conversion(engine).unwrap();
        assert_eq!(notes(&conversion)[0], (Effect::Lost, "checkpoint/folder"));
        let out = directory.with_extension("tar");
        conversion.draft().save(&out, &Options::default(), UNWATCHED).unwrap();
        let archive = Archive::open(&out).unwrap();
        let top = archive.folder("");
        let metadata = Metadata::of("a", &top);
        assert_eq!(metadata.engine().unwrap(), engine);
        let config = metadata.config().unwrap().unwrap();
        assert_eq!((&*config.name, config.id.len()), ("web", 64));
        assert_eq!(config.created.unwrap().seconds(), 1_777_631_400);
        assert_eq!(metadata.spec().unwrap().unwrap().other["siteField"], 7);
        assert_eq!(metadata.identity().unwrap().container, "web");
        for member in ["stats-dump", "dump.log", "checkpoint/descriptors.json"] {
            assert!(archive.member(member).is_some(), "{engine}: {member}");
        }
        assert_eq!(bytes(&archive, "checkpoint/pages-1.img"), vec![7; PAGES]);
        // The parent set is in the archive, where Podman has it.
        use criu_images::source::Source;
        let before = archive.folder("checkpoint").parent().unwrap().unwrap();
        assert_eq!(before.size("pages-1.img").unwrap(), Some(PAGES as u64));
        assert!(archive.member("pre-checkpoint/pages-1.img").is_some());
    }
}

#[test]
fn metadata_of_an_archive_goes_with_other_images() {
    let (old, _) = archive_of(Engine::CriO, "from-archive");
    let source = Arc::new(Directory::open(images("from-archive-images")).unwrap());
    let parts = Parts::new("img", source).metadata_of(Archive::open(&old).unwrap());
    let conversion = parts.conversion(Engine::CriO).unwrap();
    let out = old.with_extension("new");
    conversion.draft().save(&out, &Options::default(), UNWATCHED).unwrap();
    let (before, after) = (Archive::open(&old).unwrap(), Archive::open(&out).unwrap());
    for member in ["config.dump", "spec.dump", "bind.mounts", "site.note"] {
        assert_eq!(bytes(&after, member), bytes(&before, member));
    }
    assert_eq!(bytes(&after, "checkpoint/pages-1.img"), vec![7; PAGES]);
    // The list belongs to the other images, which came without: no runtime restores so.
    let made = json(&after, "checkpoint/descriptors.json");
    assert_eq!(made, serde_json::json!(["/dev/null", "/dev/null", "/dev/null"]));
}

/// Members without which an engine does not restore, and the fields or annotations that it reads
/// there.
fn wanted(engine: Engine) -> &'static [(&'static str, &'static [&'static str])] {
    match engine {
        Engine::Podman => &[
            ("config.dump", &["/id", "/rootfsImageName", "/rootfsImageID", "/lockID", "/runtime"]),
            ("spec.dump", &["/annotations/io.container.manager", "/process/args"]),
        ],
        Engine::CriO => &[
            ("config.dump", &["/rootfsImageRef", "/rootfsImageName", "/createdTime"]),
            (
                "spec.dump",
                &[
                    "/annotations/io.kubernetes.cri-o.Metadata",
                    "/annotations/io.kubernetes.cri-o.Labels",
                    "/annotations/io.kubernetes.cri-o.Annotations",
                ],
            ),
        ],
        _ => &[
            ("config.dump", &["/rootfsImageRef", "/rootfsImageName", "/checkpointedTime"]),
            ("spec.dump", &["/annotations/io.kubernetes.cri.container-name"]),
            ("status.dump", &["/metadata/name", "/image/image", "/labels", "/annotations"]),
        ],
    }
}

#[test]
fn a_made_archive_has_what_each_engine_needs_in_all_directions() {
    let spec = r#"{"ociVersion":"1.2.1","process":{"args":["/web"],"cwd":"/"},
        "mounts":[{"destination":"/data","type":"bind","source":"/srv/data"}]}"#;
    let directory = images("directions");
    for from in ENGINES {
        let source = Arc::new(Directory::open(&directory).unwrap());
        let parts = Parts::new("img", source).name("web").image("docker.io/library/web:1");
        let parts = parts.spec("b/config.json", Blob::from(spec.as_bytes().to_vec()));
        let made = parts.image_id("bb22").conversion(from).unwrap();
        assert!(!made.loses(), "{:?}", made.notes());
        let old = directory.with_extension(format!("{from}.tar"));
        made.draft().save(&old, &Options::default(), UNWATCHED).unwrap();
        has_what_it_needs(&old, from);
        for to in ENGINES.into_iter().filter(|to| *to != from) {
            let new = old.with_extension(to.word());
            let there = convert(&old, to, &new);
            assert!(!there.loses(), "{from} to {to}: {:?}", there.notes());
            has_what_it_needs(&new, to);
            // All that is gone is named.
            let (before, after) = (Archive::open(&old).unwrap(), Archive::open(&new).unwrap());
            let is_gone = |path: &&str| after.member(path).is_none();
            for path in before.members().map(|member| member.path()).filter(is_gone) {
                let note = there.notes().iter().find(|note| note.member() == path);
                assert!(note.is_some(), "{from} to {to}: {path}: {:?}", there.notes());
            }
            let needs = there.notes().iter().find(|note| note.effect() == Effect::Needs);
            match to {
                Engine::Podman => assert_eq!(
                    needs.map(|note| note.to_string()).unwrap(),
                    "needs: spec.dump: the bind mount at /data: /srv/data has to exist"
                ),
                Engine::CriO => assert_eq!(needs.unwrap().member(), "bind.mounts"),
                // These images have no mounts.
                _ => assert!(needs.is_none()),
            }
        }
    }
}

fn has_what_it_needs(archive: &Path, engine: Engine) {
    let archive = Archive::open(archive).unwrap();
    for member in ["checkpoint/inventory.img", "checkpoint/descriptors.json"] {
        assert!(archive.member(member).is_some(), "{engine}: {member}");
    }
    for (member, fields) in wanted(engine) {
        let found = json(&archive, member);
        for field in *fields {
            assert!(found.pointer(field).is_some_and(|value| *value != ""), "{engine}: {field}");
        }
    }
    let top = archive.folder("");
    assert_eq!(Metadata::of("made", &top).engine().unwrap(), engine);
}

#[test]
fn an_archive_of_no_engine_says_what_it_lacks() {
    let directory = images("no-engine");
    let tar = directory.with_extension("tar");
    run(Command::new("tar").arg("-C").arg(&directory).arg("-cf").arg(&tar).arg("."));
    let archive = Archive::open(&tar).unwrap();
    for to in ENGINES {
        let conversion = Conversion::of(&archive, to).unwrap();
        assert_eq!(conversion.from(), Engine::Unknown);
        assert!(conversion.loses());
        for (member, reason) in [
            ("checkpoint/inventory.img", "no images of a dump"),
            ("spec.dump", "no specification"),
            ("config.dump", "nothing tells the image, of which"),
        ] {
            let is_it = |note: &Note| {
                let is_missing = note.effect() == Effect::Missing;
                is_missing && note.member() == member && note.reason().contains(reason)
            };
            assert!(conversion.notes().iter().any(is_it), "{to}: {:?}", conversion.notes());
        }
    }
}

#[test]
fn parts_that_make_no_archive_are_named() {
    let directory = images("no-parts");
    let parts = |directory: &Path| {
        let source = Arc::new(Directory::open(directory).unwrap());
        Parts::new("img", source).name("web").image("web:1")
    };
    let said = |parts: Parts| parts.conversion(Engine::Containerd).unwrap_err().to_string();
    let empty = scratch("no-parts-empty");
    let want = "img: inventory.img: is missing: images of a dump are wanted, each set of which \
                has one";
    assert_eq!(said(parts(&empty)), want);
    let deep = "[".repeat(100_000);
    for (text, want) in [
        ("{", "is no valid JSON: EOF while parsing an object"),
        ("[1]", "is no valid JSON: invalid type: sequence"),
        (&*deep, "is no valid JSON: is nested more than 64 deep"),
        (r#"{"annotations":7}"#, "is no valid JSON: invalid type: integer `7`"),
    ] {
        let spec = Blob::from(text.as_bytes().to_vec());
        let said = said(parts(&directory).spec("b/config.json", spec));
        assert!(said.starts_with(&format!("b/config.json: {want}")), "{said}");
    }
    let diff = Blob::from(b"junk".to_vec());
    assert_eq!(
        said(parts(&directory).rootfs_diff(diff)),
        "img: rootfs-diff.tar: is not a tar archive"
    );
}
