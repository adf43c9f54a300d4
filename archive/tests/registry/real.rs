//! A real registry, and real programs beside us.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criu_archive::oci::{Image, Layout, TOC_DIGEST, TOC_POSITION};

use criu_archive::registry::{Access, Credentials, Registry};
use criu_archive::write::{Draft, Options, Pack};
use criu_archive::{Archive, ErrorKind, UNWATCHED};
use criu_images::ImageSet;
use criu_lab::certs::{Authority, Wanted};
use criu_lab::place::engine;
use criu_lab::registry::{self as lab, RegistryWanted};
use criu_lab::scratch;

use crate::{byte, connect, export, nobody, output};

#[test]
fn an_image_goes_through_a_registry_and_comes_back_with_the_same_bytes() {
    let directory = scratch("registry-trip");
    let server = lab::Registry::start(&directory.join("server"));
    let path = export(&directory, 5 << 20);
    let image = Image::of_archive(&path).unwrap();
    let registry = connect(&server.name("checkpoints/counter:v1"));
    let told = Arc::new(AtomicU64::new(0));
    let last = Arc::clone(&told);
    let progress = move |sent| last.store(sent, Ordering::Relaxed);
    let pushed = registry.push(&image, progress).unwrap();
    assert_eq!(pushed.manifest, image.digest());
    assert_eq!((pushed.sent, told.load(Ordering::Relaxed)), (image.layer().size, pushed.sent));
    // Blobs that are there are not sent again.
    let before = registry.traffic().sent;
    let again = registry.push(&image, |_| {}).unwrap();
    assert_eq!((again.digest, again.sent), (pushed.digest, 0));
    assert_eq!(registry.traffic().sent, before);
    assert_eq!(
        fs::read(server.blob(&image.layer().digest.hex())).unwrap(),
        fs::read(&path).unwrap()
    );

    // Others copy it, and see the annotations on index and manifest.
    let name = |name: &str| format!("docker://{}", server.name(name));
    let from = name("checkpoints/counter:v1");
    let skopeo = || {
        let mut skopeo = Command::new(engine("skopeo"));
        skopeo.arg("--insecure-policy").env("REGISTRY_AUTH_FILE", nobody());
        skopeo
    };
    let raw = output(skopeo().args(["inspect", "--tls-verify=false", "--raw", &from]));
    let digest = format!("{}@{}", server.name("checkpoints/counter"), image.digest());
    let manifest = format!("docker://{digest}");
    let one = output(skopeo().args(["inspect", "--tls-verify=false", "--raw", &manifest]));
    for text in [&raw, &one] {
        let text: serde_json::Value = serde_json::from_str(text).unwrap();
        for (key, value) in image.annotations() {
            assert_eq!(text["annotations"][key], **value, "{key}");
        }
    }
    // Skopeo packs a plain layer on its way, unless it is told not to.
    let flags = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"];
    output(skopeo().args(flags).args([&from, &name("copied/skopeo:v1")]));
    output(skopeo().args(flags).args(["--all", &from, &name("copied/all:v1")]));
    let layout = directory.join("skopeo");
    let to = format!("oci:{}:v1", layout.display());
    output(skopeo().args(flags).args([&from, &to]));
    let mut oras = Command::new(engine("oras"));
    oras.args(["cp", "--from-plain-http", "--to-plain-http"]);
    oras.args([server.name("checkpoints/counter:v1"), server.name("copied/oras:v1")]);
    output(&mut oras);
    for name in ["checkpoints/counter:v1", "copied/skopeo:v1", "copied/all:v1", "copied/oras:v1"] {
        let registry = connect(&server.name(name));
        let found = registry.open().unwrap();
        assert_eq!(found.digest(), image.digest(), "{name}");
        let to = directory.join("pulled.tar");
        registry.pull(&found, &to, |_| {}).unwrap();
        assert_eq!(fs::read(&to).unwrap(), fs::read(&path).unwrap(), "{name}");
    }
    let found = Layout::Directory(layout).open(Some("v1")).unwrap();
    assert_eq!(found.digest(), image.digest());
    found.verify().unwrap();
    // Our layouts are read by others.
    let ours = directory.join("ours.tar");
    Layout::Archive(ours.clone()).write(&found, Some("v2")).unwrap();
    let ours = format!("oci-archive:{}:v2", ours.display());
    output(skopeo().args(flags).args([&ours, &name("copied/ours:v2")]));
    assert_eq!(connect(&server.name("copied/ours:v2")).open().unwrap().digest(), image.digest());
}

