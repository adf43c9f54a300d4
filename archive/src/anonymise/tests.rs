//! Tests of copies of archives and of directories.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use criu_images::source::{Blob, Directory};
use criu_images::{ImageSet, check};
use criu_lab::scratch;

use super::*;
use crate::metadata::{Engine, Metadata};
use crate::watch::UNWATCHED;
use crate::write::Options;

fn pipeline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/tests/data/pipeline")
}

fn archive(draft: &Draft) -> Archive {
    let mut bytes = Vec::new();
    draft.write("a.tar", &mut bytes, &Options::default(), UNWATCHED).unwrap();
    Archive::new("a.tar", Blob::from(bytes)).unwrap()
}

/// An archive as Podman writes it, with a secret in each member.
fn export() -> Draft {
    let mut draft = Draft::new();
    let images = Directory::open(pipeline()).unwrap();
    draft.add_images(CHECKPOINT, "pipeline", Arc::new(images)).unwrap();
    let images = Directory::open(pipeline()).unwrap();
    draft.add_images("acme-parent", "pipeline", Arc::new(images)).unwrap();
    draft.add_link("checkpoint/parent", "../acme-parent").unwrap();
    draft.add_directory("artifacts").unwrap();
    let texts: &[(&str, &str)] = &[
        ("config.dump", r#"{"name":"acme","id":"ac3e0123456789ab","runtime":"runc"}"#),
        (
            "spec.dump",
            r#"{"hostname":"acme","annotations":{"io.container.manager":"libpod"},
                "root":{"path":"/srv/acme"},"process":{"env":["ACME_KEY=acme"]}}"#,
        ),
        ("network.status", r#"{"acme":{"interfaces":{"eth0":{"subnets":[]}}}}"#),
        ("deleted.files", r#"["/srv/acme"]"#),
        ("status", "no JSON of acme"),
        ("acme.json", r#"{"acme":["acme"]}"#),
        ("artifacts/pin", "48151623"),
        ("artifacts/status", r#"{"pin":48151623}"#),
        ("artifacts/nftables-1.img", "48151623"),
        ("checkpoint/config.dump", r#"{"acme":48151623}"#),
        ("pod.options", r#"{"containers":{"acme":"k8s_acme"}}"#),
        ("rootfs-diff.tar", "acme"),
        ("volumes/acme.tar", "acme"),
        ("ctr.log", "acme"),
        ("acme.bin", "acme"),
        ("checkpoint/dump.log", "acme"),
        ("checkpoint/descriptors.json", r#"["/srv/acme","pipe:[7]"]"#),
        ("checkpoint/mm-77.img", "acme"),
        ("checkpoint/acme.img", "acme"),
        ("checkpoint/tmpfs-dev-7.tar.gz.img", "acme"),
        ("checkpoint/pages-9.img", "acme acme"),
    ];
    for (path, text) in texts {
        draft.add_bytes(path, *text).unwrap();
    }
    draft.add_link("acme-link", "acme.bin").unwrap();
    draft
}

fn notes(copy: &AnonymousCopy) -> BTreeMap<&str, String> {
    copy.notes().iter().map(|note| (note.member(), note.to_string())).collect()
}

/// Findings of a check.
fn findings(set: &ImageSet) -> Vec<String> {
    check(set).into_iter().map(|finding| finding.to_string()).collect()
}

#[test]
fn a_copy_of_an_archive_has_nothing_private() {
    let old = archive(&export());
    let copy = AnonymousCopy::of_archive(&old).unwrap();
    let mut bytes = Vec::new();
    let options = Options::default();
    copy.draft().write("copy", &mut bytes, &options, UNWATCHED).unwrap();
    let text = String::from_utf8_lossy(&bytes).to_lowercase();
    for secret in ["acme", "ac3e01", "48151623"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let new = Archive::new("copy", Blob::from(bytes)).unwrap();

    let left_out = |names: &[&str]| {
        let notes = notes(&copy);
        for name in names {
            assert!(notes[name].starts_with(&format!("left out: {name}: ")), "{notes:?}");
        }
        assert_eq!(notes.len(), names.len() + 1, "{notes:?}");
        assert!(notes["checkpoint/tmpfs-dev-7.tar.gz.img"].starts_with("emptied: "), "{notes:?}");
    };
    left_out(&[
        "status",
        "rootfs-diff.tar",
        "volumes/acme.tar",
        "ctr.log",
        "acme.bin",
        "acme.json",
        "artifacts/pin",
        "artifacts/status",
        "artifacts/nftables-1.img",
        "checkpoint/config.dump",
        "acme-link",
        "checkpoint/dump.log",
        "checkpoint/mm-77.img",
        "checkpoint/acme.img",
    ]);

    // The chain, and what `check` says.
    let set = |archive: &Archive| ImageSet::new(archive.folder(CHECKPOINT)).unwrap();
    let said = |archive: &Archive| findings(&set(archive));
    assert!(new.folder(CHECKPOINT).parent().unwrap().is_some());
    let mut without = export();
    // What is left out has no finding any more.
    without.remove("checkpoint/mm-77.img");
    without.remove("checkpoint/acme.img");
    assert_eq!(said(&new), said(&archive(&without)));

    // The metadata is still that of the engine, with one name in all members.
    let top = new.folder("");
    let metadata = Metadata::of("copy", &top);
    assert_eq!(metadata.engine().unwrap(), Engine::Podman);
    let (config, spec) = (metadata.config().unwrap().unwrap(), metadata.spec().unwrap().unwrap());
    assert_eq!(config.name, spec.hostname);
    assert_eq!((config.name.len(), config.runtime.as_str()), (4, "runc"));
    let deleted = metadata.deleted_files().unwrap().unwrap();
    assert_eq!(deleted, [format!("/srv/{}", config.name)]);
    let images = new.folder(CHECKPOINT);
    let descriptors = Metadata::of("copy", &images).descriptors().unwrap().unwrap();
    assert_eq!(descriptors, [deleted[0].as_str(), "pipe:[7]"]);
    let networks = metadata.networks().unwrap().unwrap();
    assert_eq!(networks.keys().collect::<Vec<_>>(), [&config.name]);
}

#[test]
fn a_directory_keeps_its_form() {
    let scratch = scratch("anonymous-directory");
    let (old, parent) = (scratch.join("old"), scratch.join("parent"));
    for to in [&old, &parent] {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(pipeline()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    symlink("../parent", old.join("parent")).unwrap();
    symlink("/etc/passwd", old.join("link")).unwrap();
    let copy = AnonymousCopy::of_directory(&old).unwrap();
    assert_eq!(notes(&copy)["checkpoint/link"].split(": ").last(), Some("no regular file"));
    let to = scratch.join("new");
    let files = copy.into_directory(&to, UNWATCHED).unwrap();
    let (new, before) = (ImageSet::open(&to).unwrap(), ImageSet::open(&old).unwrap());
    assert_eq!(findings(&new), findings(&before));
    assert_eq!(new.checkpoint().unwrap().tree().to_string().lines().count(), 3);
    let count = |path: &Path| fs::read_dir(path).unwrap().count();
    // The link, and the folder of the parent.
    assert_eq!(files, count(&to) - 2 + count(&to.join("parent")));
    assert_eq!(fs::read_link(to.join("parent")).unwrap(), Path::new(names::PRE_CHECKPOINT));

    // A stop leaves nothing, and a directory with files is not touched.
    let stopped = copy.into_directory(scratch.join("no"), &|_| ControlFlow::Break(()));
    assert!(matches!(stopped.unwrap_err().kind(), ErrorKind::Stopped));
    assert!(copy.into_directory(&old, UNWATCHED).is_err());
    assert_eq!(count(&scratch), 3);

    // An unpacked archive: folders with images.
    assert!(!AnonymousCopy::of_directory(&*scratch).unwrap().is_bare);
    let empty = scratch.join("empty");
    fs::create_dir(&empty).unwrap();
    let error = AnonymousCopy::of_directory(&empty).unwrap_err().to_string();
    assert_eq!(error, format!("{}: has no images of CRIU", empty.display()));
}
