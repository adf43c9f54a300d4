//! The criu to use, and questions to it.

mod ask;
mod configure;
mod features;
mod probe_cache;
mod probing;
mod version;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::labels::SecurityModule;
use crate::sys::spawn;
use crate::transport::{Handed, Launch, Link, Transport};
use crate::value::{Build, Version};

pub(crate) use ask::{ask_build, ask_features, exchange};
pub use features::Features;
pub use probe_cache::ProbeCache;

/// The criu to use: a program, a service or a connected socket.
///
/// This value does not hold a process: each operation starts its own `criu swrk` or connects to a
/// service.
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
    /// The version that a program has answered.
    known: Arc<Mutex<Option<(Stamp, Version)>>>,
    /// Security modules whose labels the program is known to save.
    saves: Arc<Mutex<Vec<(Stamp, SecurityModule)>>>,
}

/// The identity of a criu program: device, inode, size, time of change.
pub(crate) type Stamp = (u64, u64, u64, i64);

impl Criu {
    /// Uses the `criu` found in `PATH`, and starts it anew for each request.
    pub fn new() -> Self {
        Self::at("criu")
    }

    /// Uses the criu program at this path, and starts it anew for each request.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self::over(Transport::Swrk(program.into()))
    }

    /// Uses a running `criu service`, reached through this socket. CRIU's default is
    /// `criu_service.socket` in the directory in which the service was started.
    ///
    /// Options that need descriptors inside the criu process, or criu as a child of this process
    /// ([`Restore::inherit_fd`](crate::Restore::inherit_fd) and the like), are refused.
    pub fn service(socket: impl Into<PathBuf>) -> Self {
        Self::over(Transport::Service(socket.into()))
    }

    /// Uses the criu at the other end of a connected `SOCK_SEQPACKET` socket.
    ///
    /// CRIU serves one operation a connection: it closes the connection after a dump or a restore.
    pub fn connected(socket: OwnedFd) -> Self {
        Self::over(Transport::Connected(Arc::new(socket)))
    }

    /// Uses the libcriu that this program is linked with. libcriu starts the criu program at this
    /// path for each request. Requests that libcriu cannot carry are refused; [`Criu::at`] carries
    /// all.
    #[cfg(feature = "libcriu-link")]
    pub fn libcriu(program: impl Into<PathBuf>) -> Self {
        Self::over(Transport::Libcriu(crate::transport::Library::linked(), program.into()))
    }

    /// Loads a libcriu, `libcriu.so.2` or a path, and uses it to start the criu program at this
    /// path for each request. The library stays loaded.
    ///
    /// # Errors
    /// If the library cannot be loaded, or lacks a function that every libcriu 4 has. The error
    /// names the function.
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

    /// Starts criu with one more argument that sets its configuration before any request:
    /// `--no-default-config` or `--config=FILE`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable for the started criu processes, such as `CRIU_CONFIG_FILE`.
    ///
    /// The variables of this process reach criu, too, and so does the working directory. A program
    /// with more rights than its caller clears variables like `LD_PRELOAD` before.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Repairs the link of a [`ProbeCache`] before each start of criu.
    #[must_use]
    pub fn with_probe_cache(mut self, cache: &ProbeCache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Returns the program that is started for a request, as found in `PATH`; `None` for a service
    /// or a socket.
    ///
    /// # Errors
    /// [`Error::Start`] if there is no such program.
    pub fn program(&self) -> Result<Option<PathBuf>> {
        let find = |program: &PathBuf| {
            let failed = |source: io::Error| Error::Start {
                program: program.clone(),
                source: source.into(),
            };
            spawn::find(program).map_err(failed)
        };
        match &self.transport {
            Transport::Swrk(program) => find(program).map(Some),
            #[cfg(feature = "libcriu")]
            Transport::Libcriu(_, program) => find(program).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns CRIU's version (VERSION).
    ///
    /// # Errors
    /// If criu does not start or does not answer.
    pub fn version(&self) -> Result<Version> {
        self.build().map(|build| build.version)
    }

    /// Returns CRIU's version with the commit and the name of the release (VERSION).
    ///
    /// # Errors
    /// If criu does not start or does not answer.
    pub fn build(&self) -> Result<Build> {
        let link = self.question()?;
        Ok(ask_build(link, self.stays_connected())?.0)
    }

    /// Returns the optional features of this CRIU on this kernel (FEATURE_CHECK).
    ///
    /// # Errors
    /// If criu does not start or does not answer.
    pub fn features(&self) -> Result<Features> {
        let link = self.question()?;
        Ok(ask_features(link, self.stays_connected())?.0)
    }

    /// Returns the identity of the program; `None` for a service.
    pub(crate) fn stamp(&self) -> Result<Option<Stamp>> {
        Ok(self.program()?.as_deref().and_then(stamp))
    }

    /// Says whether a program is known to save the labels of a module.
    pub(crate) fn is_known_to_save(&self, program: Stamp, module: SecurityModule) -> bool {
        let saves = self.saves.lock().unwrap_or_else(PoisonError::into_inner);
        saves.contains(&(program, module))
    }

    /// Remembers that a program saves the labels of a module.
    pub(crate) fn remember_to_save(&self, program: Stamp, module: SecurityModule) {
        let mut saves = self.saves.lock().unwrap_or_else(PoisonError::into_inner);
        saves.retain(|(of, _)| *of == program);
        saves.push((program, module));
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn environment(&self) -> &[(OsString, OsString)] {
        &self.env
    }

    /// Starts or connects to criu.
    pub(crate) fn link(&self, launch: &Launch<'_>, handed: Handed) -> Result<Link> {
        if let Some(cache) = &self.cache {
            cache.look_after();
        }
        let launch = Launch { arguments: &self.arguments, env: &self.env, ..*launch };
        self.transport.open(&launch, handed)
    }

    /// Opens a link for a question, which has no options. libcriu is not asked: once it has the
    /// answer, it waits for any child of this process instead of the criu that it has started.
    fn question(&self) -> Result<Link> {
        #[cfg(feature = "libcriu")]
        if let Transport::Libcriu(_, program) = &self.transport {
            return Self::at(program).link(&Launch::default(), Handed::default());
        }
        self.link(&Launch::default(), Handed::default())
    }

    /// Returns this criu, reached in a way that carries every request.
    pub(crate) fn without_libcriu(&self) -> Self {
        #[cfg(feature = "libcriu")]
        if let Transport::Libcriu(_, program) = &self.transport {
            return Self { transport: Transport::Swrk(program.clone()), ..self.clone() };
        }
        self.clone()
    }

    /// Says whether the connection must stay open after a question.
    fn stays_connected(&self) -> bool {
        matches!(self.transport, Transport::Connected(_))
    }
}

impl Default for Criu {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the identity of a program, if its file can be read.
fn stamp(program: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(program).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime_nsec() ^ (meta.mtime() << 30)))
}
