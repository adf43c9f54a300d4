//! Content of a namespace, as far as the set has it.

use crate::error::Result;
use crate::extra::Payload;
use crate::frame::Image;
use crate::kind::{self, Kind};
use crate::namespaces::{Mounts, Namespace, NamespaceKind, Network};
use crate::proto::{
    IpcMsgEntry, IpcSemEntry, IpcShmEntry, IpcVarEntry, NetnsEntry, PidnsEntry, TimensEntry,
    UsernsEntry, UtsnsEntry,
};
use crate::schema::Entry;
use crate::store::Store;
use crate::text::Text;

/// A namespace that tasks of a [`Checkpoint`](crate::Checkpoint) lived in, and its content. Of the
/// host's namespaces only the clocks are saved.
///
/// ```
/// use criu_images::{ImageSet, NamespaceKind};
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// for namespace in set.checkpoint()?.namespaces()? {
///     println!("{}: {} tasks", namespace.namespace(), namespace.pids().len());
///     if let Some(mounts) = namespace.mounts()? {
///         println!("{} mounts", mounts.iter().count());
///     }
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SavedNamespace<'a> {
    store: &'a Store,
    namespace: Namespace,
    pids: Vec<u32>,
}

/// Content of an IPC namespace.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ipc {
    /// Settings of the namespace.
    pub settings: IpcVarEntry,
    /// Segments of shared memory.
    pub segments: Vec<IpcShmEntry>,
    /// Message queues, and the number of bytes waiting in each.
    pub queues: Vec<(IpcMsgEntry, u64)>,
    /// Sets of semaphores with their values.
    pub semaphores: Vec<(IpcSemEntry, Vec<u16>)>,
}

impl<'a> SavedNamespace<'a> {
    pub(crate) fn new(store: &'a Store, namespace: Namespace) -> Self {
        Self { store, namespace, pids: Vec::new() }
    }

    pub(crate) fn add(&mut self, pid: u32) {
        self.pids.push(pid);
    }

    /// Returns the kind and id of the namespace.
    pub fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// Returns the ids of the tasks in the namespace, in the order of the tree.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Reads the mounts of a mount namespace. Returns `None` for other kinds, and for the host's.
    ///
    /// # Errors
    /// The errors of reading its image; [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if
    /// mounts form a loop or a mount id occurs twice.
    pub fn mounts(&self) -> Result<Option<Mounts>> {
        if self.is(NamespaceKind::Mnt) {
            Mounts::read(self.store, self.namespace.id)
        } else {
            Ok(None)
        }
    }

    /// Reads the content of a network namespace. Returns `None` for other kinds, and for the
    /// host's.
    ///
    /// # Errors
    /// The errors of reading its images.
    pub fn network(&self) -> Result<Option<Network>> {
        if self.is(NamespaceKind::Net) {
            Network::read(self.store, self.namespace.id)
        } else {
            Ok(None)
        }
    }

    /// Reads the names in a UTS namespace. Returns `None` for other kinds, and for the host's.
    ///
    /// # Errors
    /// The errors of reading its image.
    pub fn uts(&self) -> Result<Option<UtsnsEntry>> {
        self.single(NamespaceKind::Uts, kind::UTSNS)
    }

    /// Reads the id maps of a user namespace. Returns `None` for other kinds, and for the host's.
    ///
    /// # Errors
    /// The errors of reading its image.
    pub fn users(&self) -> Result<Option<UsernsEntry>> {
        self.single(NamespaceKind::User, kind::USERNS)
    }

    /// Reads the image of a pid namespace that exists outside. Returns `None` for all other
    /// namespaces.
    ///
    /// # Errors
    /// The errors of reading its image.
    pub fn pid(&self) -> Result<Option<PidnsEntry>> {
        self.single(NamespaceKind::Pid, kind::PIDNS)
    }

    /// Returns the key of an external pid or network namespace, which is not saved and must be
    /// given to a restore.
    ///
    /// # Errors
    /// The errors of reading its image.
    pub fn external(&self) -> Result<Option<String>> {
        let key = match self.namespace.kind {
            NamespaceKind::Pid => self.pid()?.and_then(|pid| pid.ext_key),
            NamespaceKind::Net => {
                let image: Option<NetnsEntry> = self.single(NamespaceKind::Net, kind::NETNS)?;
                image.and_then(|net| net.ext_key)
            }
            _ => None,
        };
        Ok(key.map(|key| Text(key.strip_suffix(b"\0").unwrap_or(&key)).to_string()))
    }

    /// Reads the clocks of a time namespace, also of the host's. Returns `None` for other kinds.
    ///
    /// # Errors
    /// The errors of reading its image.
    pub fn clocks(&self) -> Result<Option<TimensEntry>> {
        let Namespace { kind, id, host } = self.namespace;
        let id = if host { 0 } else { id };
        match kind {
            NamespaceKind::Time => self.store.optional(kind::TIMENS, id.into()),
            _ => Ok(None),
        }
    }

    /// Reads the content of an IPC namespace. Returns `None` for other kinds, and for the host's.
    ///
    /// # Errors
    /// The errors of reading its images.
    pub fn ipc(&self) -> Result<Option<Ipc>> {
        let Some(settings) = self.single(NamespaceKind::Ipc, kind::IPC_VAR)? else {
            return Ok(None);
        };
        let mut segments = Vec::new();
        self.payloads(kind::IPCNS_SHM, |segment, _| segments.push(segment))?;
        let mut queues = Vec::new();
        self.payloads(kind::IPCNS_MSG, |queue, payload| {
            let bytes = match payload {
                Payload::Messages(messages) => {
                    messages.iter().map(|message| message.1.len() as u64).sum()
                }
                _ => 0,
            };
            queues.push((queue, bytes));
        })?;
        let mut semaphores = Vec::new();
        self.payloads(kind::IPCNS_SEM, |set, payload| {
            let values = match payload {
                Payload::Semaphores(values) => values,
                _ => Vec::new(),
            };
            semaphores.push((set, values));
        })?;
        Ok(Some(Ipc { settings, segments, queues, semaphores }))
    }

    fn is(&self, kind: NamespaceKind) -> bool {
        self.namespace.kind == kind && !self.namespace.host
    }

    fn single<M: Entry>(&self, kind: NamespaceKind, image: &'static Kind) -> Result<Option<M>> {
        if self.is(kind) { self.store.optional(image, self.namespace.id.into()) } else { Ok(None) }
    }

    /// Calls `each` with every entry and its payload.
    fn payloads<M: Entry>(
        &self,
        kind: &'static Kind,
        mut each: impl FnMut(M, Payload<'_>),
    ) -> Result<()> {
        let name = kind.file_name(self.namespace.id.into());
        let Some(bytes) = self.store.read(&name)? else {
            return Ok(());
        };
        let mut image = Image::parse(&name, &bytes, kind)?;
        while let Some(entry) = image.next_entry()? {
            let message = entry.decode()?;
            each(message, image.payload(&entry)?);
        }
        Ok(())
    }
}
