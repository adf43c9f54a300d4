//! An oracle restored by the program from an archive, and from a registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use criu_lab::oracle::{Storm, Task};
use criu_lab::registry::Registry;

use crate::scene::{Scene, finish};

/// Restores from archives on this machine: with all memory at once, and lazily.
pub fn from_archive(scene: &Scene) {
    let archive = |images: &Path| {
        let archive = scene.dir.join("checkpoint.tar");
        finish(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(images).arg("."));
        archive
    };
    restore(scene, 48, false, archive);
    restore(scene, 48, true, |images| seekable(scene, images));
}

/// Writes a seekable archive of images.
fn seekable(scene: &Scene, images: &Path) -> PathBuf {
    let archive = scene.dir.join("checkpoint.tar.zst");
    let mut create = scene.program(&["archive", "create", "--engine", "podman"]);
    finish(create.arg(images).arg(&archive));
    archive
}

/// Restores from a real registry. Most memory comes after the tasks run.
pub fn from_registry(scene: &Scene) {
    let server = Registry::start(&scene.folder("registry"));
    let fetched = restore(scene, 96, true, |images| {
        let archive = seekable(scene, images);
        let name = server.name("oracle:v1");
        finish(scene.program(&["push"]).arg(&archive).arg(&name));
        fs::remove_file(archive).unwrap();
        PathBuf::from(name)
    });
    let fetched = fetched.expect("the registry's numbers are told");
    let of = |key: &str| fetched[key].as_u64().unwrap();
    // The images, and what CRIU reads itself.
    assert!(of("before") < 4 << 20, "{fetched}");
    assert!(of("later") > 90 << 20, "{fetched}");
}

/// Saves an oracle, lets `carry` take its images away, and restores it from there. Every page is
/// right. Returns what the program told about a registry.
fn restore(
    scene: &Scene,
    mebibytes: u64,
    lazy: bool,
    carry: impl FnOnce(&Path) -> PathBuf,
) -> Option<serde_json::Value> {
    let (mut target, remote, images) = scene.saved(mebibytes, false);
    let from = carry(&images);
    // Nothing but what was carried away is there.
    fs::remove_dir_all(&images).unwrap();
    let work = scene.folder("work");
    let storm = Storm {
        milliseconds: 500,
        threads: 3,
        seed: 7,
        forks: true,
        discards: true,
        unmaps: true,
        moves: true,
    };
    remote.give(Task::Storm(storm), "report");
    let mut restore = scene.program(&["restore", "-d", "--json"]);
    restore.args(lazy.then_some("--lazy")).arg("-D").arg(&from).arg("-W").arg(&work);
    let restore = restore.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let report = remote.report("report", Duration::from_secs(60));
    let ended = restore.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    report.unwrap().is_right(mebibytes * 256).unwrap();
    target.end();
    // The private images are gone, the log is not.
    let left = criu_lab::names(&work);
    assert!(left.iter().any(|name| name == "restore.log"), "{left:?}");
    assert!(!left.iter().any(|name| name.starts_with(".criu-rs-")), "{left:?}");
    let told = String::from_utf8(ended.stdout).unwrap();
    let mut lines = told.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.find(|line: &serde_json::Value| line["outcome"] == "fetched")
}
