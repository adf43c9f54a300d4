//! Metadata of a checkpoint: what engines write beside the images.
//!
//! [`Metadata`] reads each member on demand from a folder of an archive, or from a directory into
//! which an archive was unpacked:
//!
//! ```no_run
//! use criu_archive::Archive;
//! use criu_archive::metadata::Metadata;
//!
//! let archive = Archive::open("checkpoint.tar")?;
//! let top = archive.folder("");
//! let metadata = Metadata::of(archive.name(), &top);
//! println!("made by {}", metadata.engine()?);
//! if let Some(config) = metadata.config()? {
//!     println!("{} from {}", config.name, config.rootfs_image_name);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! JSON is bounded before it is parsed: [`METADATA`](crate::bounds::METADATA) and
//! [`METADATA_VALUES`](crate::bounds::METADATA_VALUES). Fields that have no name here stay in the
//! `other` of their object, and are written again when the object is.

mod config;
mod engine;
mod identity;
pub(crate) mod json;
mod labels;
mod mounts;
pub mod names;
mod network;
pub(crate) mod rootfs;
mod spec;
mod status;
mod time;

use criu_images::DumpStats;
use criu_images::source::{Blob, Source};
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Fault, Result};

pub use config::ConfigDump;
pub use engine::Engine;
pub use identity::Identity;
pub use json::Other;
pub use labels::{LabelChange, LabelField, label_changes};
pub use mounts::{BindMount, PodOptions};
pub use network::{Interface, Network, Networks, Subnet};
pub use rootfs::{DiffEntry, DiffKind};
pub use spec::{Linux, Mount, Namespace, Process, Root, SpecDump};
pub use status::{ContainerName, ContainerStatus, ImageName, KeptStatus};
pub use time::{NoTime, Time};

/// Metadata of a checkpoint. Each member is read when it is asked for, and each call reads it anew.
/// A member that is missing is `None`.
#[derive(Clone, Debug)]
pub struct Metadata<'s> {
    name: String,
    top: &'s dyn Source,
}

impl<'s> Metadata<'s> {
    /// Reads the metadata in a folder: the root of an archive, or the directory into which an
    /// archive was unpacked. Errors call the folder by `name`.
    pub fn of(name: impl Into<String>, top: &'s dyn Source) -> Self {
        Self { name: name.into(), top }
    }

    /// Recognises the engine: by the annotations of `spec.dump`, else by members that only one
    /// engine writes.
    ///
    /// # Errors
    /// The errors of [`spec`](Self::spec) and [`config`](Self::config).
    pub fn engine(&self) -> Result<Engine> {
        let spec = self.spec()?;
        let tells = |spec: &SpecDump| Engine::of_spec(spec) != Engine::Unknown;
        // A faulty `config.dump` does not matter where the annotations tell the engine.
        let config = if spec.as_ref().is_some_and(tells) { None } else { self.config()? };
        Engine::of(self.top, config.as_ref(), spec.as_ref())
            .map_err(|error| Error::new(&*self.name, ErrorKind::Images(error)))
    }

    /// Returns the names of container, pod and image.
    ///
    /// # Errors
    /// The errors of [`engine`](Self::engine).
    pub fn identity(&self) -> Result<Identity> {
        let (engine, config, spec) = (self.engine()?, self.config()?, self.spec()?);
        Ok(Identity::of(engine, config.as_ref(), spec.as_ref()))
    }

    /// Reads `config.dump`.
    ///
    /// # Errors
    /// [`ErrorKind::Images`] if the member cannot be opened; [`ErrorKind::Io`];
    /// [`ErrorKind::TooLarge`], [`ErrorKind::TooMany`] and [`ErrorKind::Json`] for its content. All
    /// other members of JSON fail in the same way.
    pub fn config(&self) -> Result<Option<ConfigDump>> {
        self.json(names::CONFIG_DUMP)
    }

    /// Reads `spec.dump`.
    ///
    /// # Errors
    /// The errors of [`config`](Self::config).
    pub fn spec(&self) -> Result<Option<SpecDump>> {
        self.json(names::SPEC_DUMP)
    }

    /// Reads `network.status`, of Podman. A container without networks has an empty one.
    ///
    /// # Errors
    /// The errors of [`config`](Self::config).
    pub fn networks(&self) -> Result<Option<Networks>> {
        let found: Option<Option<Networks>> = self.json(names::NETWORK_STATUS)?;
        Ok(found.map(Option::unwrap_or_default))
    }

