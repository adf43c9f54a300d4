//! A directory of checkpoints like that of a node, and archives as containerd writes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::target_dir;

/// A place with a directory of checkpoints. Dropping it removes all that is in it.
#[derive(Debug)]
pub struct Checkpoints(PathBuf);

impl Checkpoints {
    /// Makes a place. `name` is that of a test.
    pub fn new(name: &str) -> Self {
        let name = format!("checkpoints-{name}-{}", std::process::id());
        let dir = target_dir().join("tmp").join(name);
        fs::create_dir_all(dir.join("checkpoints")).unwrap();
        Self(dir)
    }

    /// Returns the place, for files beside the directory.
    pub fn place(&self) -> &Path {
        &self.0
    }

    /// Returns the directory of checkpoints.
    pub fn directory(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// Makes the content of an archive of NAMESPACE/POD/CONTAINER, checkpointed at an hour of a
    /// day. The images are a real set with so many bytes in each file of pages.
    pub fn export(&self, container: &str, hour: u32, bytes: usize) -> PathBuf {
        let parts: Vec<&str> = container.split('/').collect();
        let [namespace, pod, name] = parts[..] else { panic!("{container}") };
        let top = self.0.join(container.replace('/', "-"));
        let images = top.join("checkpoint");
        fs::create_dir_all(&images).unwrap();
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/tests/data/pipeline");
        for entry in fs::read_dir(data).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), images.join(entry.file_name())).unwrap();
        }
        // The set is one without its pages. Longer ones than it needs are no error.
        for number in 1..=3 {
            fs::write(images.join(format!("pages-{number}.img")), vec![7; bytes]).unwrap();
        }
        let spec = serde_json::json!({ "ociVersion": "1.2.0", "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": name,
            "io.kubernetes.cri.sandbox-name": pod,
            "io.kubernetes.cri.sandbox-namespace": namespace,
            "io.kubernetes.cri.sandbox-uid": format!("uid-{pod}"),
            "io.kubernetes.cri.sandbox-id": "4711",
        }});
        fs::write(top.join("spec.dump"), spec.to_string()).unwrap();
        let config = serde_json::json!({
            "id": "0815", "name": name, "runtime": "io.containerd.runc.v2",
            "checkpointedTime": format!("2024-11-01T{hour:02}:00:00Z"),
        });
        fs::write(top.join("config.dump"), config.to_string()).unwrap();
        fs::write(top.join("status.dump"), "{}").unwrap();
        top
    }

    /// Writes an archive of an export into the directory, and returns its path.
    pub fn archive(&self, file: &str, container: &str, hour: u32, bytes: usize) -> PathBuf {
        let path = self.directory().join(file);
        pack(&self.export(container, hour, bytes), &path);
        path
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes the archive of an export.
pub fn pack(export: &Path, to: &Path) {
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(to).arg("-C").arg(export);
    tar.args(["spec.dump", "config.dump", "status.dump", "checkpoint"]);
    assert!(tar.status().unwrap().success());
}
