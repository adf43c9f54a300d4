//! Where criu is, and what to ask of it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::labels::SecurityModule;
use crate::options;
use crate::rpc::CriuOpts;
use crate::sys::spawn;
use crate::transport::{Handed, Launch, Link, Transport};
use crate::value::{Build, Version};

mod ask;
mod features;
mod probe_cache;

pub(crate) use ask::{ask_build, ask_features, exchange};
pub use features::Features;
pub use probe_cache::ProbeCache;

/// Where a criu is and how to reach it.
///
/// It holds no process: each operation starts a `criu swrk` of its own, or connects to a service.
///
/// ```no_run
/// use criu_rs::Criu;
///
/// let criu = Criu::new();
/// println!("CRIU {}", criu.version()?);
/// println!("memory tracking: {:?}", criu.features()?.mem_track);
/// criu.check()?;
/// # Ok::<(), criu_rs::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Criu {
    transport: Transport,
    arguments: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cache: Option<ProbeCache>,
    known: Arc<Mutex<Option<(Stamp, Version)>>>,
    /// Modules whose labels the program was found to save.
    saves: Arc<Mutex<Vec<(Stamp, SecurityModule)>>>,
}

/// Tells one criu program from another: device, inode, size, time of change.
type Stamp = (u64, u64, u64, i64);

impl Criu {
    /// The `criu` found in `PATH`, started anew for each request.
    pub fn new() -> Self {
        Self::at("criu")
    }

