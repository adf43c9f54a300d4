//! Where criu is, and what to ask of it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::drive::{Driver, Finished, Job, Limits, Subject};
use crate::error::{Error, Result};
use crate::labels::SecurityModule;
use crate::operation::labels::LabelSupport;
use crate::operation::{Check, KeptOpen};
use crate::options;
use crate::rpc::{CriuFeatures, CriuOpts, CriuReq, CriuReqType};
use crate::sys::spawn;
use crate::transport::{Handed, Launch, Link, Transport};
use crate::undo::Strays;
use crate::value::{Build, Version};

mod probe_cache;

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

    /// Tests whether the kernel has what CRIU needs at least (CHECK). [`Check`] has options.
    ///
    /// # Errors
    /// [`Error::Failed`] with what is missing.
    pub fn check(&self) -> Result<()> {
        Check::new().run(self)
    }

    /// Whether this CRIU saves and sets the labels of a security module, here and now. It is asked for a dump of a
    /// process that cannot be, and touches none.
    ///
    /// ```no_run
    /// use criu_rs::Criu;
    /// use criu_rs::labels::{LabelSupport, SecurityModule};
    ///
    /// if Criu::new().label_support(SecurityModule::Selinux)? == LabelSupport::No {
    ///     println!("containers would come back without their SELinux labels");
    /// }
    /// # Ok::<(), criu_rs::Error>(())
    /// ```
    ///
    /// # Errors
    /// When criu does not start or says something else; [`Error::TooOld`] before CRIU 3.12, which cannot be asked;
    /// [`Error::NotOverSocket`] for [`Criu::connected`], since it would be the one request of that connection.
    pub fn label_support(&self, module: SecurityModule) -> Result<LabelSupport> {
        self.ask_labels(module, &Limits::default())
    }

    fn ask_labels(&self, module: SecurityModule, limits: &Limits) -> Result<LabelSupport> {
        match &self.transport {
            Transport::Connected(_) => {
                let why = "the connection takes one operation, and the question is one";
                Err(Error::NotOverSocket { what: "label_support", why })
            }
            #[cfg(feature = "libcriu")]
            Transport::Libcriu(_, program) => {
                crate::operation::labels::ask(&Self::at(program), module, limits)
            }
            _ => crate::operation::labels::ask(self, module, limits),
        }
    }

    /// The same, and that it does is remembered of a program. That it does not is not: what it takes is often just
    /// a mount. `None` where it cannot be asked.
    pub(crate) fn saves_labels(
        &self,
        module: SecurityModule,
        limits: &Limits,
    ) -> Result<Option<LabelSupport>> {
        let stamp = self.program()?.as_deref().and_then(stamp);
        let lock = || self.saves.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_some_and(|stamp| lock().contains(&(stamp, module))) {
            return Ok(Some(LabelSupport::Yes));
        }
        let support = match self.ask_labels(module, limits) {
            Err(Error::TooOld { .. } | Error::NotOverSocket { .. }) => return Ok(None),
            support => support?,
        };
        if let (LabelSupport::Yes, Some(stamp)) = (support, stamp) {
            let mut saves = lock();
            saves.retain(|(of, _)| *of == stamp);
            saves.push((stamp, module));
        }
        Ok(Some(support))
    }

    /// One criu for several requests, those it allows several of.
    ///
    /// It is not faster: CRIU probes the kernel for each request.
    ///
    /// # Errors
    /// When criu does not start or cannot be reached.
    pub fn keep_open(&self) -> Result<KeptOpen> {
        KeptOpen::new(self)
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

/// What a CRIU can do on a kernel. `None`: this CRIU does not know the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Tracking of changed memory, which pre-dumps and
    /// [`Dump::track_mem`](crate::Dump::track_mem) need.
    pub mem_track: Option<bool>,
    /// Memory on demand ([`Restore::lazy_pages`](crate::Restore::lazy_pages)). CRIU 3.5.
    pub lazy_pages: Option<bool>,
    /// Pidfds kept between pre-dumps ([`Dump::pidfd_store`](crate::Dump::pidfd_store)). CRIU 3.16.
    pub pidfd_store: Option<bool>,
    /// Compressed pages ([`Dump::compress`](crate::Dump::compress)). CRIU 4.3.
    pub mem_compression: Option<bool>,
}

impl From<CriuFeatures> for Features {
    fn from(answer: CriuFeatures) -> Self {
        Self {
            mem_track: answer.mem_track,
            lazy_pages: answer.lazy_pages,
            pidfd_store: answer.pidfd_store,
            mem_compression: answer.mem_compression,
        }
    }
}

/// Sends a request that has no options.
pub(crate) fn exchange(
    link: Link,
    operation: &'static str,
    request: CriuReq,
) -> Result<(Finished, Link)> {
    let worker_ends = !request.keep_open();
    let job = Job {
        operation,
        request,
        subject: Subject::None,
        strays: Strays::default(),
        log: None,
        worker_ends,
        guard: None,
    };
    Driver::new(link, job, Limits::default())?.finish(&mut ())
}

pub(crate) fn ask_build(link: Link, keep_open: bool) -> Result<(Build, Link)> {
    let request = CriuReq {
        r#type: CriuReqType::Version.into(),
        keep_open: keep_open.then_some(true),
        ..Default::default()
    };
    let (finished, link) = exchange(link, "version", request)?;
    Ok((finished.reply.version.unwrap_or_default().into(), link))
}

pub(crate) fn ask_features(link: Link, keep_open: bool) -> Result<(Features, Link)> {
    let request = CriuReq {
        r#type: CriuReqType::FeatureCheck.into(),
        keep_open: keep_open.then_some(true),
        features: Some(CriuFeatures {
            mem_track: Some(true),
            lazy_pages: Some(true),
            pidfd_store: Some(true),
            mem_compression: Some(true),
        }),
        ..Default::default()
    };
    let (finished, link) = exchange(link, "feature check", request)?;
    Ok((finished.reply.features.unwrap_or_default().into(), link))
}

fn stamp(program: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(program).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime_nsec() ^ (meta.mtime() << 30)))
}
