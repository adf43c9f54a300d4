//! Making a probe cache: having CRIU probe the kernel, and keeping its findings.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs, statfs};

use super::Criu;
use super::probe_cache::{LINK, ProbeCache, STORE};
use crate::error::{Error, Result};
use crate::sys::table;

impl ProbeCache {
    /// Makes the cache, unless it exists. Does nothing if CRIU keeps its own.
    ///
    /// # Errors
    /// [`Error::NotOverSocket`] for a service. [`Error::System`] without root, if `/dev/shm` is not
    /// a tmpfs, if the cache directory has another owner or mode, or if somebody else keeps a file
    /// at `/run/criu.kdat`.
    pub fn make(criu: &Criu) -> Result<Self> {
        let why = "the cache is made by running criu";
        let program = criu.program()?.ok_or(Error::NotOverSocket { what: "a probe cache", why })?;
        let cache = Self { file: keep(criu, program)? };
        cache.link().map_err(failed("link /run/criu.kdat to the probe cache"))?;
        Ok(cache)
    }

    /// Returns CRIU's findings, for a mount namespace in which they are put at `/run/criu.kdat`.
    /// `None` if CRIU keeps its own. The findings are kept in `/dev/shm` until the next boot, and
    /// `/run` stays as it is.
    ///
    /// # Errors
    /// The errors of [`make`](Self::make).
    pub fn findings(criu: &Criu) -> Result<Option<Vec<u8>>> {
        let why = "the findings are made by running criu";
        let program = criu.program()?.ok_or(Error::NotOverSocket { what: "a probe cache", why })?;
        let Some(file) = keep(criu, program)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|file| file.take(MAX_CACHE).read_to_end(&mut bytes));
        read.map_err(failed("read the probe cache"))?;
        Ok(Some(bytes))
    }
}

/// Returns the file with the findings, and makes it if it is missing. `None` if CRIU keeps its own.
fn keep(criu: &Criu, program: PathBuf) -> Result<Option<PathBuf>> {
    if statfs(RUN).is_ok_and(|run| run.filesystem_type() == TMPFS_MAGIC) {
        return Ok(None);
    }
    let store = store().map_err(failed("keep a probe cache in /dev/shm/criu-rs"))?;
    let file = store.join(key(&program).map_err(failed("identify criu and the boot"))?);
    if !file.exists() {
        let env = criu.environment().to_vec();
        let bytes = probe(program, env).map_err(failed("have criu probe the kernel"))?;
        write(&file, &bytes).map_err(failed("write the probe cache"))?;
    }
    Ok(Some(file))
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::system(doing, source)
}

/// Opens the directory for caches: it belongs to root alone and lies on a tmpfs, so that nobody
/// else can write there and nothing outlives the boot.
fn store() -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(STORE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
    let directory = OpenOptions::new().read(true).custom_flags(flags).open(STORE)?;
    let meta = directory.metadata()?;
    if meta.uid() != 0 || meta.mode() & 0o077 != 0 {
        let what =
            format!("it belongs to user {} with mode {:o}", meta.uid(), meta.mode() & 0o7777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    if fstatfs(&directory)?.filesystem_type() != TMPFS_MAGIC {
        return Err(io::Error::other("it is not on a tmpfs"));
    }
    Ok(STORE.into())
}

/// Returns a file name that no other boot and no other criu program has.
fn key(program: &Path) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let meta = fs::metadata(program)?;
    let (dev, ino, size) = (meta.dev(), meta.ino(), meta.size());
    let changed = format!("{}.{:09}", meta.ctime(), meta.ctime_nsec());
    Ok(format!("kdat-{}-{dev:x}-{ino:x}-{size:x}-{changed}", boot.trim()))
}

/// Has criu probe the kernel with a tmpfs on /run, and returns the file that it writes there.
fn probe(program: PathBuf, env: Vec<(OsString, OsString)>) -> io::Result<Vec<u8>> {
    // The mount namespace and the descriptors belong to this thread alone, and end with it.
    let thread = std::thread::Builder::new().name("criu-probe".into());
    let handle = thread.spawn(move || {
        table::keep_only(&[])?;
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), RUN, Some("tmpfs"), flags, Some("mode=755,size=1m"))?;
        let check = Command::new(program).arg("check").envs(env).stdin(Stdio::null()).output()?;
        let mut bytes = Vec::new();
        match File::open(LINK) {
            Ok(file) => file.take(MAX_CACHE).read_to_end(&mut bytes)?,
            Err(_) => {
                let said = crate::value::printable(&check.stderr);
                return Err(io::Error::other(format!("it kept no file and printed: {said}")));
            }
        };
        Ok(bytes)
    })?;
    handle.join().unwrap_or_else(|_| Err(io::Error::other("the probing thread panicked")))
}

/// Writes a file that appears complete or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes).and_then(|()| fs::rename(&new, path)).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// The file system in which CRIU keeps its findings.
const RUN: &str = "/run";

/// The largest cache read. CRIU's takes less than 2 KiB.
const MAX_CACHE: u64 = 1 << 20;
