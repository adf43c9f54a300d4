//! Manifests of CRI-O and of containerd.
//!
//! Both formats are those of open pull requests. No released engine writes them, and CRI-O cannot
//! be had on the machines of the tests at all. These manifests are therefore written here, by what
//! is known of the requests: the names of files and fields, versions and limits.

use std::fs;
use std::path::{Path, PathBuf};

use criu_archive::oci::Digest;
use criu_archive::record::{About, Holder, Host, Program, RECORD, Record, Role, State, ToolKind};
use criu_archive::write::{Draft, Options};
use criu_archive::{ErrorKind, UNWATCHED};
use criu_images::Severity;
use criu_lab::scratch;
use serde_json::{Value, json};

const MANIFEST: &str = "checkpoint-manifest.json";
const POD: &str = "pod-config.json";

fn pod_config() -> Value {
    json!({
        "metadata": {"name": "shop", "uid": "1234", "namespace": "default", "attempt": 1},
        "hostname": "shop-0", "labels": {"app": "shop"}, "annotations": null,
        "log_directory": "/var/log/pods/shop", "linux": {"cgroup_parent": "/kubepods"},
    })
}

fn config(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "attempt": 2},
        "image": {"image": "sha256:aa", "user_specified_image": "docker.io/library/web:1"},
        "log_path": "web/0.log",
    })
}

fn write(directory: &Path, manifest: &Value, pod: &Value) {
    fs::write(directory.join(MANIFEST), manifest.to_string()).unwrap();
    fs::write(directory.join(POD), pod.to_string()).unwrap();
}

/// A directory as CRI-O fills it, with the manifest.
fn cri_o(name: &str) -> (PathBuf, Value) {
    let directory = scratch(name);
    fs::create_dir(directory.join("containers")).unwrap();
    let mut containers = Vec::new();
    for (name, id) in [("web", "aa11"), ("db", "bb22")] {
        let archive = format!("containers/{id}.tar");
        let bytes = format!("the archive of {name}").into_bytes();
        let sha256 = Digest::of(&bytes).hex();
        fs::write(directory.join(&archive), bytes).unwrap();
        containers.push(json!({
            "name": name, "id": id, "archive": archive, "sha256": sha256, "config": config(name),
        }));
    }
    let manifest = json!({
        "version": 1, "runtime": "cri-o", "runtimeHandler": "crun", "sandboxId": "5a5a",
        "containers": containers,
    });
    write(&directory, &manifest, &pod_config());
    (directory, manifest)
}

/// An archive of an image, with the index of a checkpoint as containerd makes it.
fn index_of(runtime: Option<&str>) -> Draft {
    let mut index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    });
    if let Some(runtime) = runtime {
        index["annotations"] = json!({
            "io.containerd.checkpoint.runtime": runtime,
            "io.containerd.checkpoint.snapshotter": "overlayfs",
        });
    }
    let index = index.to_string().into_bytes();
    let digest = Digest::of(&index);
    let top = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest.to_string(), "size": index.len(),
        }],
    });
    let mut draft = Draft::new();
    draft.add_bytes("oci-layout", *br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    draft.add_bytes("index.json", top.to_string()).unwrap();
    draft.add_bytes(&format!("blobs/sha256/{}", digest.hex()), index).unwrap();
    draft
}

/// A directory as containerd fills it, with the manifest.
fn containerd(name: &str, runtimes: &[Option<&str>]) -> (PathBuf, Value) {
    let directory = scratch(name);
    let mut containers = Vec::new();
    for (at, runtime) in runtimes.iter().enumerate() {
        let (name, archive) = (format!("c{at}"), format!("c{at}.tar"));
        let to = directory.join(&archive);
        index_of(*runtime).save(to, &Options::default(), UNWATCHED).unwrap();
        containers.push(json!({
            "name": name, "id": format!("id{at}"), "archive": archive, "config": config(&name),
            "status": {"state": "CONTAINER_RUNNING"},
        }));
    }
    let manifest = json!({"version": 2, "sandboxId": "5a5a", "containers": containers});
    write(&directory, &manifest, &pod_config());
    (directory, manifest)
}

