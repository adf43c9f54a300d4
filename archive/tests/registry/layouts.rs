//! Layouts in directories and archives.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use criu_archive::ErrorKind;
use criu_archive::oci::{Digest, Image, Layout};
use criu_lab::{names, scratch};

use crate::export;

#[test]
fn an_image_is_written_to_layouts_and_read_back() {
    let directory = scratch("oci-layouts");
    let path = export(&directory, 100_000);
    let image = Image::of_archive(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(image.layer().digest, Digest::of(&bytes));
    for key in [
        "io.podman.annotations.checkpoint.name",
        "io.kubernetes.cri-o.annotations.checkpoint.name",
        "org.criu.checkpoint.container.name",
    ] {
        assert_eq!(image.annotations().get(key).map(String::as_str), Some("counter"), "{key}");
    }
    let known = |key: &str| image.annotations().get(key).cloned().unwrap_or_default();
    assert_eq!(known("org.criu.checkpoint.engine.name"), "Podman");
    assert_eq!(known("io.podman.annotations.checkpoint.runtime.name"), "runc");
    // Podman has the name that the user typed beside the full one.
    assert_eq!(known("io.podman.annotations.checkpoint.rawImageName"), "busybox");
    let full = known("io.podman.annotations.checkpoint.rootfsImageName");
    assert_eq!(full, "docker.io/library/busybox:latest");
    assert_eq!(known("org.criu.checkpoint.host.arch"), image.platform().architecture);

    for (at, layout) in
        [Layout::Directory(directory.join("dir")), Layout::Archive(directory.join("oci.tar"))]
            .into_iter()
            .enumerate()
    {
        layout.write(&image, Some("v1")).unwrap();
        let read = layout.open(Some("v1")).unwrap();
        assert_eq!(read.digest(), image.digest());
        read.verify().unwrap();
        let archive = read.archive().unwrap();
        let mut config = vec![0; 10];
        archive.bytes("config.dump").unwrap().read_at(0, &mut config).unwrap();
        assert_eq!(config, b"{\"id\":\"471");
        let missing = layout.open(Some("v2")).unwrap_err().to_string();
        assert!(missing.ends_with("index.json: has no image with this tag"), "{missing}");
        // The same once more, elsewhere: equal to the byte.
        let again = match at {
            0 => Layout::Directory(directory.join("again")),
            _ => Layout::Archive(directory.join("again.tar")),
        };
        again.write(&Image::of_archive(&path).unwrap(), Some("v1")).unwrap();
        let mut diff = Command::new("diff");
        diff.arg("-r").arg(layout.path()).arg(again.path());
        assert!(diff.status().unwrap().success());
    }
    let mode = fs::metadata(directory.join("oci.tar")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_layout_keeps_its_other_images() {
    let directory = scratch("oci-several");
    let path = export(&directory, 0);
    let layout = Layout::Directory(directory.join("dir"));
    let first = Image::of_archive(&path).unwrap();
    layout.write(&first, Some("one")).unwrap();
    let other = export(&directory, 4096);
    let second = Image::of_archive(&other).unwrap();
    assert_ne!(first.digest(), second.digest());
    layout.write(&second, Some("two")).unwrap();
    assert_eq!(layout.open(Some("one")).unwrap().digest(), first.digest());
    assert_eq!(layout.open(Some("two")).unwrap().digest(), second.digest());
    let which = layout.open(None).unwrap_err().to_string();
    assert!(which.contains("has several images"), "{which}");
    // A tag moves.
    layout.write(&second, Some("one")).unwrap();
    assert_eq!(layout.open(Some("one")).unwrap().digest(), second.digest());
    // What others have written into the index stays.
    let index = directory.join("dir/index.json");
    let text = fs::read_to_string(&index).unwrap();
    let text = text.replacen('{', r#"{"annotations":{"org.example":"x"},"artifactType":"y","#, 1);
    fs::write(&index, text).unwrap();
    std::thread::scope(|scope| {
        for tag in ["three", "four", "five", "six"] {
            let (layout, second) = (&layout, &second);
            scope.spawn(move || layout.write(second, Some(tag)).unwrap());
        }
    });
    let text = fs::read_to_string(&index).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["annotations"], serde_json::json!({"org.example": "x"}), "{text}");
    assert_eq!(said["artifactType"], "y", "{text}");
    for tag in ["one", "two", "three", "four", "five", "six"] {
        layout.open(Some(tag)).unwrap();
    }
    // A directory of something else is left alone.
    let wrong = Layout::Directory(directory.join("export")).write(&first, None).unwrap_err();
    assert!(wrong.to_string().contains("is neither empty nor a layout"), "{wrong}");
    assert_eq!(names(directory.join("export")), ["checkpoint", "config.dump", "spec.dump"]);
}

#[test]
fn layouts_that_lie_are_refused() {
    let directory = scratch("oci-lies");
    let image = Image::of_archive(export(&directory, 0)).unwrap();
    let refused = |name: &str, lie: &dyn Fn(&std::path::Path)| {
        let path = directory.join(name);
        let layout = Layout::Directory(path.clone());
        layout.write(&image, None).unwrap();
        lie(&path);
        let opened = layout.open(None).and_then(|image| image.verify());
        opened.unwrap_err()
    };
    let blob =
        |path: &std::path::Path, digest: Digest| path.join("blobs/sha256").join(digest.hex());
    let (manifest, layer) = (image.digest(), image.layer().digest);

    let changed = refused("manifest", &|path| {
        let file = blob(path, manifest);
        let text = fs::read_to_string(&file).unwrap().replace("Podman", "podman");
        fs::write(file, text).unwrap();
    });
    assert!(matches!(changed.kind(), ErrorKind::Digest { .. }), "{changed}");

    let changed = refused("layer", &|path| {
        let file = blob(path, layer);
        let mut bytes = fs::read(&file).unwrap();
        bytes[1000] ^= 1;
        fs::write(file, bytes).unwrap();
    });
    assert!(matches!(changed.kind(), ErrorKind::Digest { .. }), "{changed}");
    assert_eq!(changed.member(), Some("layer"));

    let short = refused("short", &|path| {
        let file = fs::File::options().write(true).open(blob(path, layer)).unwrap();
        file.set_len(1024).unwrap();
    });
    assert!(matches!(short.kind(), ErrorKind::Truncated { left: 1024, .. }), "{short}");

    let missing = refused("missing", &|path| fs::remove_file(blob(path, layer)).unwrap());
    assert!(matches!(missing.kind(), ErrorKind::Missing), "{missing}");

    let link = refused("link", &|path| {
        let (file, elsewhere) = (blob(path, layer), path.join("elsewhere"));
        fs::rename(&file, &elsewhere).unwrap();
        symlink(elsewhere, file).unwrap();
    });
    assert!(link.to_string().contains("not a regular file"), "{link}");

    let large = refused("large", &|path| {
        fs::write(path.join("index.json"), vec![b' '; (4 << 20) + 1]).unwrap();
    });
    assert!(matches!(large.kind(), ErrorKind::TooLarge { limit: 0x40_0000, .. }), "{large}");

    let version = refused("version", &|path| {
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    });
    assert!(version.to_string().contains("another version"), "{version}");

    let escape = refused("escape", &|path| {
        let file = path.join("index.json");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace(&manifest.to_string(), "sha256:../../../etc/passwd")).unwrap();
    });
    assert!(matches!(escape.kind(), ErrorKind::Json(_)), "{escape}");

    let layers = refused("layers", &|path| {
        let old = fs::read_to_string(blob(path, manifest)).unwrap();
        let text = old.replace(
            "\"layers\":[",
            "\"layers\":[{\"mediaType\":\"application/vnd.oci.\
            image.layer.v1.tar\",\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b93\
            4ca495991b7852b855\",\"size\":0},",
        );
        assert_ne!(old, text);
        let (new, size) = (Digest::of(text.as_bytes()), text.len());
        fs::write(blob(path, new), &text).unwrap();
        let file = path.join("index.json");
        let index = fs::read_to_string(&file).unwrap();
        let index = index.replace(&manifest.to_string(), &new.to_string());
        fs::write(file, index.replace(&old.len().to_string(), &size.to_string())).unwrap();
    });
    assert!(layers.to_string().contains("a checkpoint has one layer"), "{layers}");
}
