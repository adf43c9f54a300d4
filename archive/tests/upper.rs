//! The changes of an overlay mount as a layer. The tests need root.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use criu_archive::metadata::{DiffKind, Metadata};
use criu_archive::write::{Draft, Options, upper_layer};
use criu_archive::{Archive, ErrorKind, UNWATCHED};
use criu_lab::mounts::OwnMounts;
use criu_lab::scratch;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

/// Everything that an overlay keeps comes back out of the layer.
#[test]
fn changes_of_an_overlay_are_a_layer() {
    let dir = scratch("upper");
    let mounts = OwnMounts::enter();
    // A file system that has extended attributes of its own for overlays.
    mounts.fresh("tmpfs", &dir);
    let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|name| {
        fs::create_dir(dir.join(name)).unwrap();
        dir.join(name)
    });
    fs::create_dir_all(lower.join("etc/old")).unwrap();
    fs::create_dir(lower.join("etc/gone")).unwrap();
    fs::write(lower.join("etc/passwd"), "root").unwrap();
    fs::write(lower.join("etc/motd"), "hello").unwrap();
    fs::write(lower.join("etc/old/file"), "old").unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off",
        lower.display(),
        upper.display(),
        work.display()
    );
    let none = MsFlags::empty();
    mount(Some("overlay"), &root, Some("overlay"), none, Some(&*options)).unwrap();

    fs::remove_file(root.join("etc/motd")).unwrap();
    fs::remove_dir(root.join("etc/gone")).unwrap();
    fs::remove_dir_all(root.join("etc/old")).unwrap();
    fs::create_dir(root.join("etc/old")).unwrap();
    fs::write(root.join("etc/old/new"), "new").unwrap();
    fs::write(root.join("etc/passwd"), "root and more").unwrap();
    let long = format!("{}/é", "long".repeat(40));
    fs::create_dir(root.join(&long[..160])).unwrap();
    fs::write(root.join(&long), [7; 1000]).unwrap();
    fs::hard_link(root.join(&long), root.join("second")).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    mkfifo(&root.join("fifo"), Mode::S_IRWXU).unwrap();
    mknod(&root.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).unwrap();
    fs::set_permissions(root.join("etc/passwd"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(root.join("etc/passwd"), Some(7), Some(3_000_000)).unwrap();
    let flags = XattrFlags::empty();
    lsetxattr(root.join("etc/passwd"), "trusted.mine", b"a\0b", flags).unwrap();
    mknod(&root.join("socket"), SFlag::S_IFSOCK, Mode::S_IRUSR, 0).unwrap();

    let layer = upper_layer(&upper, Vec::new(), UNWATCHED).unwrap();
    let mut draft = Draft::new();
    draft.add_bytes("rootfs-diff.tar", layer.clone()).unwrap();
    draft.save(dir.join("archive.tar"), &Options::default(), UNWATCHED).unwrap();
    let archive = Archive::open(dir.join("archive.tar")).unwrap();
    let diff = Metadata::of("archive", &archive.folder("")).rootfs_diff().unwrap().unwrap();
    let kind = |path: &str| {
        let found = diff.iter().find(|entry| &*entry.path == path.as_bytes());
        found.unwrap_or_else(|| panic!("{path} of {diff:?}")).kind
    };
    assert_eq!(kind("etc/motd"), DiffKind::Deleted);
    assert_eq!(kind("etc/gone"), DiffKind::Deleted);
    let old: Vec<_> = diff.iter().filter(|entry| *entry.path == *b"etc/old").collect();
    assert!(old.iter().any(|entry| entry.kind == DiffKind::Emptied), "{old:?}");
    assert!(!diff.iter().any(|entry| *entry.path == *b"socket"));

    // Another reader of tar archives makes the same files.
    fs::write(dir.join("layer.tar"), &layer).unwrap();
    let out = dir.join("out");
    fs::create_dir(&out).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "-xpf"]).arg(dir.join("layer.tar"));
    assert!(tar.arg("-C").arg(&out).status().unwrap().success());
    for path in ["etc/passwd", &long, "second", "etc/old/new"] {
        assert_eq!(fs::read(out.join(path)).unwrap(), fs::read(root.join(path)).unwrap(), "{path}");
    }
    let facts = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        (found.mode(), found.uid(), found.gid(), found.rdev(), found.nlink(), found.mtime())
    };
    for path in ["etc/passwd", &long, "link", "fifo", "null", "second"] {
        assert_eq!(facts(&out.join(path)), facts(&root.join(path)), "{path}");
    }
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("/etc/passwd"));
    let mut value = [0; 8];
    let len = lgetxattr(out.join("etc/passwd"), "trusted.mine", &mut value).unwrap();
    assert_eq!(&value[..len], b"a\0b");

    let stopped = upper_layer(&upper, Vec::new(), &|_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped.kind(), ErrorKind::Stopped), "{stopped}");
}

/// Content that overlayfs keeps elsewhere is not saved as if it were empty.
#[test]
fn content_outside_of_the_upper_directory_is_refused() {
    let dir = scratch("upper-elsewhere");
    fs::create_dir(dir.join("moved")).unwrap();
    let flags = XattrFlags::empty();
    lsetxattr(dir.join("moved"), "trusted.overlay.redirect", b"/other", flags).unwrap();
    let error = upper_layer(&dir, Vec::new(), UNWATCHED).unwrap_err().to_string();
    assert!(error.contains("moved") && error.contains("redirect_dir"), "{error}");
    fs::remove_dir_all(&dir).unwrap();
}