#[test]
fn the_manifest_of_cri_o_is_read_as_a_record() {
    let (directory, _) = cri_o("record-cri-o");
    let holder = Holder::open(&directory).unwrap();
    let record = Record::of_cri_o(&holder).unwrap();
    assert_eq!(Record::of_any(&holder).unwrap(), record);
    assert_eq!((&*record.made_by, &record.state), ("cri-o", &State::Complete));
    let pod = record.pod.as_ref().unwrap();
    assert_eq!((&*pod.name, &*pod.namespace, &*pod.uid), ("shop", "default", "1234"));
    assert_eq!((&*pod.sandbox, &*pod.runtime_handler, pod.attempt), ("5a5a", "crun", 1));
    assert_eq!((&*pod.hostname, &*pod.labels["app"]), ("shop-0", "shop"));
    assert_eq!(pod.config_json, Some(pod_config()));
    let [web, db] = &record.containers[..] else { panic!("{record:?}") };
    assert_eq!((&*web.name, &*web.id, web.attempt), ("web", "aa11", 2));
    assert_eq!((&*web.image.name, &*web.image.digest), ("docker.io/library/web:1", "sha256:aa"));
    assert_eq!((&web.tool.kind, &*web.tool.version), (&ToolKind::Criu, ""));
    assert_eq!(db.config_json, Some(config("db")));
    assert_eq!((&*db.files[0].path, &db.files[0].role), ("containers/bb22.tar", &Role::Archive));
    // The files are compared, and the version of CRIU is not known.
    let mut host = Host::here();
    host.programs = Some(vec![Program::new(ToolKind::Criu, "4.3", "/usr/sbin/criu")]);
    let found = record.verify(&host, &holder, UNWATCHED).unwrap();
    let [tool, machine, unread] = &found[..] else { panic!("{found:?}") };
    assert_eq!(tool.about, About::Tool);
    // The manifest has digests of the archives alone, and no word on the machine.
    assert_eq!((machine.severity, machine.about), (Severity::Note, About::Record));
    assert!(unread.text.starts_with("2 files have no digest"), "{unread}");
    fs::write(directory.join("containers/aa11.tar"), b"the archive of wob").unwrap();
    let found = record.verify_files(&holder, UNWATCHED).unwrap();
    assert!(found[0].to_string().starts_with("error: containers/aa11.tar: has the digest "));
    // The record can be kept beside the manifest, and is the one that counts then.
    record.write(&directory).unwrap();
    assert_eq!(Record::of_any(&holder).unwrap(), record);
}

#[test]
fn the_manifest_of_containerd_is_read_as_a_record() {
    let runtimes = [Some("io.containerd.runc.v2"), Some("io.containerd.runsc.v1"), None];
    let (directory, _) = containerd("record-containerd", &runtimes);
    let holder = Holder::open(&directory).unwrap();
    let record = Record::of_containerd(&holder).unwrap();
    assert_eq!(Record::of_any(&holder).unwrap(), record);
    assert_eq!((&*record.made_by, &record.state), ("containerd", &State::Complete));
    let pod = record.pod.as_ref().unwrap();
    assert_eq!((&*pod.name, &*pod.sandbox, &*pod.runtime_handler), ("shop", "5a5a", ""));
    let tools: Vec<(&ToolKind, &str)> = record
        .containers
        .iter()
        .map(|container| (&container.tool.kind, &*container.tool.runtime))
        .collect();
    let none = ToolKind::Other("".into());
    let expected = [
        (&ToolKind::Criu, "io.containerd.runc.v2"),
        (&ToolKind::Runsc, "io.containerd.runsc.v1"),
        (&none, ""),
    ];
    assert_eq!(tools, expected);
    assert_eq!(record.containers[0].other["status"], json!({"state": "CONTAINER_RUNNING"}));
    let [note] = &record.verify_files(&holder, UNWATCHED).unwrap()[..] else { panic!() };
    let expected = "note: 5 files have no digest in the record: the content was not compared";
    assert_eq!(note.to_string(), expected);
    // An archive that is missing is a finding, and the rest is read.
    fs::remove_file(directory.join("c1.tar")).unwrap();
    let record = Record::of_containerd(&holder).unwrap();
    let found = record.verify_files(&holder, UNWATCHED).unwrap();
    let [missing, note] = &found[..] else { panic!("{found:?}") };
    assert_eq!(missing.to_string(), "error: c1.tar: is missing");
    assert!(note.text.contains(" no digest in the record"), "{note}");
}

