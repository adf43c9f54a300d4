//! Another user who can write into the images directory, and plants things there while an operation
//! runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, mkfifo, setgid, setuid};

/// The user at work, and the files that it would like to have overwritten.
pub struct Stranger {
    child: Child,
    outside: PathBuf,
    before: BTreeMap<OsString, Vec<u8>>,
}

impl Stranger {
    /// Opens the directory `images` to everybody, and lets a stranger in.
    pub fn start(images: &Path, outside: &Path, operation: &str, delay: u64, seed: u64) -> Self {
        let _ = fs::remove_dir_all(outside);
        fs::create_dir(outside).unwrap();
        for name in NAMES {
            fs::write(outside.join(name), "secret").unwrap();
        }
        fs::set_permissions(images, fs::Permissions::from_mode(0o777)).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--plant", operation, &delay.to_string(), &seed.to_string()])
            .arg(outside)
            .current_dir(images)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, outside: outside.into(), before: read(outside) }
    }

    /// Ends the stranger, and takes away what it has planted. Says what it has reached.
    pub fn end(mut self, images: &Path) -> Option<String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        fs::set_permissions(images, fs::Permissions::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(images).unwrap().flatten() {
            let meta = fs::symlink_metadata(entry.path()).unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            // A private directory that was moved away cannot be found by its owner.
            let is_moved = name.starts_with("moved-") && meta.is_dir();
            if meta.uid() != 0 || is_moved {
                let _ = fs::remove_file(entry.path());
                let _ = fs::remove_dir(entry.path());
            }
        }
        (read(&self.outside) != self.before).then(|| "a file outside is changed".to_owned())
    }
}

fn read(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
}

/// `OPERATION DELAY SEED OUTSIDE`: plants in the working directory, as nobody.
pub fn plant(words: &[String]) {
    let (operation, outside) = (words[0].as_str(), Path::new(&words[3]));
    setgid(Gid::from_raw(NOBODY)).unwrap();
    setuid(Uid::from_raw(NOBODY)).unwrap();
    let mut random: u64 = words[2].parse().unwrap();
    let mut below = move |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % limit as u64).unwrap()
    };
    // The images of a restore are only to be read: who plants there restores something else.
    let names = if operation == "restore" { &NAMES[..2] } else { NAMES };
    std::thread::sleep(Duration::from_micros(words[1].parse().unwrap()));
    loop {
        let name = names[below(names.len())];
        let _ = match below(8) {
            0..4 => symlink(outside.join(name), name),
            4 => mkfifo(name, Mode::all()).map_err(Into::into),
            5 => fs::create_dir(name),
            6 => fs::File::create_new(name).map(drop),
            _ => swap(&format!("moved-{}", below(1 << 20))),
        };
        std::thread::sleep(Duration::from_micros(below(300) as u64));
    }
}

/// Moves a private directory away, and puts a directory of its own in its place.
fn swap(name: &str) -> std::io::Result<()> {
    for entry in fs::read_dir(".")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(".criu-rs-new-") {
            fs::create_dir(name)?;
            let (from, swap) = (entry.file_name(), RenameFlags::RENAME_EXCHANGE);
            renameat2(AT_FDCWD, from.as_os_str(), AT_FDCWD, name, swap)?;
        }
    }
    Ok(())
}

/// The names at which something is planted: first those of a restore.
const NAMES: &[&str] = &[
    "restore.log",
    "stats-restore",
    "dump.log",
    "stats-dump",
    "inventory.img",
    "files.img",
    "pages-1.img",
    "pages-65537.img",
    "pstree.img",
    "irmap-cache",
    "parent",
    ".criu-rs-earlier",
];

const NOBODY: u32 = 65534;
