//! The directory in which overlayfs keeps the changes in the root of a container.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::refusal::Refusal;
use crate::engine::Running;

/// Finds the upper directory of a container's root.
///
/// The engine's own mount of the root tells the directory, and not the list of mounts in the
/// container: a container that may mount chooses what is told there.
pub(super) fn upper_directory(container: &Running) -> Result<PathBuf, Refusal> {
    let (device, root) = root(container)?;
    let path = Path::new(MOUNTS);
    let text = fs::read(path).map_err(Refusal::file("read", path))?;
    let of = &container.name;
    let Row { kind, options, .. } = last_mount(&text, &root)
        .filter(|row| row.device == device.as_bytes() && row.root == b"/")
        .ok_or_else(|| {
            Refusal::state(format!(
                "container {of}: this process sees no mount of the root at {}",
                root.display()
            ))
        })?;
    let text = |why: &str| {
        let kind = kind.escape_ascii();
        format!("container {of}: the root is a file system of the kind {kind}: {why}")
    };
    if kind != b"overlay" {
        let why =
            "the changes of an overlay are saved alone, such as the snapshotter overlayfs has";
        return Err(Refusal::state(text(why)));
    }
    let upper = options.split(|byte| *byte == b',').find_map(|one| one.strip_prefix(b"upperdir="));
    let upper = upper.map(unescaped).filter(|upper| upper.is_absolute() && upper.is_dir());
    upper.ok_or_else(|| Refusal::state(text("it has no upper directory that is found from here")))
}

/// Checks that a container is in the root that the engine has made. Returns the device number of
/// the file system, as `MAJOR:MINOR`, and the path of the root in the bundle.
pub(super) fn root(container: &Running) -> Result<(String, PathBuf), Refusal> {
    let place = container.bundle.join(ROOT);
    let place = fs::canonicalize(&place).map_err(Refusal::file("look at", &place))?;
    let made = fs::metadata(&place).map_err(Refusal::file("look at", &place))?;
    let own = PathBuf::from(format!("/proc/{}/root", container.pid));
    let found = fs::metadata(&own).map_err(Refusal::file("look at", &own))?;
    if (found.dev(), found.ino()) != (made.dev(), made.ino()) {
        let text = format!(
            "container {}: the root of process {} is not the one that the engine has made, {}",
            container.name,
            container.pid,
            place.display()
        );
        return Err(Refusal::state(text));
    }
    Ok((format!("{}:{}", major(made.dev()), minor(made.dev())), place))
}

/// A line of `/proc/PID/mountinfo`.
struct Row<'a> {
    device: &'a [u8],
    root: &'a [u8],
    point: &'a [u8],
    kind: &'a [u8],
    options: &'a [u8],
}

/// Returns the topmost mount at a path.
fn last_mount<'a>(text: &'a [u8], point: &Path) -> Option<Row<'a>> {
    let mut rows = text.split(|byte| *byte == b'\n').filter_map(row);
    rows.rfind(|row| unescaped(row.point) == point)
}

fn row(line: &[u8]) -> Option<Row<'_>> {
    let mut words = line.split(|byte| *byte == b' ');
    let (device, root, point) = (words.nth(2)?, words.next()?, words.next()?);
    words.find(|word| *word == b"-")?;
    let kind = words.next()?;
    Some(Row { device, root, point, kind, options: words.nth(1)? })
}

/// Returns a path of mountinfo, where four characters have octal numbers.
fn unescaped(text: &[u8]) -> PathBuf {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let mut path = Vec::new();
    let mut rest = text;
    while let Some((&first, more)) = rest.split_first() {
        let digits = more.get(..3).filter(|_| first == b'\\');
        let number = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (number, more.get(3..)) {
            (Some(number), Some(after)) => {
                path.push(number);
                rest = after;
            }
            _ => {
                path.push(first);
                rest = more;
            }
        }
    }
    OsString::from_vec(path).into()
}

/// The mounts that this process sees.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Folder of the root in a bundle of containerd.
const ROOT: &str = "rootfs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_at_a_path_is_found() {
        let text = b"150 113 0:50 / /run/b\\040c/rootfs rw,relatime shared:1 - overlay overlay \
                     rw,lowerdir=/l,upperdir=/a\\040b,workdir=/w\n\
                     151 113 0:51 / /run/b\\040c/rootfs rw - tmpfs tmpfs rw\n\
                     152 113 0:52 / / rw - overlay overlay rw,upperdir=/etc\n\
                     153 113 0:53 /\n";
        let last = last_mount(text, Path::new("/run/b c/rootfs")).expect("a mount");
        assert_eq!((last.device, last.root, last.kind), (&b"0:51"[..], &b"/"[..], &b"tmpfs"[..]));
        let root = last_mount(text, Path::new("/")).expect("a mount");
        assert_eq!(root.options, b"rw,upperdir=/etc");
        assert!(last_mount(text, Path::new("/run")).is_none());
        assert_eq!(unescaped(b"/a\\040b\\\\134"), Path::new("/a b\\\\"));
        assert_eq!(unescaped(b"/a\\04"), Path::new("/a\\04"));
    }

    #[test]
    fn a_process_in_another_root_is_not_saved() {
        let dir = criu_lab::scratch("pod-layer");
        fs::create_dir(dir.join(ROOT)).expect("a folder");
        let pid = criu_rs::Pid::this();
        let container = Running { name: "c".into(), id: "1".into(), bundle: dir.clone(), pid };
        let refusal = upper_directory(&container).expect_err("another root");
        assert!(refusal.text().contains("is not the one that the engine has made"), "{refusal}");
        fs::remove_dir_all(dir).expect("a directory");
    }
}
