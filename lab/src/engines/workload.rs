//! The program of the containers: a shell that counts, with a child that listens.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::unpacked;

/// Makes the root file system of an image: a static busybox, and few files. Returns it as a tar
/// archive in `dir`.
pub fn root_file_system(dir: &Path) -> PathBuf {
    let root = dir.join("image");
    for folder in ["bin", "data", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(unpacked("bin/busybox"), root.join("bin/busybox")).unwrap();
    for name in ["cat", "mkfifo", "nc", "sh", "sleep"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    fs::write(root.join("etc/passwd.old"), "").unwrap();
    let tar = dir.join("image.tar");
    let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
    assert!(made.unwrap().success(), "no tar archive of {}", root.display());
    fs::remove_dir_all(&root).unwrap();
    tar
}

/// The words of the container's program. It changes its root file system by a file that is added,
/// one that is removed, and one that is changed, listens at port 7007, and counts into `/count`
/// and to its output. It waits without a child, which could be a zombie when CRIU comes:
/// checkpointctl refuses checkpoints with zombies.
pub const WORDS: &[&str] = &[
    "/bin/sh",
    "-c",
    "rm -f /etc/passwd.old; echo changed >> /etc/passwd; echo kept > /data/kept; \
     nc -l -p 7007 & mkfifo /dev/never; exec 5<>/dev/never; \
     n=0; while :; do n=$((n+1)); echo $n > /count; echo $n; read -t 0.02 x <&5; done",
];
