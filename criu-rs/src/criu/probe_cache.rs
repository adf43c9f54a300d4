//! A file of CRIU's findings about the kernel, kept from one run to the next.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

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
/// that finds the link removes it; a [`Criu`](crate::Criu) that was
/// [given](crate::Criu::with_probe_cache) the cache restores the link before each run. The cache
/// changes the machine for every user of CRIU, until [`remove`](Self::remove) or the next boot.
/// Needs root.
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
    pub(super) file: Option<PathBuf>,
}

impl ProbeCache {
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
    pub(super) fn link(&self) -> io::Result<()> {
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

/// The file in which CRIU keeps its findings.
pub(super) const LINK: &str = "/run/criu.kdat";

/// The directory for caches.
pub(super) const STORE: &str = "/dev/shm/criu-rs";