#[test]
fn manifests_that_break_a_rule_are_refused() {
    let (crio, right) = cri_o("record-cri-o-wrong");
    let (containerd, other) = containerd("record-containerd-wrong", &[None]);
    let with = |right: &Value, pointer: &str, value: Value| {
        let mut wrong = right.clone();
        let (above, name) = pointer.rsplit_once('/').unwrap();
        wrong.pointer_mut(above).unwrap()[name] = value;
        wrong
    };
    let many = |right: &Value| {
        let one = right["containers"][0].clone();
        let all = (0..1025).map(|at| {
            let mut container = one.clone();
            container["name"] = at.to_string().into();
            container["archive"] = at.to_string().into();
            container
        });
        Value::from_iter(all)
    };
    type Read = fn(&Holder) -> criu_archive::Result<Record>;
    let both: [(&Path, &Value, Read); 2] =
        [(&crio, &right, Record::of_cri_o), (&containerd, &other, Record::of_containerd)];
    for (directory, right, read) in both {
        let holder = Holder::open(directory).unwrap();
        let mut cases = vec![
            (with(right, "/version", 3.into()), "is 0x3, wanted "),
            (with(right, "/version", "1".into()), "is no valid JSON: invalid type"),
            (with(right, "/containers", json!([])), "has no containers"),
            (with(right, "/containers", many(right)), "has more than 1024 containers"),
            (with(right, "/later", 1.into()), "unknown field `later`"),
            (with(right, "/containers/0/later", 1.into()), "unknown field `later`"),
            (with(right, "/containers/0/archive", "../a".into()), "leads out"),
            (with(right, "/containers/0/archive", "/a".into()), "leads out"),
            (with(right, "/containers/0/archive", "".into()), "leads out"),
            (with(right, "/containers/0/archive", RECORD.into()), "does not lead to a file"),
            (with(right, "/containers/0/archive", POD.into()), ""),
            (with(right, "/containers/0/name", "".into()), "or a container has none"),
        ];
        if directory == crio {
            cases.push((with(right, "/runtime", "podman".into()), "is not the manifest of CRI-O"));
            cases.push((with(right, "/containers/0/sha256", "aa".into()), "is no SHA-256"));
            cases.push((with(right, "/containers/1/name", "web".into()), "have one name"));
        }
        for (wrong, expected) in cases {
            write(directory, &wrong, &pod_config());
            let error = read(&holder).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(expected) && error.member().is_some(), "{said} {expected}");
        }
        write(directory, right, &pod_config());
        read(&holder).unwrap();
        // Whitespace up to the limit, and one byte more.
        for (file, limit) in [(MANIFEST, 16 << 20), (POD, 4 << 20)] {
            let mut bytes = fs::read(directory.join(file)).unwrap();
            let before = bytes.clone();
            bytes.resize(limit, b' ');
            fs::write(directory.join(file), &bytes).unwrap();
            read(&holder).unwrap();
            bytes.push(b' ');
            fs::write(directory.join(file), &bytes).unwrap();
            let error = read(&holder).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
            assert_eq!(error.member(), Some(file));
            fs::write(directory.join(file), before).unwrap();
        }
        fs::remove_file(directory.join(POD)).unwrap();
        let error = read(&holder).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Missing), "{error}");
        assert_eq!(error.member(), Some(POD));
    }
    // Neither is taken for the other.
    write(&crio, &other, &pod_config());
    assert!(Record::of_cri_o(&Holder::open(&crio).unwrap()).is_err());
    write(&crio, &right, &pod_config());
    assert!(Record::of_containerd(&Holder::open(&crio).unwrap()).is_err());
}

#[test]
fn archives_that_break_a_limit_of_containerd_are_refused() {
    let (directory, _) = containerd("record-containerd-archives", &[None]);
    let holder = Holder::open(&directory).unwrap();
    let archive = directory.join("c0.tar");
    let refused = || {
        let error = Record::of_containerd(&holder).unwrap_err();
        assert_eq!(error.member(), Some("c0.tar"), "{error}");
        error.to_string()
    };
    fs::write(&archive, b"no archive").unwrap();
    assert!(refused().ends_with("is not a tar archive"));
    // A hole of more than 1 TiB.
    let file = fs::File::create(&archive).unwrap();
    file.set_len((1 << 40) + 1).unwrap();
    assert!(refused().ends_with("has 1099511627777 bytes, at most 1099511627776 are read"));
    let save = |draft: Draft| {
        draft.save(&archive, &Options::default(), UNWATCHED).unwrap();
    };
    let mut many = index_of(None);
    for at in 0..100_000 {
        many.add_bytes(&format!("f/{at}"), *b"").unwrap();
    }
    save(many);
    assert!(refused().ends_with("has more than 100000 members"));
    let mut large = Draft::new();
    large.add_bytes("index.json", vec![b' '; (4 << 20) + 1]).unwrap();
    save(large);
    let error = Record::of_containerd(&holder).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 4_194_304, .. }), "{error}");
    save(Draft::new());
    assert!(Record::of_containerd(&holder).is_err());
}
