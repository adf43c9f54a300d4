//! A directory like that of a node, and archives as containerd writes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory like that of a node.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("kubelet-word-{name}-{}", std::process::id());
        let dir = criu_lab::place::target_dir().join("tmp").join(name);
        fs::create_dir_all(dir.join("checkpoints")).unwrap();
        Self(dir)
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// Makes what is in an archive of a container, made at an hour of a day, of a real set of
    /// images with so many bytes in each file of pages.
    pub(crate) fn export(&self, container: &str, hour: u32, bytes: usize) -> PathBuf {
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
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Packs an export.
pub(crate) fn archive(export: &Path, to: &Path) {
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(to).arg("-C").arg(export);
    tar.args(["spec.dump", "config.dump", "status.dump", "checkpoint"]);
    assert!(tar.status().unwrap().success());
}