#[test]
fn an_archive_in_a_registry_is_read_by_ranges() {
    let directory = scratch("registry-ranges");
    let server = lab::Registry::start(&directory.join("server"));
    let path = export(&directory, 64 << 20);
    let image = Image::of_archive(&path).unwrap();
    let pushed = connect(&server.name("big:v1")).push(&image, |_| {}).unwrap();
    let name = format!("{}@{}", server.name("big"), pushed.digest);
    let registry = connect(&name);
    let archive = registry.open().unwrap().archive().unwrap();
    let set = ImageSet::new(archive.folder("checkpoint")).unwrap();
    let shown = set.checkpoint().unwrap().tree().to_string();
    assert!(!shown.is_empty());
    // The set has 40 KiB of images, the layer 64 MiB.
    let traffic = registry.traffic();
    assert!(traffic.fetched < 1 << 20, "{traffic:?}");
    assert!(traffic.requests < 20, "{traffic:?}");

    any_place(&archive, &registry);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_seekable_archive_in_a_registry_is_checked_part_by_part() {
    let directory = scratch("registry-seekable");
    let server = lab::Registry::start(&directory.join("server"));
    let plain = Archive::open(export(&directory, 64 << 20)).unwrap();
    let path = directory.join("checkpoint.tar.zst");
    let mut draft = Draft::new();
    for member in plain.members() {
        draft.add_member(&plain, member).unwrap();
    }
    let mut options = Options::default();
    options.pack = Pack::Seekable { level: 1, threads: 2 };
    draft.save(&path, &options, UNWATCHED).unwrap();
    let image = Image::of_archive(&path).unwrap();
    assert!(image.layer().annotations.contains_key(TOC_DIGEST));
    assert!(image.layer().media_type.ends_with("+zstd"), "{:?}", image.layer());
    connect(&server.name("big:v1")).push(&image, |_| {}).unwrap();
    // Skopeo copies such a layer as it is.
    let mut skopeo = Command::new(engine("skopeo"));
    skopeo.arg("--insecure-policy").env("REGISTRY_AUTH_FILE", nobody());
    skopeo.args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    let name = |name: &str| format!("docker://{}", server.name(name));
    output(skopeo.args([name("big:v1"), name("copied:v1")]));
    let registry = connect(&server.name("copied:v1"));
    let found = registry.open().unwrap();
    assert_eq!(found.digest(), image.digest());
    let archive = found.archive().unwrap();
    let set = ImageSet::new(archive.folder("checkpoint")).unwrap();
    assert!(!set.checkpoint().unwrap().tree().to_string().is_empty());
    let traffic = registry.traffic();
    assert!(traffic.fetched < 1 << 20 && traffic.requests < 20, "{traffic:?}");
    any_place(&archive, &registry);

    // A byte that changes in the registry is found where it is read, and nowhere else.
    let file = server.blob(&image.layer().digest.hex());
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&file, bytes).unwrap();
    let archive = connect(&server.name("big:v1")).open().unwrap().archive().unwrap();
    let pages = archive.bytes("checkpoint/pages-99.img").unwrap();
    let mut piece = vec![0; 64 << 10];
    let wrong: Vec<String> = (0..64 << 20)
        .step_by(piece.len())
        .filter_map(|at| pages.read_at(at, &mut piece).err())
        .map(|error| error.to_string())
        .collect();
    assert!((1..=2).contains(&wrong.len()), "{wrong:?}");
    // Another table of contents is not taken.
    let toc = &image.layer().annotations[TOC_POSITION];
    let offset: usize = toc.split_once(':').unwrap().0.parse().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[offset + 40] ^= 0x40;
    fs::write(&file, bytes).unwrap();
    let refused = connect(&server.name("big:v1")).open().unwrap().archive().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Malformed(_) | ErrorKind::Io(_)), "{refused}");
    fs::remove_dir_all(directory).unwrap();
}

