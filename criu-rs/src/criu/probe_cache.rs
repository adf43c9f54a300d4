//! A file of CRIU's findings about the kernel, kept from one run to the next.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs, statfs};

use super::Criu;
use crate::error::{Error, Result};

/// A cache of CRIU's findings about the kernel, for machines on which CRIU does not keep them
/// itself.
///
/// At each start CRIU tries out some fifty features of the kernel. That takes 20 to 30 ms, most of
/// a small dump. CRIU keeps the findings in `/run/criu.kdat`, but only if `/run` is a tmpfs, so
/// that they cannot outlive the boot. Elsewhere, as in many containers and virtual machines, this
/// cache keeps them: CRIU runs once in its own mount namespace, whose `/run` is a tmpfs; the file
/// that it writes there is kept in a root-owned directory on `/dev/shm`; and `/run/criu.kdat`
/// becomes a link to that file.
///
/// The file's name holds the boot's id and the criu program's identity. A CRIU of another version
/// that finds the link removes it; a [`Criu`] that was [given](Criu::with_probe_cache) the cache
/// restores the link before each run. The cache changes the machine for every user of CRIU, until
/// [`remove`](Self::remove) or the next boot. Needs root.
///
/// ```no_run
/// use criu_rs::{Criu, ProbeCache};
///
/// let criu = Criu::new();
/// let cache = ProbeCache::make(&criu)?;
/// let criu = criu.with_probe_cache(&cache);
/// // … many dumps, each 20 ms shorter …
/// cache.remove()?;
/// # Ok::<(), criu_rs::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProbeCache {
    /// The kept file; `None` if CRIU keeps its own.
    file: Option<PathBuf>,
}

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
        let failed = |doing: &'static str| move |source: io::Error| Error::system(doing, source);
        if statfs(RUN).is_ok_and(|run| run.filesystem_type() == TMPFS_MAGIC) {
            return Ok(Self { file: None });
        }
        let store = store().map_err(failed("keep a probe cache in /dev/shm/criu-rs"))?;
        let file = store.join(key(&program).map_err(failed("identify criu and the boot"))?);
        if !file.exists() {
            let env = criu.environment().to_vec();
            let bytes = probe(program, env).map_err(failed("have criu probe the kernel"))?;
            write(&file, &bytes).map_err(failed("write the probe cache"))?;
        }
        let cache = Self { file: Some(file) };
        cache.link().map_err(failed("link /run/criu.kdat to the probe cache"))?;
        Ok(cache)
    }

    /// Returns `true` if this machine needs the cache, `false` if CRIU keeps its own.
    pub fn is_needed(&self) -> bool {
        self.file.is_some()
    }

    /// Removes the cache and the link that [`make`](Self::make) made.
    ///
    /// # Errors
    /// [`Error::System`] if a file cannot be removed.
    pub fn remove(self) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        let absent_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::system("remove the probe cache", error))
            }
            _ => Ok(()),
        };
        if fs::read_link(LINK).is_ok_and(|target| target == file) {
            absent_is_fine(fs::remove_file(LINK))?;
        }
        absent_is_fine(fs::remove_file(&file))?;
        // Fails if caches of other criu programs lie there too.
        let _ = fs::remove_dir(STORE);
        Ok(())
    }

    /// Restores the link if another CRIU has removed it. Without the link a run is only slower.
    pub(crate) fn look_after(&self) {
        let _ = self.link();
    }

    /// Links `/run/criu.kdat` to the kept file.
    fn link(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        match fs::read_link(LINK) {
            Ok(target) if target == *file => return Ok(()),
            // Another link of ours, or one whose file is gone.
            Ok(target) if target.starts_with(STORE) => {}
            Ok(target) => return Err(taken(&format!("a link to {}", target.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return Err(taken("a foreign file")),
        }
        let new = format!("{LINK}.criu-rs-{}", std::process::id());
        let _ = fs::remove_file(&new);
        symlink(file, &new)?;
        fs::rename(&new, LINK)
    }
}

/// The error for a foreign file at `/run/criu.kdat`.
fn taken(by: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("it is {by}"))
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
    // The mount namespace belongs to this thread alone, and ends with it.
    let thread = std::thread::Builder::new().name("criu-probe".into());
    let handle = thread.spawn(move || {
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

/// The file system and the file in which CRIU keeps its findings.
const RUN: &str = "/run";
const LINK: &str = "/run/criu.kdat";

/// The directory for caches.
const STORE: &str = "/dev/shm/criu-rs";

/// The largest cache read. CRIU's takes less than 2 KiB.
const MAX_CACHE: u64 = 1 << 20;