    /// The criu program at this path, started anew for each request.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self::over(Transport::Swrk(program.into()))
    }

    /// A running `criu service`, by its socket. CRIU's default is `criu_service.socket` in the
    /// directory it was started in.
    ///
    /// What needs descriptors put into criu, or criu as this process's child
    /// ([`Restore::inherit_fd`](crate::Restore::inherit_fd) and the like), is refused.
    pub fn service(socket: impl Into<PathBuf>) -> Self {
        Self::over(Transport::Service(socket.into()))
    }

    /// A `SOCK_SEQPACKET` socket connected to a criu.
    ///
    /// CRIU takes one operation a connection: after a dump or a restore it closes it.
    pub fn connected(socket: OwnedFd) -> Self {
        Self::over(Transport::Connected(Arc::new(socket)))
    }

    /// By way of libcriu, with which this program is linked, and which starts the criu program at this path for
    /// each request.
    /// What libcriu cannot carry is refused; [`Criu::at`] carries everything.
    #[cfg(feature = "libcriu-link")]
    pub fn libcriu(program: impl Into<PathBuf>) -> Self {
        Self::over(Transport::Libcriu(crate::transport::Library::linked(), program.into()))
    }

    /// The same with a libcriu that is loaded now, `libcriu.so.2` or a path, and stays.
    ///
    /// # Errors
    /// When it cannot be loaded, or lacks a function that every libcriu 4 has, which is named.
    #[cfg(feature = "libcriu")]
    pub fn load_libcriu(
        library: impl AsRef<Path>,
        program: impl Into<PathBuf>,
    ) -> std::io::Result<Self> {
        let library = crate::transport::Library::load(library.as_ref())?;
        Ok(Self::over(Transport::Libcriu(library, program.into())))
    }

    fn over(transport: Transport) -> Self {
        let (arguments, env) = (Vec::new(), Vec::new());
        Self {
            transport,
            arguments,
            env,
            cache: None,
            known: Arc::default(),
            saves: Arc::default(),
        }
    }

    /// Starts criu with one more argument, an option that says how it is configured before any request:
    /// `--no-default-config`, or `--config=FILE`.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable for the criu processes started, such as `CRIU_CONFIG_FILE`.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Looks after a [`ProbeCache`] before each start of criu.
    pub fn with_probe_cache(mut self, cache: &ProbeCache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// The program that is started for a request, as found in `PATH`; `None` for a service.
    ///
    /// # Errors
    /// [`Error::Start`] when there is none.
    pub fn program(&self) -> Result<Option<PathBuf>> {
        let find = |program: &PathBuf| {
            let failed = |source| Error::Start { program: program.clone(), source };
            spawn::find(program).map_err(failed)
        };
        match &self.transport {
            Transport::Swrk(program) => find(program).map(Some),
            #[cfg(feature = "libcriu")]
            Transport::Libcriu(_, program) => find(program).map(Some),
            _ => Ok(None),
        }
    }

    /// CRIU's version (VERSION).
    ///
    /// # Errors
    /// When criu does not start or does not answer.
    pub fn version(&self) -> Result<Version> {
        self.build().map(|build| build.version)
    }

    /// CRIU's version with the commit and the name it was built with (VERSION).
    ///
    /// # Errors
    /// When criu does not start or does not answer.
    pub fn build(&self) -> Result<Build> {
        let link = self.question()?;
        Ok(ask_build(link, self.stays_connected())?.0)
    }

    /// What this CRIU can do on this kernel (FEATURE_CHECK).
    ///
    /// # Errors
    /// When criu does not start or does not answer.
    pub fn features(&self) -> Result<Features> {
        let link = self.question()?;
        Ok(ask_features(link, self.stays_connected())?.0)
    }

    /// Says whether the program was found to save the labels of a module.
    pub(crate) fn is_known_to_save(&self, module: SecurityModule) -> Result<bool> {
        let stamp = self.program()?.as_deref().and_then(stamp);
        let saves = self.saves.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(stamp.is_some_and(|stamp| saves.contains(&(stamp, module))))
    }

    /// Remembers that the program saves the labels of a module.
    pub(crate) fn remember_to_save(&self, module: SecurityModule) -> Result<()> {
        if let Some(stamp) = self.program()?.as_deref().and_then(stamp) {
            let mut saves = self.saves.lock().unwrap_or_else(PoisonError::into_inner);
            saves.retain(|(of, _)| *of == stamp);
            saves.push((stamp, module));
        }
        Ok(())
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn environment(&self) -> &[(OsString, OsString)] {
        &self.env
    }

    pub(crate) fn link(&self, launch: &Launch<'_>, handed: Handed) -> Result<Link> {
        if let Some(cache) = &self.cache {
            cache.look_after();
        }
        let launch = Launch { arguments: &self.arguments, env: &self.env, ..*launch };
        self.transport.open(&launch, handed)
    }

    /// A link for a question that has no options. libcriu is not asked: it waits for any child of this process when it
    /// has the answer, and not for the criu that it has started.
    fn question(&self) -> Result<Link> {
        #[cfg(feature = "libcriu")]
        if let Transport::Libcriu(_, program) = &self.transport {
            return Self::at(program).link(&Launch::default(), Handed::default());
        }
        self.link(&Launch::default(), Handed::default())
    }

    /// The same criu by a way that carries every request.
    pub(crate) fn without_libcriu(&self) -> Self {
        #[cfg(feature = "libcriu")]
        if let Transport::Libcriu(_, program) = &self.transport {
            return Self { transport: Transport::Swrk(program.clone()), ..self.clone() };
        }
        self.clone()
    }

    /// Whether a question must not be the last on its connection.
    fn stays_connected(&self) -> bool {
        matches!(self.transport, Transport::Connected(_))
    }

    /// Refuses options that this CRIU would not know, without a question where the message has none
    /// that the oldest lacks.
    pub(crate) fn require(&self, message: &CriuOpts) -> Result<()> {
        let value = options::newest(message);
        if options::newer_than(Version::OLDEST, message).is_none() && value.is_none() {
            return Ok(());
        }
        let found = self.known_version()?;
        match (options::newer_than(found, message), value) {
            (Some(option), _) => Err(Error::too_old(option, found)),
            (None, Some((what, needs))) if needs > found => {
                Err(Error::TooOld { what: what.into(), needs, found })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a request that this CRIU would not know.
    pub(crate) fn require_version(&self, what: &str, needs: Version) -> Result<()> {
        let found = self.known_version()?;
        if found < needs { Err(Error::TooOld { what: what.into(), needs, found }) } else { Ok(()) }
    }

    /// The version, asked for once a program.
    pub(crate) fn known_version(&self) -> Result<Version> {
        let stamp = self.program()?.as_deref().and_then(stamp);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((of, version)) if Some(of) == stamp => return Ok(version),
            _ => {}
        }
        let version = self.version()?;
        *known = stamp.map(|stamp| (stamp, version));
        Ok(version)
    }
}

impl Default for Criu {
    fn default() -> Self {
        Self::new()
    }
}

fn stamp(program: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(program).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime_nsec() ^ (meta.mtime() << 30)))
}