/// Reads the memory of [`export`] at any place, and then all of it.
fn any_place(archive: &Archive, registry: &Registry) {
    // Any place, from several threads at once.
    let bytes = archive.bytes("checkpoint/pages-99.img").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let bytes = &bytes;
            scope.spawn(move || {
                for step in 0..50_usize {
                    let at = (thread * 13 + step * 1_300_021) % ((64 << 20) - 9000);
                    let mut found = vec![0; 9000];
                    bytes.read_at(at as u64, &mut found).unwrap();
                    let wanted = (at..at + 9000).map(byte);
                    assert!(found.into_iter().eq(wanted), "{at}");
                }
            });
        }
    });
    // All of it, in order: neighbours come together.
    let before = registry.traffic().requests;
    let mut piece = vec![0; 64 << 10];
    for at in (0..64 << 20).step_by(piece.len()) {
        bytes.read_at(at, &mut piece).unwrap();
    }
    let requests = registry.traffic().requests - before;
    assert!(requests < 200, "{requests}");
}

#[test]
fn tls_and_logins_are_those_of_the_registry() {
    let directory = scratch("registry-tls");
    let users = directory.join("users");
    lab::users(&users);
    let authority = Authority::new(&directory.join("ca"));
    let names = ["127.0.0.1"];
    let wanted = Wanted { names: &names, common: "registry", ..Wanted::default() };
    let signed = authority.sign(1, &wanted);
    let tls = Some((&*signed.certificate, &*signed.key));
    let wanted = RegistryWanted { tls, users: Some(&users), ..RegistryWanted::default() };
    let server = lab::Registry::with(&directory.join("server"), &wanted);
    let image = Image::of_archive(export(&directory, 0)).unwrap();
    let name = || server.name("secret/counter:v1").parse().unwrap();

    let mut access = Access::default();
    access.authfile = Some(nobody());
    let unknown = Registry::connect(name(), &access).unwrap_err();
    assert!(unknown.to_string().contains("certificate"), "{unknown}");
    access.ca = Some(signed.ca.clone());
    let registry = Registry::connect(name(), &access).unwrap();
    let nobody = registry.push(&image, |_| {}).unwrap_err();
    assert!(matches!(nobody.kind(), ErrorKind::Denied(_)), "{nobody}");
    assert!(nobody.to_string().contains("no file has credentials"), "{nobody}");
    access.credentials = Some(Credentials::new("lab", "wrong"));
    let wrong = Registry::connect(name(), &access).unwrap().push(&image, |_| {}).unwrap_err();
    assert!(wrong.to_string().contains("refuses to lab (401)"), "{wrong}");

    access.credentials = None;
    let authfile = directory.join("auth.json");
    // lab:oracle
    let auths =
        format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"bGFiOm9yYWNsZQ=="}}}}}}"#, server.port());
    fs::write(&authfile, auths).unwrap();
    access.authfile = Some(authfile);
    let registry = Registry::connect(name(), &access).unwrap();
    registry.push(&image, |_| {}).unwrap();
    let found = registry.open().unwrap();
    assert_eq!(found.digest(), image.digest());
    assert_eq!(found.archive().unwrap().member("config.dump").unwrap().path(), "config.dump");
    access.plain_http = true;
    let plain = Registry::connect(name(), &access).unwrap_err();
    assert!(matches!(plain.kind(), ErrorKind::Answer { status: 400, .. }), "{plain}");
}