    /// Reads `status.dump`, of containerd.
    ///
    /// # Errors
    /// The errors of [`config`](Self::config).
    pub fn status(&self) -> Result<Option<ContainerStatus>> {
        self.json(names::STATUS_DUMP)
    }

    /// Reads `status`, of containerd.
    ///
    /// # Errors
    /// The errors of [`config`](Self::config).
    pub fn kept_status(&self) -> Result<Option<KeptStatus>> {
        self.json(names::STATUS)
    }

    /// Reads `bind.mounts`, of CRI-O.
    ///
    /// # Errors
    /// The errors of [`config`](Self::config).
    pub fn bind_mounts(&self) -> Result<Option<Vec<BindMount>>> {
        self.list(names::BIND_MOUNTS)
    }

    /// Reads `deleted.files`, of Podman and CRI-O: paths from the root of the container.
    ///
    /// # Errors
    /// The errors of [`config`](Self::config).
    pub fn deleted_files(&self) -> Result<Option<Vec<String>>> {
        self.list(names::DELETED_FILES)
    }

    /// Reads `pod.options`.
    ///
    /// # Errors
    /// The errors of [`config`](Self::config).
    pub fn pod_options(&self) -> Result<Option<PodOptions>> {
        self.json(names::POD_OPTIONS)
    }

    /// Reads `descriptors.json`, which lies beside the images: link targets of the descriptors 0, 1
    /// and 2 of the first process.
    ///
    /// # Errors
    /// The errors of [`config`](Self::config).
    pub fn descriptors(&self) -> Result<Option<Vec<String>>> {
        self.list(names::DESCRIPTORS)
    }

    /// Reads `stats-dump`, which engines put beside `config.dump`, and CRIU beside the images.
    ///
    /// # Errors
    /// [`ErrorKind::Images`] if the member cannot be opened or is faulty.
    pub fn dump_stats(&self) -> Result<Option<DumpStats>> {
        self.read(names::STATS_DUMP, |blob| {
            let bytes = json::bytes(blob, MAX_STATS)?;
            DumpStats::parse(&bytes).map_err(|error| ErrorKind::Images(error).into())
        })
    }

    /// Lists `rootfs-diff.tar`: files that were added, changed or deleted.
    ///
    /// # Errors
    /// The errors of [`Archive::new`](crate::Archive::new) for the archive in the archive.
    pub fn rootfs_diff(&self) -> Result<Option<Vec<DiffEntry>>> {
        self.read(names::ROOTFS_DIFF, rootfs::list)
    }

    /// Lists `devshm-checkpoint.tar`, of Podman: files in `/dev/shm`.
    ///
    /// # Errors
    /// The errors of [`rootfs_diff`](Self::rootfs_diff).
    pub fn devshm(&self) -> Result<Option<Vec<DiffEntry>>> {
        self.read(names::DEVSHM, rootfs::list)
    }

    /// Returns the name of the member with the log of the container, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Images`] if the folder cannot be listed.
    pub fn log(&self) -> Result<Option<&'static str>> {
        let list = self.top.names();
        let list = list.map_err(|error| Error::new(&*self.name, ErrorKind::Images(error)))?;
        let logs = [names::PODMAN_LOG, names::CRIO_LOG, names::CONTAINERD_LOG];
        Ok(logs.into_iter().find(|log| list.iter().any(|name| name == log)))
    }

    /// Opens a member as bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Images`] if the member cannot be opened.
    pub fn bytes(&self, name: &str) -> Result<Option<Blob>> {
        let opened = self.top.open(name);
        opened.map_err(|error| Error::new(&*self.name, ErrorKind::Images(error)))
    }

    fn list<T: DeserializeOwned>(&self, name: &str) -> Result<Option<Vec<T>>> {
        // Go writes `null` for an empty list.
        let found: Option<Option<Vec<T>>> = self.json(name)?;
        Ok(found.map(Option::unwrap_or_default))
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.read(name, json::read)
    }

    fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Blob) -> Result<T, Fault>,
    ) -> Result<Option<T>> {
        let found = self.bytes(name)?.map(|blob| read(&blob)).transpose();
        found.map_err(|fault| Error::new(&*self.name, fault.of(name)))
    }
}

/// Largest statistics. CRIU writes less than 200 bytes.
const MAX_STATS: u64 = 64 << 10;
