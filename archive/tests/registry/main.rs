//! Images in layouts and registries. The registry is a real one, and so are the programs that copy
//! images beside us; a server of our own lies where a real one would not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod layouts;
mod liar;
mod real;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_archive::registry::{Access, Registry};

/// Makes an archive like an export of Podman, with so many bytes of memory beside a real set.
fn export(directory: &Path, bytes: usize) -> PathBuf {
    let top = directory.join("export");
    let images = top.join("checkpoint");
    fs::create_dir_all(&images).unwrap();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/tests/data/pipeline");
    for entry in fs::read_dir(data).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), images.join(entry.file_name())).unwrap();
    }
    // A pages file that no pagemap names: large, and never read.
    let memory: Vec<u8> = (0..bytes).map(byte).collect();
    fs::write(images.join("pages-99.img"), memory).unwrap();
    let config = r#"{"id":"4711","name":"counter","rootfsImageID":"abcd","rootfsImageName":
        "docker.io/library/busybox:latest","RawImageName":"busybox","runtime":"runc",
        "checkpointedTime":"2026-11-30T04:00:00Z"}"#;
    fs::write(top.join("config.dump"), config).unwrap();
    fs::write(
        top.join("spec.dump"),
        r#"{"ociVersion":"1.0.2","annotations":{"io.container.manager":"libpod"}}"#,
    )
    .unwrap();
    let archive = directory.join("checkpoint.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive).arg("-C").arg(&top).args(["config.dump", "spec.dump"]);
    assert!(tar.arg("checkpoint").status().unwrap().success());
    archive
}

/// The byte of the memory of an export at an offset.
fn byte(at: usize) -> u8 {
    u8::try_from((at * 7 + at / 4096) % 256).unwrap()
}

fn connect(name: &str) -> Registry {
    let mut access = Access::default();
    // Credentials of whoever runs the test are out of the game.
    access.authfile = Some(nobody());
    Registry::connect(name.parse().unwrap(), &access).unwrap()
}

/// A file without credentials.
fn nobody() -> PathBuf {
    let file = criu_lab::place::target_dir().join("tmp/nobody.json");
    if !file.exists() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let new = file.with_extension(format!("{}", std::process::id()));
        fs::write(&new, "{}").unwrap();
        fs::rename(&new, &file).unwrap();
    }
    file
}

/// Runs a program, and returns its standard output.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
